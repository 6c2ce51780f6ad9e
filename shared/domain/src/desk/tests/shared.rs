//! Many incidents of one target that ask the same.

use super::world::{
    World, analysis, command, config, cure, generous, healthy, plan, secs, target, verification,
};
use crate::{
    desk::settle::MOVES_MAX,
    event::{Event, Severity},
    fact::Escalation,
    id::IncidentId,
    incident::Phase,
    view::Status,
    wire::{Input, Verb, VerifyWork, WorkKind},
};

/// An alert that its sender names by itself.
fn alert(world: &mut World, kind: &str, target: &str, name: &str) -> Event {
    Event { fingerprint: Some(name.to_owned()), ..world.event(kind, target) }
}

fn open(world: &mut World, kind: &str, name: &str) -> IncidentId {
    let event = alert(world, kind, "db", name);
    let answer = world.send(Input::Event(event)).answer.unwrap();
    answer.incident_id.unwrap()
}

/// Opens so many incidents of one target as one batch.
fn flood(world: &mut World, n: usize) -> Vec<IncidentId> {
    let events: Vec<_> = (0..n)
        .map(|n| Input::Event(alert(world, "service_down", "db", &format!("a{n}"))))
        .collect();
    let handled = world.batch(&events);
    let answers = handled.iter().filter_map(|it| it.answer.as_ref());
    answers.filter_map(|it| it.incident_id).collect()
}

/// Returns for which incidents this work is wanted.
fn wanted(world: &World, kind: WorkKind) -> Vec<IncidentId> {
    let wants = |id: &IncidentId| world.desk.wishes_of(*id).iter().any(|it| it.kind() == kind);
    world.desk.wanting().filter(wants).collect()
}

/// Fires what is due now, until nothing is.
fn let_go(world: &mut World) {
    for _ in 0..100 {
        let now = world.at;
        let Some((_, id)) = world.due().into_iter().find(|it| it.0 <= now) else { return };
        world.timer(id);
    }
    panic!("there is always something due");
}

#[test]
fn a_flood_about_one_target_is_diagnosed_once_and_measured_twice() {
    let mut world = World::with(&["db", "api"]);
    let ids = flood(&mut world, 2 * MOVES_MAX + 10);
    let first = ids[0];
    assert_eq!(wanted(&world, WorkKind::Diagnose), [first]);
    world.diagnose(first, healthy());
    let late = open(&mut world, "service_down", "late");
    assert_eq!(world.status(late), Status::Merged, "the measurement under way answers soon");
    assert_eq!(wanted(&world, WorkKind::Diagnose), []);
    assert_eq!(wanted(&world, WorkKind::Verify), [first]);

    world.verified(first, true);
    let_go(&mut world);
    assert_eq!(world.status(first), Status::SelfResolved);
    let all = ids.iter().skip(1).chain([&late]);
    assert!(all.clone().all(|id| world.status(*id) == Status::Verifying));
    let [second] = wanted(&world, WorkKind::Verify)[..] else { panic!("one measurement for all") };
    // Whoever goes on with the flood stands in nobody's way.
    let api = world.down("api");
    assert_eq!(wanted(&world, WorkKind::Diagnose), [api]);

    world.verified(second, true);
    let_go(&mut world);
    assert!(all.clone().all(|id| world.status(*id) == Status::Resolved));
    assert_eq!(world.n_facts("verified"), ids.len() + 1, "each has its proof in the log");
    assert_eq!(wanted(&world, WorkKind::Verify), []);
    world.restart();
}

/// Two incidents that are being rechecked; the second one for longer.
fn two_rechecked(world: &mut World) -> [IncidentId; 2] {
    let first = open(world, "service_down", "first");
    world.diagnose(first, healthy());
    let ours = alert(world, "service_down", "db", "ours");
    let ours = Event { source: "selfheal/monitor".to_owned(), ..ours };
    let ours = world.send(Input::Event(ours)).answer.unwrap().incident_id.unwrap();
    world.diagnose(ours, healthy());
    assert_eq!([first, ours].map(|id| world.status(id)), [Status::Verifying; 2]);
    [first, ours]
}

#[test]
fn what_began_to_wait_later_is_not_answered_by_older_samples() {
    let mut world = World::with(&["db"]);
    let [first, second] = two_rechecked(&mut world);
    assert_eq!(wanted(&world, WorkKind::Verify), [first]);
    let samples_from = world.incident(first).shares_since().unwrap();
    world.send(verification(world.work(first), true, samples_from, &[]));
    assert_eq!(world.status(first), Status::SelfResolved);
    assert_eq!(world.status(second), Status::Verifying);
    assert_eq!(wanted(&world, WorkKind::Verify), [second]);
    world.restart();
    world.verified(second, true);
    assert_eq!(world.status(second), Status::SelfResolved);
}

