//! Many at once: repeats, symptoms, held plans, and what fits no target.

use proptest::prelude::*;
use serde_json::json;

use super::world::{World, command, config, cure, generous, healthy, plan, target};
use crate::{
    desk::settle::MOVES_MAX,
    event::{AGENT_DOWN, Delivery, Event, LEDGER_FOREIGN, Severity, Status as Told},
    fact::{Decision, Escalation, Fact},
    id::IncidentId,
    incident::Phase,
    view::{Filter, Status},
    wire::{AnswerStatus, Input, Verb},
};

#[test]
fn a_storm_of_repeats_is_one_decision_for_each_batch_and_incident() {
    let mut world = World::with(&["db", "api"]);
    let (db, api) = (world.down("db"), world.down("api"));
    let mut events: Vec<_> = (0..100).map(|_| world.event("service_down", "db")).collect();
    events[7].severity = Severity::Critical;
    events[8].payload = json!({"last": true});
    events.insert(50, world.event("service_down", "api"));
    // The sender did not hear us: the same event once more, within the batch.
    events.push(events[3].clone());
    let n_before = world.ledger.len();
    let inputs: Vec<_> = events.into_iter().map(Input::Event).collect();
    let handled = world.batch(&inputs);
    // What says something else, as the higher severity does, stands in a decision of its own.
    assert_eq!(world.ledger.len(), n_before + 4, "{:?}", world.story(db));
    assert_eq!((world.incident(db).count, world.incident(api).count), (101, 2));
    let opener = world.incident(db).event.event();
    assert_eq!((opener.severity, opener.payload), (Severity::Critical, json!({"last": true})));
    for one in handled.iter().take(inputs.len()) {
        let answer = one.answer.as_ref().expect("each event is answered");
        assert_eq!(answer.status, AnswerStatus::IncidentUpdated);
    }
    let again = world.send(inputs[3].clone());
    assert!(again.recorded.is_empty(), "a delivery of a former batch is known");
}

#[test]
fn repeats_are_recorded_before_what_follows_on_them() {
    let mut world = World::with(&["db"]);
    let db = world.down("db");
    let repeat = Input::Event(world.event("service_down", "db"));
    let close = command(Verb::Close { incident: db, reason: String::new() });
    let next = Input::Event(world.event("service_down", "db"));
    world.batch(&[repeat, close, next]);
    assert_eq!(world.story(db), ["opened", "repeated", "closed"]);
    assert_eq!(world.n_facts("opened"), 2);
}

#[test]
fn a_decision_of_an_older_log_is_read() {
    let mut world = World::with(&["db"]);
    let db = world.down("db");
    let repeat = world.event("service_down", "db");
    world.send(Input::Event(repeat.clone()));
    let mut line = serde_json::to_value(world.last(db)).unwrap();
    let fact = line["fact"].as_object_mut().unwrap();
    fact.remove("deliveries");
    fact.insert("delivery".to_owned(), json!(repeat.delivery_key()));
    let read: Decision = serde_json::from_value(line).unwrap();
    assert_eq!(&read, world.last(db));
    let recovered = json!({"kind": "recovery_reported", "delivery": "test\n7"});
    let read: Fact = serde_json::from_value(recovered).unwrap();
    assert_eq!(
        read,
        Fact::RecoveryReported { delivery: Delivery::of("test", "7"), ends_at: None, by: None }
    );
}

/// What a person sees of an incident, apart from when.
fn seen(world: &World) -> Vec<(String, Status, u64, Severity, serde_json::Value)> {
    let page = world.desk.page(&Filter { limit: Some(500), ..Filter::default() });
    let of = |id| world.desk.incident(id).unwrap().event.event().payload;
    let rows = page.incidents.into_iter();
    rows.map(|it| (it.fingerprint, it.status, it.count, it.severity, of(it.id))).collect()
}

proptest! {
    /// However inputs are cut into batches, the same comes of them.
    #[test]
    fn batches_change_nothing(
        inputs in prop::collection::vec((0_u8..3, 0_u8..8, 0_u8..20, any::<bool>()), 1..40),
        cut in 1_usize..10,
    ) {
        let mut one = World::with(&["t0", "t1", "t2"]);
        let mut many = one.clone();
        let inputs: Vec<Input> = inputs
            .into_iter()
            .map(|(on, what, id, worse)| {
                let mut event = Event::new(id.to_string(), "service_down".parse().unwrap(), "test");
                event.target = Some(format!("t{on}"));
                event.status = if what == 0 { Told::Resolved } else { Told::Firing };
                event.payload = if what < 4 { json!({ "n": id }) } else { json!(null) };
                event.severity = if worse { Severity::Critical } else { Severity::Warning };
                Input::Event(event)
            })
            .collect();
        for input in &inputs {
            one.send(input.clone());
        }
        for batch in inputs.chunks(cut) {
            many.batch(batch);
        }
        prop_assert_eq!(seen(&one), seen(&many));
        many.restart();
    }
}

