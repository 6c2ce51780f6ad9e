//! Alerts that no check of their target measures.

use super::world::{World, config, cure, generous, healthy, plan, secs, target};
use crate::{
    event::{Event, Status as Said},
    fact::Escalation,
    id::IncidentId,
    incident::Phase,
    view::Status,
    wire::Input,
};

const WAITS: Phase = Phase::Escalated(Escalation::NotObservable);

/// A desk with an alert about the lag of `db`, whose checks pass and do not measure it.
fn unmeasured() -> (World, IncidentId) {
    let mut world = World::with(&["db"]);
    let id = world.fire("replication_lag", "db");
    world.diagnose(id, healthy());
    (world, id)
}

fn resolved(world: &mut World) {
    let event = Event { status: Said::Resolved, ..world.event("replication_lag", "db") };
    world.send(Input::Event(event));
}

#[test]
fn an_alert_that_no_check_measures_stays_open_until_its_sender_resolves_it() {
    let (mut world, id) = unmeasured();
    assert_eq!(world.incident(id).phase, WAITS);
    let reason = &world.ledger.last().unwrap().reason;
    assert_eq!(
        reason,
        "the checks of db do not measure replication_lag; watching for the resolve of test"
    );
    for count in 2..5 {
        assert_eq!(world.fire("replication_lag", "db"), id, "a repeat opens nothing");
        assert_eq!(world.incident(id).count, count);
    }
    assert_eq!(world.n_facts("recheck_started"), 0);
    resolved(&mut world);
    assert_eq!(world.status(id), Status::SelfResolved);
    assert_eq!(world.n_facts("recheck_started"), 0, "the sender's word is the proof");
    let next = world.fire("replication_lag", "db");
    assert_eq!(world.incident(next).previous, Some(id));
}

#[test]
fn an_alert_of_two_senders_ends_when_both_have_resolved_it() {
    let (mut world, id) = unmeasured();
    let say = |world: &mut World, source: &str, status| {
        let source = source.to_owned();
        let event = Event { source, status, ..world.event("replication_lag", "db") };
        world.send(Input::Event(event)).answer.unwrap().message
    };
    say(&mut world, "other", Said::Firing);
    let answer = say(&mut world, "test", Said::Resolved);
    assert_eq!(
        (world.incident(id).phase.clone(), &*answer),
        (WAITS, "Another sender still reports it.")
    );
    // Nor does the word of one who has never said that it is there.
    say(&mut world, "stranger", Said::Resolved);
    world.restart();
    assert_eq!(world.incident(id).phase, WAITS);
    // What its sender says once more holds again.
    say(&mut world, "test", Said::Firing);
    world.diagnose(id, healthy());
    say(&mut world, "other", Said::Resolved);
    assert_eq!(world.incident(id).phase, WAITS);
    say(&mut world, "test", Said::Resolved);
    assert_eq!(world.status(id), Status::SelfResolved);
}

#[test]
fn an_alert_that_no_check_measures_ends_with_its_senders_word() {
    let mut world = World::with(&["db"]);
    let ends_at = Some(world.at + secs(300));
    let event = Event { ends_at, ..world.event("replication_lag", "db") };
    let id = world.send(Input::Event(event)).answer.and_then(|it| it.incident_id).unwrap();
    world.diagnose(id, healthy());
    assert_eq!(world.incident(id).phase, WAITS);
    world.expire(id);
    assert_eq!(world.status(id), Status::SelfResolved);
}

#[test]
fn an_alert_that_a_check_measures_is_proven_by_fresh_samples() {
    let mut world = World::with(&["db"]);
    let id = world.down("db");
    world.diagnose(id, healthy());
    assert_eq!(world.status(id), Status::Verifying);
    world.verified(id, true);
    assert_eq!(world.status(id), Status::SelfResolved);
}

#[test]
fn a_symptom_that_no_check_measures_is_diagnosed_when_its_cause_is_over() {
    let targets = vec![target("db", &[]), target("api", &["db"])];
    let mut world = World::new(config(targets, generous()));
    let cause = world.down("db");
    let symptom = world.fire("latency_high", "api");
    assert_eq!(world.status(symptom), Status::Merged);
    world.diagnose(cause, cure(plan("db")));
    world.fixed(cause);
    world.verified(cause, true);
    assert_eq!(world.status(symptom), Status::Diagnosing, "checks of api cannot prove it");
    world.diagnose(symptom, healthy());
    assert_eq!(world.incident(symptom).phase, WAITS);
}

#[test]
fn a_word_that_came_while_a_fix_was_under_way_ends_the_incident_when_the_fix_fails() {
    let mut world = World::with(&["db"]);
    let id = world.fire("replication_lag", "db");
    world.diagnose(id, cure(plan("db")));
    assert_eq!(world.status(id), Status::Fixing);
    resolved(&mut world);
    assert_eq!(world.status(id), Status::Fixing, "what was begun goes on");
    world.fixed(id);
    world.verified(id, false);
    assert_eq!(world.status(id), Status::SelfResolved);
}

#[test]
fn a_symptom_that_no_check_measures_ends_with_its_senders_word() {
    let targets = vec![target("db", &[]), target("api", &["db"])];
    let mut world = World::new(config(targets, generous()));
    world.down("db");
    let symptom = world.fire("latency_high", "api");
    assert_eq!(world.status(symptom), Status::Merged);
    let event = Event { status: Said::Resolved, ..world.event("latency_high", "api") };
    world.send(Input::Event(event));
    assert_eq!(world.status(symptom), Status::SelfResolved, "its cause may wait for a person");
}
