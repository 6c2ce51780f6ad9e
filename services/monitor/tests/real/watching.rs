//! Real processes and servers that die, hang and come back, under a watch without a broker.

use std::{fs, time::Duration};

use crate::kit::{
    Dir, Mood, NEVER, Process, Server, Watched, eventually, every, process_target, unique,
};
use domain::{
    check::Check,
    event::{Severity, Status},
    span::Span,
    target::Target,
};
use monitor::watch::Note;
use serde_json::json;

/// The check is looked at once an hour: only the kernel can have told the end.
fn told_by_the_kernel(name: &str) -> Target {
    let check = Check { every: NEVER, ..Check::of_process() };
    Target { checks: vec![check], ..process_target(&unique(name)) }
}

#[tokio::test]
async fn a_killed_process_is_told_by_the_kernel_and_its_successor_is_found() {
    let (dir, target) = (Dir::new(), told_by_the_kernel("killed"));
    fs::write(dir.path().join(format!("{}.log", target.name)), "starting\nready\n").unwrap();
    let mut process = Process::start(&dir, &target);
    let mut watched = Watched::start(&dir, &target);
    watched.until_well("process").await;
    watched.nothing();

    process.kill();
    let event = watched.expect(Status::Firing).await;
    assert_eq!(event.kind.as_str(), "service_down");
    assert_eq!(event.source, "selfheal/monitor");
    assert_eq!(event.target.as_deref(), Some(target.name.as_str()));
    assert_eq!(event.severity, Severity::Critical);
    let payload = &event.payload;
    assert_eq!(payload["exit"]["signal"], json!(9), "{payload:#}");
    assert_eq!(payload["pid"], json!(process.pid()));
    assert_eq!(payload["exit"]["oom_killed"], json!(false), "{payload:#}");
    assert_eq!(payload["log_tail"], json!(["starting", "ready"]));
    assert_eq!(payload["samples"], json!(1));

    let successor = Process::start(&dir, &target);
    let recovered = watched.expect(Status::Resolved).await;
    assert_eq!(recovered.payload["pid"], json!(successor.pid()));
    assert_ne!(recovered.id, event.id);
    watched.nothing();
}

#[tokio::test]
async fn a_process_that_exits_is_told_with_its_code() {
    let (dir, target) = (Dir::new(), told_by_the_kernel("exits"));
    let mut child = std::process::Command::new("sh")
        .args(["-c", "read line; exit 3"])
        .env("SELFHEAL_TARGET", &target.name)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid_file = dir.path().join(format!("{}.pid", target.name));
    fs::write(&pid_file, format!("{}\n", child.id())).unwrap();
    let mut watched = Watched::start(&dir, &target);
    drop(child.stdin.take());
    let event = watched.expect(Status::Firing).await;
    // Whether the watch saw the exit or came too late for it.
    assert_eq!(event.payload["exit"]["exit_code"], json!(3));
    child.wait().unwrap();
}

#[tokio::test]
async fn a_process_without_a_pid_file_is_found_by_the_name_that_it_carries() {
    let (dir, target) = (Dir::new(), told_by_the_kernel("unwritten"));
    let mut process = Process::start_unwritten(&dir, &target);
    let processes = dir.instruments().processes;
    // A process that was started this moment shows its environment a moment later.
    let found = eventually("the process is found", || processes.find(&target, true)).await;
    assert_eq!(u32::try_from(found.pid), Ok(process.pid()));
    let mut watched = Watched::start(&dir, &target);
    watched.until_well("process").await;
    process.kill();
    watched.expect(Status::Firing).await;
}

#[tokio::test]
async fn a_number_that_now_belongs_to_another_process_is_not_the_target() {
    let (dir, target) = (Dir::new(), told_by_the_kernel("reused"));
    let stranger = Process::start_unwritten(&dir, &process_target(&unique("stranger")));
    let pid_file = dir.path().join(format!("{}.pid", target.name));
    fs::write(&pid_file, stranger.pid().to_string()).unwrap();
    let mut watched = Watched::start(&dir, &target);
    let event = watched.expect(Status::Firing).await;
    assert_eq!(event.payload["detail"], json!("no process of the target runs"));
}

#[tokio::test]
async fn the_exit_that_a_fixer_wrote_is_evidence_when_the_zombie_is_gone() {
    let (dir, target) = (Dir::new(), process_target(&unique("reaped")));
    let mut process = Process::start(&dir, &target);
    let pid = process.pid();
    process.kill();
    drop(process);
    let record = json!({"pid": pid, "exit_code": null, "signal": 9, "at": "2026-01-02T03:04:05Z"});
    fs::write(dir.path().join(format!("{}.exit.json", target.name)), record.to_string()).unwrap();
    let state = dir.instruments().processes.state(&target).await.unwrap();
    assert!(!state.running);
    assert_eq!((state.pid, state.signal, state.exit_code), (Some(pid), Some(9), None));
}

