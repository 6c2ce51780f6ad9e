//! `selfheal doctor` on installations that are really broken.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on must fail"
)]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Output},
    time::{Duration, Instant},
};

use bus::{Subjects, roles::Role, testing::Broker};
use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What `doctor` printed as JSON, and its exit code.
struct Told {
    code: i32,
    report: Value,
}

impl Told {
    /// The finding of a check whose text contains `words`.
    fn has(&self, check: &str, severity: &str, words: &str) -> bool {
        self.report["findings"].as_array().unwrap().iter().any(|it| {
            it["check"] == check
                && it["severity"] == severity
                && it["what"].as_str().unwrap().contains(words)
                && !it["why"].as_str().unwrap().is_empty()
                && !it["mend"].as_str().unwrap().is_empty()
        })
    }

    fn outcome(&self, check: &str) -> &str {
        let checks = self.report["checks"].as_array().unwrap();
        let found = checks.iter().find(|it| it["check"] == check).unwrap();
        found["outcome"].as_str().unwrap()
    }
}

fn directory() -> PathBuf {
    let path = std::env::temp_dir().join(format!("selfheal-doctor-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn run(url: &str, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfheal"));
    for name in ["SELFHEAL_NATS_URL", "SELFHEAL_CONFIG", "SELFHEAL_DATA_DIR"] {
        command.env_remove(name);
    }
    command.args(["doctor", "--nats-url", url]).args(words);
    command.current_dir(directory()).output().unwrap()
}

/// Asks the doctor, beside whom tasks of the test go on.
async fn doctor(url: &str, words: &[&str]) -> Told {
    let url = url.to_owned();
    let words: Vec<String> = words.iter().map(|it| (*it).to_owned()).collect();
    let asked = tokio::task::spawn_blocking(move || {
        let words: Vec<&str> =
            ["--json"].into_iter().chain(words.iter().map(String::as_str)).collect();
        run(&url, &words)
    });
    let output = asked.await.unwrap();
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    Told { code: output.status.code().unwrap(), report }
}

#[tokio::test]
async fn without_a_broker_it_says_so_and_checks_what_is_left() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let told = doctor(&format!("nats://me:secret@{nobody}"), &["--timeout", "500ms"]).await;
    assert_eq!(told.code, 2, "{:#}", told.report);
    assert!(told.has("broker", "error", "refused"), "{:#}", told.report);
    assert!(!told.report.to_string().contains("secret"));
    assert_eq!(told.outcome("zones"), "not_seen");
    assert_eq!(told.report["errors"], 1, "one cause is told once: {:#}", told.report);
}

