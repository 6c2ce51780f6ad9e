//! Who is told, in which order, how often, and until when.

use chrono::{DateTime, Utc};

use super::world::{
    World, analysis, command, config, cure, evidence, generous, risky_plan, target,
};
use crate::{
    event::{Event, Severity},
    fact::Fact,
    id::IncidentId,
    incident::Notice,
    notify::{Escalation, EscalationStep, Notify, Occasion, Quiet, Receiver, Route},
    plan::Risk,
    span::Span,
    wire::{Evidence, Input, NoticeReport, NotifyWork, Verb, WorkKind},
};

fn receiver(name: &str) -> Receiver {
    Receiver { name: name.to_owned(), log: Some(true), ..Receiver::default() }
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|it| (*it).to_owned()).collect()
}

fn world(notify: Notify) -> World {
    let mut config = config(vec![target("db", &[]), target("api", &[])], generous());
    config.notify = notify;
    World::new(config)
}

fn to_all(list: &[&str]) -> Notify {
    Notify { receivers: list.iter().map(|it| receiver(it)).collect(), ..Notify::default() }
}

/// Chat at once, the pager after 10 min, both again after 20 more.
fn night() -> Notify {
    let step = |after_min: u64, tell: &[&str]| EscalationStep {
        after: Span::from_secs(60 * after_min),
        tell: names(tell),
    };
    Notify {
        escalations: vec![Escalation {
            name: "night".to_owned(),
            steps: vec![step(0, &["chat"]), step(10, &["pager"]), step(20, &["chat", "pager"])],
        }],
        routes: vec![Route { escalation: Some("night".to_owned()), ..Route::default() }],
        ..to_all(&["chat", "pager"])
    }
}

fn escalated(world: &mut World, target: &str) -> IncidentId {
    let id = world.down(target);
    world.diagnose(id, vec![]);
    id
}

/// Returns who is wanted to be told now, of what.
fn wanted(world: &World, id: IncidentId) -> Vec<(String, Occasion)> {
    let wishes = world.desk.wishes_of(id);
    let notices = wishes.iter().filter(|it| it.kind() == WorkKind::Notify);
    let of = |payload: Vec<u8>| -> NotifyWork { serde_json::from_slice(&payload).unwrap() };
    let works = notices.map(|it| of(it.payload().unwrap()));
    works.map(|it| (it.receiver.unwrap().name, it.occasion)).collect()
}

fn tell_all(world: &mut World, id: IncidentId) -> Vec<(String, Occasion)> {
    let told = wanted(world, id);
    let now: Vec<_> = world.incident(id).notices_wanted().map(Notice::name).collect();
    for notice in now {
        assert_eq!(world.told(id, &notice).recorded.len(), 1);
    }
    told
}

#[test]
fn what_was_measured_is_told_with_the_notice() {
    let mut world = world(to_all(&["a"]));
    let id = world.down("db");
    let mut report = analysis(world.work(id), cure(risky_plan("db", Risk::Medium)));
    if let Input::Analysis(report) = &mut report {
        let summary = "error rate: 0.25 /s".to_owned();
        report.evidence.push(Evidence { summary, ..evidence(Evidence::METRIC) });
    }
    world.send(report);
    let wishes = world.desk.wishes_of(id);
    let wish = wishes.iter().find(|it| it.kind() == WorkKind::Notify).unwrap();
    let work: NotifyWork = serde_json::from_slice(&wish.payload().unwrap()).unwrap();
    assert_eq!(work.occasion, Occasion::ApprovalWanted);
    assert_eq!(work.measured, ["error rate: 0.25 /s"]);
}

fn next_due(world: &World) -> Option<DateTime<Utc>> {
    world.due().first().map(|it| it.0)
}

#[test]
fn each_receiver_is_told_of_the_next_thing_after_it_was_told_of_the_former() {
    let mut world = world(to_all(&["a", "b"]));
    let id = escalated(&mut world, "db");
    world.send(command(Verb::Close { incident: id, reason: String::new() }));
    let both = |it| vec![("a".to_owned(), it), ("b".to_owned(), it)];
    assert_eq!(wanted(&world, id), both(Occasion::Escalated));
    let first = world.incident(id).notices_wanted().next().unwrap().name();
    world.told(id, &first);
    let now = wanted(&world, id);
    assert!(now.contains(&("a".to_owned(), Occasion::Closed)), "{now:?}");
    assert!(now.contains(&("b".to_owned(), Occasion::Escalated)), "{now:?}");
    world.restart();
    tell_all(&mut world, id);
    assert_eq!(tell_all(&mut world, id), [("b".to_owned(), Occasion::Closed)]);
    assert!(world.desk.pending().is_empty());
}

