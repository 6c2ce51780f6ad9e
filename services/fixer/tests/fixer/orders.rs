//! Orders on a real broker: claimed once, whoever dies when.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use bus::{
    BrokerOptions, Bus, InboxReader,
    testing::{Broker, Network, Proxy},
};
use chrono::{TimeDelta, Utc};
use domain::{
    span::Span,
    wire::{
        Claim, Envelope, FixMode, FixOrder, FixOutcome, FixReport, Input, Member, Refusal, WorkKind,
    },
};
use fixer::{Args, Hand};
use rustix::process::Signal;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::{AbortOnDropHandle, TaskTracker},
};

use crate::kit::{
    Place, Stranger, command, eventually, handle, order, restart, run, script, signal, step, until,
};

/// A fixer in this process, among the living.
struct Fixer {
    _stop: DropGuard,
    _task: AbortOnDropHandle<()>,
    bus: Bus,
}

impl Fixer {
    async fn start(broker: &Broker, place: &Place, id: &str, args: Args) -> Self {
        Self::start_with(broker.bus().await.unwrap(), place, id, args).await
    }

    async fn start_with(bus: Bus, place: &Place, id: &str, args: Args) -> Self {
        let member = Member {
            id: id.to_owned(),
            kind: "fixer".to_owned(),
            zones: vec!["default".to_owned()],
            version: "0".to_owned(),
            host: "test".to_owned(),
            pid: std::process::id(),
            started_at: Utc::now(),
            pulse: None,
        };
        bus.members().join(member).await.unwrap();
        let stop = CancellationToken::new();
        let hand = Hand {
            bus: bus.clone(),
            id: id.to_owned(),
            zones: vec!["default".to_owned()],
            parallel: 4,
            stop: stop.clone(),
            tasks: TaskTracker::new(),
        };
        let task = tokio::spawn(fixer::serve(hand, place.tools_with(&args)));
        Self { _stop: stop.drop_guard(), _task: AbortOnDropHandle::new(task), bus }
    }

    async fn lives(&self, who: &str) {
        let mut members = self.bus.members().watch();
        members.wait_for(|all| all.contains_key(who)).await.unwrap();
    }
}

fn all() -> Args {
    Args { allow: Some("all".to_owned()), ..Args::default() }
}

async fn publish(bus: &Bus, wish: &str, order: &FixOrder) {
    let payload = serde_json::to_vec(order).unwrap();
    bus.work().publish(WorkKind::Fix, "default", wish, payload.into()).await.unwrap();
}

/// Reads reports out of the inbox.
struct Reports {
    reader: InboxReader,
    found: Vec<(String, FixReport)>,
}

impl Reports {
    async fn read(bus: &Bus) -> Self {
        Self { reader: bus.read_inbox(0).await.unwrap(), found: Vec::new() }
    }

    async fn at_least(&mut self, n: usize) -> &[(String, FixReport)] {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(40);
        while self.found.len() < n {
            assert!(tokio::time::Instant::now() < deadline, "{n} wanted, {:?}", self.found);
            // An error while the broker is away: it is read on.
            let batch = self.reader.next_batch(100, Duration::from_millis(200)).await;
            for message in batch.unwrap_or_default() {
                let frame: Vec<Envelope> = serde_json::from_slice(&message.payload).unwrap();
                self.found.extend(frame.into_iter().filter_map(|it| match it.input {
                    Input::Fix(report) => Some((it.id, report)),
                    Input::Event(_)
                    | Input::Analysis(_)
                    | Input::Verification(_)
                    | Input::Notice(_)
                    | Input::Command(_)
                    | Input::Timer(_) => None,
                }));
            }
        }
        &self.found
    }

    async fn only(&mut self) -> FixReport {
        let [(_, report)] = self.at_least(1).await else {
            panic!("one is wanted: {:?}", self.found)
        };
        report.clone()
    }
}

fn count(place: &Place) -> domain::action::Action {
    run(&format!("echo run >> {}", place.text("runs")))
}

fn refusal(report: &FixReport) -> &str {
    let FixOutcome::Refused { reason, .. } = &report.outcome else {
        panic!("it should have been refused: {report:?}")
    };
    reason
}

