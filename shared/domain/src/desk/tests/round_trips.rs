//! What is written is read back: every type of the wire and of the log.

use std::{collections::BTreeMap, fmt::Debug};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::world::{
    World, analysis, command, config, cure, evidence, fix, generous, parts, plan, plan_with_undo,
    secs, t0, target, verification,
};
use crate::{
    action::Action,
    check::Check,
    config::Config,
    desk::{Desk, FOLD},
    event::{Event, EventType, Severity, Status},
    guard::Authorized,
    id::{IncidentId, Position},
    matcher::Matchers,
    measure::{Measure, Measured, MeasuredSeries, PrometheusQuery},
    plan::Plan,
    policy::{Autonomy, Freeze, Notifier, RunbookPolicy},
    silence::{Flapping, InhibitRule, SilenceId, Window},
    span::Span,
    target::{DockerHandle, ProcessHandle, Target},
    time_zone::TimeZone,
    view::{AlertsFrom, Filter, IncidentDetail, LogLine, Page, Query, SystemView},
    wire::{
        Answer, AnswerStatus, CheckResult, Claim, ClaimState, DiagnoseWork, Envelope, FixMode,
        FixOrder, FixOutcome, Input, InputKind, LedgerEntry, Member, NoticeReport, NotifyWork,
        ProbeReply, ProbeRequest, Pulse, Refusal, SCHEMA, StepReport, TimerFired, Verb, VerifyWork,
        WorkKind, WorkRef,
    },
};

/// Writes and reads a value, and again with a field that nobody knows yet.
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = serde_json::to_vec(value).unwrap();
    let back: T = serde_json::from_slice(&text).unwrap();
    assert_eq!(&back, value, "{}", String::from_utf8_lossy(&text));
    let mut json: Value = serde_json::from_slice(&text).unwrap();
    if let Value::Object(fields) = &mut json {
        fields.insert("from_a_later_version".to_owned(), json!({"a": [1, null]}));
        let back: T = serde_json::from_value(json).unwrap();
        assert_eq!(&back, value, "an unknown field changes nothing");
    }
}

fn id() -> IncidentId {
    IncidentId::derive(t0(), Position::new(7, 3), "service_down@db")
}

fn work() -> WorkRef {
    WorkRef { incident: id(), attempt: 2, revision: 9 }
}

fn full_event() -> Event {
    let texts = || BTreeMap::from([("rack".to_owned(), "7 \u{1F980} \"quoted\"\n".to_owned())]);
    Event {
        target: Some("db".to_owned()),
        fingerprint: Some("abc".to_owned()),
        status: Status::Resolved,
        severity: Severity::Critical,
        starts_at: Some(t0() + chrono::TimeDelta::nanoseconds(123_456_789)),
        ends_at: Some(t0()),
        labels: texts(),
        annotations: texts(),
        links: vec!["https://example.org/run?a=b".to_owned()],
        payload: json!({"used": 99.5, "n": 18_446_744_073_709_551_615_u64, "list": [1, -2, null]}),
        extra: BTreeMap::from([("colour".to_owned(), json!("red"))]),
        ..Event::new("1", EventType::known("disk.full"), "/mon/1")
    }
}

