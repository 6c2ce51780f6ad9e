//! No input decides more than a message of the ledger takes: what is more comes in portions.

use serde_json::json;

use super::world::{World, command, config, cure, generous, risky_plan, secs, silence, target};
use crate::{
    config::Config,
    desk::{Desk, Handled, incidents::OVER_MAX, room},
    event::{Event, EventType, json_len},
    fact::{Decision, Fact},
    id::{IncidentId, Position},
    notify::{Match, Notify, Receiver, Route},
    plan::Risk,
    span::Span,
    target::Target,
    view::Status,
    wire::{AnswerStatus, Input, TimerFired, Verb},
};

/// What one input decides at most, with one more large decision behind the limit.
const BYTES_MAX: usize = room::BYTES_MAX + 64 * 1024;

fn bytes(handled: &Handled) -> usize {
    handled.recorded.iter().map(|it| json_len(&it.decision)).sum()
}

/// Sends events of different troubles, each with so many bytes of payload.
fn large(world: &mut World, n: usize, bytes: usize) {
    for n in 0..n {
        let mut event = world.event("service_down", &format!("host-{n}"));
        event.payload = json!({"host": format!("host-{n}"), "log": vec!["x".repeat(bytes)]});
        let handled = world.send(Input::Event(event));
        assert_eq!(handled.answer.unwrap().status, AnswerStatus::Suppressed);
    }
}

/// Fires the timer of what waits together until nothing is left that is due now; returns how
/// often.
fn look_until_done(world: &mut World) -> usize {
    let mut n_timers = 0;
    let mut former = None;
    loop {
        let due = world.due().into_iter().find(|it| it.1 == IncidentId::NONE).map(|it| it.0);
        let Some(due) = due.filter(|it| former.is_none() || *it <= world.at) else {
            return n_timers;
        };
        assert_ne!(Some(due), former, "a portion makes a new deadline, which is told at once");
        former = Some(due);
        let handled = world.expire(IncidentId::NONE);
        assert!(bytes(&handled) <= BYTES_MAX, "{} bytes", bytes(&handled));
        n_timers += 1;
        assert!(n_timers < 100, "it ends");
        world.wait(1);
    }
}

#[test]
fn the_end_of_a_silence_over_many_events_opens_them_in_portions_at_once() {
    let mut world = World::with(&["db"]);
    let until = world.at + secs(600);
    world.send(command(silence("type=service_down", until)));
    large(&mut world, 200, 12_000);
    let n_timers = look_until_done(&mut world);
    assert_eq!(world.n_facts("opened"), 200);
    assert!((4..10).contains(&n_timers), "{n_timers} portions");
    world.restart();
}

#[test]
fn what_is_kept_quiet_is_cut_and_found_again() {
    let mut world = World::with(&["db"]);
    let until = world.at + secs(60);
    world.send(command(silence("type=service_down", until)));
    large(&mut world, 5, 245_000);
    let suppressed = world.ledger.iter().filter(|it| it.fact.name() == "suppressed");
    assert!(suppressed.clone().all(|it| json_len(it) < 2000));
    assert_eq!(suppressed.count(), 5);
    look_until_done(&mut world);
    let opened: Vec<_> = world.desk.open_incidents().map(|it| it.event.event()).collect();
    assert_eq!(opened.len(), 5);
    assert!(opened.iter().all(|it| it.payload["host"].as_str() == it.target.as_deref()));
}

/// A ledger of a former version, which kept events whole, comes to its end.
#[test]
fn a_ledger_that_could_not_go_on_goes_on() {
    let mut world = World::with(&["db"]);
    let until = world.at + secs(60);
    world.send(command(silence("type=service_down", until)));
    large(&mut world, 5, 10);
    let mut desk = Desk::default();
    for mut decision in world.ledger.clone() {
        if let Fact::Suppressed { event, .. } = &mut decision.fact {
            event.payload = json!({"log": "x".repeat(245_000)});
        }
        desk.apply(&decision).unwrap();
    }
    desk.cover(Position::new(world.seq, 0));
    let timer = Input::Timer(TimerFired::of(IncidentId::NONE, until));
    let handled = desk.receive(&timer, Position::new(world.seq + 1, 0), until);
    assert_eq!(handled.recorded.iter().filter(|it| it.decision.fact.name() == "opened").count(), 5);
    assert!(bytes(&handled) <= BYTES_MAX);
}

#[test]
fn a_suppressed_event_whose_sender_says_that_it_goes_on_is_opened_afterwards() {
    let mut world = World::with(&["db"]);
    let until = world.at + secs(600);
    world.send(command(silence("target=db", until)));
    // Says each minute that it goes on for four.
    while world.at < until - secs(60) {
        let ends_at = Some(world.at + secs(240));
        let event = Event { ends_at, ..world.event("service_down", "db") };
        world.send(Input::Event(event));
        world.wait(59);
    }
    let n_extended = world.n_facts("suppression_extended");
    assert!((1..5).contains(&n_extended), "not one decision for each event: {n_extended}");
    world.restart();
    world.expire(IncidentId::NONE);
    assert_eq!(world.n_facts("opened"), 1);
}