#[tokio::test]
async fn an_order_is_carried_out_reported_and_told_live() {
    let (broker, place) = (Broker::start().await, Place::new());
    let all = Args { allow: Some("all".to_owned()), ..Args::default() };
    let fixer = Fixer::start(&broker, &place, "fixer-1", all).await;
    let bus = broker.bus().await.unwrap();
    let order = order(vec![step("restart", restart(&handle(&["sleep", "1000"])))]);
    let live = bus.subjects().live(&order.work.incident);
    let mut live = bus.subscribe(live, None).await.unwrap();
    publish(&bus, "wish", &order).await;
    let report = Reports::read(&bus).await.only().await;
    assert_eq!(report.outcome, FixOutcome::Succeeded);
    assert_eq!((report.work, report.by.as_str()), (order.work, "fixer-1"));
    let pid = place.read("run/shop.pid");
    assert!(report.steps[0].summary.contains(pid.trim()), "{:?}", report.steps);
    let line: serde_json::Value =
        serde_json::from_slice(&live.next().await.unwrap().payload).unwrap();
    assert_eq!(line["incident_id"], order.work.incident.to_string());
    assert_eq!(line["progress"], "restart: process.restart shop");
    drop(fixer);
}

#[tokio::test]
async fn of_two_fixers_one_runs_an_attempt_once() {
    let (broker, place) = (Broker::start().await, Place::new());
    let one = Fixer::start(&broker, &place, "fixer-1", all()).await;
    let two = Fixer::start(&broker, &place, "fixer-2", all()).await;
    for fixer in [&one, &two] {
        fixer.lives("fixer-1").await;
        fixer.lives("fixer-2").await;
    }
    let orders: Vec<_> = (0..8).map(|_| order(vec![step("count", count(&place))])).collect();
    for order in &orders {
        // Under two ids, as when the queues were forgotten and published again.
        let id = order.work.wish_id(WorkKind::Fix);
        let (a, b) = (format!("{id}-a"), format!("{id}-b"));
        tokio::join!(publish(&one.bus, &a, order), publish(&two.bus, &b, order));
    }
    let mut reports = Reports::read(&one.bus).await;
    for (_, report) in reports.at_least(orders.len()).await {
        assert_eq!(report.outcome, FixOutcome::Succeeded);
    }
    // A second run would need a second claim; each attempt has one, and one line.
    let claims = one.bus.claims();
    for order in &orders {
        assert!(claims.find(&order.work.incident, "1").await.unwrap().is_some());
    }
    assert_eq!(place.read("runs").lines().count(), orders.len());
}

#[tokio::test]
async fn an_order_that_comes_again_is_reported_again_and_not_run_again() {
    let (broker, place) = (Broker::start().await, Place::new());
    let fixer = Fixer::start(&broker, &place, "fixer-1", all()).await;
    let mut reports = Reports::read(&fixer.bus).await;
    let order = order(vec![step("count", count(&place))]);
    publish(&fixer.bus, "one", &order).await;
    reports.at_least(1).await;
    publish(&fixer.bus, "two", &order).await;
    let found = reports.at_least(2).await;
    assert_eq!(found[0], found[1], "the same report, under the same id");
    assert_eq!(place.read("runs"), "run\n");
}

#[tokio::test]
async fn an_expired_order_is_refused_untouched() {
    let (broker, place) = (Broker::start().await, Place::new());
    let fixer = Fixer::start(&broker, &place, "fixer-1", all()).await;
    let mut late = order(vec![step("count", count(&place))]);
    late.not_after = Utc::now() - TimeDelta::seconds(1);
    publish(&fixer.bus, "wish", &late).await;
    let report = Reports::read(&fixer.bus).await.only().await;
    assert!(refusal(&report).contains("too late"), "{report:?}");
    assert!(!place.file("runs").exists() && report.steps.is_empty());
}