/// A plan with every kind of action.
fn full_plan() -> Plan {
    let texts = || {
        let secret = crate::secret::SecretRef::env("SECRET_A");
        BTreeMap::from([("a".to_owned(), "b".into()), ("s".to_owned(), secret.into())])
    };
    let process = ProcessHandle {
        command: vec!["/bin/db".to_owned(), "--port=1".to_owned()],
        dir: Some("/srv".to_owned()),
        env: texts(),
        pid_file: Some("/run/db.pid".to_owned()),
        log: None,
        stop_timeout: Span::from_millis(1500),
        user: None,
        group: None,
    };
    let container = || "shop/db".to_owned();
    let actions = [
        Action::ProcessRestart { target: "db".to_owned(), process },
        Action::DockerRestart { container: container() },
        Action::DockerStart { container: container() },
        Action::DockerStop { container: container() },
        Action::CommandRun {
            command: vec!["a".to_owned(), "b c".to_owned()],
            dir: Some("/".to_owned()),
            env: texts(),
        },
        Action::HttpRequest {
            method: "POST".to_owned(),
            url: "http://localhost/x".to_owned(),
            headers: texts(),
            body: Some("{}".into()),
            status: vec![200, 204],
        },
        Action::DiskClean {
            directories: vec!["/var/log".to_owned()],
            patterns: vec!["*.gz".to_owned()],
            older_than: "7d".parse().unwrap(),
            dry_run: true,
        },
    ];
    let mut parts = parts("db", "everything");
    let step = parts.steps[0].clone();
    let pre_check = Some(Check { http: Some("http://localhost".to_owned()), ..Check::blank() });
    parts.autonomy = Some(Autonomy::Approve);
    parts.steps = actions
        .into_iter()
        .map(|action| crate::plan::Step {
            undo: Some(action.clone()),
            action,
            pre_check: pre_check.clone(),
            ..step.clone()
        })
        .collect();
    Plan::new(parts).unwrap()
}

fn full_target() -> Target {
    Target {
        labels: BTreeMap::from([("tier".to_owned(), "gold".to_owned())]),
        docker: Some(DockerHandle { container: "db".to_owned() }),
        evidence: vec![full_measure()],
        select: vec![BTreeMap::from([("app".to_owned(), "db".to_owned())])],
        autonomy: Some(Autonomy::Suggest),
        soak: Some(Span::from_secs(9)),
        ..target("db", &["disk"])
    }
}

fn full_measure() -> Measure {
    Measure {
        name: "error rate".to_owned(),
        prometheus: PrometheusQuery {
            url: "http://prom:9090".to_owned(),
            query: "rate(errors[1m])".to_owned(),
        },
        unit: Some("/s".to_owned()),
        headers: BTreeMap::from([("x-scope".to_owned(), "a".into())]),
        timeout: Span::from_secs(2),
    }
}

fn full_config() -> Config {
    let mut policy = generous();
    policy.freeze =
        vec![Freeze { from: t0(), until: t0() + secs(9), reason: "the sale".to_owned() }];
    policy.notify = vec![Notifier { webhook: Some("https://example.org".to_owned()), log: None }];
    let stated = RunbookPolicy {
        autonomy: Some(Autonomy::Observe),
        budget: "1/15m".parse().ok(),
        approvals: Some(2),
    };
    policy.runbooks.insert("restart-container".to_owned(), stated);
    let matchers = |text: &str| Matchers(vec![text.parse().unwrap()]);
    let window = |name: &str| Window {
        name: name.to_owned(),
        matchers: matchers("target=disk"),
        from: None,
        until: None,
        cron: None,
        lasts: None,
        time_zone: TimeZone::default(),
        reason: "backup".to_owned(),
    };
    Config {
        maintenance: vec![
            Window { from: Some(t0()), until: Some(t0() + secs(9)), ..window("once") },
            Window {
                cron: Some("0 2 * * 6".to_owned()),
                lasts: Some(Span::from_secs(3600)),
                time_zone: "Europe/Berlin".parse().unwrap(),
                ..window("again")
            },
        ],
        inhibit: vec![InhibitRule {
            when: matchers("type=datacenter_down"),
            mute: matchers("severity=~warning|error"),
            equal: vec!["dc".to_owned()],
        }],
        flapping: Some(Flapping {
            opens: 5,
            within: Span::from_secs(600),
            quiet: Span::from_secs(900),
        }),
        ..config(vec![full_target(), target("disk", &[])], policy)
    }
}

