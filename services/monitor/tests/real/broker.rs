//! The binary against a real broker; the test is the supervisor.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bus::{Bus, InboxReader, testing::Broker};
use chrono::{TimeDelta, Utc};
use domain::{
    check::Check,
    config::Config,
    event::{Event, Severity, Status},
    id::IncidentId,
    span::Span,
    target::Target,
    view::{self, IncidentView, Page},
    wire::{Envelope, Input, ProbeReply, ProbeRequest, VerifyWork, WorkKind, WorkRef},
};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use crate::kit::{Dir, NEVER, PATIENCE, Process, eventually, process_target, unique};

struct Stage {
    broker: Broker,
    bus: Bus,
    inbox: InboxReader,
    read: Vec<Envelope>,
    dir: Dir,
}

/// A running `selfheal-monitor`, killed with SIGKILL when dropped.
struct Monitor {
    child: Child,
    id: String,
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Stage {
    async fn set(targets: &[&Target]) -> Self {
        let broker = Broker::start().await;
        let bus = broker.bus().await.unwrap();
        let inbox = bus.read_inbox(0).await.unwrap();
        let config = Config {
            targets: targets.iter().map(|it| (*it).clone()).collect(),
            ..Config::default()
        };
        bus.config_store().put(serde_json::to_vec(&config).unwrap().into(), 0).await.unwrap();
        Self { broker, bus, inbox, read: Vec::new(), dir: Dir::new() }
    }

    /// Starts a monitor and waits until the others can see it.
    async fn monitor(&self) -> Monitor {
        let child = Command::new(env!("CARGO_BIN_EXE_selfheal-monitor"))
            .args(["--nats-url", &self.broker.url(), "--state-dir"])
            .arg(self.dir.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let members = self.bus.members().watch();
        let pid = child.id();
        let id = eventually("the monitor is a member", || {
            let members = members.clone();
            async move { members.borrow().values().find(|it| it.pid == pid).map(|it| it.id.clone()) }
        })
        .await;
        Monitor { child, id }
    }

    /// Reads the inbox until an input fits, or the time is over.
    async fn find<T>(&mut self, fits: impl Fn(&Input) -> Option<T>, limit: Duration) -> Option<T> {
        let deadline = Instant::now() + limit;
        loop {
            let found = self.read.iter().position(|it| fits(&it.input).is_some());
            if let Some(idx) = found {
                return fits(&self.read.remove(idx).input);
            }
            let batch = self.inbox.next_batch(64, Duration::from_secs(1));
            let batch = timeout_at(deadline, batch).await.ok()?.unwrap();
            for message in batch {
                let envelopes: Vec<Envelope> = serde_json::from_slice(&message.payload).unwrap();
                self.read.extend(envelopes);
            }
            if deadline <= Instant::now() {
                return None;
            }
        }
    }

    async fn event(&mut self, target: &Target, status: Status) -> Event {
        let name = target.name.clone();
        let fits = move |input: &Input| {
            let Input::Event(event) = input else { return None };
            let is_it = event.target.as_deref() == Some(&name) && event.status == status;
            is_it.then(|| event.clone())
        };
        let found = self.find(fits, PATIENCE).await;
        found.unwrap_or_else(|| panic!("no event {status:?} of {}: {:#?}", target.name, self.read))
    }

    async fn probe(&self, targets: Vec<Target>) -> ProbeReply {
        let request = ProbeRequest { targets, measures: Vec::new(), logs: false, timeout_ms: 2000 };
        let request = serde_json::to_vec(&request).unwrap();
        let subject = self.bus.subjects().probe("default");
        let reply = self.bus.request(subject, request.into(), Duration::from_secs(10)).await;
        serde_json::from_slice(&reply.unwrap()).unwrap()
    }
}

fn open_incident(target: &Target) -> IncidentView {
    IncidentView {
        id: IncidentId::NONE,
        status: view::Status::Escalated,
        kind: "service_down".to_owned(),
        severity: Severity::Critical,
        target: Some(target.name.clone()),
        zone: "default".to_owned(),
        source: "selfheal/monitor".to_owned(),
        fingerprint: format!("service_down@{}", target.name),
        opened_at: Utc::now(),
        updated_at: Utc::now(),
        closed_at: None,
        count: 1,
        attempt: 0,
        analysis: None,
        resolution: None,
        symptom_of: None,
        previous: None,
        plan: None,
        waiting: None,
        acknowledged_by: None,
        deadline: None,
        bring_up: false,
        notified_by: None,
    }
}

/// Answers the question for open incidents, as a supervisor does.
async fn answer_with(bus: &Bus, incidents: Vec<IncidentView>) -> bus::Server {
    let page = Page { total: incidents.len(), incidents, next: None };
    let page = bytes::Bytes::from(serde_json::to_vec(&page).unwrap());
    let subject = bus.subjects().query("incidents");
    bus.serve(subject, "supervisor", move |_| {
        let page = page.clone();
        async move { Ok(page) }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_killed_process_is_in_the_inbox_and_so_is_its_recovery() {
    let target = process_target(&unique("broker-killed"));
    let mut stage = Stage::set(&[&target]).await;
    let mut process = Process::start(&stage.dir, &target);
    let monitor = stage.monitor().await;
    process.kill();
    let event = stage.event(&target, Status::Firing).await;
    assert_eq!(event.payload["monitor"], json!(monitor.id));
    let _successor = Process::start(&stage.dir, &target);
    stage.event(&target, Status::Resolved).await;
}

#[tokio::test]
async fn targets_are_shared_and_those_of_a_dead_monitor_are_taken_over() {
    let targets: Vec<Target> = (0..6).map(|_| process_target(&unique("shared"))).collect();
    let mut stage = Stage::set(&targets.iter().collect::<Vec<_>>()).await;
    let mut processes: BTreeMap<&str, Process> =
        targets.iter().map(|it| (it.name.as_str(), Process::start(&stage.dir, it))).collect();
    let (first, second) = (stage.monitor().await, stage.monitor().await);
    // Both know of each other when each reports what is its own.
    for target in &targets {
        processes.get_mut(target.name.as_str()).unwrap().kill();
    }
    for target in &targets {
        stage.event(target, Status::Firing).await;
    }
    for target in &targets {
        processes.insert(&target.name, Process::start(&stage.dir, target));
        stage.event(target, Status::Resolved).await;
    }
    let dead = first.id.clone();
    drop(first);
    stage.read.clear();
    for target in &targets {
        processes.get_mut(target.name.as_str()).unwrap().kill();
    }
    let mut by = BTreeSet::new();
    for target in &targets {
        let event = stage.event(target, Status::Firing).await;
        by.insert(event.payload["monitor"].as_str().unwrap().to_owned());
    }
    assert!(!by.contains(&dead));
    assert_eq!(by, BTreeSet::from([second.id.clone()]));
    let again =
        |it: &&Envelope| matches!(&it.input, Input::Event(it) if it.status == Status::Firing);
    assert_eq!(stage.read.iter().find(again), None, "something was told twice");
}

#[tokio::test]
async fn a_recovery_that_a_new_monitor_sees_first_closes_the_incident_of_the_old_one() {
    let target = process_target(&unique("recovered"));
    let mut stage = Stage::set(&[&target]).await;
    let _process = Process::start(&stage.dir, &target);
    let _monitor = stage.monitor().await;
    // The supervisor comes later than the monitor, which asks until there is one.
    let _supervisor = answer_with(&stage.bus, vec![open_incident(&target)]).await;
    stage.event(&target, Status::Resolved).await;
}

#[tokio::test]
async fn trouble_that_outlives_its_incident_is_told_again() {
    let check = Check { every: NEVER, ..Check::of_process() };
    let target = Target { checks: vec![check], ..process_target(&unique("outlives")) };
    let mut stage = Stage::set(&[&target]).await;
    let _supervisor = answer_with(&stage.bus, vec![open_incident(&target)]).await;
    let mut process = Process::start(&stage.dir, &target);
    let _monitor = stage.monitor().await;
    // It takes the incident for its own, and tells that all is well.
    stage.event(&target, Status::Resolved).await;
    process.kill();
    let first = stage.event(&target, Status::Firing).await;
    let line = json!({"incident_id": IncidentId::NONE, "incident_type": "service_down",
        "status": "resolved", "target": target.name});
    let subject = stage.bus.subjects().over();
    // The acknowledgement of the report may be on its way still; then nothing is over yet.
    let second = loop {
        let line = serde_json::to_vec(&line).unwrap();
        stage.bus.publish_core(subject.clone(), line.into()).await.unwrap();
        let name = target.name.clone();
        let again = move |input: &Input| {
            let Input::Event(event) = input else { return None };
            (event.target.as_deref() == Some(&name)).then(|| event.clone())
        };
        if let Some(event) = stage.find(again, Duration::from_secs(1)).await {
            break event;
        }
    };
    assert_eq!(second.status, Status::Firing);
    assert_ne!(first.id, second.id);
}

#[tokio::test]
async fn a_fix_is_verified_on_request_and_reported_before_it_is_acknowledged() {
    let target = process_target(&unique("verified"));
    let mut stage = Stage::set(&[&target]).await;
    let _process = Process::start(&stage.dir, &target);
    let monitor = stage.monitor().await;
    let work = VerifyWork {
        work: WorkRef { incident: IncidentId::NONE, attempt: 2, revision: 7 },
        checks: target.all_checks(),
        target: target.clone(),
        neighbours: Vec::new(),
        passed_before: Vec::new(),
        since: Utc::now(),
        soak: Span::from_millis(200),
        within: Span::from_secs(10),
        after_fix: true,
        not_after: Utc::now() + TimeDelta::minutes(10),
    };
    let payload = serde_json::to_vec(&work).unwrap();
    let id = work.work.wish_id(WorkKind::Verify);
    stage.bus.work().publish(WorkKind::Verify, "default", &id, payload.into()).await.unwrap();
    let report = |input: &Input| {
        let Input::Verification(report) = input else { return None };
        Some(report.clone())
    };
    let report = stage.find(report, PATIENCE).await.expect("no report");
    assert!(report.passed, "{report:#?}");
    assert_eq!((report.work, report.by), (work.work, monitor.id.clone()));
    assert!(work.since < report.samples_from);
}

#[tokio::test]
async fn a_monitor_answers_how_targets_are() {
    let target = process_target(&unique("asked"));
    let stage = Stage::set(&[&target]).await;
    let mut process = Process::start(&stage.dir, &target);
    let monitor = stage.monitor().await;
    let reply = eventually("the probe service stands", || async {
        let subject = stage.bus.subjects().probe("default");
        let nothing = json!({"targets": [], "logs": false, "timeout_ms": 100}).to_string();
        stage.bus.request(subject, nothing.into(), Duration::from_secs(5)).await.ok()
    })
    .await;
    assert!(!reply.is_empty());
    let well = eventually("it knows its configuration", || async {
        let reply = stage.probe(vec![target.clone()]).await;
        reply.targets[0].unseen.is_empty().then_some(reply)
    })
    .await;
    assert!(well.targets[0].healthy, "{well:#?}");
    process.kill();
    let sick = stage.probe(vec![target]).await;
    assert!(!sick.targets[0].healthy, "{sick:#?}");
    assert_eq!(sick.by, monitor.id);
    assert_eq!(sick.targets[0].process.as_ref().unwrap().signal, Some(9));
}

#[tokio::test]
async fn what_happens_while_the_broker_is_away_is_told_when_it_is_back() {
    let target = process_target(&unique("away"));
    let mut stage = Stage::set(&[&target]).await;
    let mut process = Process::start(&stage.dir, &target);
    let _monitor = stage.monitor().await;
    // A full turn shows that the watch stands.
    process.kill();
    stage.event(&target, Status::Firing).await;
    let mut process = Process::start(&stage.dir, &target);
    stage.event(&target, Status::Resolved).await;
    stage.broker.kill();
    process.kill();
    stage.broker.restart().await;
    stage.event(&target, Status::Firing).await;
}
