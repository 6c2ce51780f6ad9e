//! Every sequence of what an incident may meet: it fires, its process dies, a plan waits and is
//! approved or rejected, it is escalated, the configuration changes, its target is removed and
//! comes back, it is healthy again, resolves arrive out of order.
//!
//! Sequences that lead to the same state are followed once, so their length has no limit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::json;

use super::TIMERS_MAX;
use crate::{
    config::Config,
    desk::tests::world::{
        World, analysis, command, config, cure, fix, generous, healthy, plan, risky_plan, secs,
        target, verification,
    },
    event::{Event, Status},
    incident::{Incident, Phase},
    plan::Risk,
    policy::Retry,
    span::Span,
    view,
    wire::{FixMode, FixOutcome, Input, Refusal, TimerFired, Verb},
};

/// Incidents after which a path opens no further one.
const INCIDENTS_MAX: usize = 2;

/// Goal: each incident ends, or waits for a person and reacts to news, on every path.
#[test]
fn every_incident_ends_or_waits_for_a_person_and_reacts_to_news() {
    let mut policy = generous();
    policy.attempts = 1;
    policy.hold_timeout = Span::from_secs(100);
    let (first, lasts) = (Span::from_secs(5), Span::from_secs(6));
    policy.retry = Retry { first, max: first, lasts };
    let mut seen = BTreeSet::new();
    let mut facts = BTreeMap::<&str, usize>::new();
    let mut statuses = BTreeSet::new();
    let mut queue = VecDeque::from([World::new(config(vec![target("db", &[])], policy))]);
    let mut n_moves = 0;
    while let Some(world) = queue.pop_front() {
        for (input, at) in moves(&world) {
            n_moves += 1;
            let mut next = world.clone();
            next.at = at;
            let handled = next.send_now(&input);
            for recorded in &handled.recorded {
                *facts.entry(recorded.decision.fact.name()).or_default() += 1;
            }
            if !seen.insert(key(&next)) {
                continue;
            }
            statuses.extend(next.desk.open_incidents().map(Incident::status));
            reacts(&next);
            next.clone().run_out(TIMERS_MAX);
            queue.push_back(next);
        }
    }
    for fact in [
        "rediagnosis_started",
        "retry_scheduled",
        "attempt_returned",
        "plan_expired",
        "closed",
        "retried",
        "self_resolved",
        "resolved",
        "escalated",
        "fix_started",
    ] {
        assert!(3 <= facts.get(fact).copied().unwrap_or(0), "vacuous: {fact} {facts:?}");
    }
    let n = seen.len();
    assert!(100 < n && 1000 < n_moves, "vacuous: {n} states, {n_moves} moves");
    assert!(statuses.contains(&view::Status::AwaitingApproval), "{statuses:?}");
}

/// What waits for a person or for time is diagnosed again by news, and looks at a recovery.
fn reacts(world: &World) {
    let waiting = world.desk.open_incidents().filter(|it| it.listens());
    for id in waiting.map(|it| it.id).collect::<Vec<_>>() {
        let mut news = world.clone();
        let revision = news.incident(id).revision;
        let event = event(&mut news, "never reported before");
        news.send(Input::Event(event));
        while news.incident(id).news.is_some() && news.incident(id).listens() {
            news.expire(id);
        }
        assert!(revision < news.incident(id).revision, "deaf: {:?}", world.incident(id).phase);
        let mut over = world.clone();
        let event = Event { status: Status::Resolved, ..event_of(&mut over) };
        over.send(Input::Event(event));
        let status = over.status(id);
        // Without a target there is no check that could be asked.
        let has_target = world.incident(id).target.is_some();
        let wanted = if has_target { view::Status::Verifying } else { view::Status::SelfResolved };
        assert_eq!(status, wanted, "{:?}", world.incident(id).phase);
    }
}

fn event_of(world: &mut World) -> Event {
    world.event("service_down", "db")
}

fn event(world: &mut World, check: &str) -> Event {
    let mut event = event_of(world);
    event.id = format!("{check}-{}", world.seq);
    event.starts_at = Some(world.at);
    event.payload = json!({ "check": check });
    event
}

