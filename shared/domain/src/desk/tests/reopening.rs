//! Nothing is given up for good, and nothing is deaf: news, retries, refusals, take-over.

use chrono::TimeDelta;
use serde_json::json;

use super::world::{
    World, analysis, command, config, cure, fix, generous, healthy, hypothesis, plan,
    plan_with_undo, risky_plan, secs, target,
};
use crate::{
    event::{Event, Severity, Status as Said},
    fact::{Escalation, Fact},
    id::IncidentId,
    incident::Phase,
    plan::Risk,
    policy::{Notifier, Policy, Retry},
    span::Span,
    view::Status,
    wire::{AnswerStatus, Evidence, FixMode, FixOutcome, Input, Refusal, TimerFired, Verb},
};

/// A policy with retries after 5, 10 and 10 s, for half a minute.
fn patient() -> Policy {
    let (first, max, lasts) = (Span::from_secs(5), Span::from_secs(10), Span::from_secs(30));
    Policy { retry: Retry { first, max, lasts }, ..generous() }
}

fn world(policy: Policy) -> World {
    World::new(config(vec![target("db", &[]), target("api", &["db"])], policy))
}

/// Reports that a check of a target fails.
fn check_fails(world: &mut World, target: &str, check: &str) -> Event {
    let mut event = world.event("service_down", target);
    event.payload = json!({"check": check, "samples": world.seq, "detail": "refused"});
    event
}

fn report(world: &mut World, target: &str, check: &str) -> IncidentId {
    let event = check_fails(world, target, check);
    let answer = world.send(Input::Event(event)).answer.unwrap();
    answer.incident_id.unwrap()
}

/// Diagnoses it with a plan that must be approved, and these checks seen to pass or fail.
fn diagnose_seeing(world: &mut World, id: IncidentId, checks: &[(&str, bool)]) {
    let risky = cure(risky_plan("db", Risk::Medium));
    let Input::Analysis(mut found) = analysis(world.work(id), risky) else { panic!("another one") };
    let look = |(check, ok): &(&str, bool)| Evidence {
        source: "check".to_owned(),
        target: Some("db".to_owned()),
        summary: format!("check `{check}` {}: it says so", if *ok { "passes" } else { "fails" }),
        detail: json!({"ok": ok}),
    };
    found.evidence = checks.iter().map(look).collect();
    world.send(Input::Analysis(found));
}

fn escalation(world: &World, id: IncidentId) -> Option<Escalation> {
    if let Phase::Escalated(why) = &world.incident(id).phase { Some(*why) } else { None }
}

fn take_over(world: &mut World, epoch: u64) -> usize {
    world.restart();
    let timer = TimerFired::leadership(epoch, world.at);
    world.send(Input::Timer(timer)).recorded.len()
}

#[test]
fn what_was_accepted_while_no_supervisor_led_has_its_whole_time_at_take_over() {
    let mut world = world(generous());
    let down = world.down("db");
    world.wait(600);
    assert_eq!(take_over(&mut world, 7), 1);
    assert_eq!(world.timer(down).recorded.len(), 0, "it is not given up at take-over");
    let timeout = world.desk.config().policy.diagnosis_timeout.to_delta();
    assert_eq!(world.due(), [(world.at + timeout, down)]);
    world.restart();
    world.diagnose(down, cure(plan("db")));
    assert_eq!(world.status(down), Status::Fixing);

    // The same for a fix and for its verification.
    for (epoch, status) in [(8, Status::Fixing), (9, Status::Verifying)] {
        world.wait(6000);
        assert_eq!(take_over(&mut world, epoch), 1);
        assert_eq!(world.timer(down).recorded.len(), 0);
        assert_eq!(world.status(down), status);
        if status == Status::Fixing {
            world.fixed(down);
        }
    }
    world.verified(down, true);
    assert_eq!(world.status(down), Status::Resolved);
    assert_eq!(world.n_facts("attempt_failed"), 0);
}

