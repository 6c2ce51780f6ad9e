use domain::{
    id::IncidentId,
    plan::{Parts, Plan, Risk, Step, Success},
    span::Span,
    target::{DockerHandle, ProcessHandle, Target},
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
    judge_by(list, order, Some(&known()))
}

fn judge_by(list: &AllowList, order: &FixOrder, known: Option<&Known>) -> Result<(), String> {
    let environment = Environment::of_this_process();
    let setting = Setting { environment: &environment, known };
    list.permits(order, setting).map_err(|it| it.to_string())
}

/// A configuration with a container and a process.
fn known() -> Known {
    let docker = Some(DockerHandle { container: "shop/db".to_owned() });
    let http = Some("http://127.0.0.1:8081/health".to_owned());
    let db =
        Target { docker, checks: vec![Check { http, ..Check::blank() }], ..Target::named("db") };
    let shop = Target { process: Some(handle()), ..Target::named("shop") };
    Known::of([&db, &shop])
}

fn handle() -> ProcessHandle {
    crate::testing::handle(&["sleep", "1000"])
}

fn start(process: ProcessHandle) -> Action {
    Action::ProcessRestart { target: "shop".to_owned(), process }
}

fn restart() -> Action {
    Action::DockerRestart { container: "shop/db".to_owned() }
}

#[test]
fn without_a_word_only_handles_of_the_configuration_are_allowed() {
    let list = AllowList::load(&Args::default()).unwrap();
    let names: Vec<_> = list.actions.iter().map(|it| it.as_str()).collect();
    assert_eq!(names, ["process.restart", "docker.restart", "docker.start"]);
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
    let told = judge(&list, &order(command(&["true"]), None, None)).unwrap_err();
    assert!(told.contains("`programs`"), "{told}");
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
fn programs_are_allowed_by_path_or_by_name_with_their_arguments() {
    let yaml = "actions: [command.run]\nprograms: [\"sleep *\", \"/opt/*/bin/*\", \"/bin/**\"]";
    let list = list(yaml);
    let judged = |words: &[&str], env: &[(&str, &str)]| {
        let env = env.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let command: Vec<_> = words.iter().map(|it| (*it).to_owned()).collect();
        let environment = Environment::of_this_process();
        let setting = Setting { environment: &environment, known: None };
        list.command(&command, None, &env.collect(), setting).is_ok()
    };
    assert!(judged(&["sleep", "1"], &[]));
    assert!(!judged(&["sleep"], &[]) && !judged(&["sleep", "1", "2"], &[]));
    assert!(judged(&["/bin/sh"], &[]));
    assert!(!judged(&["/bin/sh", "-c", "id"], &[]), "arguments count");
    assert!(!judged(&["env"], &[]), "found in PATH, but by no pattern");
    assert!(!judged(&["/usr/bin/sleep", "1"], &[]), "a name allows only what our PATH finds");
    assert!(!judged(&["sleep", "1"], &[("PATH", "/usr/bin")]), "the plan may not choose the PATH");
    assert!(!judged(&["/bin/../usr/bin/env"], &[]), "no way round");
}

#[test]
fn an_order_sets_only_the_variables_that_are_listed() {
    let run = |list: &AllowList, name: &str| {
        let env = [(name.to_owned(), "evil.sh".into())].into();
        let action = Action::CommandRun { command: vec!["true".to_owned()], dir: None, env };
        judge(list, &order(action, None, None))
    };
    let without = list("actions: [command.run]\nprograms: [\"true\"]");
    let with = list("actions: [command.run]\nprograms: [\"true\"]\nenv: [\"*\", TZ, LD_PRELOAD]");
    for name in [
        "LD_AUDIT",
        "BASH_ENV",
        "ENV",
        "PYTHONPATH",
        "NODE_OPTIONS",
        "PERL5OPT",
        "RUBYOPT",
        "GIT_SSH_COMMAND",
        "JAVA_TOOL_OPTIONS",
        "_JAVA_OPTIONS",
        "DOCKER_HOST",
        "HOME",
        "PATH",
        "IFS",
    ] {
        let told = run(&without, name).unwrap_err();
        assert!(told.contains(name) && told.contains("`env`"), "{told}");
        assert!(run(&with, name).is_err(), "{name}: no pattern lets it in");
    }
    assert!(run(&without, "TZ").is_err());
    assert_eq!(run(&with, "TZ"), Ok(()));
    assert_eq!(run(&with, "LD_PRELOAD"), Ok(()), "the operator has named it");
    let all = |file: Option<&str>| {
        let dir = crate::testing::TempDir::new();
        let path = dir.path().join("allow.yaml");
        std::fs::write(&path, file.unwrap_or_default()).unwrap();
        let allow_file = file.map(|_| path.to_str().unwrap().to_owned());
        AllowList::load(&Args { allow: Some("all".to_owned()), allow_file, ..Args::default() })
    };
    assert_eq!(run(&all(None).unwrap(), "MODE"), Ok(()), "whoever allows all does");
    assert!(run(&all(Some("programs: [\"true\"]")).unwrap(), "MODE").is_err());
}

#[test]
fn a_process_is_started_only_by_the_handle_of_the_configuration() {
    for list in [
        AllowList::load(&Args::default()).unwrap(),
        AllowList::load(&Args { allow: Some("all".to_owned()), ..Args::default() }).unwrap(),
    ] {
        assert_eq!(judge(&list, &order(start(handle()), None, None)), Ok(()));
        let text = |it: &str| Some(it.to_owned());
        let evil = vec!["/bin/sh".to_owned(), "-c".to_owned(), "id".to_owned()];
        let env = [("LD_PRELOAD".to_owned(), "/tmp/x.so".into())].into();
        for (field, process) in [
            ("command", ProcessHandle { command: evil, ..handle() }),
            ("dir", ProcessHandle { dir: text("/tmp"), ..handle() }),
            ("env", ProcessHandle { env, ..handle() }),
            ("log", ProcessHandle { log: text("/etc/cron.d/x"), ..handle() }),
            ("pid_file", ProcessHandle { pid_file: text("/etc/passwd"), ..handle() }),
            ("user", ProcessHandle { user: text("root"), ..handle() }),
            ("group", ProcessHandle { group: text("root"), ..handle() }),
            ("stop_timeout", ProcessHandle { stop_timeout: Span::from_secs(99), ..handle() }),
        ] {
            let told = judge(&list, &order(start(process), None, None)).unwrap_err();
            assert!(told.contains(&format!("`{field}`")), "{told}");
        }
        let other = Action::ProcessRestart { target: "api".to_owned(), process: handle() };
        let told = judge(&list, &order(other, None, None)).unwrap_err();
        assert!(told.contains("`api`"), "{told}");
    }
}

#[test]
fn without_a_configuration_nothing_is_allowed_but_by_name() {
    let list = AllowList::load(&Args::default()).unwrap();
    for action in [start(handle()), restart()] {
        let told = judge_by(&list, &order(action, None, None), None).unwrap_err();
        assert!(told.contains("not known yet"), "{told}");
    }
    let other = Action::DockerRestart { container: "shop/cache".to_owned() };
    assert!(judge(&list, &order(other.clone(), None, None)).is_err(), "no target is it");
    let named = self::list("containers: [\"shop/*\"]");
    assert_eq!(judge_by(&named, &order(other, None, None), None), Ok(()));
}

#[test]
fn a_pre_check_may_ask_what_checks_ask() {
    let list = AllowList::load(&Args::default()).unwrap();
    let pre_check = |url: &str| Some(Check { http: Some(url.to_owned()), ..Check::blank() });
    let judged = |list: &AllowList, url: &str| judge(list, &order(restart(), None, pre_check(url)));
    assert_eq!(judged(&list, "http://127.0.0.1:8081/health"), Ok(()));
    assert!(judged(&list, "http://127.0.0.1:8081/other").is_err());
    assert!(judged(&self::list("hosts: []"), "http://127.0.0.1:8081/health").is_err());
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
    let environment = Environment::of_this_process();
    let setting = Setting { environment: &environment, known: None };
    for (name, allowed) in [("shop/db", true), ("other/db", false), ("db", false)] {
        assert_eq!(list.container(name, setting).is_ok(), allowed, "{name}");
    }
}

#[test]
fn credentials_of_a_cloud_are_out_of_reach_unless_named() {
    let all =
        || AllowList::load(&Args { allow: Some("all".to_owned()), ..Args::default() }).unwrap();
    let free = all();
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://[fd00:ec2::254]/",
        "http://100.100.100.200/",
        "http://2852039166/",
    ] {
        assert!(free.url(url).is_err(), "{url}");
    }
    assert!(free.url("http://127.0.0.1:8081/").is_ok());
    assert!(AllowList::load(&Args::default()).unwrap().url("http://127.0.0.1:8081/").is_err());
    assert!(list("hosts: [\"169.254.169.254\"]").url("http://169.254.169.254/").is_ok());
    assert!(list("hosts: [\"169.254.*\"]").url("http://169.254.169.254/").is_err());
    let listed = Outgoing::new(["169.254.169.254".parse().unwrap()]);
    assert!(all().with_outgoing(&listed).url("http://169.254.169.254/").is_ok());
}