#[tokio::test]
async fn a_changed_plan_is_refused_untouched() {
    let (broker, place) = (Broker::start().await, Place::new());
    let fixer = Fixer::start(&broker, &place, "fixer-1", all()).await;
    let mut changed = order(vec![step("count", count(&place))]);
    changed.plan_hash = order(vec![step("other", command(&["true"]))]).plan_hash;
    publish(&fixer.bus, "wish", &changed).await;
    let report = Reports::read(&fixer.bus).await.only().await;
    assert!(refusal(&report).contains("changed plan"), "{report:?}");
    assert!(!place.file("runs").exists());
}

#[tokio::test]
async fn what_is_not_on_the_local_list_is_refused_untouched_with_a_hint() {
    let (broker, place) = (Broker::start().await, Place::new());
    let fixer = Fixer::start(&broker, &place, "fixer-1", Args::default()).await;
    let steps =
        vec![step("start", restart(&handle(&["sleep", "1000"]))), step("count", count(&place))];
    publish(&fixer.bus, "wish", &order(steps)).await;
    let report = Reports::read(&fixer.bus).await.only().await;
    let reason = refusal(&report);
    assert!(reason.contains("command.run is not allowed"), "{reason}");
    assert!(reason.contains("--allow"), "{reason}");
    assert!(!place.file("runs").exists());
    assert!(!place.file("run/shop.pid").exists(), "not even its first step");
}

#[tokio::test]
async fn a_fixer_without_a_list_starts_only_what_the_configuration_says() {
    let (broker, place) = (Broker::start().await, Place::new());
    let bus = broker.bus().await.unwrap();
    let configured = handle(&["sleep", "1000"]);
    let config = serde_json::json!({"targets": [{"name": "shop", "process": configured.clone()}]});
    bus.config_store().put(config.to_string().into(), 0).await.unwrap();
    let mut reports = Reports::read(&bus).await;
    let _fixer = Stranger::start(
        Command::new(env!("CARGO_BIN_EXE_selfheal-fixer"))
            .args(["--nats-url", &broker.url()])
            .arg("--state-dir")
            .arg(place.state())
            .stderr(Stdio::null()),
    );
    let log = Some(place.text("elsewhere.log"));
    let mark = format!("echo run >> {}; exec sleep 1000", place.text("runs"));
    for (wish, process, field) in [
        ("one", script(&mark), "`command`"),
        ("two", domain::target::ProcessHandle { log, ..configured.clone() }, "`log`"),
    ] {
        publish(&bus, wish, &order(vec![step("start", restart(&process))])).await;
        let n = if wish == "one" { 1 } else { 2 };
        let report = reports.at_least(n).await[n - 1].1.clone();
        let reason = refusal(&report);
        assert!(reason.contains(field) && reason.contains("configuration"), "{reason}");
    }
    assert!(!place.file("runs").exists() && !place.file("elsewhere.log").exists());
    assert!(!place.file("run/shop.pid").exists());
    publish(&bus, "three", &order(vec![step("start", restart(&configured))])).await;
    let report = reports.at_least(3).await[2].1.clone();
    assert_eq!(report.outcome, FixOutcome::Succeeded);
}

#[tokio::test]
async fn an_order_that_cannot_be_read_is_refused() {
    let (broker, place) = (Broker::start().await, Place::new());
    let fixer = Fixer::start(&broker, &place, "fixer-1", all()).await;
    let order = order(vec![step("count", count(&place))]);
    let mut newer = serde_json::to_value(&order).unwrap();
    newer["plan"]["steps"][0]["action"] = "moon.landing".into();
    for (wish, payload) in [("bad", "nonsense".to_owned()), ("newer", newer.to_string())] {
        let work = fixer.bus.work();
        work.publish(WorkKind::Fix, "default", wish, payload.into()).await.unwrap();
    }
    let report = Reports::read(&fixer.bus).await.only().await;
    assert!(refusal(&report).contains("moon.landing"), "{report:?}");
    assert_eq!(report.work, order.work);
}

