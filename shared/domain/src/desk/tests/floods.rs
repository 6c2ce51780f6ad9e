//! More incidents than may be open.

use serde_json::json;

use super::world::{World, command, cure, plan, secs, silence};
use crate::{
    event::{EVENT_FLOOD, Event, Status as Told},
    fact::Escalation,
    id::IncidentId,
    incident::Phase,
    view::Status,
    wire::{AnswerStatus, Input, Verb},
};

/// Large events of one source, a few more than may open incidents.
const LARGE: usize = 104;

/// Large events reach the limit sooner: each takes about a hundredth of it.
fn large(world: &mut World, n: usize) -> Event {
    let mut event = world.event("disk_full", &format!("host-{n}"));
    event.payload = json!({"log": "x".repeat(200_000), "number": n});
    event
}

/// Opens as many as one source may have; returns them and the flood that the next one opened.
fn flooded(world: &mut World) -> (Vec<IncidentId>, IncidentId) {
    let events: Vec<_> = (0..LARGE).map(|n| Input::Event(large(world, n))).collect();
    let handled = world.batch(&events);
    let answers = handled.iter().take(events.len()).map(|it| it.answer.as_ref().unwrap());
    let mut open: Vec<_> = answers.map(|it| it.incident_id.unwrap()).collect();
    open.dedup();
    let flood = open.pop().unwrap();
    assert_eq!(world.incident(flood).event.kind.as_str(), EVENT_FLOOD);
    (open, flood)
}

#[test]
fn a_source_with_too_many_incidents_has_one_more_that_counts_the_rest() {
    let mut world = World::with(&["db"]);
    let (open, flood) = flooded(&mut world);
    assert!((90..LARGE).contains(&open.len()), "{}", open.len());
    let n_joined = u64::try_from(LARGE - open.len()).unwrap();
    assert_eq!(world.incident(flood).count, n_joined);
    assert_eq!(world.incident(flood).phase, Phase::Escalated(Escalation::EventFlood));
    let n_escalated = world.n_facts("escalated");

    let n_lines = world.ledger.len();
    let events: Vec<_> = (1000..1050).map(|n| Input::Event(large(&mut world, n))).collect();
    for handled in world.batch(&events).into_iter().take(events.len()) {
        let answer = handled.answer.as_ref().expect("each event is answered");
        assert_eq!(answer.status, AnswerStatus::IncidentUpdated);
        assert_eq!(answer.incident_id, Some(flood));
        let [line] = handled.recorded.as_slice() else { panic!("each has a line: {handled:?}") };
        assert!(line.decision.reason.contains("disk_full of host-10"), "{}", line.decision.reason);
    }
    assert_eq!(world.ledger.len(), n_lines + events.len());
    assert_eq!(world.n_facts("escalated"), n_escalated, "people are called once");
    assert_eq!(world.incident(flood).count, n_joined + 50);
    let payload = world.incident(flood).event.event().payload;
    let last = payload.pointer("/last_event/payload/number");
    assert_eq!(last, Some(&json!(1049)), "the last example stands in it: {payload}");
    let again = world.send(events[7].clone());
    assert!(again.recorded.is_empty(), "a delivery that is sent again is known");
    assert_eq!(again.answer.unwrap().incident_id, Some(flood));

    let other = Event { source: "other".to_owned(), ..large(&mut world, 2000) };
    let answer = world.send(Input::Event(other)).answer.unwrap();
    assert_eq!(answer.status, AnswerStatus::IncidentOpened, "it concerns no other source");
    let id = world.down("db");
    assert_eq!(id, flood, "the limit is one of the source, not of its kinds of events");
    let ours = Event { source: "selfheal/monitor".to_owned(), ..world.event("service_down", "db") };
    let db = world.send(Input::Event(ours)).answer.unwrap().incident_id.unwrap();
    world.heal(db, "db");
    world.restart();
}

