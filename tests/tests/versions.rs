//! A new version beside an old one: what the old one does not know is kept or passed over
//! where that is safe, and told where it is not.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use async_nats::{HeaderMap, jetstream};
use bus::{Bus, LedgerItem, testing::Broker, topology::StreamId};
use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use domain::{
    event::{Event, EventType},
    id::{IncidentId, Position},
    span::Span,
    wire::{DiagnoseWork, WorkKind, WorkRef},
};
use serde_json::{Value, json};
use tests::{
    agents::Agent,
    eventually,
    stack::directory,
    supervisor::{leader, log, publish},
};

/// How long anything may take on a busy machine.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
/// A field that no version knows.
const UNKNOWN: &str = "from_the_future";

fn supervisor(dir: &std::path::Path, broker: &Broker) -> Agent {
    Agent::start("supervisor", dir, &broker.url(), &["--data-dir", "."])
}

async fn outside(broker: &Broker) -> jetstream::Context {
    jetstream::new(async_nats::connect(broker.url()).await.unwrap())
}

async fn store(js: &jetstream::Context, subject: String, body: &Value) {
    js.publish(subject, body.to_string().into()).await.unwrap().await.unwrap();
}

/// Puts a field that nobody knows into every object.
fn with_unknown_fields(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(with_unknown_fields);
            fields.insert(UNKNOWN.to_owned(), json!({"nested": [1, null]}));
        }
        Value::Array(items) => items.iter_mut().for_each(with_unknown_fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

async fn opened(dir: &std::path::Path, kind: &str) {
    eventually(&format!("an incident of type {kind} is opened"), || async {
        let lines = log(dir);
        let found = lines.iter().any(|it| it.incident_type == kind && it.decision == "opened");
        if found { Ok(()) } else { Err(lines.last().cloned()) }
    })
    .await;
}

fn envelope(kind: &str) -> Value {
    let event = Event::new(kind, kind.parse::<EventType>().unwrap(), "test");
    json!({"v": 1, "id": kind, "event": event})
}

#[tokio::test]
async fn inputs_of_a_newer_version_are_understood_as_far_as_they_are_known() {
    let dir = directory("newer-inputs");
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let _agent = supervisor(&dir, &broker);
    leader(&bus).await;
    let (js, names) = (outside(&broker).await, bus.subjects().clone());

    let mut newer = envelope("newer_envelope");
    with_unknown_fields(&mut newer);
    newer["v"] = json!(2);
    let frame = json!([newer, envelope("known_envelope")]);
    store(&js, names.full("frame.event"), &frame).await;
    opened(&dir, "newer_envelope").await;
    opened(&dir, "known_envelope").await;

    let mut plain =
        json!({"type": "plain_event", "source": "x", "payload": {"service": "database"}});
    with_unknown_fields(&mut plain);
    store(&js, names.event("plain_event"), &plain).await;
    opened(&dir, "plain_event").await;
    // What a sender has told is kept, whoever understands it.
    let kept = std::fs::read_to_string(dir.join("incident_logs.jsonl")).unwrap();
    let line = kept.lines().find(|it| it.contains("plain_event")).unwrap();
    assert!(line.contains(UNKNOWN), "{line}");

    let mut member = json!({"id": "newer-1", "kind": "oracle", "zones": ["default"], "version": "9.0.0",
        "host": "h", "pid": 1, "started_at": "2026-01-01T00:00:00Z"});
    with_unknown_fields(&mut member);
    store(&js, names.member_key("newer-1"), &member).await;
    let mut living = bus.members().watch();
    living.wait_for(|living| living.values().any(|it| it.kind == "oracle")).await.unwrap();
}

#[tokio::test]
async fn inputs_of_a_kind_that_is_not_known_are_kept_and_told_and_stop_nothing() {
    let dir = directory("newer-kinds");
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let _agent = supervisor(&dir, &broker);
    leader(&bus).await;
    let (js, names) = (outside(&broker).await, bus.subjects().clone());

    let unknown = json!({"v": 2, "id": "t-1", "telepathy": {"thought": "the disk is full"}});
    // Nobody but our own processes may write frames: a kind that is not known is news of us.
    store(&js, names.full("frame.telepathy"), &json!([unknown])).await;
    opened(&dir, "selfheal.input_not_understood").await;
    let frame = json!([envelope("before_it"), unknown, envelope("behind_it")]);
    store(&js, names.full("frame.event"), &frame).await;
    opened(&dir, "before_it").await;
    opened(&dir, "behind_it").await;

    let rejected = eventually("both are kept with their reasons", || async {
        let kept = rejected(&js).await?;
        if kept.len() == 2 { Ok(kept) } else { Err(format!("{kept:?}")) }
    })
    .await;
    for (headers, body) in &rejected {
        assert!(body.contains("telepathy"), "{body}");
        assert!(
            headers.get("Selfheal-Why").is_some() && headers.get("Selfheal-Position").is_some()
        );
    }
}

async fn rejected(js: &jetstream::Context) -> Result<Vec<(HeaderMap, String)>, String> {
    let stream = js.get_stream("SELFHEAL_REJECTED").await.map_err(|it| it.to_string())?;
    let mut kept = Vec::new();
    for seq in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(seq).await.map_err(|it| it.to_string())?;
        kept.push((message.headers, String::from_utf8_lossy(&message.payload).into_owned()));
    }
    Ok(kept)
}