#[tokio::test]
async fn an_order_to_undo_has_a_claim_of_its_own() {
    let (broker, place) = (Broker::start().await, Place::new());
    let fixer = Fixer::start(&broker, &place, "fixer-1", all()).await;
    let mut reports = Reports::read(&fixer.bus).await;
    let undo = run(&format!("echo undo >> {}", place.text("runs")));
    let mut order =
        order(vec![domain::plan::Step { undo: Some(undo), ..step("count", count(&place)) }]);
    publish(&fixer.bus, "one", &order).await;
    reports.at_least(1).await;
    order.mode = FixMode::Undo;
    order.work.revision += 1;
    publish(&fixer.bus, "two", &order).await;
    assert_eq!(reports.at_least(2).await[1].1.outcome, FixOutcome::Succeeded);
    assert_eq!(place.read("runs"), "run\nundo\n");
}

#[tokio::test]
async fn a_claim_of_somebody_who_is_gone_makes_the_outcome_unknown() {
    let (broker, place) = (Broker::start().await, Place::new());
    let fixer = Fixer::start(&broker, &place, "fixer-1", all()).await;
    fixer.lives("fixer-1").await;
    let order = order(vec![step("count", count(&place))]);
    let hash = order.plan_hash.clone();
    let claim = Claim::new("theirs".to_owned(), "fixer-0".to_owned(), Utc::now(), hash);
    // It has run out.
    let claim = Claim { lease_ms: Some(0), ..claim };
    let claims = fixer.bus.claims();
    assert_eq!(claims.claim(&order.work.incident, "1", &claim).await.unwrap(), bus::Claimed::Won);
    publish(&fixer.bus, "wish", &order).await;
    let report = Reports::read(&fixer.bus).await.only().await;
    let FixOutcome::Unknown { reason } = report.outcome else { panic!("{report:?}") };
    assert!(reason.contains("fixer-0"), "{reason}");
    assert!(!place.file("runs").exists());
}

#[tokio::test]
async fn a_report_is_stored_although_the_broker_was_away() {
    let (mut broker, place) = (Broker::start().await, Place::new());
    let fixer = Fixer::start(&broker, &place, "fixer-1", all()).await;
    let go = place.text("go");
    let wait =
        format!("echo run >> {}; until [ -e {go} ]; do sleep 0.02; done", place.text("runs"));
    publish(&fixer.bus, "wish", &order(vec![step("wait", run(&wait))])).await;
    until("it is begun", || place.file("runs").exists()).await;
    broker.kill();
    std::fs::write(&go, "").unwrap();
    broker.restart().await;
    let report = Reports::read(&fixer.bus).await.only().await;
    assert_eq!(report.outcome, FixOutcome::Succeeded);
    assert_eq!(place.read("runs"), "run\n");
}

#[tokio::test]
async fn one_target_is_worked_on_by_one_order_at_a_time() {
    let (broker, place) = (Broker::start().await, Place::new());
    let fixer = Fixer::start(&broker, &place, "fixer-1", all()).await;
    // Fails when it finds the other at work.
    let alone = run(&format!("mkdir {0} && sleep 0.3 && rmdir {0}", place.text("room")));
    for n in 0..3 {
        publish(&fixer.bus, &n.to_string(), &order(vec![step("alone", alone.clone())])).await;
    }
    for (_, report) in Reports::read(&fixer.bus).await.at_least(3).await {
        assert_eq!(report.outcome, FixOutcome::Succeeded, "{report:?}");
    }
}

/// Two steps: one that ends a second after it may, and one that must not come after the claim is
/// lost; nor may the undo of the first.
fn two_steps(place: &Place, timeout: Span) -> Vec<domain::plan::Step> {
    let runs = place.text("runs");
    let go = place.text("go");
    let wait = format!("echo one >> {runs}; until [ -e {go} ]; do sleep 0.02; done; sleep 1");
    let undo = Some(run(&format!("echo undo >> {runs}")));
    vec![
        domain::plan::Step { timeout, undo, ..step("one", run(&wait)) },
        domain::plan::Step { timeout, ..step("two", run(&format!("echo two >> {runs}"))) },
    ]
}