fn commands() -> Vec<Verb> {
    let (incident, reason) = (id(), "because".to_owned());
    vec![
        Verb::Approve { incident, plan_hash: plan("db").hash() },
        Verb::Reject { incident, reason: reason.clone() },
        Verb::Acknowledge { incident },
        Verb::Close { incident, reason: reason.clone() },
        Verb::Retry { incident },
        Verb::Pause { reason },
        Verb::Resume,
        super::world::silence("host=~db-.*", t0() + secs(60)),
        Verb::Unsilence { id: SilenceId("0123456789abcdef".to_owned()) },
        Verb::configure(full_config()),
    ]
}

/// Inputs of every kind, with every field that they can have.
fn inputs() -> Vec<Input> {
    let reason = || "so it went".to_owned();
    let mut inputs = vec![
        Input::Event(full_event()),
        Input::Event(Event::new("1", EventType::known("slow"), "test")),
        Input::Event(Event { status: Status::Acknowledged, ..full_event() }),
        Input::Event(Event { status: Status::Change, ..full_event() }),
        analysis(work(), cure(full_plan())),
        analysis(work(), super::world::blame("db")),
        verification(work(), false, t0(), &["api"]),
        verification(work(), true, t0(), &[]),
        Input::Timer(TimerFired::of(id(), t0())),
    ];
    for outcome in [
        FixOutcome::Succeeded,
        FixOutcome::Failed { reason: reason() },
        FixOutcome::Unknown { reason: reason() },
        FixOutcome::Refused { reason: reason(), code: Refusal::Recalled },
    ] {
        let mut input = fix(work(), FixMode::Undo, outcome);
        if let Input::Fix(report) = &mut input {
            report.steps = vec![StepReport {
                name: "restart".to_owned(),
                action: "docker.restart db".to_owned(),
                ok: false,
                summary: reason(),
                output: "\u{0}\u{1b}[31m".to_owned(),
                took_ms: u64::MAX,
            }];
        }
        inputs.push(input);
    }
    for outcome in [Ok("webhook".to_owned()), Err("404".to_owned())] {
        let (notice, by) = ("12".to_owned(), "gateway-1".to_owned());
        let (again, keep) = (outcome.is_err(), Some("1.2".to_owned()));
        let report = NoticeReport { work: work(), notice, by, outcome, again, keep };
        inputs.push(Input::Notice(report));
    }
    inputs.extend(commands().into_iter().map(command));
    inputs
}

#[test]
fn envelopes_of_every_kind_are_read_back() {
    let mut kinds = Vec::new();
    for input in inputs() {
        kinds.push(input.kind());
        let kind = serde_json::to_value(input.kind()).unwrap();
        assert_eq!(kind, json!(input.kind().as_str()));
        let envelope = Envelope::new("a-1", input);
        assert_eq!(envelope.v, SCHEMA);
        round_trip(&envelope);
        round_trip(&Envelope { reply_to: Some("_INBOX.x".to_owned()), ..envelope });
    }
    assert!(InputKind::ALL.iter().all(|it| kinds.contains(it)), "{kinds:?}");
}

#[test]
fn an_unknown_kind_is_refused() {
    for text in [
        r#"{"v": 1, "id": "a", "rumour": {"by": "x"}}"#,
        r#"{"v": 1, "id": "a"}"#,
        r#"{"v": 1, "id": "a", "command": {"by": "x", "verb": "destroy"}}"#,
        r#"{"v": 1, "id": "a", "command": {"by": "x"}}"#,
        r#"{"v": 1, "id": "a", "timer": {}}"#,
        r#"{"v": 1, "id": "a", "event": {"id": "1", "type": "a b", "source": "x"}}"#,
        r#"{"v": "1", "id": "a", "event": {"id": "1", "type": "a", "source": "x"}}"#,
    ] {
        let read = serde_json::from_str::<Envelope>(text);
        assert!(read.is_err(), "{read:?} from {text}");
    }
    let unknown_fact = r#"{"seq": 1, "at": "2026-01-01T00:00:00Z", "cause": {"seq": 1, "idx": 0},
        "fact": {"kind": "forgotten"}, "reason": "x"}"#;
    assert!(serde_json::from_str::<crate::fact::Decision>(unknown_fact).is_err());
}

