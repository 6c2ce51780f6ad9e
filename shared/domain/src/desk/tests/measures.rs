//! What those who measure are told: what was before a decision, and how much waits.

use std::collections::BTreeMap;

use super::world::{World, command, cure, plan, secs};
use crate::{
    desk::{Handled, Treatment},
    fact::Fact,
    view::Status,
    wire::{Verb, WorkKind},
};

/// Returns what was before the decision of this name.
fn before(handled: &Handled, name: &str) -> crate::desk::Before {
    let recorded = handled.recorded.iter().find(|it| it.decision.fact.name() == name);
    recorded.and_then(|it| it.before).unwrap_or_else(|| panic!("no {name} in {handled:#?}"))
}

#[test]
fn a_decision_tells_the_phase_that_it_ended_and_how_long_it_was() {
    let mut world = World::with(&["db"]);
    let id = world.down("db");
    let opened_at = world.incident(id).opened_at;
    world.wait(5);
    let handled = world.diagnose(id, cure(plan("db")));
    let diagnosed = before(&handled, "diagnosed");
    assert_eq!((diagnosed.status, diagnosed.revision), (Status::Diagnosing, 1));
    assert!(diagnosed.has_left);
    assert!(secs(5) <= handled.recorded[0].decision.at - diagnosed.entered_at);
    let started = before(&handled, "fix_started");
    assert_eq!((started.status, started.revision), (Status::Proposed, 2));
    assert!(started.is_untouched(), "the first that anybody does");
    assert_eq!((started.treatment, started.opened_at), (Treatment::None, opened_at));

    let handled = world.fixed(id);
    assert_eq!(before(&handled, "fix_ended").treatment, Treatment::UnderWay);
    let handled = world.verified(id, true);
    assert!(!before(&handled, "verified").has_left, "the end is a decision of its own");
    let resolved = before(&handled, "resolved");
    assert_eq!((resolved.status, resolved.treatment), (Status::Verifying, Treatment::UnderWay));
    assert!(resolved.has_left && !resolved.is_untouched());
}

#[test]
fn a_person_who_looks_at_it_first_is_the_first_response() {
    let mut world = World::with(&["db"]);
    let id = world.down("db");
    let handled = world.send(command(Verb::Acknowledge { incident: id }));
    assert!(before(&handled, "acknowledged").is_untouched());
    let handled = world.diagnose(id, cure(plan("db")));
    assert!(!before(&handled, "fix_started").is_untouched());
}

#[test]
fn an_opening_has_nothing_before_it() {
    let mut world = World::with(&["db"]);
    let event = world.event("service_down", "db");
    let handled = world.send(crate::wire::Input::Event(event));
    let opened = &handled.recorded[0];
    assert!(matches!(opened.decision.fact, Fact::Opened { .. }) && opened.before.is_none());
}

#[test]
fn the_backlog_is_what_is_pending_and_the_oldest_counts() {
    let mut world = World::with(&["a", "b", "c"]);
    let first = world.down("a");
    world.wait(10);
    world.down("b");
    world.fixing("c");
    let by_kind = |world: &World| {
        let mut n: BTreeMap<WorkKind, usize> = BTreeMap::new();
        world.desk.pending().iter().for_each(|it| *n.entry(it.kind()).or_default() += 1);
        n
    };
    let backlog = world.desk.backlog();
    let counted: BTreeMap<_, _> = backlog.iter().map(|(kind, it)| (*kind, it.n_pieces)).collect();
    assert_eq!(counted, by_kind(&world));
    assert_eq!(counted[&WorkKind::Diagnose], 2);
    assert_eq!(backlog[&WorkKind::Diagnose].oldest, world.incident(first).entered_at);

    let open: BTreeMap<_, _> =
        world.desk.by_state().map(|(status, severity, n)| ((status, severity), n)).collect();
    let severity = world.incident(first).event.severity;
    assert_eq!(open[&(Status::Diagnosing, severity)], 2);
    assert_eq!(open.values().sum::<usize>(), 3);
    assert!(!world.desk.is_paused());
    world.send(command(Verb::Pause { reason: String::new() }));
    assert!(world.desk.is_paused());
}
