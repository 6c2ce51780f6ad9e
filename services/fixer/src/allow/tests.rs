use domain::{
    id::IncidentId,
    plan::{Parts, Plan, Risk, Step, Success},
    span::Span,
    wire::WorkRef,
};

use super::*;

fn list(yaml: &str) -> AllowList {
    file::parse(Path::new("allow.yaml"), yaml).unwrap()
}

fn command(words: &[&str]) -> Action {
    let command = words.iter().map(|it| (*it).to_owned()).collect();
    Action::CommandRun { command, dir: None, env: BTreeMap::new() }
}

fn order(action: Action, undo: Option<Action>, pre_check: Option<Check>) -> FixOrder {
    let step =
        Step { name: "one".to_owned(), action, timeout: Span::from_secs(1), pre_check, undo };
    let plan = Plan::new(Parts {
        runbook: "r".to_owned(),
        title: "t".to_owned(),
        cause: "c".to_owned(),
        target: "shop".to_owned(),
        zone: "default".to_owned(),
        risk: Risk::Low,
        autonomy: None,
        steps: vec![step],
        success: Success {
            checks: vec![Check::of_process()],
            soak: Span::ZERO,
            within: Span::ZERO,
        },
    })
    .unwrap();
    FixOrder {
        work: WorkRef { incident: IncidentId::NONE, attempt: 1, revision: 1 },
        mode: FixMode::Apply,
        plan_hash: plan.hash(),
        plan,
        approved_by: None,
        not_after: chrono::DateTime::UNIX_EPOCH,
    }
}

fn judge(list: &AllowList, order: &FixOrder) -> Result<(), String> {
    list.permits(order, &Environment::of_this_process()).map_err(|it| it.to_string())
}

fn restart() -> Action {
    Action::DockerRestart { container: "shop/db".to_owned() }
}

#[test]
fn without_a_word_only_what_is_harmless_is_allowed() {
    let list = AllowList::load(&Args::default()).unwrap();
    let names: Vec<_> = list.actions.iter().map(|it| it.as_str()).collect();
    assert_eq!(names, ["process.restart", "docker.restart", "docker.start", "http.request"]);
    assert_eq!(judge(&list, &order(restart(), None, None)), Ok(()));
    let told = judge(&list, &order(command(&["true"]), None, None)).unwrap_err();
    assert!(told.contains("command.run is not allowed") && told.contains("--allow"), "{told}");
}

#[test]
fn a_forbidden_undo_or_pre_check_forbids_the_whole_order() {
    let list = AllowList::load(&Args::default()).unwrap();
    assert!(judge(&list, &order(restart(), Some(command(&["true"])), None)).is_err());
    let check = Check { command: Some(vec!["true".to_owned()]), ..Check::blank() };
    assert!(judge(&list, &order(restart(), None, Some(check))).is_err());
}

#[test]
fn the_names_of_the_flag_replace_the_default() {
    let args = |allow: &str| Args { allow: Some(allow.to_owned()), ..Args::default() };
    let list = AllowList::load(&args("command.run")).unwrap();
    assert_eq!(judge(&list, &order(command(&["true"]), None, None)), Ok(()));
    assert!(judge(&list, &order(restart(), None, None)).is_err());
    let list = AllowList::load(&args("all")).unwrap();
    assert_eq!(list.actions.len(), ActionName::ALL.len());
    assert_eq!(list.directory(Path::new("/srv/shop")), Ok(()));
    let error = AllowList::load(&args("reboot")).unwrap_err();
    assert!(error.hint().contains("disk.clean"), "{}", error.hint());
}

#[test]
fn cleaning_needs_a_named_directory() {
    let none = AllowList::load(&Args { allow: Some("disk.clean".to_owned()), ..Args::default() });
    assert!(none.unwrap().directory(Path::new("/srv/shop")).is_err());
    let list = list("directories: [/srv/shop]");
    for (path, allowed) in [
        ("/srv/shop", true),
        ("/srv/shop/cache", true),
        ("/srv/shopping", false),
        ("/srv", false),
        ("/srv/shop/../other", false),
    ] {
        assert_eq!(list.directory(Path::new(path)).is_ok(), allowed, "{path}");
    }
}

