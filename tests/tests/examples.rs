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
    let mut generated = vec![
        ("deploy/nats.conf".to_owned(), tests::broker_conf::nats_conf()),
        ("docs/wire.md".to_owned(), bus::wire_markdown()),
        ("docs/schemas/asyncapi.json".to_owned(), bus::asyncapi()),
        ("docs/schemas/openapi.json".to_owned(), gateway::openapi()),
    ];
    for (file, form) in domain::schema::FILES {
        generated.push((format!("docs/schemas/{file}"), format!("{:#}\n", form())));
    }
    let n_schemas = std::fs::read_dir(format!("{root}/docs/schemas")).unwrap().count();
    assert_eq!(n_schemas, generated.len() - 2, "a file of docs/schemas comes from nowhere");
    for (path, wanted) in generated {
        let found = std::fs::read_to_string(format!("{root}/{path}")).unwrap_or_default();
        assert!(found == wanted, "{path} is out of date: run `cargo xtask docs`");
    }
}