#[test]
fn the_files_of_a_process_lie_where_writing_is_allowed() {
    let handle = |log: &str| ProcessHandle { log: Some(log.to_owned()), ..handle() };
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
    let by_default = Args { state_dir: PathBuf::from("data/run"), ..Args::default() };
    let list = AllowList::load(&by_default).unwrap();
    assert!(list.files(&handle("data/run/a.log")).is_ok());
    assert!(list.files(&handle("/var/log/shop/a.log")).is_err());
    let all = Args { allow: Some("all".to_owned()), ..by_default };
    assert!(AllowList::load(&all).unwrap().files(&handle("/anywhere")).is_ok());
}

#[test]
fn an_empty_list_allows_nothing() {
    let list = list("actions: []\nhosts: []\ncontainers: []\nprograms: []\ndirectories: []");
    assert!(judge(&list, &order(restart(), None, None)).is_err());
    assert!(list.url("http://127.0.0.1/").is_err());
    assert!(judge(&list, &order(command(&["true"]), None, None)).is_err());
}

#[test]
fn a_mistake_in_the_file_is_told_with_its_place() {
    for (yaml, place, word) in [
        ("actions: [process.restart]\nprogram: [x]", ":2:", "unknown field"),
        ("directories:\n  - /srv/x\n  - /etc\n", ":3:5", "/etc"),
    ] {
        let error = file::parse(Path::new("allow.yaml"), yaml).unwrap_err();
        let told = error.to_string();
        assert!(told.contains(&format!("allow.yaml{place}")), "{yaml}: {told}");
        assert!(told.contains(word), "{yaml}: {told}");
    }
}
