//! What every service does around its work, seen on the gateway: exit codes, health, signals.

use bus::testing::Broker;
use domain::wire::AnswerStatus;
use rustix::process::Signal;

use crate::fixture::{Desk, Gateway, PATIENCE, answer, command};

/// Nobody listens there: the port of the discard service.
const NOWHERE: &str = "nats://127.0.0.1:9";

#[tokio::test]
async fn bad_flags_end_with_78_and_say_which() {
    for (arguments, part) in [
        (vec!["--nonsense"], "--nonsense"),
        (vec!["--zones", "a b"], "--zones"),
        (vec!["--listen", "everywhere"], "127.0.0.1:8080"),
        (vec!["--log", "info,=="], "log filter"),
        (vec!["--answer-timeout", "soon"], "500ms"),
    ] {
        let broker = Broker::start().await;
        let output = command(&broker.url()).args(&arguments).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn help_and_version_are_a_success() {
    for argument in ["--help", "--version"] {
        let output = command(NOWHERE).arg(argument).output().await.unwrap();
        assert!(output.status.success(), "{argument}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("selfheal-gateway"), "{said}");
    }
}

#[tokio::test]
async fn a_broker_without_jetstream_ends_it_with_69_and_a_hint() {
    let broker = Broker::without_jetstream().await;
    let output = command(&broker.url()).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("nats-server -js"), "{said}");
}

#[tokio::test]
async fn while_the_broker_is_away_it_lives_says_what_it_waits_for_and_can_be_stopped() {
    let mut waiting = command(NOWHERE);
    let port = free_port();
    waiting.args(["--health-listen", &format!("127.0.0.1:{port}")]);
    waiting.stderr(std::process::Stdio::piped());
    let mut child = waiting.spawn().unwrap();
    let health = format!("http://127.0.0.1:{port}");
    let alive = async {
        loop {
            if let Ok(answer) = reqwest::get(format!("{health}/healthz")).await {
                break answer.status();
            }
        }
    };
    drop(rustls::crypto::ring::default_provider().install_default());
    assert_eq!(tokio::time::timeout(PATIENCE, alive).await.unwrap(), 200);
    let ready = reqwest::get(format!("{health}/readyz")).await.unwrap();
    assert_eq!(ready.status(), 503);
    assert!(ready.text().await.unwrap().contains("broker away"));
    let metrics = reqwest::get(format!("{health}/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("selfheal_broker_connected 0"), "{metrics}");
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn it_joins_the_living_and_leaves_them_when_told_to_stop() {
    let broker = Broker::start().await;
    let desk = Desk::open(&broker, |_| answer(AnswerStatus::Done)).await;
    let mut gateway = Gateway::start(&broker, &["--zones", "east"]).await;
    let id = gateway.line("ready").await["member"].as_str().unwrap().to_owned();
    let mut members = desk.bus.members().watch();
    let joined = members.wait_for(|members| members.contains_key(&id));
    let joined = tokio::time::timeout(PATIENCE, joined).await.unwrap().unwrap().clone();
    assert_eq!(
        (joined[&id].kind.as_str(), &joined[&id].zones),
        ("gateway", &vec!["east".to_owned()])
    );

    // An open stream must not keep the process.
    let mut stream = gateway.get("/api/v1/stream").send().await.unwrap();
    assert!(stream.chunk().await.unwrap().is_some());
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.exit_code().await, Some(0));
    let left = members.wait_for(|members| !members.contains_key(&id));
    assert!(tokio::time::timeout(PATIENCE, left).await.is_ok(), "it leaves the list");
}