#[test]
fn a_plan_without_a_step_a_check_or_a_target_cannot_be_read() {
    let good = serde_json::to_value(full_plan()).unwrap();
    let breaks: [(&str, Value); 3] =
        [("/steps", json!([])), ("/success/checks", json!([])), ("/target", json!(""))];
    assert!(serde_json::from_value::<Plan>(good.clone()).is_ok());
    for (path, value) in breaks {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = value;
        assert!(serde_json::from_value::<Plan>(bad).is_err(), "{path}");
    }
}

#[test]
fn the_hash_of_a_plan_survives_the_wire_and_tells_every_change() {
    let plan = full_plan();
    let back: Plan = serde_json::from_slice(&serde_json::to_vec(&plan).unwrap()).unwrap();
    assert_eq!(back.hash(), plan.hash());
    let json = serde_json::to_value(&plan).unwrap();
    let mut hashes = std::collections::BTreeSet::from([plan.hash()]);
    for (path, value) in [
        ("/runbook", json!("other")),
        ("/target", json!("other")),
        ("/risk", json!("high")),
        ("/steps/0/timeout", json!("31s")),
        ("/steps/4/command/1", json!("other")),
        ("/steps/6/dry_run", json!(false)),
        ("/success/soak", json!("1s")),
    ] {
        let mut changed = json.clone();
        *changed.pointer_mut(path).unwrap() = value;
        let changed: Plan = serde_json::from_value(changed).unwrap();
        assert!(hashes.insert(changed.hash()), "{path} does not change the hash");
    }
}

#[test]
fn work_of_every_kind_is_read_back() {
    let mut world = World::new(full_config());
    let source = "selfheal/monitor".to_owned();
    let event = Event { status: Status::Firing, fingerprint: None, source, ..full_event() };
    let id = world.send(Input::Event(event)).answer.unwrap().incident_id.unwrap();
    let mut kinds = Vec::new();
    let mut read = |world: &World| {
        for wish in world.desk.wishes_of(id) {
            kinds.push(wish.kind());
            let payload = wish.payload().unwrap();
            match wish.kind() {
                WorkKind::Diagnose => {
                    round_trip(&serde_json::from_slice::<DiagnoseWork>(&payload).unwrap());
                }
                WorkKind::Fix => {
                    let order: FixOrder = serde_json::from_slice(&payload).unwrap();
                    assert_eq!(order.plan.hash(), order.plan_hash);
                    round_trip(&order);
                }
                WorkKind::Verify => {
                    round_trip(&serde_json::from_slice::<VerifyWork>(&payload).unwrap());
                }
                WorkKind::Notify => {
                    round_trip(&serde_json::from_slice::<NotifyWork>(&payload).unwrap());
                }
            }
        }
    };
    read(&world);
    let order = Authorized::from_ledger(plan_with_undo("db"), Some("ann".to_owned()));
    let order = order.order(work(), FixMode::Undo, t0());
    assert_eq!(order.claim_key(), "2-undo");
    round_trip::<FixOrder>(&order);
    world.diagnose(id, super::world::healthy());
    read(&world);
    world.verified(id, false);
    world.diagnose(id, vec![]);
    read(&world);
    let mut other = World::with(&["db"]);
    let fixing = other.fixing("db");
    for wish in other.desk.wishes_of(fixing) {
        round_trip(&serde_json::from_slice::<FixOrder>(&wish.payload().unwrap()).unwrap());
    }
    assert_eq!(kinds, [WorkKind::Diagnose, WorkKind::Verify, WorkKind::Notify]);
}

