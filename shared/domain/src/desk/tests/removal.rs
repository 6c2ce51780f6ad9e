//! Targets that are removed, renamed or added while incidents are open.

use super::world::{
    World, command, config, cure, generous, healthy, plan, plan_with_undo, risky_plan, target,
};
use crate::{
    config::Config,
    event::{Event, Status as Said},
    id::IncidentId,
    incident::Phase,
    plan::Risk,
    view::Status,
    wire::{Input, Verb, VerifyWork, WorkKind},
};

fn world() -> World {
    World::new(config(vec![target("db", &[]), target("api", &["db"])], generous()))
}

fn without(world: &World, name: &str) -> Config {
    let mut config = world.desk.config().clone();
    config.targets.retain(|it| it.name != name);
    config.targets.iter_mut().for_each(|it| it.depends_on.clear());
    config
}

fn verify_work(world: &World, id: IncidentId) -> VerifyWork {
    let wishes = world.desk.wishes_of(id);
    let wish = wishes.iter().find(|it| it.kind() == WorkKind::Verify).unwrap();
    serde_json::from_slice(&wish.payload().unwrap()).unwrap()
}

#[test]
fn incidents_of_a_removed_target_end_wherever_they_wait() {
    type Prepare = fn(&mut World, IncidentId);
    let prepared: [Prepare; 6] = [
        |_, _| {},
        |world, id| drop(world.diagnose(id, vec![])),
        |world, id| drop(world.diagnose(id, cure(risky_plan("db", Risk::Medium)))),
        |world, id| drop(world.diagnose(id, healthy())),
        |world, id| {
            world.send(command(Verb::Pause { reason: String::new() }));
            world.diagnose(id, cure(plan("db")));
        },
        |world, id| drop(world.expire(id)),
    ];
    for prepare in prepared {
        let mut world = world();
        let id = world.down("db");
        prepare(&mut world, id);
        let config = without(&world, "db");
        world.configure(config);
        assert_eq!(world.status(id), Status::Closed);
        let reason = &world.last(id).reason;
        assert_eq!(reason, "target db was removed from the configuration");
        assert_eq!(world.desk.open_incidents().count(), 0);
        world.restart();
    }
}

#[test]
fn a_fix_of_a_removed_target_ends_and_is_verified_with_the_plans_own_target() {
    for passed in [true, false] {
        let mut world = world();
        let mut changed = world.desk.config().clone();
        let id = world.fixing("db");
        let was = world.desk.config().target("db").unwrap().told();
        // It is changed first: what was begun belongs to what it was.
        changed.targets[0].labels.insert("tier".to_owned(), "gold".to_owned());
        world.configure(changed);
        let config = without(&world, "db");
        world.configure(config);
        assert_eq!(world.status(id), Status::Fixing, "what is under way ends");
        world.restart();
        world.fixed(id);
        let work = verify_work(&world, id);
        assert_eq!(work.target, was);
        assert!(!work.checks.is_empty());
        world.verified(id, passed);
        let wanted = if passed { Status::Resolved } else { Status::Closed };
        assert_eq!(world.status(id), wanted);
        let reason = &world.last(id).reason;
        assert!(reason.contains("target db was removed from the configuration"), "{reason}");
    }
}

#[test]
fn a_renamed_target_ends_the_incident_of_the_former_name() {
    let mut world = world();
    let id = world.down("db");
    world.diagnose(id, vec![]);
    let mut config = world.desk.config().clone();
    config.targets[0].name = "database".to_owned();
    config.targets[1].depends_on = vec!["database".to_owned()];
    world.configure(config);
    assert_eq!(world.status(id), Status::Closed);
    // What a monitor reported of the former name arrives late: nobody is called.
    let late = Event { source: "selfheal/monitor".to_owned(), ..world.event("slow", "db") };
    let late = world.send(Input::Event(late)).answer.unwrap().incident_id.unwrap();
    assert_eq!(world.status(late), Status::Closed);
    assert_eq!(world.n_facts("escalated"), 1);
    let id = world.down("database");
    world.diagnose(id, cure(plan_with_undo("database")));
    assert_eq!(world.status(id), Status::Fixing);
}

#[test]
fn many_incidents_of_removed_targets_end_in_portions() {
    let names: Vec<_> = (0..400).map(|n| format!("t{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut world = World::with(&names);
    for name in &names {
        world.down(name);
    }
    let handled = world.configure(config(vec![target("db", &[])], generous()));
    assert!(handled.recorded.len() < 300, "{}", handled.recorded.len());
    world.run_out(500);
    assert_eq!(world.desk.open_incidents().count(), 0);
    assert_eq!(world.n_facts("closed"), 400);
}

#[test]
fn an_unknown_target_is_taken_up_when_it_is_configured_and_a_resolve_reaches_it() {
    let mut world = world();
    let down = |world: &mut World, status: Said| {
        let mut event = world.event("slow", "pod-x");
        event.labels.insert("app".to_owned(), "cache".to_owned());
        Event { status, ..event }
    };
    let event = down(&mut world, Said::Firing);
    let id = world.send(Input::Event(event)).answer.unwrap().incident_id.unwrap();
    assert_eq!(world.status(id), Status::Escalated);
    let mut cache = target("cache", &[]);
    cache.select = vec![[("app".to_owned(), "cache".to_owned())].into()];
    let mut config = world.desk.config().clone();
    config.targets.push(cache);
    world.configure(config);
    assert_eq!(world.incident(id).target.as_deref(), Some("cache"));
    assert_eq!(world.status(id), Status::Diagnosing);
    world.restart();
    let again = down(&mut world, Said::Firing);
    let answer = world.send(Input::Event(again)).answer.unwrap();
    assert_eq!(answer.incident_id, Some(id), "the same trouble, one incident");
    world.diagnose(id, vec![]);
    assert!(matches!(world.incident(id).phase, Phase::Escalated(_)));
    let over = down(&mut world, Said::Resolved);
    world.send(Input::Event(over));
    world.verified(id, true);
    assert_eq!(world.status(id), Status::SelfResolved);
}
