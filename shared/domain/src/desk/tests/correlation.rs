//! One cause, one fix: whose symptom is whose, and what becomes of it.

use super::world::{World, blame, command, config, cure, generous, plan, risky_plan, secs, target};
use crate::{
    fact::{Escalation, Fact},
    id::IncidentId,
    incident::Phase,
    plan::Risk,
    policy::Limit,
    view::Status,
    wire::{Verb, WorkKind},
};

/// A web page needs an api, which needs a database.
fn shop() -> World {
    let targets = vec![target("db", &[]), target("api", &["db"]), target("web", &["api"])];
    World::new(config(targets, generous()))
}

fn symptom_of(world: &World, id: IncidentId) -> Option<IncidentId> {
    world.incident(id).symptom_of()
}

/// Heals the database; the api is well with it.
fn heal_both(world: &mut World, db: IncidentId, api: IncidentId) {
    assert_eq!(symptom_of(world, api), Some(db));
    assert!(world.desk.wishes_of(api).is_empty(), "a symptom wants no work");
    world.heal(db, "db");
    assert_eq!(world.status(api), Status::Verifying);
    world.verified(api, true);
    assert_eq!(world.status(api), Status::Resolved);
    assert_eq!(world.n_facts("fix_started"), 1, "one cause, one fix");
    assert_eq!(world.desk.detail(db).unwrap().symptoms, [api]);
}

#[test]
fn a_dead_database_and_a_sick_api_take_one_fix_when_the_database_is_seen_first() {
    let mut world = shop();
    let db = world.down("db");
    let api = world.down("api");
    heal_both(&mut world, db, api);
}

#[test]
fn a_dead_database_and_a_sick_api_take_one_fix_when_the_api_is_seen_first() {
    let mut world = shop();
    let api = world.down("api");
    assert_eq!(world.status(api), Status::Diagnosing);
    let db = world.down("db");
    heal_both(&mut world, db, api);
}

#[test]
fn a_dead_database_that_only_the_analyzer_sees_is_healed_once() {
    let mut world = shop();
    let api = world.down("api");
    world.diagnose(api, blame("db"));
    let db = symptom_of(&world, api).expect("the api waits for the database");
    assert_eq!(world.incident(db).target.as_deref(), Some("db"));
    let same = world.down("db");
    assert_eq!(same, db, "the monitor's own event belongs to it");
    heal_both(&mut world, db, api);
}

#[test]
fn an_approval_is_not_asked_for_a_symptom() {
    let mut world = shop();
    let api = world.down("api");
    world.diagnose(api, cure(risky_plan("api", Risk::Medium)));
    assert_eq!(world.status(api), Status::AwaitingApproval);
    let db = world.down("db");
    heal_both(&mut world, db, api);
}

#[test]
fn a_fix_under_way_is_not_broken_off_by_its_cause() {
    let mut world = shop();
    let api = world.fixing("api");
    let db = world.down("db");
    assert_eq!(world.status(api), Status::Fixing);
    world.fixed(api);
    world.verified(api, false);
    assert_eq!(symptom_of(&world, api), Some(db), "diagnosed again, it is a symptom");
}

#[test]
fn dependencies_count_at_any_distance() {
    let mut world = shop();
    let db = world.down("db");
    let web = world.down("web");
    assert_eq!(symptom_of(&world, web), Some(db));
    // The api lies between; it came last and changes nothing.
    let api = world.down("api");
    assert_eq!((symptom_of(&world, api), symptom_of(&world, web)), (Some(db), Some(db)));
    // Nor does it when it came first.
    let mut world = shop();
    let api = world.down("api");
    let db = world.down("db");
    let web = world.down("web");
    assert_eq!((symptom_of(&world, api), symptom_of(&world, web)), (Some(db), Some(db)));
}

#[test]
fn what_waits_for_a_symptom_waits_for_its_cause() {
    let mut world = shop();
    let web = world.down("web");
    let api = world.down("api");
    let db = world.down("db");
    assert_eq!(symptom_of(&world, web), Some(api));
    assert_eq!(symptom_of(&world, api), Some(db));
    world.heal(db, "db");
    assert_eq!((world.status(api), world.status(web)), (Status::Verifying, Status::Merged));
    world.verified(api, true);
    assert_eq!(world.status(web), Status::Verifying);
    world.verified(web, true);
    assert_eq!(world.n_facts("resolved"), 3);
}

