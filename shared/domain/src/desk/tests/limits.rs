//! The rules that hold a fix back or refuse it, in the life of whole incidents.

use super::world::{
    World, analysis, command, config, cure, generous, healthy, plan, plan_with_undo, secs, t0,
    target, verification,
};
use crate::{
    event::{Event, EventType},
    fact::{Decision, Escalation, Fact},
    id::{IncidentId, Position},
    incident::Phase,
    policy::{Autonomy, Cooldown, Freeze, Limit},
    view::Status,
    wire::{Input, Verb, WorkKind},
};

fn escalation(world: &World, id: IncidentId) -> Option<Escalation> {
    if let Phase::Escalated(why) = &world.incident(id).phase { Some(*why) } else { None }
}

// Rules 4 and 5 are tables in `budgets` and `guards`.

#[test]
fn a_used_up_budget_goes_to_a_person() {
    let mut policy = generous();
    policy.budget.per_target = "1/h".parse().unwrap();
    let mut world = World::new(config(vec![target("db", &[])], policy));
    let first = world.down("db");
    world.heal(first, "db");
    let second = world.down("db");
    world.diagnose(second, cure(plan("db")));
    assert_eq!(escalation(&world, second), Some(Escalation::Refused));
    assert!(world.last(second).reason.contains("budget of this target is used up"));
    world.wait(3600).send(command(Verb::Retry { incident: second }));
    world.diagnose(second, cure(plan("db")));
    assert_eq!(world.status(second), Status::Fixing);
}

#[test]
fn the_blast_radius_holds_what_is_too_much_at_once() {
    let mut policy = generous();
    policy.budget.blast_radius = Limit { percent: 50, count: 5 };
    let targets = ["a", "b", "c", "d"].map(|it| target(it, &[])).to_vec();
    let mut world = World::new(config(targets, policy));
    let first = world.fixing("a");
    world.fixing("b");
    let third = world.down("c");
    world.diagnose(third, cure(plan("c")));
    assert_eq!(world.held_by(third), Some("blast radius"));
    world.fixed(first);
    assert_eq!(world.held_by(third), Some("blast radius"), "until it is proven, it is treated");
    world.verified(first, true);
    assert_eq!(world.status(third), Status::Fixing);
}

// Rules 6 and 7.

fn tripped() -> World {
    let mut policy = generous();
    policy.attempts = 1;
    policy.breaker.failures = 2;
    let targets = ["a", "b", "c", "d"].map(|it| target(it, &[])).to_vec();
    World::new(config(targets, policy))
}

#[test]
fn a_tripped_breaker_stops_new_harm_only() {
    let mut world = tripped();
    let under_way = world.down("c");
    world.diagnose(under_way, cure(plan_with_undo("c")));
    for name in ["a", "b"] {
        let id = world.fixing(name);
        world.fix_failed(id);
    }
    assert_eq!(world.n_facts("breaker_tripped"), 1);
    let held = world.down("d");
    world.diagnose(held, cure(plan("d")));
    assert_eq!(world.held_by(held), Some("circuit breaker"));
    // Verification and undo of what is under way go on.
    world.fixed(under_way);
    let wanted = world.desk.wishes_of(under_way);
    assert!(wanted.iter().any(|it| it.kind() == WorkKind::Verify));
    world.send(verification(world.work(under_way), true, world.at, &["d"]));
    let wanted = world.desk.wishes_of(under_way);
    assert!(wanted.iter().any(|it| it.kind() == WorkKind::Fix), "the undo is wanted");
    assert_eq!(world.status(held), Status::Proposed);
}

#[test]
fn fixes_that_make_others_sick_trip_the_breaker() {
    let mut world = tripped();
    for name in ["a", "b"] {
        let id = world.fixing(name);
        world.fixed(id);
        world.send(verification(world.work(id), true, world.at, &["d"]));
        assert_eq!(escalation(&world, id), Some(Escalation::Regression));
    }
    assert_eq!(world.n_facts("breaker_tripped"), 1);
}

#[test]
fn what_failed_before_a_resume_does_not_count() {
    for resumed in [true, false] {
        let mut world = tripped();
        let first = world.fixing("a");
        world.fix_failed(first);
        if resumed {
            world.send(command(Verb::Resume));
        }
        let second = world.fixing("b");
        world.fix_failed(second);
        assert_eq!(world.n_facts("breaker_tripped"), usize::from(!resumed));
    }
}

#[test]
fn resetting_a_breaker_does_not_replay_what_has_become_stale() {
    let mut world = tripped();
    for name in ["a", "b"] {
        let id = world.fixing(name);
        world.fix_failed(id);
    }
    let fresh = world.down("c");
    world.diagnose(fresh, cure(plan("c")));
    world.clone().send(command(Verb::Resume));
    world.wait(61).send(command(Verb::Resume));
    assert_eq!(world.status(fresh), Status::Diagnosing, "the cause is sought anew");
    assert_eq!(world.n_facts("fix_started"), 2);
    // What failed before the reset does not count again.
    world.diagnose(fresh, cure(plan("c")));
    world.fix_failed(fresh);
    assert_eq!(world.n_facts("breaker_tripped"), 1);
}