/// Goal: a fixer that the broker does not reach does nothing beside its successor. Method: it is
/// cut off in its first step; when the other one has declared the outcome unknown it comes back.
#[tokio::test]
async fn a_fixer_that_is_cut_off_stops_before_its_next_step() {
    let (broker, place) = (Broker::start().await, Place::new());
    let bus = broker.bus().await.unwrap();
    let proxy = Proxy::before(broker.port()).await;
    let options = BrokerOptions { url: proxy.url(), ..BrokerOptions::default() };
    let far = bus::connect(&options).await.unwrap();
    let _first = Fixer::start_with(far, &place, "fixer-1", all()).await;
    publish(&bus, "wish", &order(two_steps(&place, Span::from_secs(4)))).await;
    until("it is begun", || place.file("runs").exists()).await;
    proxy.set(Network::Cut);
    std::fs::write(place.file("go"), "").unwrap();
    let _second = Fixer::start(&broker, &place, "fixer-2", all()).await;
    let mut reports = Reports::read(&bus).await;
    let declared = reports.only().await;
    assert!(matches!(declared.outcome, FixOutcome::Unknown { .. }), "{declared:?}");
    assert_eq!(declared.by, "fixer-2");
    proxy.set(Network::Open);
    let late = &reports.at_least(2).await[1].1;
    let FixOutcome::Unknown { reason } = &late.outcome else { panic!("{late:?}") };
    assert!(reason.contains("step `two` was not started: the claim was lost"), "{reason}");
    assert_eq!(late.steps.len(), 1, "what was done is reported: {late:?}");
    assert_eq!(place.read("runs"), "one\n");
}

/// Goal: a fixer that was frozen does nothing when it wakes up beside its successor. Method: the
/// real process is stopped in its first step, and goes on when the outcome was declared unknown.
#[tokio::test]
async fn a_fixer_that_was_frozen_stops_before_its_next_step() {
    let (broker, place) = (Broker::start().await, Place::new());
    let bus = broker.bus().await.unwrap();
    let first = real(&broker, &place);
    publish(&bus, "wish", &order(two_steps(&place, Span::from_secs(8)))).await;
    until("it is begun", || place.file("runs").exists()).await;
    signal(first.pid(), Signal::STOP);
    std::fs::write(place.file("go"), "").unwrap();
    let begun = std::time::Instant::now();
    let _second = real(&broker, &place);
    let mut reports = Reports::read(&bus).await;
    let declared = reports.only().await;
    assert!(matches!(declared.outcome, FixOutcome::Unknown { .. }), "{declared:?}");
    assert!(Duration::from_secs(8) < begun.elapsed(), "its step could still be under way");
    signal(first.pid(), Signal::CONT);
    // The time of its step is over, and its undo is not for it to run any more.
    let late = &reports.at_least(2).await[1].1;
    let FixOutcome::Failed { reason } = &late.outcome else { panic!("{late:?}") };
    assert!(reason.contains("step `undo one` was not started: the claim was lost"), "{reason}");
    assert_eq!(place.read("runs"), "one\n");
}

/// Goal: whoever is proven gone is not waited for. Method: the first step may take ten minutes,
/// and the fixer is killed in it.
#[tokio::test]
async fn a_fixer_that_is_proven_gone_is_not_waited_for() {
    let (broker, place) = (Broker::start().await, Place::new());
    let bus = broker.bus().await.unwrap();
    let first = real(&broker, &place);
    publish(&bus, "wish", &order(two_steps(&place, Span::from_secs(600)))).await;
    until("it is begun", || place.file("runs").exists()).await;
    signal(first.pid(), Signal::KILL);
    let _second = real(&broker, &place);
    let report = Reports::read(&bus).await.only().await;
    assert!(matches!(report.outcome, FixOutcome::Unknown { .. }), "{report:?}");
    assert_eq!(place.read("runs"), "one\n");
}

/// Goal: an order that the supervisor withdrew is not carried out, whoever has it in hand.
#[tokio::test]
async fn an_order_that_was_withdrawn_is_refused_untouched() {
    let (broker, place) = (Broker::start().await, Place::new());
    let bus = broker.bus().await.unwrap();
    let order = order(vec![step("count", count(&place))]);
    let claim =
        Claim::new("theirs".to_owned(), "supervisor-1".to_owned(), Utc::now(), String::new());
    let recalled = bus.claims().recall(&order.work.incident, "1", claim).await.unwrap();
    assert_eq!(recalled, None);
    let _fixer = Fixer::start(&broker, &place, "fixer-1", all()).await;
    publish(&bus, "wish", &order).await;
    let report = Reports::read(&bus).await.only().await;
    let FixOutcome::Refused { code, .. } = report.outcome else { panic!("{report:?}") };
    assert_eq!(code, Refusal::Recalled);
    assert!(!place.file("runs").exists());
}