#[test]
fn what_fits_no_target_goes_to_a_person_at_once_and_is_tried_when_one_fits() {
    let mut world = World::with(&["db"]);
    let id = world.fire("disk_full", "files");
    assert_eq!(world.story(id), ["opened", "escalated"]);
    assert_eq!(world.incident(id).phase, Phase::Escalated(Escalation::UnknownTarget));
    assert_eq!(world.desk.pending(), [], "nobody is asked to diagnose it");
    world.send(command(Verb::Retry { incident: id }));
    world.diagnose(id, healthy());
    assert_eq!(world.incident(id).phase, Phase::Escalated(Escalation::UnknownTarget));

    world.configure(config(vec![target("db", &[]), target("files", &[])], generous()));
    world.send(command(Verb::Retry { incident: id }));
    assert_eq!(world.incident(id).target.as_deref(), Some("files"));
    let page = world.desk.page(&Filter { target: Some("files".to_owned()), ..Filter::default() });
    assert_eq!(page.total, 1);
    world.restart();
    world.heal(id, "files");
}

#[test]
fn a_target_that_is_configured_later_takes_up_what_is_reported_about_it_again() {
    let mut world = World::with(&["db"]);
    let id = world.down("files");
    world.configure(config(vec![target("db", &[]), target("files", &[])], generous()));
    assert_eq!(world.down("files"), id);
    assert_eq!(world.story(id), ["opened", "escalated", "retried", "repeated"]);
    world.heal(id, "files");
}

#[test]
fn a_plan_is_made_anew_when_fewer_attempts_are_allowed() {
    let mut policy = generous();
    policy.autonomy = crate::policy::Autonomy::Approve;
    let mut world = World::new(config(vec![target("db", &[])], policy.clone()));
    let id = world.down("db");
    world.diagnose(id, cure(plan("db")));
    assert_eq!(world.status(id), Status::AwaitingApproval);
    policy.attempts = 1;
    world.configure(config(vec![target("db", &[])], policy));
    assert_eq!(world.status(id), Status::Diagnosing);
}

#[test]
fn an_agent_of_ours_that_stopped_is_not_diagnosed_and_ends_with_its_return() {
    let mut world = World::with(&["db"]);
    let id = world.fire(AGENT_DOWN, "fixer-1");
    assert!(world.last(id).reason.contains("agent stopped"), "{}", world.last(id).reason);
    let back = Event { status: Told::Resolved, ..world.event(AGENT_DOWN, "fixer-1") };
    world.send(Input::Event(back));
    assert_eq!(world.status(id), Status::SelfResolved);
}

#[test]
fn who_is_told_of_foreign_messages_in_the_ledger_hears_what_to_do() {
    let mut world = World::with(&["db"]);
    let id = world.fire(LEDGER_FOREIGN, "supervisor-1");
    let reason = &world.last(id).reason;
    assert!(reason.contains("selfheal doctor") && !reason.contains("target"), "{reason}");
}

fn many_on(n: usize) -> World {
    let mut targets = vec![target("db", &[])];
    targets.extend((0..n).map(|it| target(&format!("t{it}"), &["db"])));
    let mut policy = generous();
    policy.storm.count = 100_000;
    World::new(config(targets, policy))
}

#[test]
fn thousands_of_symptoms_are_let_go_in_portions_and_none_is_forgotten() {
    let n = 2 * MOVES_MAX + 10;
    let mut world = many_on(n);
    let db = world.down("db");
    let symptoms: Vec<IncidentId> = (0..n).map(|it| world.down(&format!("t{it}"))).collect();
    assert!(symptoms.iter().all(|it| world.status(*it) == Status::Merged));
    world.diagnose(db, cure(plan("db")));
    world.fixed(db);
    let n_most = 2 * MOVES_MAX;
    assert!(world.verified(db, true).recorded.len() < n_most);
    world.restart();
    let waits = |world: &World| {
        let merged = symptoms.iter().filter(|it| world.status(**it) == Status::Merged);
        merged.copied().next()
    };
    for _ in 0..3 {
        if let Some(id) = waits(&world) {
            let due = world.due().into_iter().find(|it| it.1 == id).expect("it has a deadline");
            assert!(due.0 <= world.at, "it is looked at now");
            assert!(world.timer(id).recorded.len() < n_most);
        }
    }
    assert_eq!(waits(&world), None);
}

#[test]
fn a_resume_asks_for_a_bounded_number_of_plans_and_the_others_are_asked_soon() {
    let mut world = many_on(MOVES_MAX + 10);
    world.send(command(Verb::Pause { reason: String::new() }));
    let ids: Vec<_> = (0..MOVES_MAX + 10)
        .map(|it| {
            let name = format!("t{it}");
            let id = world.down(&name);
            world.diagnose(id, cure(plan(&name)));
            id
        })
        .collect();
    let resumed = world.send(command(Verb::Resume));
    assert!(resumed.recorded.len() <= MOVES_MAX + 1, "{}", resumed.recorded.len());
    let soon = world.at + crate::desk::tests::world::secs(31);
    for id in ids.iter().filter(|it| world.status(**it) == Status::Proposed) {
        assert!(world.due().into_iter().any(|(due, of)| of == *id && due <= soon));
    }
}
