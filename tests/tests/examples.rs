//! The configurations and generated files that the repository hands out.

#[test]
fn every_example_configuration_is_valid_and_raises_no_warning() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples");
    let mut n_examples = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let config = domain::config::parse(&text)
            .unwrap_or_else(|errors| panic!("{}: {errors:#?}", path.display()));
        assert_eq!(config.warnings(), Vec::<String>::new(), "{}", path.display());
        assert!(!config.targets.is_empty(), "{}", path.display());
        n_examples += 1;
    }
    assert!(2 <= n_examples, "{dir} holds {n_examples} examples");
}

#[test]
fn the_generated_files_are_those_of_the_table() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let generated = [
        ("deploy/nats.conf", tests::broker_conf::nats_conf()),
        ("docs/wire.md", bus::wire_markdown()),
    ];
    for (path, wanted) in generated {
        let found = std::fs::read_to_string(format!("{root}/{path}")).unwrap();
        assert_eq!(found, wanted, "{path} is out of date: run `cargo xtask docs`");
    }
}