fn key(world: &World) -> String {
    let of = |it: &Incident| {
        let plan = it.plan().map(|it| it.risk);
        let phase = match &it.phase {
            Phase::Escalated(why) => format!("{why:?}"),
            Phase::Proposed { hold, .. } => format!("{}", hold.is_some()),
            Phase::Verifying { purpose, .. } => {
                let whole = format!("{purpose:?}");
                whole.split([' ', '(']).next().unwrap_or_default().to_owned()
            }
            Phase::Diagnosing
            | Phase::RetryWaiting { .. }
            | Phase::AwaitingApproval { .. }
            | Phase::Fixing { .. }
            | Phase::Undoing { .. }
            | Phase::Symptom { .. }
            | Phase::Over(_) => String::new(),
        };
        let mut claims = it.claims.clone();
        claims.sort_unstable();
        let retries = it.retries.map(|it| it.n);
        let heard = it.news.is_some();
        let target = &it.target;
        let status = it.status();
        format!(
            "{target:?} {status:?} {phase} {plan:?} {claims:?} {retries:?} {heard} {}",
            it.n_tried()
        )
    };
    let open: BTreeSet<_> = world.desk.open_incidents().map(of).collect();
    let is_changed = world.desk.config().targets.first().map(|it| it.labels.len());
    format!("{open:?} {is_changed:?} {}", world.desk.incidents.len().min(INCIDENTS_MAX))
}

fn moves(world: &World) -> Vec<(Input, chrono::DateTime<chrono::Utc>)> {
    let soon = world.at + secs(1);
    let mut own = world.clone();
    own.at = soon;
    let mut moves = Vec::new();
    let is_open = world.desk.open_incidents().next().is_some();
    if is_open || world.desk.incidents.len() < INCIDENTS_MAX {
        moves.push(Input::Event(event(&mut own, "http")));
        moves.push(Input::Event(event(&mut own, "process")));
    }
    let resolved = Event { status: Status::Resolved, ..event_of(&mut own) };
    let mut late = Event { id: format!("late-{}", world.seq), ..resolved.clone() };
    // It ended before the incident began.
    late.ends_at = Some(world.at - secs(1_000_000));
    moves.extend([Input::Event(resolved), Input::Event(late)]);
    moves.extend(configured(world));
    let mut timed = Vec::new();
    for it in world.desk.open_incidents() {
        let work = it.work();
        let refused =
            FixOutcome::Refused { code: Refusal::NotAllowed, reason: "not on my list".to_owned() };
        let failed = FixOutcome::Failed { reason: "it did not start".to_owned() };
        match &it.phase {
            Phase::Diagnosing => moves.extend([
                analysis(work, vec![]),
                analysis(work, healthy()),
                analysis(work, cure(plan("db"))),
                analysis(work, cure(risky_plan("db", Risk::Medium))),
            ]),
            Phase::AwaitingApproval { plan, .. } => {
                let (incident, plan_hash) = (it.id, plan.hash());
                moves.push(command(Verb::Approve { incident, plan_hash }));
                moves.push(command(Verb::Reject { incident, reason: String::new() }));
            }
            Phase::Fixing { .. } => moves.extend([
                fix(work, FixMode::Apply, FixOutcome::Succeeded),
                fix(work, FixMode::Apply, failed),
                fix(work, FixMode::Apply, refused),
            ]),
            Phase::Verifying { since, .. } => moves.extend([
                verification(work, true, *since, &[]),
                verification(work, false, *since, &[]),
            ]),
            Phase::Escalated(_) => moves.push(command(Verb::Retry { incident: it.id })),
            Phase::RetryWaiting { .. }
            | Phase::Proposed { .. }
            | Phase::Undoing { .. }
            | Phase::Symptom { .. }
            | Phase::Over(_) => {}
        }
        if let Some(due) = world.desk.deadline(it) {
            timed.push((Input::Timer(TimerFired::of(it.id, due)), due.max(world.at)));
        }
    }
    moves.into_iter().map(|it| (it, soon)).chain(timed).collect()
}

/// The target is changed, removed, or comes back.
fn configured(world: &World) -> Vec<Input> {
    let now = world.desk.config().clone();
    let configure = |config: Config| command(Verb::configure(config));
    let Some(present) = now.targets.first() else {
        return vec![configure(Config { targets: vec![target("db", &[])], ..now })];
    };
    let mut other = present.clone();
    if other.labels.remove("tier").is_none() {
        other.labels.insert("tier".to_owned(), "gold".to_owned());
    }
    vec![
        configure(Config { targets: vec![other], ..now.clone() }),
        configure(Config { targets: Vec::new(), ..now }),
    ]
}