#[test]
fn a_take_over_is_noted_once_and_only_while_something_is_open() {
    let mut world = world(generous());
    assert_eq!(take_over(&mut world, 1), 0, "nothing is open");
    let id = world.down("db");
    assert_eq!(take_over(&mut world, 2), 1);
    let due = world.due();
    assert_eq!(take_over(&mut world, 2), 0, "told again");
    assert_eq!(world.due(), due);
    world.expire(id);
    assert_eq!(escalation(&world, id), Some(Escalation::NotDiagnosed));
}

#[test]
fn a_take_over_does_not_prolong_what_was_promised_to_a_person() {
    let mut world = world(generous());
    let id = world.down("db");
    world.diagnose(id, cure(risky_plan("db", Risk::Medium)));
    let due = world.due();
    world.wait(60);
    take_over(&mut world, 3);
    assert_eq!(world.due(), due);
}

#[test]
fn a_refused_fix_counts_as_no_attempt_and_trips_no_breaker() {
    let mut policy = patient();
    (policy.attempts, policy.breaker.failures) = (1, 1);
    policy.budget.per_target = "1/h".parse().unwrap();
    let mut world = World::new(config(vec![target("db", &[]), target("web", &[])], policy));
    let id = world.fixing("db");
    let refuse = |world: &mut World| {
        let outcome = FixOutcome::Refused {
            code: Refusal::NotAllowed,
            reason: "process.restart is not allowed here".to_owned(),
        };
        let work = world.work(id);
        world.send(fix(work, FixMode::Apply, outcome));
    };
    refuse(&mut world);
    assert!(matches!(world.incident(id).phase, Phase::RetryWaiting { .. }));
    assert_eq!((world.incident(id).n_tried(), world.incident(id).attempts.len()), (0, 0));
    assert!(!world.desk.is_breaker_tripped(world.at));
    world.restart();
    // Another zone's target is fixed meanwhile.
    let web = world.fixing("web");
    world.fixed(web);
    world.verified(web, true);
    let mut n_orders = 1;
    while escalation(&world, id).is_none() {
        world.expire(id);
        world.diagnose(id, cure(plan("db")));
        assert_eq!(world.status(id), Status::Fixing, "no budget was used up");
        refuse(&mut world);
        n_orders += 1;
    }
    assert_eq!(escalation(&world, id), Some(Escalation::Refused));
    assert_eq!((n_orders, world.n_facts("attempt_returned")), (4, 4));
    assert_eq!((world.n_facts("attempt_failed"), world.n_facts("breaker_tripped")), (0, 0));
    assert!(world.last(id).reason.contains("not allowed here"), "{}", world.last(id).reason);
}

#[test]
fn no_cause_is_sought_again_until_the_limit_and_people_are_told_once() {
    let mut policy = patient();
    policy.notify = vec![Notifier { webhook: None, log: Some(true) }];
    let mut world = world(policy);
    let id = world.down("db");
    let begun = world.at;
    let mut waits = Vec::new();
    loop {
        let handled = world.diagnose(id, vec![]);
        let Phase::RetryWaiting { until, .. } = world.incident(id).phase else { break };
        assert!(handled.answer.is_none());
        assert_eq!(world.status(id), Status::Diagnosing);
        waits.push((until - world.at).num_seconds());
        assert!(world.desk.wishes_of(id).is_empty(), "nothing is wanted, nobody is told");
        world.restart();
        world.expire(id);
        assert_eq!(world.desk.wishes_of(id).len(), 1, "it is diagnosed again");
    }
    assert_eq!(waits, [5, 10, 10]);
    assert_eq!(escalation(&world, id), Some(Escalation::NoCause));
    assert!(world.at - begun < TimeDelta::seconds(45));
    assert_eq!(world.incident(id).notices.len(), 1, "told once");
    // It is still watched.
    world.recovered("db");
    world.verified(id, true);
    assert_eq!(world.status(id), Status::SelfResolved);
}

