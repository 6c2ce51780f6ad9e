//! Events that are no trouble: acknowledgements of other systems, and changes.

use super::world::{World, config, generous, t0, target};
use crate::{
    desk::Desk,
    event::{Event, EventType, Status as Said},
    fact::Fact,
    wire::{AnswerStatus, DiagnoseWork, Input, WorkKind},
};

fn shop() -> World {
    World::new(config(vec![target("db", &[]), target("api", &["db"])], generous()))
}

fn deployment(world: &World, of: Option<&str>) -> Event {
    let id = format!("d-{}", world.seq);
    let mut event = Event::new(id, EventType::known("deployment"), "github");
    event.status = Said::Change;
    event.target = of.map(str::to_owned);
    event.annotations.insert("summary".to_owned(), format!("{of:?} at 1a2b3c"));
    event.links = vec!["https://example.org/run/1".to_owned()];
    event
}

fn diagnosis(world: &World, id: crate::id::IncidentId) -> DiagnoseWork {
    let wishes = world.desk.wishes_of(id);
    let wish = wishes.iter().find(|it| it.kind() == WorkKind::Diagnose).unwrap();
    serde_json::from_slice(&wish.payload().unwrap()).unwrap()
}

#[test]
fn a_change_opens_nothing_and_is_told_to_diagnoses_that_it_concerns() {
    let mut world = shop();
    for of in [Some("db"), Some("api"), Some("nobody"), None] {
        let event = deployment(&world, of);
        let answer = world.send(Input::Event(event)).answer.unwrap();
        assert_eq!((answer.status, answer.incident_id), (AnswerStatus::Done, None));
    }
    assert_eq!(world.desk.open_incidents().count(), 0);
    assert_eq!(world.n_facts("changed"), 4);
    let told = |world: &World, id| -> Vec<String> {
        let changes = diagnosis(world, id).changes;
        let of = |it: crate::wire::Change| it.source.map(|_| it.target.unwrap_or_default());
        changes.into_iter().filter_map(of).collect()
    };
    let api = world.down("api");
    assert_eq!(told(&world, api), ["db", "api", "", ""], "its own, what it needs, and who knows");
    let db = world.down("db");
    assert_eq!(told(&world, db), ["db", "", ""]);
    let change = &diagnosis(&world, db).changes[1];
    assert_eq!(change.what, "deployment: Some(\"db\") at 1a2b3c");
    assert_eq!(change.link.as_deref(), Some("https://example.org/run/1"));
}

#[test]
fn a_change_that_is_told_twice_is_one_also_after_a_restart() {
    let mut world = shop();
    let event = deployment(&world, Some("db"));
    world.send(Input::Event(event.clone()));
    world.restart();
    let handled = world.send(Input::Event(event.clone()));
    assert_eq!(handled.recorded, []);
    let answer = handled.answer.unwrap();
    assert_eq!((answer.status, answer.incident_id), (AnswerStatus::Done, None));
    let lines = world.desk.snapshot().collect::<Result<Vec<_>, _>>().unwrap();
    let mut from_snapshot = Desk::from_snapshot(lines).unwrap();
    assert_eq!(from_snapshot, world.desk);
    let position = crate::id::Position::new(world.seq + 1, 0);
    let handled = from_snapshot.receive(&Input::Event(event), position, world.at);
    assert_eq!(handled.recorded, [], "it is remembered across a snapshot");
}

#[test]
fn the_time_of_a_change_is_not_ahead_of_its_receipt() {
    let mut world = shop();
    let mut event = deployment(&world, None);
    event.starts_at = Some(t0() + chrono::TimeDelta::days(9));
    world.send(Input::Event(event));
    let Fact::Changed { change, .. } = &world.ledger.last().unwrap().fact else { panic!() };
    assert!(change.at <= world.at);
}

#[test]
fn an_acknowledgement_by_fingerprint_reaches_the_open_incident_once() {
    let mut world = shop();
    let mut fired = world.event("service_down", "db");
    fired.fingerprint = Some("key-1".to_owned());
    let id = world.send(Input::Event(fired.clone())).answer.unwrap().incident_id.unwrap();
    let mut seen = Event { id: "ack".to_owned(), status: Said::Acknowledged, ..fired.clone() };
    seen.annotations.insert("by".to_owned(), "ada".to_owned());
    let answer = world.send(Input::Event(seen.clone())).answer.unwrap();
    assert_eq!((answer.status, answer.incident_id), (AnswerStatus::IncidentUpdated, Some(id)));
    assert_eq!(world.incident(id).acknowledged_by.as_deref(), Some("ada"));
    assert_eq!(world.send(Input::Event(seen.clone())).recorded, [], "said again");
    assert_eq!(world.n_facts("acknowledged"), 1);
    seen.fingerprint = Some("key-2".to_owned());
    let handled = world.send(Input::Event(seen));
    assert_eq!(handled.recorded, [], "nothing is open for it, so it is dropped");
    assert_eq!(handled.answer.unwrap().status, AnswerStatus::NotFound);
}

#[test]
fn a_label_that_names_a_target_finds_it_when_nothing_else_does() {
    let world = shop();
    let mut event = Event::new("1", EventType::known("HighLatency"), "alertmanager");
    event.target = Some("10.0.0.1:9100".to_owned());
    event.labels.insert("service".to_owned(), "unknown".to_owned());
    event.labels.insert("container".to_owned(), "api".to_owned());
    assert_eq!(world.desk.config().target_of(&event).unwrap().name, "api");
    event.labels.insert("service".to_owned(), "db".to_owned());
    assert_eq!(world.desk.config().target_of(&event).unwrap().name, "db");
}