#[test]
fn one_measurement_is_wanted_with_samples_that_are_new_enough_for_all_who_wait() {
    let mut world = World::with(&["db"]);
    let [first, second] = two_rechecked(&mut world);
    let since = world.incident(second).shares_since().unwrap();
    let wish = world.desk.wishes_of(first).pop().unwrap();
    let work: VerifyWork = serde_json::from_slice(&wish.payload().unwrap()).unwrap();
    assert_eq!(work.since, since);
    world.send(verification(world.work(first), true, since, &[]));
    assert_eq!([first, second].map(|id| world.status(id)), [Status::SelfResolved; 2]);
}

#[test]
fn a_shared_measurement_that_fails_leads_to_one_diagnosis() {
    let mut world = World::with(&["db"]);
    let ids = flood(&mut world, MOVES_MAX + 10);
    world.heal(ids[0], "db");
    let_go(&mut world);
    let [second] = wanted(&world, WorkKind::Verify)[..] else { panic!("one measurement for all") };
    world.verified(second, false);
    let_go(&mut world);
    assert_eq!(wanted(&world, WorkKind::Diagnose), [second]);
    assert_eq!(wanted(&world, WorkKind::Verify), []);
    assert!(ids.iter().skip(2).all(|id| world.status(*id) == Status::Merged));
    world.restart();
    world.heal(second, "db");
    let_go(&mut world);
    let [third] = wanted(&world, WorkKind::Verify)[..] else { panic!("one measurement for all") };
    world.verified(third, true);
    let_go(&mut world);
    assert!(ids.iter().skip(1).all(|id| world.status(*id) == Status::Resolved));
    assert_eq!(world.n_facts("fix_started"), 2);
}

#[test]
fn a_fix_is_verified_by_itself() {
    let mut world = World::with(&["db"]);
    let ids = flood(&mut world, 3);
    world.diagnose(ids[0], healthy());
    let ours = Event {
        source: "selfheal/monitor".to_owned(),
        ..alert(&mut world, "service_down", "db", "ours")
    };
    let ours = world.send(Input::Event(ours)).answer.unwrap().incident_id.unwrap();
    assert_eq!(world.status(ours), Status::Diagnosing, "what a monitor sees waits for no recheck");
    world.diagnose(ours, cure(plan("db")));
    world.fixed(ours);
    assert_eq!(wanted(&world, WorkKind::Verify), [ids[0], ours]);
    world.verified(ours, true);
    assert_eq!(world.status(ids[0]), Status::Verifying, "its checks and its soak are others");
}

#[test]
fn who_asks_what_a_person_has_been_asked_stays_with_that_incident() {
    let mut world = World::with(&["db"]);
    let ids = flood(&mut world, 3);
    let slow = open(&mut world, "slow", "slow");
    // The first diagnosis cannot have seen what arrived meanwhile.
    while world.status(ids[0]) != Status::Escalated {
        world.diagnose(ids[0], vec![]);
    }
    assert_eq!([1, 2].map(|n| world.status(ids[n])), [Status::Merged; 2]);
    assert_eq!(world.status(slow), Status::Diagnosing, "another type is another question");
    world.diagnose(slow, vec![]);
    let worse = alert(&mut world, "service_down", "db", "worse");
    let worse = Event { severity: Severity::Critical, ..worse };
    let worse = world.send(Input::Event(worse)).answer.unwrap().incident_id.unwrap();
    assert_eq!(world.status(worse), Status::Diagnosing, "it may concern others");
    world.restart();
    // With the end of that incident all are looked at.
    world.send(analysis(world.work(worse), healthy()));
    world.verified(worse, true);
    world.send(command(Verb::Close { incident: ids[0], reason: String::new() }));
    assert_eq!([1, 2].map(|n| world.status(ids[n])), [Status::Verifying; 2]);
}

#[test]
fn alerts_that_nothing_measures_are_diagnosed_once_and_told_one_by_one() {
    let mut world = World::with(&["db"]);
    let first = open(&mut world, "slow", "0");
    let others: Vec<_> = (1..5).map(|n| open(&mut world, "slow", &n.to_string())).collect();
    while world.status(first) != Status::Escalated {
        world.diagnose(first, healthy());
    }
    assert!(
        others
            .iter()
            .all(|id| { world.incident(*id).phase == Phase::Escalated(Escalation::NotObservable) })
    );
    assert_eq!(wanted(&world, WorkKind::Diagnose), []);
}

#[test]
fn who_shares_a_measurement_has_time_for_the_one_before() {
    let mut world = World::new(config(vec![target("db", &[])], generous()));
    let ids = flood(&mut world, 2);
    world.diagnose(ids[0], healthy());
    world.verified(ids[0], true);
    let since = world.at;
    let due = world.due().into_iter().find(|it| it.1 == ids[1]).unwrap().0;
    let policy = generous();
    let once = policy.soak.plus(policy.verify_within).to_delta();
    assert_eq!(due - since, once + once + secs(60));
}
