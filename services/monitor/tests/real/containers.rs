//! The check is looked at once an hour: only the engine's events can have told.

use std::process::Command;

use domain::{
    check::Check,
    event::Status,
    span::Span,
    target::{DockerHandle, Target},
    wire::ProbeRequest,
};
use monitor::answer::Answerer;
use serde_json::json;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::kit::{Dir, NEVER, Watched, unique};

/// Small, and there already: the broker's own image.
const IMAGE: &str = "nats:2.15.1-alpine";

/// A container that does nothing; removed when dropped.
struct Container(String);

impl Container {
    fn run(name: &str, options: &[&str]) -> Self {
        let it = Self(name.to_owned());
        let run =
            ["run", "--detach", "--name", name, "--entrypoint", "sleep", "--stop-timeout", "1"];
        let run = run.iter().chain(options).chain(&[IMAGE, "3600"]).copied();
        docker(&run.collect::<Vec<_>>());
        it
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _gone = Command::new("docker").args(["rm", "--force", &self.0]).output();
    }
}

fn docker(arguments: &[&str]) {
    let ran = Command::new("docker").args(arguments).output().expect("there is no docker command");
    let complaint = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "docker {arguments:?}: {complaint}");
}

fn target(container: &str, check: Check) -> Target {
    let docker = Some(DockerHandle { container: container.to_owned() });
    Target { docker, checks: vec![check], ..Target::named(container) }
}

fn told_by_the_engine() -> Check {
    Check { every: NEVER, ..Check::of_container() }
}

/// A watch, and the stream of events that it needs.
fn watch(dir: &Dir, target: &Target) -> (Watched, DropGuard) {
    let instruments = dir.instruments();
    let stop = CancellationToken::new();
    tokio::spawn(instruments.engine.clone().listen(stop.clone()));
    let watched = Watched::start_with(&instruments, target);
    (watched, stop.drop_guard())
}

#[tokio::test]
async fn a_killed_container_is_told_by_the_engine_and_so_is_its_start() {
    let (dir, name) = (Dir::new(), unique("selfheal-test-killed"));
    let _container = Container::run(&name, &[]);
    let (mut watched, _stop) = watch(&dir, &target(&name, told_by_the_engine()));
    watched.until_well("docker").await;
    docker(&["kill", &name]);
    let event = watched.expect(Status::Firing).await;
    assert_eq!(event.payload["exit_code"], json!(137), "{event:#?}");
    docker(&["start", &name]);
    let event = watched.expect(Status::Resolved).await;
    assert_eq!(event.payload["container"]["status"], json!("running"));
    watched.nothing();
}

#[tokio::test]
async fn a_container_of_a_compose_project_is_found_by_its_service() {
    let (dir, name) = (Dir::new(), unique("selfheal-test-service"));
    let project = format!("com.docker.compose.project={name}");
    let labels = ["--label", &project, "--label", "com.docker.compose.service=store"];
    let _container = Container::run(&format!("{name}-store-1"), &labels);
    let handle = format!("{name}/store");
    let (mut watched, _stop) = watch(&dir, &target(&handle, told_by_the_engine()));
    watched.until_well("docker").await;
    docker(&["pause", &format!("{name}-store-1")]);
    let event = watched.expect(Status::Firing).await;
    assert_eq!(event.payload["detail"], json!("container is paused"));
    docker(&["unpause", &format!("{name}-store-1")]);
    watched.expect(Status::Resolved).await;
}

#[tokio::test]
async fn a_container_that_its_own_check_calls_unhealthy_is_sick() {
    let (dir, name) = (Dir::new(), unique("selfheal-test-unhealthy"));
    let check = "--health-cmd=if test -e /tmp/sick; then echo no more; exit 1; fi";
    let options = [check, "--health-interval=100ms", "--health-retries=1"];
    let _container = Container::run(&name, &options);
    let (mut watched, _stop) = watch(&dir, &target(&name, told_by_the_engine()));
    watched.until_well("docker").await;
    docker(&["exec", &name, "touch", "/tmp/sick"]);
    let event = watched.expect(Status::Firing).await;
    let detail = event.payload["detail"].as_str().unwrap();
    assert_eq!(detail, "container runs but is unhealthy: no more");
    docker(&["exec", &name, "rm", "/tmp/sick"]);
    watched.expect(Status::Resolved).await;
}

#[tokio::test]
async fn a_container_that_is_not_there_is_sick_and_a_probe_tells_what_is_known() {
    let (dir, name) = (Dir::new(), unique("selfheal-test-probe"));
    let container = Container::run(&name, &["--restart=no"]);
    let answerer = Answerer {
        member: "monitor-test".into(),
        instruments: dir.instruments(),
        standings: std::sync::Arc::default(),
        known: monitor::known::Known::default(),
    };
    let check = Check { timeout: Span::from_secs(10), ..Check::of_container() };
    let ask = || ProbeRequest {
        targets: vec![target(&name, check.clone())],
        measures: Vec::new(),
        logs: true,
        timeout_ms: 10_000,
    };
    let probe = answerer.answer(ask()).await.targets.remove(0);
    assert!(probe.healthy, "{probe:#?}");
    docker(&["kill", &name]);
    let probe = answerer.answer(ask()).await.targets.remove(0);
    let state = probe.container.clone().unwrap();
    assert!(!probe.healthy && state.exists, "{probe:#?}");
    assert_eq!((state.status.as_str(), state.exit_code), ("exited", Some(137)));
    assert!(state.started_at < state.finished_at);
    drop(container);
    let probe = answerer.answer(ask()).await.targets.remove(0);
    assert!(!probe.healthy && !probe.container.clone().unwrap().exists, "{probe:#?}");
    assert_eq!(probe.checks[0].detail, format!("there is no container {name}"));
}