#[tokio::test]
async fn after_a_crash_the_target_is_well_only_when_it_answers_again() {
    let dir = Dir::new();
    let mut server = Server::start().await;
    let http = Check { http: Some(server.url()), fail_after: 2, ..every(100) };
    let target = Target { checks: vec![http], ..process_target(&unique("answers")) };
    let mut process = Process::start(&dir, &target);
    let mut watched = Watched::start(&dir, &target);
    watched.until_well("process").await;
    server.after_requests(1).await;

    server.set(Mood::Answer(503, "starting"));
    process.kill();
    watched.expect(Status::Firing).await;
    let _successor = Process::start(&dir, &target);
    server.after_requests(3).await;
    watched.nothing();
    server.set(Mood::Answer(200, "fine"));
    watched.expect(Status::Resolved).await;
    watched.nothing();
}

#[tokio::test]
async fn a_web_server_that_dies_hangs_or_errs_is_sick_and_well_when_it_answers() {
    let dir = Dir::new();
    let mut server = Server::start().await;
    let http = Check {
        http: Some(server.url()),
        contains: Some("fine".to_owned()),
        timeout: Span::from_millis(300),
        ..every(50)
    };
    let target = Target { checks: vec![http], ..Target::named("web") };
    let mut watched = Watched::start(&dir, &target);
    server.after_requests(2).await;
    watched.nothing();

    server.die().await;
    let event = watched.expect(Status::Firing).await;
    let detail = event.payload["detail"].as_str().unwrap();
    assert!(detail.contains("Connection refused"), "{detail}");
    assert_eq!(event.payload["samples"], json!(2));
    server.come_back().await;
    watched.expect(Status::Resolved).await;

    server.set(Mood::Hang);
    let event = watched.expect(Status::Firing).await;
    assert_eq!(event.payload["detail"], json!("no answer within 300 ms"));
    server.set(Mood::Answer(200, "it is fine"));
    watched.expect(Status::Resolved).await;

    server.set(Mood::Answer(500, "no room"));
    let event = watched.expect(Status::Firing).await;
    assert_eq!(event.payload["status"], json!(500));
    assert_eq!(event.payload["body"], json!("no room"));
    server.set(Mood::Answer(200, "fine"));
    watched.expect(Status::Resolved).await;

    server.set(Mood::Answer(200, "something else"));
    let event = watched.expect(Status::Firing).await;
    assert_eq!(event.payload["detail"], json!("answered 200 without `fine`"));
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_sick() {
    let dir = Dir::new();
    let mut server = Server::start().await;
    let tcp = Check { tcp: Some(server.address.to_string()), ..every(50) };
    let target = Target { checks: vec![tcp], ..Target::named("port") };
    let mut watched = Watched::start(&dir, &target);
    server.die().await;
    watched.expect(Status::Firing).await;
    server.come_back().await;
    watched.expect(Status::Resolved).await;
}

#[tokio::test]
async fn trouble_that_outlives_its_incident_is_told_again_under_another_id() {
    let (dir, target) = (Dir::new(), told_by_the_kernel("outlives"));
    let mut watched = Watched::start(&dir, &target);
    let first = watched.expect(Status::Firing).await;
    // Another incident of the target is none of its business.
    watched.notes.send(Note::Over { kind: "disk_full".to_owned() }).await.unwrap();
    watched.notes.send(Note::Over { kind: "service_down".to_owned() }).await.unwrap();
    let second = watched.expect(Status::Firing).await;
    assert_ne!(first.id, second.id);
    watched.nothing();
}

#[tokio::test]
async fn a_change_that_is_not_stored_keeps_its_id_and_later_ones_wait_for_it() {
    let (dir, target) = (Dir::new(), told_by_the_kernel("waits"));
    let mut process = Process::start(&dir, &target);
    let mut watched = Watched::start(&dir, &target);
    watched.until_well("process").await;
    process.kill();
    let report = watched.reports.recv().await.unwrap();
    let _successor = Process::start(&dir, &target);
    tokio::time::timeout(Duration::from_millis(300), watched.reports.recv())
        .await
        .expect_err("the recovery was told before the trouble was stored");
    report.stored.send(()).unwrap();
    watched.expect(Status::Resolved).await;
}
