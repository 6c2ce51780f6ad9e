//! What the tests act with: the process, a monitor, work and reports.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bus::{Bus, InboxReader, ServeError, Served, Server, testing::Broker};
use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use domain::{
    event::{Event, EventType},
    id::{IncidentId, Position},
    measure::Measured,
    span::Span,
    target::Target,
    wire::{
        AnalysisReport, CheckResult, DiagnoseWork, Envelope, Input, ProbeReply, ProbeRequest,
        ProcessState, TargetProbe, WorkKind, WorkRef,
    },
};
use tokio::{
    process::{Child, Command},
    sync::Notify,
    time::timeout,
};

/// No test waits longer for anything; a busy machine needs some of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// An analyzer process, killed with SIGKILL when dropped.
pub(crate) struct Analyzer(Child);

impl Analyzer {
    pub(crate) fn start(broker: &Broker) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_selfheal-analyzer"))
            .args(["--nats-url", &broker.url()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        Self(child.unwrap())
    }

    pub(crate) async fn kill(&mut self) {
        self.0.kill().await.unwrap();
    }

    /// Sends SIGTERM and returns the exit code.
    pub(crate) async fn terminate(&mut self) -> Option<i32> {
        let pid = self.0.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
        assert!(sent.success());
        timeout(PATIENCE, self.0.wait()).await.expect("it does not end").unwrap().code()
    }
}

/// What a monitor of the test saw and was asked.
#[derive(Clone, Default)]
pub(crate) struct Monitor {
    pub(crate) questions: Arc<Mutex<Vec<ProbeRequest>>>,
    /// What it answers to those who want something measured.
    pub(crate) measured: Arc<Mutex<Vec<Measured>>>,
    asked: Arc<Notify>,
}

impl Monitor {
    /// Answers for a zone, by a function of the target.
    pub(crate) async fn serve(
        &self,
        bus: &Bus,
        zone: &str,
        look: impl Fn(&Target) -> TargetProbe + Clone + Send + Sync + 'static,
    ) -> Server {
        let this = self.clone();
        let answer = move |served: Served| {
            let (this, look) = (this.clone(), look.clone());
            async move {
                let request: ProbeRequest = serde_json::from_slice(&served.payload)
                    .map_err(|error| ServeError::new(400, error.to_string()))?;
                let targets = request.targets.iter().map(look).collect();
                this.questions.lock().unwrap().push(request);
                this.asked.notify_one();
                let measured = this.measured.lock().unwrap().clone();
                let by = "monitor-1".to_owned();
                let reply = ProbeReply { by, targets, measured, ..ProbeReply::default() };
                Ok(Bytes::from(serde_json::to_vec(&reply).unwrap()))
            }
        };
        bus.serve(bus.subjects().probe(zone), "monitors", answer).await.unwrap()
    }

    /// Is asked and never answers.
    pub(crate) async fn serve_silence(&self, bus: &Bus) -> Server {
        let asked = Arc::clone(&self.asked);
        let answer = move |_served: Served| {
            asked.notify_one();
            std::future::pending::<Result<Bytes, ServeError>>()
        };
        bus.serve(bus.subjects().probe("default"), "monitors", answer).await.unwrap()
    }

    pub(crate) async fn was_asked(&self) {
        timeout(PATIENCE, self.asked.notified()).await.expect("nobody asked");
    }
}

/// Starts a broker with everything a supervisor puts there.
pub(crate) async fn set_up() -> (Broker, Bus) {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    bus.config_store().put(Bytes::from_static(b"{}"), 0).await.unwrap();
    (broker, bus)
}

pub(crate) fn result(check: &str, ok: bool, detail: &str) -> CheckResult {
    CheckResult { check: check.to_owned(), ok, detail: detail.to_owned(), took_ms: 1 }
}

pub(crate) fn dead(target: &Target) -> TargetProbe {
    TargetProbe {
        target: target.name.clone(),
        checks: vec![result("process", false, "no process of the target runs")],
        process: Some(ProcessState { signal: Some(9), ..ProcessState::default() }),
        log_tail: vec!["listening".to_owned()],
        ..TargetProbe::default()
    }
}

pub(crate) fn well(target: &Target) -> TargetProbe {
    TargetProbe {
        target: target.name.clone(),
        healthy: true,
        checks: vec![result("process", true, "process 7 runs")],
        process: Some(ProcessState { running: true, ..ProcessState::default() }),
        ..TargetProbe::default()
    }
}

pub(crate) fn target(name: &str) -> Target {
    let target = serde_json::json!({"name": name, "process": {"command": [name]}});
    serde_json::from_value(target).unwrap()
}

pub(crate) fn work(n: u64) -> DiagnoseWork {
    let incident = IncidentId::derive(Utc::now(), Position::new(n, 0), "test");
    DiagnoseWork {
        work: WorkRef { incident, attempt: 0, revision: 1 },
        event: Event::new(n.to_string(), EventType::known("service_down"), "test"),
        target: Some(target("shop")),
        measures: Vec::new(),
        dependencies: Vec::new(),
        sick_dependencies: Vec::new(),
        attempts: Vec::new(),
        recent_incidents: Vec::new(),
        changes: Vec::new(),
        soak: Span::from_secs(3),
        within: Span::from_secs(30),
        not_after: Utc::now() + TimeDelta::minutes(1),
    }
}

pub(crate) async fn publish(bus: &Bus, work: &DiagnoseWork) {
    let id = work.work.wish_id(WorkKind::Diagnose);
    let payload = Bytes::from(serde_json::to_vec(work).unwrap());
    bus.work().publish(WorkKind::Diagnose, "default", &id, payload).await.unwrap();
}

/// The reports in the inbox, in order.
pub(crate) struct Reports {
    reader: InboxReader,
    seen: Vec<(String, AnalysisReport)>,
}

impl Reports {
    pub(crate) async fn of(bus: &Bus) -> Self {
        Self { reader: bus.read_inbox(0).await.unwrap(), seen: Vec::new() }
    }

    /// Waits for the next report, and returns it with the id of its envelope.
    pub(crate) async fn next(&mut self) -> (String, AnalysisReport) {
        let begun = Instant::now();
        while self.seen.is_empty() {
            assert!(begun.elapsed() < PATIENCE, "no report came");
            let batch = self.reader.next_batch(16, Duration::from_secs(1)).await.unwrap();
            for message in batch {
                let frame: Vec<Envelope> = serde_json::from_slice(&message.payload).unwrap();
                for envelope in frame {
                    let Input::Analysis(report) = envelope.input else { panic!("{envelope:?}") };
                    self.seen.push((envelope.id, report));
                }
            }
        }
        self.seen.remove(0)
    }
}

pub(crate) fn runbooks(report: &AnalysisReport) -> Vec<&str> {
    report.hypotheses.iter().filter_map(|it| it.runbook.as_deref()).collect()
}