#[test]
fn a_second_type_of_trouble_on_a_target_is_merged() {
    let mut world = shop();
    let first = world.down("db");
    let second = world.fire("slow", "db");
    assert_eq!(world.status(second), Status::Merged);
    world.heal(first, "db");
    assert_eq!(world.status(second), Status::Diagnosing, "no check of db measures `slow`");
    assert_eq!(world.n_facts("fix_started"), 1);
}

/// What arrives after the escalation is diagnosed by itself; so is what arrived before.
#[test]
fn trouble_beside_an_escalated_incident_is_diagnosed_by_itself() {
    for before in [true, false] {
        let mut world = shop();
        let slow = world.fire("slow", "db");
        let early = before.then(|| world.down("db"));
        world.diagnose(slow, vec![]);
        if before {
            // The diagnosis may not have seen what was reported meanwhile.
            assert_eq!(world.status(slow), Status::Diagnosing);
            world.diagnose(slow, vec![]);
        }
        assert_eq!(world.status(slow), Status::Escalated);
        let down = early.unwrap_or_else(|| world.down("db"));
        assert_eq!(world.status(down), Status::Diagnosing, "before: {before}");
        world.heal(down, "db");
    }
}

#[test]
fn a_symptom_that_stays_sick_is_diagnosed_by_itself() {
    let mut world = shop();
    let db = world.down("db");
    let api = world.down("api");
    world.heal(db, "db");
    world.verified(api, false);
    assert_eq!(world.status(api), Status::Diagnosing);
    assert!(world.last(api).reason.contains("still unhealthy although its cause has ended"));
    let wanted = world.desk.wishes_of(api);
    assert!(wanted.iter().any(|it| it.kind() == WorkKind::Diagnose));
    world.heal(api, "api");
    assert_eq!(world.n_facts("fix_started"), 2);
}

#[test]
fn a_symptom_does_not_wait_for_ever() {
    let mut world = shop();
    let db = world.down("db");
    let api = world.down("api");
    world.diagnose(db, vec![]);
    assert_eq!(world.status(api), Status::Merged, "a person has the cause");
    world.expire(api);
    assert_eq!(world.incident(api).phase, Phase::Escalated(Escalation::CauseNotHealed));
}

#[test]
fn a_reported_recovery_of_a_symptom_is_verified_when_its_cause_waits_for_a_person() {
    let mut world = shop();
    let db = world.down("db");
    let api = world.down("api");
    world.recovered("api");
    assert_eq!(
        world.status(api),
        Status::Merged,
        "its cause is being healed; then it is looked at"
    );
    world.diagnose(db, vec![]);
    world.recovered("api");
    world.verified(api, true);
    assert_eq!(world.status(api), Status::Resolved);
}

#[test]
fn a_cause_that_is_not_configured_goes_to_a_person() {
    let mut world = shop();
    let api = world.down("api");
    world.diagnose(api, blame("mainframe"));
    assert_eq!(world.incident(api).phase, Phase::Escalated(Escalation::NoPlan));
    let web = world.down("web");
    world.send(command(Verb::Close { incident: api, reason: String::new() }));
    world.verified(web, false);
    world.diagnose(web, blame("web"));
    assert_eq!(world.status(web), Status::Escalated, "nothing is its own cause");
}

#[test]
fn a_cause_that_is_found_well_again_and_again_goes_to_a_person() {
    let mut world = shop();
    let api = world.down("api");
    for n in 0..6 {
        world.diagnose(api, blame("db"));
        if n == 5 {
            break;
        }
        let db = symptom_of(&world, api).unwrap();
        world.diagnose(db, super::world::healthy());
        world.verified(db, true);
        world.verified(api, false);
    }
    assert_eq!(world.status(api), Status::Escalated);
    assert!(world.last(api).reason.contains("flapping"));
}