#[test]
fn a_missing_program_or_image_is_waited_for_and_uses_up_no_attempt() {
    for cause in ["program_missing", "image_missing"] {
        let mut policy = patient();
        policy.attempts = 1;
        let mut world = world(policy);
        let id = world.down("db");
        for _ in 0..2 {
            world.diagnose(id, vec![hypothesis(cause, None)]);
            assert!(matches!(world.incident(id).phase, Phase::RetryWaiting { .. }), "{cause}");
            world.expire(id);
        }
        assert_eq!(world.incident(id).n_tried(), 0);
        world.heal(id, "db");
        let other = world.down("db");
        world.diagnose(other, vec![hypothesis("disk_full", None)]);
        assert_eq!(escalation(&world, other), Some(Escalation::NoPlan), "this does not pass");
    }
}

#[test]
fn a_retry_that_finds_the_cause_heals() {
    let mut world = world(patient());
    let id = world.down("db");
    world.diagnose(id, vec![]);
    world.expire(id);
    world.heal(id, "db");
}

#[test]
fn an_escalated_incident_is_diagnosed_again_when_something_else_is_reported() {
    let mut world = world(generous());
    let id = report(&mut world, "db", "http");
    world.diagnose(id, vec![]);
    assert_eq!(escalation(&world, id), Some(Escalation::NoCause));
    for _ in 0..5 {
        report(&mut world, "db", "http");
        assert_eq!(escalation(&world, id), Some(Escalation::NoCause), "the same is a repeat");
    }
    assert_eq!(report(&mut world, "db", "process"), id);
    assert_eq!(world.status(id), Status::Diagnosing);
    world.restart();
    world.diagnose(id, cure(plan("db")));
    assert_eq!(world.status(id), Status::Fixing, "the low-risk start happens");
}

#[test]
fn what_a_diagnosis_has_seen_fail_is_no_news() {
    for during in [false, true] {
        let mut world = world(generous());
        let id = report(&mut world, "db", "process");
        if during {
            report(&mut world, "db", "tcp");
        }
        diagnose_seeing(&mut world, id, &[("tcp", false), ("disk", true)]);
        assert_eq!(world.status(id), Status::AwaitingApproval);
        report(&mut world, "db", "tcp");
        assert_eq!(world.status(id), Status::AwaitingApproval, "it was seen to fail");
        report(&mut world, "db", "disk");
        assert_eq!(world.status(id), Status::Diagnosing, "it was seen to pass");
    }
}

#[test]
fn a_higher_severity_is_news_and_a_lower_one_is_not() {
    let mut world = world(generous());
    let id = world.down("db");
    world.diagnose(id, vec![]);
    for (severity, status) in [
        (Severity::Warning, Status::Escalated),
        (Severity::Critical, Status::Diagnosing),
        (Severity::Error, Status::Diagnosing),
    ] {
        let event = Event { severity, ..world.event("service_down", "db") };
        world.send(Input::Event(event));
        assert_eq!(world.status(id), status, "{severity:?}");
    }
}

#[test]
fn news_make_a_plan_and_its_approval_void() {
    let mut world = world(generous());
    let id = report(&mut world, "db", "http");
    let risky = risky_plan("db", Risk::Medium);
    world.diagnose(id, cure(risky.clone()));
    assert_eq!(world.status(id), Status::AwaitingApproval);
    report(&mut world, "db", "http");
    assert_eq!(world.status(id), Status::AwaitingApproval);
    report(&mut world, "db", "process");
    assert_eq!(world.status(id), Status::Diagnosing);
    assert_eq!(world.n_facts("plan_expired"), 1);
    let approve = command(Verb::Approve { incident: id, plan_hash: risky.hash() });
    assert_eq!(world.send(approve).answer.unwrap().status, AnswerStatus::Refused);

    // One that was given and has not been used is void, too.
    world.diagnose(id, cure(risky.clone()));
    world.send(command(Verb::Pause { reason: String::new() }));
    world.approve(id);
    assert_eq!(world.held_by(id), Some("kill switch"));
    report(&mut world, "db", "disk");
    world.diagnose(id, cure(risky));
    world.send(command(Verb::Resume));
    assert_eq!(world.status(id), Status::AwaitingApproval, "it is asked for again");
}