#[test]
fn the_end_is_told_to_those_who_were_called_and_to_nobody_else() {
    let mut notify = to_all(&["a"]);
    notify.routes = vec![Route {
        on: Some(vec![Occasion::Escalated, Occasion::Resolved]),
        tell: names(&["a"]),
        ..Route::default()
    }];
    let mut world = world(notify);
    let id = world.down("db");
    world.heal(id, "db");
    assert!(world.desk.pending().is_empty(), "healed, and nobody was called");
    let id = escalated(&mut world, "api");
    tell_all(&mut world, id);
    world.recovered("api");
    world.verified(id, true);
    assert_eq!(wanted(&world, id), [("a".to_owned(), Occasion::Resolved)]);
}

#[test]
fn the_next_is_told_until_somebody_acknowledges_also_after_a_restart() {
    let mut world = world(night());
    let id = escalated(&mut world, "db");
    let at = world.at;
    assert_eq!(tell_all(&mut world, id), [("chat".to_owned(), Occasion::Escalated)]);
    assert_eq!(next_due(&world), Some(at + chrono::TimeDelta::minutes(10)));
    world.restart();
    world.timer(id);
    assert!(wanted(&world, id).is_empty(), "not yet due");
    world.expire(id);
    assert_eq!(tell_all(&mut world, id), [("pager".to_owned(), Occasion::Escalated)]);
    let due = next_due(&world).unwrap();
    assert_eq!((due - world.at).num_minutes(), 19, "20 min after the step, told 1 s later");
    let mut unheard = world.clone();
    world.send(command(Verb::Acknowledge { incident: id }));
    assert_eq!(next_due(&world), None);
    let both = |it| vec![("chat".to_owned(), it), ("pager".to_owned(), it)];
    assert_eq!(tell_all(&mut world, id), both(Occasion::Acknowledged));
    unheard.expire(id);
    assert_eq!(tell_all(&mut unheard, id), both(Occasion::Escalated));
    assert_eq!(next_due(&unheard), None, "the last step was taken");
    assert_eq!(unheard.n_facts("paged"), 2);
}

#[test]
fn an_escalation_ends_when_nobody_is_needed_any_more() {
    let mut world = world(night());
    let id = world.down("db");
    world.diagnose(id, cure(risky_plan("db", Risk::Medium)));
    assert_eq!(tell_all(&mut world, id), [("chat".to_owned(), Occasion::ApprovalWanted)]);
    assert_eq!(world.incident(id).calls.len(), 1);
    world.approve(id);
    assert!(world.incident(id).calls.is_empty());
    assert_eq!(tell_all(&mut world, id), [("chat".to_owned(), Occasion::Approved)]);
}

#[test]
fn in_quiet_hours_what_is_not_urgent_waits_and_the_newest_says_it_all() {
    let mut notify = to_all(&["chat"]);
    // The world begins at midnight.
    notify.receivers[0].quiet = Some(Quiet {
        from: "22:00".parse().unwrap(),
        until: "07:00".parse().unwrap(),
        time_zone: "+01:00".parse().unwrap(),
        urgent: Severity::Critical,
    });
    let mut world = world(notify);
    let id = escalated(&mut world, "db");
    assert!(wanted(&world, id).is_empty());
    world.send(command(Verb::Close { incident: id, reason: "by hand".to_owned() }));
    assert_eq!(world.incident(id).notices.len(), 1);
    let due: DateTime<Utc> = "2026-01-01T06:00:00Z".parse().unwrap();
    assert_eq!(world.due(), [(due, id)], "also of an incident that is over");
    world.restart();
    world.expire(id);
    assert_eq!(tell_all(&mut world, id), [("chat".to_owned(), Occasion::Closed)]);
    assert_eq!(world.due(), []);
    world.at = due + chrono::TimeDelta::hours(17);
    let mut event = world.event("service_down", "api");
    event.severity = Severity::Critical;
    let id = world.send(Input::Event(event)).answer.unwrap().incident_id.unwrap();
    world.diagnose(id, vec![]);
    assert_eq!(wanted(&world, id), [("chat".to_owned(), Occasion::Escalated)], "urgent");
}