#[test]
fn a_symptom_is_no_storm() {
    let mut policy = generous();
    policy.storm = Limit { percent: 10, count: 1 };
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut targets = vec![target("db", &[])];
    targets.extend(names.map(|it| target(it, &["db"])));
    let mut world = World::new(config(targets, policy));
    let db = world.down("db");
    let symptoms = names.map(|it| world.down(it));
    world.heal(db, "db");
    for id in symptoms {
        world.verified(id, true);
        assert_eq!(world.status(id), Status::Resolved);
    }
    assert_eq!(world.n_facts("fix_started"), 1);
}

// What waits, and what lets it go on.

#[test]
fn a_changed_target_expires_its_waiting_plans_and_no_others() {
    let mut world = shop();
    let db = world.down("db");
    world.diagnose(db, cure(risky_plan("db", Risk::Medium)));
    let mut config = world.desk.config().clone();
    config.targets[2].labels.insert("tier".to_owned(), "gold".to_owned());
    world.configure(config.clone());
    assert_eq!(world.status(db), Status::AwaitingApproval, "another target has changed");
    config.targets[0].labels.insert("tier".to_owned(), "gold".to_owned());
    world.configure(config);
    assert_eq!(world.status(db), Status::Diagnosing);
    assert_eq!(world.last(db).fact, Fact::PlanExpired);
}

#[test]
fn a_plan_for_a_target_that_was_removed_is_not_carried_out() {
    let mut world = shop();
    let web = world.down("web");
    world.diagnose(web, cure(risky_plan("web", Risk::Medium)));
    let mut config = world.desk.config().clone();
    config.targets.pop();
    world.configure(config);
    assert_eq!(world.status(web), Status::Closed);
    assert_eq!(world.n_facts("fix_started"), 0);
    assert!(world.run_out(50) < 50);
}

#[test]
fn a_pause_holds_and_a_resume_looks_again() {
    let mut world = shop();
    world.send(command(Verb::Pause { reason: "deploy".to_owned() }));
    let db = world.down("db");
    world.diagnose(db, cure(plan("db")));
    assert_eq!(world.held_by(db), Some("kill switch"));
    world.send(command(Verb::Resume));
    assert_eq!(world.status(db), Status::Fixing);
    // A pause stops no verification.
    world.send(command(Verb::Pause { reason: "deploy".to_owned() }));
    world.fixed(db);
    world.verified(db, true);
    assert_eq!(world.status(db), Status::Resolved);
}

#[test]
fn a_plan_that_was_held_too_long_is_made_anew() {
    let mut world = shop();
    world.send(command(Verb::Pause { reason: "deploy".to_owned() }));
    let db = world.down("db");
    world.diagnose(db, cure(plan("db")));
    world.wait(61);
    world.send(command(Verb::Resume));
    assert_eq!(world.status(db), Status::Diagnosing);
    world.heal(db, "db");
}

/// A plan that is made anew while it is held has waited since it was held first.
#[test]
fn what_guards_hold_goes_to_a_person_in_the_end() {
    let mut policy = generous();
    policy.budget.blast_radius = Limit { percent: 1, count: 1 };
    let mut world = World::new(config(vec![target("db", &[]), target("api", &[])], policy));
    world.fixing("api");
    let db = world.down("db");
    let held_at = world.at;
    // The fix of the api never ends; its phases are kept up by retries.
    while world.status(db) != Status::Escalated {
        assert!(world.at < held_at + secs(2 * 3600), "it is held for ever: {:?}", world.story(db));
        if world.status(db) == Status::Diagnosing {
            world.diagnose(db, cure(plan("db")));
        } else {
            world.wait(30);
            world.timer(db);
        }
    }
    assert_eq!(world.incident(db).phase, Phase::Escalated(Escalation::HeldTooLong));
    assert!(secs(3600) <= world.at - held_at, "{}", world.at - held_at);
    assert!(10 < world.n_facts("plan_expired"));
}

#[test]
fn a_repeated_delivery_is_no_second_event() {
    let mut world = shop();
    let event = world.event("service_down", "db");
    let first = world.send(crate::wire::Input::Event(event.clone())).answer.unwrap();
    let again = world.send(crate::wire::Input::Event(event));
    assert!(again.recorded.is_empty());
    assert_eq!(again.answer.unwrap().incident_id, first.incident_id);
    let other = world.down("db");
    assert_eq!((Some(other), world.incident(other).count), (first.incident_id, 2));
}