/// The configuration fills the turn, as thousands of plans would.
#[test]
fn plans_of_another_configuration_expire_in_portions_and_none_is_begun_meanwhile() {
    let names: Vec<_> = (0..10).map(|n| format!("t{n}")).collect();
    let of = |soak: u64| {
        let own = |it: &String| Target { soak: Some(Span::from_secs(soak)), ..target(it, &[]) };
        config(names.iter().map(own).collect(), generous())
    };
    let mut world = World::new(of(1));
    let ids: Vec<_> = names.iter().map(|it| world.down(it)).collect();
    for (id, name) in ids.iter().zip(&names) {
        world.diagnose(*id, cure(risky_plan(name, Risk::Medium)));
        assert_eq!(world.status(*id), Status::AwaitingApproval);
    }
    // As if the input that configured had had no room for what follows from it.
    let mut desk = world.desk.clone();
    let fact = Fact::Configured {
        config: Box::new(of(2)),
        by: "test".to_owned(),
        text: None,
        parts: Vec::new(),
    };
    let (seq, cause, at) = (desk.n_decisions + 1, Position::new(world.seq + 1, 0), world.at);
    let reason = "another soak time".to_owned();
    let configured = Decision { seq, at, cause, incident: None, fact, reason };
    desk.apply(&configured).unwrap();
    desk.cover(cause);
    let status = |desk: &Desk, id: IncidentId| desk.incident(id).unwrap().status();
    assert_eq!(status(&desk, ids[7]), Status::AwaitingApproval);
    let plan_hash = desk.incident(ids[7]).unwrap().plan().unwrap().hash();
    let approve = command(Verb::Approve { incident: ids[7], plan_hash });
    let refused = desk.receive(&approve, Position::new(world.seq + 2, 0), at);
    assert_eq!(refused.answer.unwrap().status, AnswerStatus::Refused);
    assert_eq!(status(&desk, ids[7]), Status::Diagnosing);
    let (due, of_all) = desk.deadlines().next().unwrap();
    assert_eq!(of_all, IncidentId::NONE, "the rest is due before all else");
    let timer = Input::Timer(TimerFired::of(IncidentId::NONE, due));
    desk.receive(&timer, Position::new(world.seq + 3, 0), due.max(at));
    assert!(ids.iter().all(|it| status(&desk, *it) == Status::Diagnosing));
}

#[test]
fn repeats_with_large_payloads_make_small_decisions_and_a_diagnosis_gets_what_is_short() {
    let mut world = World::with(&["db"]);
    let id = world.down("db");
    for n in 0..3 {
        let mut event = world.event("service_down", "db");
        event.payload = json!({"n": n, "log": "x".repeat(245_000)});
        let handled = world.send(Input::Event(event));
        assert!(bytes(&handled) < 1000, "{} bytes", bytes(&handled));
    }
    assert_eq!(world.incident(id).event.event().payload["n"], 2);
}

#[test]
fn a_delivery_is_a_new_event_when_its_incident_is_over_for_long() {
    let mut world = World::with(&["db"]);
    let event = Input::Event(world.event("service_down", "db"));
    let of = |handled: Handled| {
        let answer = handled.answer.unwrap();
        (answer.status, answer.incident_id.unwrap())
    };
    let (_, first) = of(world.send(event.clone()));
    assert_eq!(of(world.wait(3600).send(event.clone())).1, first, "it is still open");
    let close = Verb::Close { incident: first, reason: String::new() };
    world.send(command(close));
    assert_eq!(of(world.wait(590).send(event.clone())).1, first, "the sender tries again");
    let (status, second) = of(world.wait(20).send(event.clone()));
    assert_eq!(status, AnswerStatus::IncidentOpened);
    assert_ne!(second, first);
    world.restart();
    assert_eq!(of(world.send(event)).1, second, "it belongs to the later one now");
}

/// Without a gateway, more incidents end than are kept: those whose notices are owed stay.
#[test]
fn notices_that_are_owed_are_not_forgotten_with_their_incidents() {
    let told = Match { types: vec!["told".to_owned()], ..Match::default() };
    let route = Route { matches: Some(told), tell: vec!["chat".to_owned()], ..Route::default() };
    let chat = Receiver { name: "chat".to_owned(), log: Some(true), ..Receiver::default() };
    let notify = Notify { receivers: vec![chat], routes: vec![route], ..Notify::default() };
    let mut world = World::new(Config { notify, ..config(vec![target("db", &[])], generous()) });
    let owed = world.fire("told", "unknown");
    world.send(command(Verb::Close { incident: owed, reason: String::new() }));
    let n_owed = world.incident(owed).notices.len();
    assert!(0 < n_owed);
    // What comes now tells nobody, and is over at once.
    let mut desk = world.desk.clone();
    let mut seq = world.seq;
    let mut send = |input: &Input| {
        seq += 1;
        desk.receive(input, Position::new(seq, 0), world.at)
    };
    for n in 0..=OVER_MAX {
        let mut event = Event::new(n.to_string(), EventType::known("other"), "test");
        event.fingerprint = Some(n.to_string());
        let opened = send(&Input::Event(event)).answer.unwrap().incident_id.unwrap();
        send(&command(Verb::Close { incident: opened, reason: String::new() }));
    }
    let kept = desk.incident(owed).map(|it| it.notices.len());
    assert_eq!(kept, Some(n_owed), "it is not forgotten");
    assert_eq!(desk.incidents.over().len(), OVER_MAX, "the oldest of the others are forgotten");
}