/// Greets like a nats-server of another version, and answers pings.
fn old_broker(version: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let serve = move |mut stream: TcpStream| {
        let info = format!(
            "INFO {{\"server_id\":\"OLD\",\"server_name\":\"old\",\"version\":\"{version}\",\"go\":\"go1\",\
             \"host\":\"127.0.0.1\",\"port\":4222,\"headers\":true,\"max_payload\":1048576,\"jetstream\":true,\"proto\":1}}\r\n"
        );
        stream.write_all(info.as_bytes())?;
        for line in BufReader::new(stream.try_clone()?).lines() {
            if line?.starts_with("PING") {
                stream.write_all(b"PONG\r\n")?;
            }
        }
        std::io::Result::Ok(())
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    url
}

#[tokio::test]
async fn a_broker_that_is_too_old_is_told_with_what_to_install() {
    let told = doctor(&old_broker("2.9.10"), &["--timeout", "3s"]).await;
    assert_eq!(told.code, 2);
    assert!(told.has("broker", "error", "2.9.10 is too old"), "{:#}", told.report);
    assert!(told.report.to_string().contains("install a newer"));
}

#[tokio::test]
async fn a_broker_without_jetstream_is_told() {
    let broker = Broker::without_jetstream().await;
    let told = doctor(&broker.url(), &[]).await;
    assert_eq!(told.code, 2);
    assert!(told.has("broker", "error", "no JetStream"), "{:#}", told.report);
}

#[tokio::test]
async fn a_broker_that_hangs_does_not_hang_the_doctor() {
    let broker = Broker::start().await;
    let pid = Pid::from_raw(i32::try_from(broker.pid().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let start = Instant::now();
    let told = doctor(&broker.url(), &["--timeout", "1s"]).await;
    kill_process(pid, Signal::CONT).unwrap();
    assert_eq!(told.code, 2);
    assert!(told.has("broker", "error", "no broker answers"), "{:#}", told.report);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_empty_broker_has_no_streams_and_no_supervisor() {
    let broker = Broker::start().await;
    let told = doctor(&broker.url(), &["--timeout", "1s"]).await;
    assert_eq!(told.code, 2);
    assert!(told.has("streams", "error", "SELFHEAL_INBOX is not there"), "{:#}", told.report);
    assert_eq!(told.outcome("broker"), "well");
}

#[tokio::test]
async fn agents_with_a_wrong_clock_another_version_or_no_answer_are_told() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let mut entry = serde_json::json!({
        "id": "fixer-0000aaaa", "kind": "fixer", "zones": ["west"], "version": "0.1.0",
        "host": "far-away", "pid": 7, "started_at": Utc::now(),
        "pulse": {"clock": Utc::now() - TimeDelta::minutes(5), "violation": null},
    });
    let put = |entry: &Value| {
        let key = bus.subjects().member_key(entry["id"].as_str().unwrap());
        bus.publish_core(key, Bytes::from(entry.to_string()))
    };
    put(&entry).await.unwrap();
    entry["id"] = "fixer-0000bbbb".into();
    entry["version"] = "0.2.0".into();
    entry["host"] = "near".into();
    entry["pulse"] =
        serde_json::json!({"clock": Utc::now(), "violation": "Publish to \"selfheal.claim\""});
    put(&entry).await.unwrap();
    let told = doctor(&broker.url(), &["--timeout", "1s"]).await;
    assert!(told.has("clocks", "error", "far-away"), "{:#}", told.report);
    assert!(told.has("clocks", "error", "behind the broker's"), "{:#}", told.report);
    assert!(!told.has("clocks", "error", "near"), "{:#}", told.report);
    assert!(told.has("versions", "warning", "0.2.0: fixer-0000bbbb"), "{:#}", told.report);
    assert!(told.has("agents", "warning", "fixer-0000aaaa"), "{:#}", told.report);
    assert!(told.has("permissions", "error", "selfheal.claim"), "{:#}", told.report);
    assert!(told.has("leader", "error", "no supervisor lives"), "{:#}", told.report);
    assert_eq!(told.code, 2);
}

#[tokio::test]
async fn streams_that_were_changed_by_hand_and_fill_up_are_told() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    // 64 bytes of room, of which nothing is left; and a stream that drops instead of refusing.
    let subjects = serde_json::json!(["selfheal.claim.*.*"]);
    let mut config = serde_json::json!({
        "name": "SELFHEAL_CLAIMS", "subjects": subjects, "retention": "limits", "storage": "file",
        "max_consumers": -1, "max_msgs": -1, "max_bytes": 400, "discard": "old", "max_age": 0,
        "max_msgs_per_subject": -1, "max_msg_size": 65536, "num_replicas": 1, "allow_direct": true,
        "duplicate_window": 120_000_000_000_u64, "deny_delete": true, "deny_purge": true,
        "allow_msg_ttl": true,
    });
    let update = "$JS.API.STREAM.UPDATE.SELFHEAL_CLAIMS".to_owned();
    let sent = Bytes::from(config.to_string());
    let answer = bus.request(update, sent, Duration::from_secs(5)).await.unwrap();
    config = serde_json::from_slice(&answer).unwrap();
    assert!(config["error"].is_null(), "{config}");
    for n in 0..4 {
        let subject = format!("selfheal.claim.{n}.1");
        bus.publish_core(subject, Bytes::from_static(&[b'x'; 40])).await.unwrap();
    }
    let told = doctor(&broker.url(), &["--timeout", "1s"]).await;
    for setting in ["max_bytes 400", "discard Old", "max_age"] {
        assert!(told.has("streams", "warning", setting), "{setting}: {:#}", told.report);
    }
    assert!(
        told.has("room", "warning", "SELFHEAL_CLAIMS")
            || told.has("room", "error", "SELFHEAL_CLAIMS"),
        "{:#}",
        told.report
    );
}

/// Lines of a broker's configuration: users with these lists.
fn users(users: &[(&str, Vec<String>, Vec<String>)]) -> String {
    let list = |it: &[String]| format!("{it:?}");
    let one = |(name, publish, subscribe): &(&str, Vec<String>, Vec<String>)| {
        format!(
            "{{user: {name}, password: p, permissions: {{publish: {}, subscribe: {}}}}}",
            list(publish),
            list(subscribe)
        )
    };
    let all: Vec<_> = users.iter().map(one).collect();
    format!("authorization {{ users: [\n{}\n] }}\n", all.join("\n"))
}

#[tokio::test]
async fn a_user_that_may_too_little_is_told_and_the_shipped_lists_are_well() {
    let names = Subjects::new("selfheal");
    let may = |role: Role| role.permissions(&names, &["default".to_owned()]);
    let (cli, mut fixer) = (may(Role::Cli), may(Role::Fixer));
    fixer.publish.retain(|it| !it.contains("claim."));
    let config = users(&[
        ("cli", cli.publish, cli.subscribe),
        ("fixer", fixer.publish, fixer.subscribe),
        ("poor", vec!["nothing".to_owned()], vec!["_INBOX_cli.>".to_owned()]),
        ("root", vec![">".to_owned()], vec![">".to_owned()]),
    ]);
    let broker = Broker::with_config(&config).await;
    let options = bus::BrokerOptions { url: broker.url_for("root", "p"), ..Default::default() };
    bus::connect(&options).await.unwrap().ensure_topology().await.unwrap();

    let told = doctor(&broker.url_for("cli", "p"), &["--timeout", "2s"]).await;
    for check in ["permissions", "streams", "room"] {
        assert_eq!(told.outcome(check), "well", "{check}: {:#}", told.report);
    }
    let told = doctor(&broker.url_for("fixer", "p"), &["--role", "fixer", "--timeout", "1s"]).await;
    assert!(told.has("permissions", "warning", "selfheal.claim.*.*"), "{:#}", told.report);

    let start = Instant::now();
    let told = doctor(&broker.url_for("poor", "p"), &["--timeout", "1s"]).await;
    assert_eq!(told.outcome("permissions"), "not_seen", "{:#}", told.report);
    assert!(told.report.to_string().contains("may not ask"), "{:#}", told.report);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());

    let told = doctor(&broker.url_for("root", "wrong"), &["--timeout", "1s"]).await;
    assert!(told.has("broker", "error", "does not let us in"), "{:#}", told.report);
}

#[tokio::test]
async fn people_read_what_why_and_how() {
    let broker = Broker::without_jetstream().await;
    let url = broker.url();
    let output = tokio::task::spawn_blocking(move || run(&url, &[])).await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stdout).unwrap();
    for words in ["1 error", "why it matters: ", "fix: ", "not seen  zones"] {
        assert!(text.contains(words), "{words} is not in\n{text}");
    }
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