/// A whole life, so that entries and lines of every fact on its way are read back.
#[test]
fn entries_of_the_ledger_and_lines_of_the_log_are_read_back() {
    let mut world = World::with(&["db", "api"]);
    world.send(Input::Event(Event { status: Status::Change, ..full_event() }));
    let id = world.down("db");
    world.diagnose(id, cure(plan_with_undo("db")));
    world.fixed(id);
    world.send(verification(world.work(id), false, world.at, &["api"]));
    world.send(fix(world.work(id), FixMode::Undo, FixOutcome::Succeeded));
    let mut desk = Desk::default();
    let mut lines = Vec::new();
    for decision in &world.ledger {
        let recorded = desk.apply(decision).unwrap();
        let line = recorded.line(5, decision.cause);
        round_trip(&line);
        let json = serde_json::to_value(&line).unwrap();
        for field in ["incident_id", "timestamp", "incident_type", "analysis", "resolution"] {
            assert!(json.get(field).is_some(), "{field} is always there: {json}");
        }
        lines.push(serde_json::to_string(&line).unwrap());
    }
    assert!(lines.iter().all(|it| !it.contains('\n')), "one line is one decision");
    let covers = Position::new(world.seq, 0);
    let entry =
        LedgerEntry { v: SCHEMA, epoch: 3, covers, decisions: world.ledger.clone(), fold: FOLD };
    round_trip(&entry);
    // The log alone rebuilds the desk.
    let mut rebuilt = Desk::default();
    for line in &lines {
        let line: LogLine = serde_json::from_str(line).unwrap();
        rebuilt.apply(&line.detail).unwrap();
        rebuilt.cover(covers);
    }
    assert_eq!(rebuilt, world.desk);
    round_trip::<IncidentDetail>(&world.desk.detail(id).unwrap());
    round_trip::<Page>(&world.desk.page(&Filter::default()));
    round_trip::<SystemView>(&world.desk.system());
}

#[test]
fn answers_claims_members_probes_and_queries_are_read_back() {
    for status in [
        AnswerStatus::IncidentOpened,
        AnswerStatus::IncidentUpdated,
        AnswerStatus::IncidentResolved,
        AnswerStatus::Suppressed,
        AnswerStatus::Done,
        AnswerStatus::Refused,
        AnswerStatus::NotFound,
    ] {
        round_trip(&Answer { status, incident_id: Some(id()), message: "so".to_owned() });
        round_trip(&Answer { status, incident_id: None, message: "so".to_owned() });
    }
    let text = || "text".to_owned();
    round_trip(&Claim::new(text(), text(), t0(), text()));
    for state in [ClaimState::Held, ClaimState::Expired, ClaimState::Recalled] {
        let claim = Claim::new(text(), text(), t0(), text());
        round_trip(&Claim { lease_ms: Some(5000), renewal: 7, state, ..claim });
    }
    round_trip(&Member {
        id: "fixer-0a1b2c3d".to_owned(),
        kind: "fixer".to_owned(),
        zones: vec!["default".to_owned()],
        version: text(),
        host: text(),
        pid: 7,
        started_at: t0(),
        pulse: Some(Pulse { clock: t0(), violation: Some("no".to_owned()) }),
    });
    round_trip(&ProbeRequest {
        targets: vec![full_target()],
        measures: vec![full_measure()],
        logs: true,
        timeout_ms: 9,
    });
    round_trip(&ProbeReply::default());
    round_trip(&Measured {
        name: text(),
        at: Some(t0()),
        series: vec![MeasuredSeries {
            labels: BTreeMap::from([("queue".to_owned(), text())]),
            value: "+Inf".to_owned(),
        }],
        n_left_out: 3,
        failure: Some(text()),
    });
    round_trip(&CheckResult { check: text(), ok: true, detail: text(), took_ms: 1 });
    round_trip(&evidence("check"));
    for query in [
        Query::Incidents(Filter { q: Some(text()), limit: Some(3), ..Filter::default() }),
        Query::Incident { id: id() },
        Query::Status,
        Query::Silences,
        Query::Alerts(AlertsFrom { incident: Some(id()), quiet: Some(text()) }),
        Query::Config,
    ] {
        assert!(Query::SUBJECTS.contains(&query.subject()));
        round_trip(&query);
    }
}
