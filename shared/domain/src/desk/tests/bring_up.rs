//! The first start of targets that no monitor has seen healthy: it uses up no budget, and a
//! whole fleet comes up at once.

use serde_json::json;

use super::world::{World, analysis, command, config, cure, parts, target};
use crate::{
    action::Action,
    desk::Handled,
    event::Event,
    fact::Fact,
    id::IncidentId,
    plan::{Plan, Risk},
    policy::Policy,
    view::Status,
    wire::{Evidence, Input, Verb},
};

fn fleet(n: usize) -> World {
    let targets = (0..n).map(|n| target(&format!("t{n}"), &[])).collect();
    World::new(config(targets, Policy::default()))
}

fn down(world: &mut World, target: &str, source: &str, seen_well: bool) -> IncidentId {
    let mut event = world.event("service_down", target);
    event.payload = json!({"check": "process", "seen_well": seen_well});
    let event = Event { source: source.to_owned(), ..event };
    world.send_now(&Input::Event(event)).answer.unwrap().incident_id.unwrap()
}

fn start(target: &str, risk: Risk, is_start: bool) -> Plan {
    let runbook = match (risk, is_start) {
        (Risk::Low, true) => "start-container",
        (_, true) => "start-with-care",
        (_, false) => "restart-container",
    };
    let mut parts = parts(target, runbook);
    parts.risk = risk;
    if is_start {
        parts.steps[0].action = Action::DockerStart { container: target.to_owned() };
    }
    Plan::new(parts).unwrap()
}

fn find(world: &mut World, id: IncidentId, plan: &Plan, running: bool) -> Handled {
    let Input::Analysis(mut report) = analysis(world.work(id), cure(plan.clone())) else {
        panic!("another one")
    };
    report.evidence = vec![Evidence {
        source: "process".to_owned(),
        target: Some(plan.target.clone()),
        summary: "what runs".to_owned(),
        detail: json!({"running": running}),
    }];
    world.send_now(&Input::Analysis(report))
}

fn bring_ups(world: &World) -> usize {
    let is = |fact: &Fact| matches!(fact, Fact::FixStarted { bring_up: true, .. });
    world.ledger.iter().filter(|it| is(&it.fact)).count()
}

#[test]
fn a_hundred_dead_targets_after_a_reboot_are_started_within_a_minute() {
    let mut world = fleet(100);
    let begun = world.at;
    let names: Vec<_> = (0..100).map(|n| format!("t{n}")).collect();
    let ids: Vec<_> =
        names.iter().map(|it| down(&mut world, it, "selfheal/monitor", false)).collect();
    for (id, name) in ids.iter().zip(&names) {
        find(&mut world, *id, &start(name, Risk::Low, true), false);
    }
    let mut n_at_once = 0;
    while world.desk.open_incidents().next().is_some() {
        let fixing: Vec<_> =
            ids.iter().copied().filter(|id| world.status(*id) == Status::Fixing).collect();
        assert!(!fixing.is_empty(), "{:?}", world.due());
        n_at_once = n_at_once.max(fixing.len());
        // A start and its soak take about 6 s.
        world.wait(6);
        for id in fixing {
            world.fixed_now(id);
            world.verified_now(id, true);
        }
    }
    let took = (world.at - begun).num_seconds();
    assert!(took <= 60, "{took} s");
    assert_eq!((bring_ups(&world), n_at_once), (100, 32));
    assert!(ids.iter().all(|id| world.status(*id) == Status::Resolved));
    let shown = world.desk.detail(ids[0]).unwrap();
    assert!(shown.view.bring_up && shown.attempts[0].bring_up, "no repair: {shown:?}");
}

#[test]
fn only_a_start_of_low_risk_of_what_was_never_healthy_and_does_not_run_is_a_bring_up() {
    for (source, seen_well, risk, is_start, running, wanted) in [
        ("selfheal/monitor", false, Risk::Low, true, false, 1),
        ("somebody", false, Risk::Low, true, false, 0),
        ("selfheal/monitor", true, Risk::Low, true, false, 0),
        ("selfheal/monitor", false, Risk::Medium, true, false, 0),
        ("selfheal/monitor", false, Risk::Low, false, false, 0),
        ("selfheal/monitor", false, Risk::Low, true, true, 0),
    ] {
        let mut world = fleet(3);
        let id = down(&mut world, "t0", source, seen_well);
        find(&mut world, id, &start("t0", risk, is_start), running);
        let case = format!("{source} {seen_well} {risk:?} {is_start} {running}");
        assert_eq!(bring_ups(&world), wanted, "{case}");
    }
}

/// Reports a target as down so often, and returns how often it was started, and how often as a
/// bring-up.
fn started(n: usize, becomes_well: bool) -> (usize, usize) {
    let mut world = fleet(3);
    let mut n_started = 0;
    for _ in 0..n {
        let id = down(&mut world, "t0", "selfheal/monitor", false);
        find(&mut world, id, &start("t0", Risk::Low, true), false);
        if world.status(id) == Status::Fixing {
            n_started += 1;
            world.fixed(id);
            world.verified(id, becomes_well);
            if !becomes_well {
                world.send(command(Verb::Close { incident: id, reason: String::new() }));
            }
        }
    }
    (n_started, bring_ups(&world))
}

#[test]
fn a_host_that_is_started_again_brings_up_its_targets_then_budgets_count() {
    // Three bring-ups, and the three that the budget of a target allows.
    assert_eq!(started(8, true), (6, 3));
}

#[test]
fn a_target_that_does_not_become_well_is_brought_up_twice_then_budgets_count() {
    assert_eq!(started(8, false), (5, 2));
}
