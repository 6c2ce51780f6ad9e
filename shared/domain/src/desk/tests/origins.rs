//! Who says so: an event is worth what its origin proves, whatever it says about itself.

use super::world::{World, config, generous, target};
use crate::{
    event::{Event, EventType, Origin, Severity, Status as Said},
    id::IncidentId,
    incident::Phase,
    wire::{Answer, AnswerStatus, Input},
};

fn shop() -> World {
    World::new(config(vec![target("db", &[]), target("api", &["db"])], generous()))
}

fn said(id: &str, kind: &'static str, source: &str, origin: &str) -> Event {
    Event::new(id, EventType::known(kind), source).sent_by(Origin::new(origin))
}

fn send(world: &mut World, event: &Event) -> Answer {
    world.send(Input::Event(event.clone())).answer.unwrap()
}

/// A critical event that has no target, whose sender alone can say that it is over.
fn opened(world: &mut World) -> (Event, IncidentId) {
    let mut event = said("run-1", "backup_failed", "backups", "token:backups");
    event.severity = Severity::Critical;
    let answer = send(world, &event);
    assert_eq!(answer.status, AnswerStatus::IncidentOpened);
    (event, answer.incident_id.unwrap())
}

#[test]
fn only_who_reported_an_incident_or_an_operator_says_that_it_is_over() {
    for (origin, operator, closes) in [
        ("token:ci", false, false),
        ("nats", false, false),
        ("token:ann", true, true),
        ("token:backups", false, true),
    ] {
        let mut world = shop();
        let (event, id) = opened(&mut world);
        let mut over = Event { id: "run-1/over".to_owned(), status: Said::Resolved, ..event };
        over.origin = Some(Origin::new(origin).operator(operator));
        let answer = send(&mut world, &over);
        let is_over = world.desk.incident(id).is_none_or(crate::incident::Incident::is_over);
        assert_eq!(is_over, closes, "{origin}");
        if !closes {
            assert_eq!(answer.status, AnswerStatus::Suppressed, "{origin}");
            assert!(answer.message.contains("only they, or an operator"), "{}", answer.message);
        }
    }
}

#[test]
fn nobody_else_takes_an_incident_from_the_people_on_call() {
    for (origin, operator, acknowledged) in [
        ("token:ci", false, None),
        ("token:ann", true, Some("token:ann (ada (on call))")),
        ("token:backups", false, Some("token:backups (ada (on call))")),
    ] {
        let mut world = shop();
        let (event, id) = opened(&mut world);
        let mut seen = Event { id: "x".to_owned(), status: Said::Acknowledged, ..event };
        seen.origin = Some(Origin::new(origin).operator(operator));
        seen.annotations.insert("by".to_owned(), "ada (on call)".to_owned());
        send(&mut world, &seen);
        let by = world.desk.incident(id).and_then(|it| it.acknowledged_by.as_deref());
        assert_eq!(by, acknowledged, "{origin}");
    }
}

#[test]
fn an_id_that_somebody_else_has_taken_suppresses_nothing() {
    let mut world = shop();
    let taken = said("run-1", "note", "backups", "token:ci");
    let (_, first) = (send(&mut world, &taken), world.desk.open_incidents().count());
    assert_eq!(first, 1);
    let (event, id) = opened(&mut world);
    assert_eq!(world.desk.open_incidents().count(), 2);
    // Another type under an id of its own is an event of its own, too.
    let kind = EventType::known("disk_full");
    let answer = send(&mut world, &Event { kind, ..event.clone() });
    assert_eq!(answer.status, AnswerStatus::IncidentOpened);
    // And what comes twice is one.
    let again = send(&mut world, &event);
    assert_eq!((again.status, again.incident_id), (AnswerStatus::IncidentOpened, Some(id)));
}

#[test]
fn what_a_stranger_says_of_a_target_during_verification_breaks_no_proof() {
    let mut world = shop();
    let id = world.fixing("db");
    world.fixed(id);
    assert!(matches!(world.desk.incident(id).unwrap().phase, Phase::Verifying { .. }));
    for n in 0..6 {
        let id = format!("forged-{n}");
        let mut event = said(&id, "service_down", "selfheal/monitor", "token:ci");
        event.target = Some("db".to_owned());
        event.starts_at = Some(world.at);
        event.payload = serde_json::json!({"seen_well": true});
        send(&mut world, &event);
    }
    assert!(matches!(world.desk.incident(id).unwrap().phase, Phase::Verifying { .. }));
    assert_eq!(world.n_facts("attempt_failed"), 0);
}