#[test]
fn a_flood_ends_when_no_event_joined_it_for_a_while() {
    let mut world = World::with(&["db"]);
    let (open, flood) = flooded(&mut world);
    world.wait(500);
    let more = large(&mut world, 1000);
    assert_eq!(world.send(Input::Event(more)).answer.unwrap().incident_id, Some(flood));
    world.wait(500);
    world.timer(flood);
    assert_eq!(world.status(flood), Status::Escalated, "an event joined it since");
    world.wait(101);
    world.timer(flood);
    assert_eq!(world.status(flood), Status::SelfResolved);
    assert!(open.iter().all(|id| !world.incident(*id).is_over()));
    // The next one begins another, which names the former.
    let more = large(&mut world, 1001);
    let next = world.send(Input::Event(more)).answer.unwrap().incident_id.unwrap();
    assert_ne!(next, flood);
    assert_eq!(world.incident(next).previous, Some(flood));
    world.restart();
}

#[test]
fn a_flood_ends_when_half_of_its_incidents_are_over_and_new_events_open_their_own() {
    let mut world = World::with(&["db"]);
    let (open, flood) = flooded(&mut world);
    let close =
        |incident: &IncidentId| command(Verb::Close { incident: *incident, reason: String::new() });
    let (few, most) = open.split_at(40);
    world.batch(&few.iter().map(close).collect::<Vec<_>>());
    assert_eq!(world.status(flood), Status::Escalated, "a few ends are no end of the flood");
    let event = large(&mut world, 1000);
    let id = world.send(Input::Event(event)).answer.unwrap().incident_id.unwrap();
    assert_eq!(world.incident(id).event.kind.as_str(), "disk_full", "but there is room");
    world.batch(&most.iter().take(20).map(close).collect::<Vec<_>>());
    assert_eq!(world.status(flood), Status::Closed);
    world.restart();
}

#[test]
fn a_flood_ends_by_its_senders_word() {
    let mut world = World::with(&["db"]);
    let (_, flood) = flooded(&mut world);
    let mut event = world.event(EVENT_FLOOD, "-");
    event.fingerprint = Some(EVENT_FLOOD.to_owned());
    event.status = Told::Resolved;
    world.send(Input::Event(event));
    assert_eq!(world.status(flood), Status::SelfResolved);
}

#[test]
fn what_a_silence_has_kept_joins_a_flood_at_its_end() {
    let mut world = World::with(&["db"]);
    let until = world.at + secs(3600);
    world.send(command(silence("type=cpu_high", until)));
    for n in 0..3 {
        let event = world.event("cpu_high", &format!("host-{n}"));
        let answer = world.send(Input::Event(event)).answer.unwrap();
        assert_eq!(answer.status, AnswerStatus::Suppressed);
    }
    let (_, flood) = flooded(&mut world);
    let before = world.incident(flood).count;
    world.at = until;
    let id = world.due().into_iter().find(|it| it.1 == IncidentId::NONE).unwrap().1;
    world.timer(id);
    // Its time had come, too: it was silent for an hour.
    let of = |kind: &str| {
        let is_of = |it: &&crate::incident::Incident| it.event.kind.as_str() == kind;
        world.desk.open_incidents().filter(is_of).count()
    };
    assert_eq!(of("cpu_high"), 0);
    assert_eq!(world.incident(flood).count, before + 3);
    assert_eq!(world.desk.silences().n_suppressed, 0);
}

#[test]
fn healing_goes_on_while_the_senders_outside_have_no_room() {
    let mut world = World::with(&["db"]);
    flooded(&mut world);
    let ours = Event { source: "selfheal/monitor".to_owned(), ..world.event("service_down", "db") };
    let db = world.send(Input::Event(ours)).answer.unwrap().incident_id.unwrap();
    world.diagnose(db, cure(plan("db")));
    assert_eq!(world.status(db), Status::Fixing);
}