// Rule 15.

#[test]
fn a_guard_denies_unless_it_allows() {
    for (autonomy, status) in [
        (Autonomy::Auto, Status::Fixing),
        (Autonomy::Approve, Status::AwaitingApproval),
        (Autonomy::Suggest, Status::Escalated),
        (Autonomy::Observe, Status::Escalated),
    ] {
        let mut policy = generous();
        policy.autonomy = autonomy;
        let mut world = World::new(config(vec![target("db", &[])], policy));
        let id = world.down("db");
        world.diagnose(id, cure(plan("db")));
        assert_eq!(world.status(id), status, "{autonomy:?}");
        let wanted = world.desk.wishes_of(id).iter().any(|it| it.kind() == WorkKind::Fix);
        assert_eq!(wanted, autonomy == Autonomy::Auto);
    }
}

#[test]
fn a_freeze_holds_until_it_ends() {
    let mut policy = generous();
    let (from, until) = (t0(), t0() + secs(50));
    policy.freeze = vec![Freeze { from, until, reason: "the sale".to_owned() }];
    policy.cooldown = Cooldown::default();
    let mut world = World::new(config(vec![target("db", &[])], policy));
    let id = world.down("db");
    world.diagnose(id, cure(plan("db")));
    assert_eq!(world.held_by(id), Some("freeze window"));
    assert_eq!(world.due(), [(until, id)]);
    world.expire(id);
    assert_eq!(world.status(id), Status::Fixing);
}

// Rule 16.

#[test]
fn where_nothing_is_wrong_nothing_is_touched() {
    let mut world = World::with(&["db", "api"]);
    let id = world.down("db");
    world.diagnose(id, healthy());
    world.verified(id, true);
    assert_eq!(world.status(id), Status::SelfResolved);
    world.recovered("api");
    assert_eq!(world.n_facts("opened"), 1);
    assert_eq!(world.n_facts("fix_started"), 0);
    assert_eq!(world.run_out(1), 0);
}

/// Ten targets; the storm brake allows half of them to be sick.
#[test]
fn in_a_storm_nothing_is_begun_and_recovery_is_not_blocked() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let mut policy = generous();
    policy.storm = Limit { percent: 50, count: 20 };
    policy.notify = vec![crate::policy::Notifier { webhook: None, log: Some(true) }];
    let mut world = World::new(config(names.map(|it| target(it, &[])).to_vec(), policy));
    let ids = names.map(|it| world.down(it));
    for (id, name) in ids.iter().zip(names) {
        world.diagnose(*id, cure(plan(name)));
        assert_eq!(world.held_by(*id), Some("storm brake"));
    }
    assert_eq!(world.n_facts("fix_started"), 0);
    let n_notices = ids.iter().map(|id| world.incident(*id).notices.len()).sum::<usize>();
    assert_eq!(n_notices, 1, "people are told once");
    for name in &names[..4] {
        world.recovered(name);
    }
    for id in &ids[..4] {
        world.verified(*id, true);
        assert_eq!(world.status(*id), Status::SelfResolved);
    }
    assert_eq!(world.n_facts("fix_started"), 0, "6 of 10 are more than half");
    world.recovered(names[4]);
    world.verified(ids[4], true);
    assert_eq!(world.n_facts("fix_started"), 5, "5 of 10 are not");
}

// Rule 17 is in `verification`.

#[test]
fn under_a_configuration_of_a_newer_version_no_fix_is_begun() {
    let world = World::with(&["db"]);
    let mut newer = serde_json::to_value(world.desk.config()).unwrap();
    newer["policy"]["maintenance"] = serde_json::json!([{"weekday": "sunday"}]);
    let newer: crate::config::Config = serde_json::from_value(newer).unwrap();

    let mut desk = world.desk.clone();
    let given = command(Verb::configure(newer.clone()));
    let refused = desk.receive(&given, Position::new(9, 0), t0());
    assert_eq!(refused.recorded.len(), 1, "the log tells that it was refused");
    assert!(refused.answer.unwrap().message.contains("policy.maintenance"));

    // A newer leader has stored it; now this version leads again.
    let fact = Fact::Configured {
        config: Box::new(newer),
        by: "ann".to_owned(),
        text: None,
        parts: Vec::new(),
    };
    let seq = desk.n_decisions() + 1;
    let cause = Position::new(10, 0);
    let reason = "1 target".to_owned();
    desk.apply(&Decision { seq, at: t0(), cause, incident: None, fact, reason }).unwrap();
    let mut event = Event::new("1", EventType::known("service_down"), "test");
    event.target = Some("db".to_owned());
    let opened = desk.receive(&Input::Event(event), Position::new(11, 0), t0());
    let id = opened.answer.unwrap().incident_id.unwrap();
    let work = desk.incident(id).unwrap().work();
    let found = analysis(work, cure(plan("db")));
    let held = desk.receive(&found, Position::new(12, 0), t0()).recorded;
    let last = &held.last().unwrap().decision;
    assert_eq!(last.fact.name(), "held");
    assert!(last.reason.contains("policy.maintenance"), "{}", last.reason);
}
