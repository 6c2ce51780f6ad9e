//! `selfheal up` belongs to its owner: other users of the machine may publish events, and nothing
//! else.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rustix::process::geteuid;
use serde_json::{Value, json};
use tests::{
    eventually,
    stack::{Stack, binary, directory, reqwest_client},
};

/// The user `nobody`.
const NOBODY: u32 = 65534;

const AGENTS: [&str; 6] = ["supervisor", "gateway", "monitor", "fixer", "analyzer", "nats-server"];

/// A target that says with which umask it was started, and a check that says it, too.
fn config(dir: &Path) -> String {
    // Tests that run beside each other have targets of one name: their programs tell them apart.
    let span = 100_000 + uuid::Uuid::new_v4().as_u128() % 900_000;
    let tells = |file: &str| format!("umask > {}/{file}", dir.display());
    // It fails until the target was started: what answers already would be left alone.
    let check = tells("umask-of-check") + &format!("; test -e {}/umask-of-target", dir.display());
    format!(
        "targets:
  - name: sleeper
    process: {{command: [sh, -c, \"{}; sleep {span}; :\"]}}
    checks: [{{process: true, every: 200ms}}, {{command: [sh, -c, \"{}\"], every: 200ms}}]
policy: {{autonomy: auto, soak: 200ms, budget: {{per_target: 1000/h, per_runbook: 1000/h, fleet: 1000/h}}}}
",
        tells("umask-of-target"),
        check,
    )
}

/// Returns the routes of `docs/security.md` with what their callers must be.
fn routes() -> Vec<(String, String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once("\n## Routes\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|it| it.strip_prefix("| `"));
    rows.map(|row| {
        let (route, rest) = row.split_once("` | ").unwrap();
        let (method, path) = route.split_once(' ').unwrap();
        let need = rest.split(" |").next().unwrap();
        (method.to_owned(), path.to_owned(), need.to_owned())
    })
    .collect()
}

/// Asks as anybody on this host does, without a token.
async fn status(stack: &Stack, method: &str, path: &str) -> (u16, String) {
    let url = format!("{}{}", stack.url(), path.replace(['{', '}'], ""));
    let method = method.parse().unwrap();
    let request = reqwest_client().request(method, url).json(&json!({}));
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap_or_default())
}

/// Returns all that lies below a directory, with its mode.
fn all_below(dir: &Path) -> Vec<(PathBuf, u32)> {
    // What is replaced meanwhile was seen under its former name.
    let Ok(about) = fs::metadata(dir) else { return Vec::new() };
    let mut found = vec![(dir.to_owned(), about.mode())];
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(about) = entry.metadata() else { continue };
        if about.is_dir() {
            found.extend(all_below(&entry.path()));
        } else {
            found.push((entry.path(), about.mode()));
        }
    }
    found
}

fn as_nobody(dir: &Path, program: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(words).current_dir(dir).env_clear().env("PATH", "/usr/bin:/bin");
    command.uid(NOBODY).gid(NOBODY).output().unwrap()
}

#[tokio::test]
async fn all_doors_but_that_for_events_ask_who_is_there() {
    let stack = Stack::up(&directory("doors"), "policy: {soak: 500ms}\n");
    for (method, path, need) in routes() {
        let (status, text) = status(&stack, &method, &path).await;
        let is_right = match need.as_str() {
            "nobody asks" => status == 200,
            // It hears that there is no event in `{}`: nobody asked who it is.
            "publisher" => status == 400,
            "its own secret" => (400..500).contains(&status),
            _ => status == 401 && text.contains("data/run/api-token"),
        };
        assert!(is_right, "{method} {path} ({need}): {status} {text}");
    }
    let event = json!({"type": "disk.full", "source": "external", "payload": {"service": "x"}});
    for path in ["/publish_event", "/api/v1/events"] {
        let url = format!("{}{path}", stack.url());
        let sent = reqwest_client().post(&url).json(&event).send().await.unwrap();
        assert!(sent.status().is_success(), "{path}: {}", sent.status());
        let page = reqwest_client().post(&url).json(&event).header("origin", "http://evil.example");
        assert_eq!(page.send().await.unwrap().status(), 403, "{path}");
    }
    eventually("both are one incident", || async {
        let all = stack.incidents("type=disk.full").await?;
        if all.len() == 1 { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;
    assert_eq!(stack.stop(), 0);
}

#[tokio::test]
async fn the_broker_knows_each_role_by_its_password_and_nobody_else() {
    let stack = Stack::up(&directory("broker"), "policy: {soak: 500ms}\n");
    let address = stack.nats_url("cli").rsplit('@').next().unwrap().to_owned();
    async_nats::connect(&address).await.unwrap_err();
    for role in ["supervisor", "cli", "publisher"] {
        let guessed = async_nats::ConnectOptions::new()
            .user_and_password(role.to_owned(), role.to_owned())
            .connect(&address)
            .await;
        guessed.unwrap_err();
    }
    // Who may publish events has an account of its own, and sees nothing of ours.
    let publisher = stack.nats("publisher").await.unwrap();
    let event = json!({"type": "disk.full", "payload": {"service": "x"}}).to_string();
    publisher.publish("selfheal.event.disk.full", event.into()).await.unwrap();
    publisher.flush().await.unwrap();
    let asked = publisher.request("selfheal.query.status", "{}".into()).await;
    asked.unwrap_err();
    eventually("the event is an incident", || async {
        let all = stack.incidents("type=disk.full").await?;
        if all.len() == 1 { Ok(()) } else { Err(format!("{all:?}")) }
    })
    .await;
    let secrets: Vec<String> = ["supervisor", "fixer", "cli", "publisher"]
        .iter()
        .map(|role| stack.nats_url(role).split(['/', ':', '@']).nth(4).unwrap().to_owned())
        .chain([stack.token()])
        .collect();
    assert!(secrets.iter().all(|it| 60 < it.len()), "they are whole");
    for kind in AGENTS {
        for pid in stack.pids(kind) {
            let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
            assert!(secrets.iter().all(|it| !words.contains(it)), "{kind} shows a secret");
        }
    }
    let log = fs::read_to_string(stack.dir().join("up.log")).unwrap();
    assert!(secrets.iter().all(|it| !log.contains(it)), "{log}");
    assert!(log.contains("data/run/nats/publisher.url"), "it says how to publish: {log}");
    assert_eq!(stack.stop(), 0);
}

#[tokio::test]
async fn nothing_that_it_makes_is_for_others_and_what_it_starts_has_the_umask_of_its_owner() {
    let dir = directory("modes");
    let stack = Stack::up(&dir, &config(&dir));
    stack.until("sleeper", &["resolved"]).await;
    let ours = Command::new("sh").args(["-c", "umask"]).output().unwrap().stdout;
    let ours = String::from_utf8(ours).unwrap();
    for file in ["umask-of-target", "umask-of-check"] {
        let told = eventually("it says its umask", || async {
            fs::read_to_string(dir.join(file)).map_err(|error| error.to_string())
        })
        .await;
        assert_eq!(told, ours, "{file}");
    }
    let all = all_below(&dir.join("data"));
    for name in ["incident_logs.jsonl", "up.lock", "supervisor.lock", "up.json", "sleeper.log"] {
        assert!(all.iter().any(|it| it.0.ends_with(name)), "{name} is not there");
    }
    for (path, mode) in all {
        assert_eq!(mode & 0o077, 0, "{} has the mode {mode:o}", path.display());
    }
    assert_eq!(stack.stop(), 0);
}

#[tokio::test]
async fn another_user_finds_no_file_and_gives_no_command() {
    if !geteuid().is_root() {
        #[expect(clippy::print_stderr, reason = "what a test has not tried, it says")]
        {
            eprintln!(
                "not root, so nothing was tried as another user; the modes are checked by \
                 nothing_that_it_makes_is_for_others_and_what_it_starts_has_the_umask_of_its_owner"
            );
        }
        return;
    }
    let dir = directory("other");
    // Others may enter the place itself, and run the command.
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    let selfheal = dir.join("selfheal");
    fs::copy(binary("selfheal"), &selfheal).unwrap();
    fs::set_permissions(&selfheal, fs::Permissions::from_mode(0o755)).unwrap();
    let stack = Stack::up(&dir, &config(&dir));
    stack.until("sleeper", &["resolved"]).await;
    for (path, _) in all_below(&dir.join("data")) {
        let path = path.display().to_string();
        let read = as_nobody(&dir, Path::new("cat"), &[&path]);
        assert!(!read.status.success() && read.stdout.is_empty(), "{path} was read");
    }
    let address = stack.nats_url("cli").rsplit('@').next().unwrap().to_owned();
    let commands: [&[&str]; 6] = [
        &["status"],
        &["incidents"],
        &["pause"],
        &["apply", "selfheal.yaml"],
        &["token", "create", "--name", "x", "--role", "admin"],
        &["silences"],
    ];
    let url = format!("nats://{address}");
    for words in commands {
        let words = [words, &["--timeout", "5s", "--nats-url", &url]].concat();
        let refused = as_nobody(&dir, &selfheal, &words);
        assert_eq!(refused.status.code(), Some(69), "{words:?}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("credentials"), "{words:?}: {said}");
    }
    let whoami = ["token", "check", "--gateway", stack.url()];
    assert!(!as_nobody(&dir, &selfheal, &whoami).status.success(), "there is no token for others");
    // Its owner needs no flag at all.
    let (code, said) = stack.cli(&["status"]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = stack.cli(&["token", "check", "--gateway", stack.url()]);
    assert!(code == 0 && said.contains("admin"), "{said}");
    let (code, said) = stack.cli(&["--json", "incidents"]);
    let listed: Value = serde_json::from_str(&said).unwrap_or_default();
    assert!(code == 0 && listed.to_string().contains("sleeper"), "{said}");
    assert_eq!(stack.stop(), 0);
}
