//! Events that arrive out of order, or twice by two senders.

use super::world::{World, secs};
use crate::{
    event::{Event, Status as Said},
    id::IncidentId,
    view::Status,
    wire::{Answer, AnswerStatus, Input},
};

/// An alert as a sender reports it that names when it began and ended, in seconds from now.
fn alert(world: &World, id: &str, starts_s: i64, ends_s: Option<i64>) -> Event {
    let mut event = Event::new(id, "slow".parse().unwrap(), "alertmanager");
    event.target = Some("db".to_owned());
    event.fingerprint = Some("a1".to_owned());
    event.starts_at = Some(world.at + secs(starts_s));
    event.ends_at = ends_s.map(|s| world.at + secs(s));
    event.status = if ends_s.is_some() { Said::Resolved } else { Said::Firing };
    event
}

fn send(world: &mut World, event: Event) -> Answer {
    world.send(Input::Event(event)).answer.unwrap()
}

fn open(world: &mut World, event: Event) -> IncidentId {
    let answer = send(world, event);
    assert_eq!(answer.status, AnswerStatus::IncidentOpened);
    answer.incident_id.unwrap()
}

#[test]
fn a_firing_that_arrives_after_its_end_opens_nothing() {
    let mut world = World::with(&["db"]);
    let over = alert(&world, "over", -60, Some(-10));
    assert_eq!(send(&mut world, over).status, AnswerStatus::IncidentResolved);
    let late = alert(&world, "late", -60, None);
    let answer = send(&mut world, late.clone());
    assert_eq!((answer.status, answer.incident_id), (AnswerStatus::Suppressed, None));
    assert_eq!(world.n_facts("event_over"), 1, "it is in the log");
    world.restart();
    assert_eq!(send(&mut world, late).status, AnswerStatus::Suppressed, "and decided once");
    assert_eq!(world.n_facts("event_over"), 1);
    // What began later is something new, as is what another sender reports.
    let other = Event { source: "zabbix".to_owned(), ..alert(&world, "z", -60, None) };
    open(&mut world, other);
    let new = alert(&world, "new", -5, None);
    open(&mut world, new);
}

#[test]
fn a_firing_of_before_the_end_of_a_former_incident_opens_nothing() {
    let mut world = World::with(&["db"]);
    let first = alert(&world, "1", -30, None);
    let again = Event { id: "2".to_owned(), ..first.clone() };
    let id = open(&mut world, first);
    let over = alert(&world, "over", -30, Some(0));
    send(&mut world, over);
    world.verified(id, true);
    assert_eq!(world.status(id), Status::SelfResolved);
    assert_eq!(send(&mut world, again).status, AnswerStatus::Suppressed);
    assert_eq!(world.desk.open_incidents().count(), 0);
}

#[test]
fn an_end_of_before_the_incident_began_does_not_reach_it() {
    let mut world = World::with(&["db"]);
    let first = alert(&world, "1", -10, None);
    let id = open(&mut world, first);
    let late = alert(&world, "late", -100, Some(-60));
    assert_eq!(send(&mut world, late).status, AnswerStatus::IncidentUpdated);
    assert_eq!(world.status(id), Status::Diagnosing);
    let over = alert(&world, "over", -10, Some(0));
    send(&mut world, over);
    // No check measures what the sender reports, so its word ends it.
    assert_eq!(world.status(id), Status::SelfResolved, "its own does");
}

#[test]
fn our_own_monitors_are_believed_whatever_their_clocks_say() {
    let mut world = World::with(&["db"]);
    let monitor = |event: Event| Event { source: "selfheal/monitor".to_owned(), ..event };
    let over = monitor(alert(&world, "over", -60, Some(0)));
    send(&mut world, over);
    let behind = monitor(alert(&world, "behind", -700, None));
    let id = open(&mut world, behind);
    let over = monitor(alert(&world, "over 2", -900, Some(-800)));
    send(&mut world, over);
    assert_eq!(world.status(id), Status::Verifying);
}

#[test]
fn two_senders_of_the_same_alert_are_one() {
    let mut world = World::with(&["db"]);
    let first = alert(&world, "replica-1", -10, None);
    let id = open(&mut world, first);
    let second = alert(&world, "replica-2", -10, None);
    assert_eq!(send(&mut world, second).incident_id, Some(id));
    world.diagnose(id, vec![]);
    let again = alert(&world, "replica-2 again", -10, None);
    send(&mut world, again);
    assert_eq!(world.status(id), Status::Escalated, "the other one says the same");
}