/// Copies what a broker has stored to another one, changed.
async fn copy(from: &Bus, to: &Broker, change: impl Fn(&mut Value)) {
    let (js, names) = (outside(to).await, from.subjects());
    let n_inputs = from.stream_state(StreamId::Inbox).await.unwrap().last_seq;
    for _ in 0..n_inputs {
        // What was in it is in the ledger; only its length counts.
        store(&js, names.full("frame.event"), &json!([])).await;
    }
    let mut reader = from.ledger().read(0);
    while let LedgerItem::Message(message) = reader.next().await.unwrap() {
        let mut entry = serde_json::from_slice(&message.payload).unwrap();
        change(&mut entry);
        // As a supervisor does: what has no such header is none of its messages.
        let mut headers = HeaderMap::new();
        headers.insert("Selfheal-Append", "copied");
        let payload = entry.to_string().into();
        let copied = js.publish_with_headers(names.ledger(), headers, payload);
        copied.await.unwrap().await.unwrap();
    }
}

/// Returns the bus of a broker on which an incident was opened and the configuration set.
async fn history(broker: &Broker, dir: &std::path::Path) -> Bus {
    std::fs::create_dir_all(dir).unwrap();
    let config = "targets:\n  - name: database\n    checks: [{tcp: \"127.0.0.1:9\", every: 1h}]\n";
    std::fs::write(dir.join("selfheal.yaml"), config).unwrap();
    let bus = broker.bus().await.unwrap();
    let mut agent = supervisor(dir, broker);
    leader(&bus).await;
    publish(&bus, "past").await;
    assert_eq!(agent.stop().await, 0, "{}", agent.said());
    bus
}

#[tokio::test]
async fn a_ledger_of_a_newer_version_is_folded_and_led_on() {
    let dir = directory("newer-ledger");
    let (old, new) = (Broker::start().await, Broker::start().await);
    let bus = history(&old, &dir.join("old")).await;
    new.bus().await.unwrap();
    copy(&bus, &new, with_unknown_fields).await;

    let _agent = supervisor(&dir.join("new"), &new);
    let bus = new.bus().await.unwrap();
    publish(&bus, "future").await;
    let (before, now) = (log(&dir.join("old")), log(&dir.join("new")));
    let same = before.iter().zip(&now).all(|(a, b)| (a.seq, &a.decision) == (b.seq, &b.decision));
    assert!(same && before.len() < now.len(), "{before:#?} {now:#?}");
    let mut since = now.iter().skip(before.len());
    assert!(since.any(|it| it.incident_type == "trouble_future"), "{now:#?}");
    let text = std::fs::read_to_string(dir.join("new/incident_logs.jsonl")).unwrap();
    assert!(text.lines().take(before.len()).all(|it| it.contains(UNKNOWN)), "kept: {text}");
}