#[test]
fn people_who_were_called_hear_of_news() {
    let mut policy = generous();
    policy.notify = vec![Notifier { webhook: None, log: Some(true) }];
    let mut world = world(policy);
    let id = report(&mut world, "db", "http");
    world.diagnose(id, vec![]);
    let notice = world.incident(id).notices[0].id.clone();
    world.told(id, &notice);
    report(&mut world, "db", "process");
    let notices: Vec<_> = world.incident(id).notices.iter().map(|it| it.title.clone()).collect();
    assert_eq!(notices, ["diagnosed again: service_down on db"]);
    assert!(world.incident(id).notices[0].text.contains("service_down"));
}

#[test]
fn another_event_of_the_target_re_opens_the_incident_that_waits() {
    let mut world = world(generous());
    let first = world.fire("slow", "db");
    world.diagnose(first, cure(risky_plan("db", Risk::Medium)));
    let beside = world.down("db");
    assert_eq!(world.status(beside), Status::Merged);
    assert_eq!(world.status(first), Status::Diagnosing, "its plan knew nothing of it");
    assert_eq!(world.n_facts("reported_beside"), 1);
    // What is reported of the one beside is heard as well.
    world.diagnose(first, cure(risky_plan("db", Risk::Medium)));
    report(&mut world, "db", "process");
    assert_eq!(world.status(first), Status::Diagnosing);
    world.diagnose(first, cure(plan("db")));
    assert_eq!(world.status(first), Status::Fixing);
}

#[test]
fn what_is_reported_last_beside_an_incident_is_news_whatever_was_reported_first() {
    let mut world = world(generous());
    let first = world.fire("slow", "db");
    diagnose_seeing(&mut world, first, &[("process", false)]);
    assert_eq!(world.status(first), Status::AwaitingApproval);
    let mut seen = check_fails(&mut world, "db", "process");
    seen.labels.insert("check".to_owned(), "process".to_owned());
    world.send(Input::Event(seen));
    assert_eq!(world.status(first), Status::AwaitingApproval, "the diagnosis has seen it fail");
    assert_eq!(world.n_facts("reported_beside"), 0);
    report(&mut world, "db", "http");
    assert_eq!(world.n_facts("reported_beside"), 1);
    assert_eq!(world.status(first), Status::Diagnosing);
    // What is worse is news, also when it names what was seen.
    diagnose_seeing(&mut world, first, &[("http", false)]);
    let severity = Severity::Critical;
    let worse = Event { severity, ..check_fails(&mut world, "db", "http") };
    world.send(Input::Event(worse));
    assert_eq!(world.n_facts("reported_beside"), 2);
}

#[test]
fn a_symptom_of_an_escalated_cause_hears_news() {
    let mut world = world(generous());
    let db = world.down("db");
    world.diagnose(db, vec![]);
    let api = report(&mut world, "api", "http");
    assert_eq!(world.status(api), Status::Merged);
    report(&mut world, "api", "http");
    assert_eq!(world.status(api), Status::Merged);
    report(&mut world, "api", "process");
    assert_eq!(world.status(api), Status::Diagnosing);
    world.heal(api, "api");
}

#[test]
fn what_is_reported_during_a_diagnosis_is_looked_at_when_that_finds_nothing() {
    let mut world = world(generous());
    let id = report(&mut world, "db", "http");
    report(&mut world, "db", "process");
    let revision = world.incident(id).revision;
    world.diagnose(id, vec![]);
    assert_eq!(world.status(id), Status::Diagnosing, "once more, with the news");
    assert!(revision < world.incident(id).revision);
    world.diagnose(id, vec![]);
    assert_eq!(escalation(&world, id), Some(Escalation::NoCause), "and not for ever");
}

#[test]
fn a_sender_that_flaps_cannot_make_it_spin() {
    let mut world = world(generous());
    let id = report(&mut world, "db", "http");
    world.diagnose(id, vec![]);
    let from = world.at;
    for n in 0..200 {
        world.recovered("db");
        let check = format!("check {}", n % 2);
        report(&mut world, "db", &check);
        if world.status(id) == Status::Verifying {
            world.verified(id, false);
        }
        if world.status(id) == Status::Diagnosing {
            world.diagnose(id, vec![]);
        }
    }
    let n = world.n_facts("rediagnosis_started");
    let minutes = (world.at - from).num_minutes();
    assert!((4..30).contains(&n), "{n} diagnoses within {minutes} min");
    // What was not heard at once is heard later.
    assert!(world.incident(id).news.is_none() || !world.due().is_empty());
}