#[test]
fn what_is_more_than_the_rate_of_a_receiver_waits_for_its_place() {
    let mut notify = to_all(&["chat"]);
    notify.receivers[0].rate = "2/h".parse().ok();
    let mut world = world(notify);
    let event = |world: &mut World, n: usize| Event {
        fingerprint: Some(n.to_string()),
        ..world.event("disk.full", "nobody knows it")
    };
    let mut opened = Vec::new();
    for n in 0..4 {
        let event = event(&mut world, n);
        let id = world.send(Input::Event(event)).answer.unwrap().incident_id.unwrap();
        opened.push(id);
    }
    let told = |world: &World| world.desk.pending().len();
    assert_eq!(told(&world), 2);
    let places: Vec<_> = world.due().iter().map(|it| it.0).collect();
    assert_eq!(places.len(), 2);
    world.restart();
    world.expire(opened[2]);
    assert_eq!(told(&world), 3);
    world.expire(opened[3]);
    assert_eq!(told(&world), 4);
    assert_eq!(world.due(), []);
}

fn failed(world: &mut World, id: IncidentId, again: bool, keep: Option<&str>) {
    let notice = world.incident(id).notices_wanted().next().unwrap().name();
    let report = NoticeReport {
        work: world.work(id),
        notice,
        by: "gateway-1".to_owned(),
        outcome: Err("503".to_owned()),
        again,
        keep: keep.map(str::to_owned),
    };
    world.send(Input::Notice(report.clone()));
    let handled = world.send(Input::Notice(report));
    assert_eq!(handled.recorded, [], "a report of a former try");
}

#[test]
fn what_could_not_be_sent_is_tried_again_later_a_bounded_number_of_times() {
    let mut world = world(to_all(&["chat"]));
    let id = escalated(&mut world, "db");
    for n in 0..5 {
        failed(&mut world, id, true, None);
        assert!(wanted(&world, id).is_empty());
        let wait = (next_due(&world).unwrap() - world.at).num_seconds();
        assert_eq!(wait, (30 << n) - 1, "wait {n}");
        world.restart();
        world.expire(id);
        assert_eq!(wanted(&world, id).len(), 1);
    }
    failed(&mut world, id, true, None);
    assert!(world.incident(id).notices.is_empty(), "given up");
    let id = escalated(&mut world, "api");
    failed(&mut world, id, false, None);
    assert!(world.incident(id).notices.is_empty(), "it may have arrived");
}

#[test]
fn what_a_way_keeps_comes_back_with_the_next_notice_after_a_restart() {
    let mut world = world(to_all(&["chat"]));
    let id = escalated(&mut world, "db");
    failed(&mut world, id, false, Some("message 7"));
    world.restart();
    world.send(command(Verb::Acknowledge { incident: id }));
    let wish = world.desk.wishes_of(id).remove(0);
    let work: NotifyWork = serde_json::from_slice(&wish.payload().unwrap()).unwrap();
    assert_eq!(work.kept.as_deref(), Some("message 7"));
    assert!(work.steps.iter().any(|it| it.decision == "escalated"), "{:?}", work.steps);
}

#[test]
fn who_is_not_configured_any_more_is_not_owed_anything() {
    let mut world = world(night());
    let id = escalated(&mut world, "db");
    let mut config = world.desk.config().clone();
    config.notify = to_all(&["pager"]);
    world.configure(config);
    assert!(world.desk.pending().is_empty());
    assert_eq!(next_due(&world), None);
    assert!(world.incident(id).calls.is_empty());
    world.restart();
}

#[test]
fn those_of_the_older_form_are_told_as_before_and_the_older_gateways_know_them() {
    let mut config = config(vec![target("db", &[])], generous());
    let hook = Some("https://example.org/hook".to_owned());
    config.policy.notify = vec![crate::policy::Notifier { webhook: hook, log: None }];
    let mut world = World::new(config.clone());
    let id = escalated(&mut world, "db");
    let wish = world.desk.wishes_of(id).remove(0);
    let work: NotifyWork = serde_json::from_slice(&wish.payload().unwrap()).unwrap();
    assert_eq!(work.to, config.policy.notify);
    assert!(world.ledger.iter().all(|it| !matches!(it.fact, Fact::NoticesDue { .. })));
    tell_all(&mut world, id);
    world.send(command(Verb::Close { incident: id, reason: String::new() }));
    assert!(world.desk.pending().is_empty(), "they hear of calls alone");
}