#[tokio::test]
async fn a_decision_that_is_not_known_stops_a_supervisor_before_it_goes_wrong() {
    let dir = directory("newer-decision");
    let (old, new) = (Broker::start().await, Broker::start().await);
    let bus = history(&old, &dir.join("old")).await;
    new.bus().await.unwrap();
    copy(&bus, &new, |entry| {
        for decision in entry["decisions"].as_array_mut().unwrap() {
            if decision["fact"]["kind"] == "opened" {
                decision["fact"]["kind"] = json!("foreseen");
            }
        }
    })
    .await;
    let mut agent = supervisor(&dir.join("new"), &new);
    assert_ne!(agent.wait().await, 0);
    assert!(agent.said().contains("foreseen"), "{}", agent.said());
    assert!(log(&dir.join("new")).iter().all(|it| it.decision != "foreseen"));
}

fn diagnose(n: u64) -> (String, Value) {
    let incident = IncidentId::derive(Utc::now(), Position::new(n, 0), "test");
    let work = WorkRef { incident, attempt: 0, revision: 1 };
    let work = DiagnoseWork {
        work,
        event: Event::new(n.to_string(), EventType::known("service_down"), "test"),
        target: None,
        measures: Vec::new(),
        dependencies: Vec::new(),
        sick_dependencies: Vec::new(),
        attempts: Vec::new(),
        recent_incidents: Vec::new(),
        changes: Vec::new(),
        soak: Span::from_secs(1),
        within: Span::from_secs(1),
        not_after: Utc::now() + TimeDelta::minutes(5),
    };
    let id = work.work.wish_id(WorkKind::Diagnose);
    (id, serde_json::to_value(work).unwrap())
}

#[tokio::test]
async fn work_of_a_newer_version_is_done_by_whoever_understands_it() {
    let dir = directory("newer-work");
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let agent = Agent::start("analyzer", &dir, &broker.url(), &[]);

    // What is said beside the work is passed over.
    let (id, mut newer) = diagnose(1);
    newer[UNKNOWN] = json!("a hint");
    let body = Bytes::from(newer.to_string());
    bus.work().publish(WorkKind::Diagnose, "default", &id, body).await.unwrap();
    let mut inbox = bus.read_inbox(0).await.unwrap();
    let report = inbox.next_batch(1, PATIENCE).await.unwrap();
    assert!(String::from_utf8_lossy(&report[0].payload).contains("analysis"), "{report:?}");

    // A target that is described in words that are not known is left to a newer hand.
    let (id, mut newer) = diagnose(2);
    newer["target"] = json!({"name": "database", UNKNOWN: {"is_reached_by": "telepathy"}});
    let body = Bytes::from(newer.to_string());
    bus.work().publish(WorkKind::Diagnose, "default", &id, body.clone()).await.unwrap();
    eventually("the old hand says that it cannot read it", || async {
        let said = agent.said();
        if said.contains("left to others") { Ok(()) } else { Err(said) }
    })
    .await;
    let mut newer_hand = bus.work().consume(WorkKind::Diagnose, &["default".to_owned()], 1);
    let job = tokio::time::timeout(PATIENCE, newer_hand.next()).await.unwrap();
    assert_eq!(job.payload, body);
    job.ack().await;
}

/// As an acknowledgement of the broker is that somebody has led there.
#[tokio::test]
async fn what_no_supervisor_has_written_into_the_ledger_decides_nothing_and_stops_nobody() {
    let dir = directory("foreign-ledger");
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let agent = supervisor(&dir, &broker);
    leader(&bus).await;
    let (js, names) = (outside(&broker).await, bus.subjects().clone());
    for n in 0..3 {
        let foreign = json!({"stream": "SELFHEAL_INBOX", "seq": n});
        store(&js, names.ledger(), &foreign).await;
        let kind = format!("after_{n}");
        store(&js, names.event(&kind), &json!({"type": kind, "source": "x"})).await;
        opened(&dir, &kind).await;
    }
    opened(&dir, "selfheal.ledger_foreign").await;
    let said = agent.said();
    assert!(!said.contains("not leading any more"), "the leader goes on in place: {said}");
    // Nor one that has yet to read it all.
    drop(agent);
    let other = directory("foreign-ledger-fresh");
    let _fresh = supervisor(&other, &broker);
    opened(&other, "after_2").await;
}
