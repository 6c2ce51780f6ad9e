//! The program as a person or a script meets it: exit codes, messages, where output goes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::{
    fs,
    net::TcpListener,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const CONFIG: &str = "\
targets:
  - name: web
    process: {command: [sleep, \"600\"]}
policy:
  autonomy: auto
";

fn selfheal() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfheal"));
    for name in ["SELFHEAL_NATS_URL", "SELFHEAL_CONFIG", "SELFHEAL_DATA_DIR", "SELFHEAL_LISTEN"] {
        command.env_remove(name);
    }
    command
}

fn run(dir: &Path, words: &[&str]) -> Output {
    selfheal().args(words).current_dir(dir).output().unwrap()
}

fn directory() -> PathBuf {
    let path = std::env::temp_dir().join(format!("selfheal-cli-{}", uuid::Uuid::new_v4()));
    fs::create_dir_all(&path).unwrap();
    path
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A URL where nobody listens.
fn nowhere() -> String {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    format!("nats://{address}")
}

#[test]
fn help_documents_every_exit_code_and_is_no_failure() {
    let output = run(&directory(), &["--help"]);
    assert_eq!(code(&output), 0);
    for words in [" 69 ", " 78 ", "refused", "publish", "restore", "--json"] {
        assert!(stdout(&output).contains(words), "{words}");
    }
    assert_eq!(code(&run(&directory(), &["mend"])), 2);
}

#[test]
fn a_good_file_is_summed_up() {
    let dir = directory();
    fs::write(dir.join("selfheal.yaml"), CONFIG).unwrap();
    let output = run(&dir, &["check"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains("1 target, 0 checks"), "{}", stdout(&output));
    let json = run(&dir, &["check", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!((&json["valid"], &json["targets"]), (&true.into(), &1.into()));
}

#[test]
fn each_mistake_in_a_file_is_told_with_its_place() {
    let dir = directory();
    let table = [
        ("name: web", "nam: web", "c.yaml:2:", "nam"),
        ("[sleep, \"600\"]", "[sleep, \"600\"", "c.yaml:", "hint"),
        ("autonomy: auto", "autonomy: wild", "c.yaml:5:", "wild"),
        ("policy:", "    depends_on: [databse]\npolicy:", "c.yaml:4:", "databse"),
    ];
    for (from, to, place, word) in table {
        fs::write(dir.join("c.yaml"), CONFIG.replace(from, to)).unwrap();
        let output = run(&dir, &["check", "c.yaml"]);
        assert_eq!(code(&output), 78, "{to}");
        let told = stderr(&output);
        assert!(told.contains(place) && told.contains(word), "{to}:\n{told}");
        let json = run(&dir, &["check", "c.yaml", "--json"]);
        assert_eq!(code(&json), 78);
        let json: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
        assert_eq!(json["valid"], false);
        assert!(0 < json["mistakes"][0]["line"].as_u64().unwrap());
    }
}

#[test]
fn several_mistakes_are_told_at_once() {
    let dir = directory();
    let config = CONFIG.replace("name: web", "name: \"a b\"") + "  attempts: 0\n";
    fs::write(dir.join("c.yaml"), config).unwrap();
    let told = stderr(&run(&dir, &["check", "c.yaml"]));
    assert!(told.contains("2 mistakes") && told.contains("attempts"), "{told}");
}

#[test]
fn a_file_that_is_no_text_or_not_there_is_refused_without_a_panic() {
    let dir = directory();
    fs::write(dir.join("binary"), [0xff, 0xfe, 0x00]).unwrap();
    assert_eq!(code(&run(&dir, &["check", "binary"])), 78);
    assert_eq!(code(&run(&dir, &["check", "nothing.yaml"])), 3);
    assert_eq!(code(&run(&dir, &["check", "."])), 1);
}

#[test]
fn without_a_broker_commands_end_with_69_and_say_what_to_do() {
    let (dir, url) = (directory(), nowhere());
    for words in [&["status"][..], &["incidents"], &["pause"], &["publish", "a"], &["approve", "x"]]
    {
        let words = [words, &["--nats-url", &url, "--timeout", "300ms"]].concat();
        let output = run(&dir, &words);
        assert_eq!(code(&output), 69, "{words:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("selfheal up"), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn an_empty_variable_counts_as_absent() {
    let dir = directory();
    fs::write(dir.join("selfheal.yaml"), CONFIG).unwrap();
    let mut up = selfheal();
    for name in [
        "SELFHEAL_NATS_URL",
        "SELFHEAL_NATS_CREDS",
        "SELFHEAL_NATS_CONTEXT",
        "SELFHEAL_NATS_SERVER",
    ] {
        up.env(name, "");
    }
    // Refused for its data directory, not for a broker that was named besides a port.
    let words = ["up", "--nats-port", "0", "--data-dir", "/proc/selfheal"];
    assert_eq!(code(&up.args(words).current_dir(&dir).output().unwrap()), 1);
}

#[test]
fn failures_are_json_when_json_is_wanted() {
    let output =
        run(&directory(), &["status", "--json", "--nats-url", &nowhere(), "--timeout", "300ms"]);
    let json: serde_json::Value = serde_json::from_str(&stderr(&output)).unwrap();
    assert_eq!(json["error"]["code"], "unavailable");
}

#[test]
fn colour_is_for_terminals_and_for_those_who_insist() {
    let dir = directory();
    fs::write(dir.join("selfheal.yaml"), CONFIG).unwrap();
    let escape = |words: &[&str]| stdout(&run(&dir, words)).contains('\u{1b}');
    assert!(!escape(&["check"]));
    assert!(escape(&["check", "--color", "always"]));
}

#[test]
fn health_tells_well_from_unwell_by_its_exit_code() {
    let dir = directory();
    let url = nowhere().replace("nats", "http");
    assert_eq!(code(&run(&dir, &["health", &url, "--timeout", "300ms"])), 1);
    assert_eq!(code(&run(&dir, &["health", "ftp://x"])), 2);
}

#[test]
fn the_form_of_a_configuration_is_printed_for_editors() {
    let output = run(&directory(), &["config", "schema"]);
    assert_eq!(code(&output), 0);
    let printed: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(printed, domain::schema::config());
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&directory(), &["completions", shell]);
        assert_eq!(code(&output), 0);
        assert!(stdout(&output).contains("acknowledge"), "{shell}");
    }
}

#[test]
fn up_without_a_configuration_shows_one() {
    let output = run(&directory(), &["up"]);
    assert_eq!(code(&output), 78);
    assert!(stderr(&output).contains("targets:"), "{}", stderr(&output));
}

#[test]
fn up_with_a_wrong_configuration_starts_nothing() {
    let dir = directory();
    fs::write(dir.join("selfheal.yaml"), "targts: []\n").unwrap();
    let output = run(&dir, &["up"]);
    assert_eq!(code(&output), 78);
    assert!(stderr(&output).contains("selfheal.yaml:1:"), "{}", stderr(&output));
    assert!(!dir.join("data").exists());
}

#[test]
fn up_on_a_data_directory_that_takes_nothing_says_so() {
    let dir = directory();
    fs::write(dir.join("selfheal.yaml"), CONFIG).unwrap();
    // Not even root can make a directory there.
    let output = run(&dir, &["up", "--data-dir", "/proc/selfheal"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("--data-dir"), "{}", stderr(&output));
}

#[test]
fn up_refuses_to_mix_a_given_broker_with_a_port_for_its_own() {
    let dir = directory();
    fs::write(dir.join("selfheal.yaml"), CONFIG).unwrap();
    let output = run(&dir, &["up", "--nats-port", "0", "--nats-url", "nats://127.0.0.1:1"]);
    assert_eq!(code(&output), 2, "{}", stderr(&output));
}

#[test]
fn a_wrapped_program_ends_with_its_parent() {
    // The kernel takes the thread that starts a program for its parent.
    let parent = std::process::id().to_string();
    let start = move || {
        let words = ["__child", "--parent", &parent, "--", "sleep", "20"];
        let child = selfheal().args(words).spawn().unwrap();
        let name = format!("/proc/{}/comm", child.id());
        while fs::read_to_string(&name).is_ok_and(|name| name.trim() != "sleep") {
            std::thread::yield_now();
        }
        child
    };
    let mut child = std::thread::spawn(start).join().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[test]
fn a_wrapped_program_whose_parent_is_gone_does_not_begin() {
    let output = run(&directory(), &["__child", "--parent", "1", "--", "sleep", "20"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("parent process 1 is gone"), "{}", stderr(&output));
}