#[test]
fn programs_are_allowed_by_path_or_by_name() {
    let list = list("actions: [command.run]\nprograms: [\"sleep\", \"/opt/*/bin/*\", \"/bin/**\"]");
    let judged = |words: &[&str], env: &[(&str, &str)]| {
        let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let command: Vec<_> = words.iter().map(|it| (*it).to_owned()).collect();
        list.program(&command, None, &env.collect(), &Environment::of_this_process()).is_ok()
    };
    assert!(judged(&["sleep", "1"], &[]));
    assert!(judged(&["/bin/sh"], &[]));
    assert!(!judged(&["env"], &[]), "found in PATH, but by no pattern");
    assert!(!judged(&["/usr/bin/sleep"], &[]), "a name allows only what our PATH finds");
    assert!(!judged(&["sleep"], &[("PATH", "/usr/bin")]), "the plan may not choose the PATH");
    assert!(!judged(&["/bin/../usr/bin/env"], &[]), "no way round");
    assert!(!judged(&["sleep"], &[("LD_PRELOAD", "/tmp/x.so")]));
}

#[test]
fn hosts_and_containers_are_matched_by_patterns() {
    let list = list("hosts: [\"127.0.0.1:8081\", \"*.internal\"]\ncontainers: [\"shop/*\"]");
    for (url, allowed) in [
        ("http://127.0.0.1:8081/x", true),
        ("http://127.0.0.1:8082/x", false),
        ("https://db.internal/", true),
        ("https://db.internal.evil.example/", false),
        ("https://user:pw@evil.example/db.internal", false),
        ("nonsense", false),
    ] {
        assert_eq!(list.url(url).is_ok(), allowed, "{url}");
    }
    assert!(list.container("shop/db").is_ok());
    assert!(list.container("other/db").is_err());
    assert!(list.container("db").is_err());
}

#[test]
fn credentials_of_a_cloud_are_out_of_reach_unless_named() {
    let free = AllowList::load(&Args::default()).unwrap();
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://2852039166/",
    ] {
        assert!(free.url(url).is_err(), "{url}");
    }
    assert!(free.url("http://127.0.0.1:8081/").is_ok());
    assert!(list("hosts: [\"169.254.169.254\"]").url("http://169.254.169.254/").is_ok());
}

#[test]
fn the_files_of_a_process_lie_where_writing_is_allowed() {
    let handle = |log: &str| ProcessHandle {
        log: Some(log.to_owned()),
        ..crate::testing::handle(&["sleep"])
    };
    let dir = crate::testing::TempDir::new();
    let file = dir.path().join("allow.yaml");
    std::fs::write(&file, "writes: [/var/log/shop]").unwrap();
    let list = AllowList::load(&Args {
        allow_file: Some(file.to_str().unwrap().to_owned()),
        state_dir: PathBuf::from("data/run"),
        ..Args::default()
    })
    .unwrap();
    for (log, allowed) in [
        ("/var/log/shop/a.log", true),
        ("data/run/a.log", true),
        ("/etc/cron.d/shop", false),
        ("/var/log/shop/../../../etc/passwd", false),
    ] {
        assert_eq!(list.files(&handle(log)).is_ok(), allowed, "{log}");
    }
    assert!(AllowList::load(&Args::default()).unwrap().files(&handle("/anywhere")).is_ok());
}

#[test]
fn an_empty_list_allows_nothing() {
    let list = list("actions: []\nhosts: []\ncontainers: []\nprograms: []\ndirectories: []");
    assert!(judge(&list, &order(restart(), None, None)).is_err());
    assert!(list.url("http://127.0.0.1/").is_err());
    assert!(list.container("db").is_err());
}

#[test]
fn a_mistake_in_the_file_is_told_with_its_place() {
    for (yaml, place, word) in [
        ("actions: [process.restart]\nprogram: [x]", ":2:", "unknown field"),
        ("actions:\n  - process.restart\n  - reboot\n", ":3:5", "reboot"),
        ("programs:\n  - \"a[\"\n", ":2:5", "no pattern"),
        ("directories:\n  - /srv/x\n  - /etc\n", ":3:5", "/etc"),
        ("actions: 7", ":1:", ""),
        ("actions: [", ":1:", ""),
    ] {
        let error = file::parse(Path::new("allow.yaml"), yaml).unwrap_err();
        let told = error.to_string();
        assert!(told.contains(&format!("allow.yaml{place}")), "{yaml}: {told}");
        assert!(told.contains(word), "{yaml}: {told}");
    }
}