#[test]
fn news_of_a_rejected_plan_or_of_exhausted_attempts_lead_to_another_try() {
    let mut policy = generous();
    policy.attempts = 1;
    let mut world = world(policy);
    let id = report(&mut world, "db", "http");
    world.diagnose(id, cure(plan_with_undo("db")));
    world.fix_failed(id);
    world.diagnose(id, cure(plan("db")));
    assert_eq!(escalation(&world, id), Some(Escalation::AttemptsExhausted));
    report(&mut world, "db", "process");
    world.diagnose(id, cure(risky_plan("db", Risk::Medium)));
    world.send(command(Verb::Reject { incident: id, reason: String::new() }));
    assert_eq!(escalation(&world, id), Some(Escalation::Rejected));
    report(&mut world, "db", "disk");
    world.heal(id, "db");
}

#[test]
fn a_zone_that_is_served_again_lets_what_waited_for_it_go_on() {
    let mut world = world(generous());
    let id = world.down("db");
    world.expire(id);
    assert_eq!(escalation(&world, id), Some(Escalation::NotDiagnosed));
    let mut event = Event::new("z", "zone_unserved".parse().unwrap(), "selfheal/supervisor");
    event.fingerprint = Some("zone_unserved/default/analyzer".to_owned());
    event.labels.insert("zone".to_owned(), "default".to_owned());
    event.labels.insert("kind".to_owned(), "analyzer".to_owned());
    world.send(Input::Event(event.clone()));
    let over = |id: &str, source: &str, zone: &str| {
        let mut over = Event { id: id.to_owned(), status: Said::Resolved, ..event.clone() };
        over.source = source.to_owned();
        over.labels.insert("zone".to_owned(), zone.to_owned());
        Input::Event(over)
    };
    world.send(over("z2", "somebody-else", "default"));
    assert_eq!(world.status(id), Status::Escalated, "another sender does not say so");
    world.send(over("z3", "selfheal/supervisor", "default"));
    assert_eq!(world.status(id), Status::Diagnosing);
    world.heal(id, "db");
}

#[test]
fn a_refused_command_is_in_the_log_with_who_sent_it() {
    let mut world = world(generous());
    let id = world.down("db");
    world.send(command(Verb::Approve { incident: id, plan_hash: plan("db").hash() }));
    let last = world.last(id);
    let Fact::CommandRefused { by, verb } = &last.fact else { panic!("{last:?}") };
    assert_eq!((by.as_str(), verb.as_str()), ("ann", "approve"));
    assert!(!last.reason.is_empty());
    let revision = world.incident(id).revision;
    world.heal(id, "db");
    world.send(command(Verb::Close { incident: id, reason: String::new() }));
    assert!(world.last(id).reason.contains("has ended"));
    assert!(revision < world.incident(id).revision);
    world.send(command(Verb::Close { incident: IncidentId::NONE, reason: String::new() }));
    let last = world.desk.n_decisions();
    assert_eq!(world.n_facts("command_refused"), 3);
    let mut broken = world.desk.config().clone();
    broken.targets.push(broken.targets[0].clone());
    let configure = command(Verb::configure(broken));
    assert_eq!(world.send(configure).answer.unwrap().status, AnswerStatus::Refused);
    assert_eq!(world.desk.n_decisions(), last + 1);
    assert!(world.send(command(Verb::Resume)).recorded.len() == 1, "what is done is no refusal");
}

#[test]
fn a_person_may_ask_for_a_retry_at_once() {
    let mut world = world(patient());
    let id = world.down("db");
    world.diagnose(id, vec![]);
    let retry = world.send(command(Verb::Retry { incident: id }));
    assert_eq!(retry.answer.unwrap().status, AnswerStatus::Done);
    world.diagnose(id, healthy());
    assert_eq!(world.status(id), Status::Verifying);
    let late = analysis(world.work(id), vec![]);
    world.wait(secs(1).num_seconds());
    assert!(world.send(late).recorded.is_empty());
}