/// Starts the real binary.
fn real(broker: &Broker, place: &Place) -> Stranger {
    Stranger::start(
        Command::new(env!("CARGO_BIN_EXE_selfheal-fixer"))
            .args(["--nats-url", &broker.url(), "--allow", "all"])
            .arg("--state-dir")
            .arg(place.state())
            .stderr(Stdio::null()),
    )
}

#[tokio::test]
async fn a_fixer_killed_at_work_leaves_an_unknown_outcome_and_no_second_run() {
    let (broker, place) = (Broker::start().await, Place::new());
    let bus = broker.bus().await.unwrap();
    let first = real(&broker, &place);
    let text = format!("echo run >> {}; sleep 1000", place.text("runs"));
    let mut long = order(vec![step("long", run(&text))]);
    long.plan = {
        let mut parts = domain::plan::Parts::from(long.plan);
        parts.steps[0].timeout = Span::from_secs(600);
        domain::plan::Plan::new(parts).unwrap()
    };
    long.plan_hash = long.plan.hash();
    publish(&bus, "wish", &long).await;
    until("it is begun", || place.file("runs").exists()).await;
    signal(first.pid(), Signal::KILL);
    let _second = real(&broker, &place);
    let report = Reports::read(&bus).await.only().await;
    assert!(matches!(report.outcome, FixOutcome::Unknown { .. }), "{report:?}");
    assert_eq!(place.read("runs"), "run\n");
}

#[tokio::test]
async fn a_target_outlives_its_fixer_and_the_next_one_knows_it() {
    let (broker, place) = (Broker::start().await, Place::new());
    let bus = broker.bus().await.unwrap();
    let mut reports = Reports::read(&bus).await;
    let process = handle(&["sleep", "1000"]);
    let mut first = real(&broker, &place);
    publish(&bus, "one", &order(vec![step("start", restart(&process))])).await;
    reports.at_least(1).await;
    let pid: i32 = place.read("run/shop.pid").trim().parse().unwrap();
    signal(first.pid(), Signal::TERM);
    let mut ended = None;
    eventually("the first fixer ends", || {
        ended = first.0.try_wait().unwrap();
        std::future::ready(ended)
    })
    .await;
    assert_eq!(ended.unwrap().code(), Some(0), "it does not wait for its targets");
    assert!(crate::kit::is_alive(pid));
    let _second = real(&broker, &place);
    publish(&bus, "two", &order(vec![step("restart", restart(&process))])).await;
    let found = reports.at_least(2).await;
    let summary = &found[1].1.steps[0].summary;
    assert!(summary.contains(&format!("stopped process {pid}")), "{summary}");
}

#[tokio::test]
async fn a_list_with_a_mistake_ends_the_process_with_78() {
    let (broker, place) = (Broker::start().await, Place::new());
    std::fs::write(place.file("allow.yaml"), "actions:\n  - reboot\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_selfheal-fixer"))
        .args(["--nats-url", &broker.url(), "--allow-file", &place.text("allow.yaml")])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{told}");
    assert!(told.contains("allow.yaml:2:5"), "{told}");
}

#[tokio::test]
async fn orders_that_were_taken_are_ended_before_the_fixer_ends() {
    let (broker, place) = (Broker::start().await, Place::new());
    let bus = broker.bus().await.unwrap();
    let fixer = real(&broker, &place);
    let go = place.text("go");
    let wait =
        format!("echo run >> {}; until [ -e {go} ]; do sleep 0.02; done", place.text("runs"));
    publish(&bus, "wish", &order(vec![step("wait", run(&wait))])).await;
    until("it is begun", || place.file("runs").exists()).await;
    signal(fixer.pid(), Signal::TERM);
    std::fs::write(&go, "").unwrap();
    let report = Reports::read(&bus).await.only().await;
    assert_eq!(report.outcome, FixOutcome::Succeeded);
    drop(fixer);
}
