//! An exhaustive walk: every input in every state, until no new state is found.
//!
//! Two states are the same when no input could tell them apart but by its times and ids;
//! see [`key`]. The rules that are checked after each step are in [`super::tests::laws`].

mod news;
mod reports;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::DateTime;

use reports::{all, few, stale};

use super::tests::world::{World, command, config, generous, plan, secs, target};
use crate::{
    config::Config,
    desk::Recorded,
    event::{Event, Status},
    fact::Fact,
    incident::{Incident, Phase, Purpose},
    policy::Cooldown,
    span::Span,
    target::Target,
    view,
    wire::{Input, TimerFired, Verb},
};

/// Steps by timers alone after which every incident must have come to an end.
const TIMERS_MAX: usize = 60;
/// Incidents after which a path opens no further one; the states repeat by then.
const INCIDENTS_MAX: usize = 4;

/// An input, and how long it waits before it arrives.
struct Move {
    input: Input,
    at: DateTime<chrono::Utc>,
    /// Nothing may follow from it.
    is_void: bool,
}

/// What a walk tries.
#[derive(Default)]
struct Scope {
    /// Type and target of the events that arrive.
    events: &'static [(&'static str, &'static str)],
    /// What the hands report about an incident.
    hands: Option<fn(&Incident) -> Vec<Input>>,
    /// Whether people send everything, or close incidents and nothing else.
    people: bool,
    /// Failed verifications without a fix that are told apart.
    n_rechecks: u32,
    /// Whether the reasons for an escalation are told apart.
    reasons: bool,
}

/// What a walk found.
#[derive(Default)]
struct Walk {
    scope: Scope,
    seen: BTreeSet<String>,
    statuses: BTreeSet<view::Status>,
    facts: BTreeMap<&'static str, usize>,
    n_moves: usize,
    n_void: usize,
}

/// Goal: the laws hold on every path of one incident, not on the paths we thought of.
#[test]
fn one_incident_keeps_the_laws_on_every_path() {
    let mut policy = generous();
    policy.attempts = 2;
    policy.backoff = Span::from_secs(2);
    policy.hold_timeout = Span::from_secs(100);
    policy.breaker.failures = 2;
    let events = &[("service_down", "db")];
    let scope = Scope { events, hands: Some(all), people: true, n_rechecks: 2, reasons: true };
    let walk = Walk::over(config(vec![target("db", &[])], policy), scope);
    let met: Vec<_> =
        view::Status::ALL.into_iter().filter(|it| !walk.statuses.contains(it)).collect();
    assert_eq!(met, [view::Status::Open, view::Status::Merged, view::Status::Suppressed]);
    let facts = [
        "repeated",
        "recovery_reported",
        "diagnosed",
        "held",
        "plan_expired",
        "approval_requested",
        "approved",
        "fix_started",
        "recall_requested",
        "fix_recalled",
        "fix_ended",
        "recheck_started",
        "verified",
        "not_verified",
        "undo_started",
        "undo_ended",
        "attempt_failed",
        "resolved",
        "self_resolved",
        "escalated",
        "closed",
        "retried",
        "released",
        "breaker_tripped",
        "paused",
        "resumed",
        "acknowledged",
        "command_refused",
        "attempt_returned",
        "rediagnosis_started",
    ];
    for fact in facts {
        assert!(
            5 <= walk.facts.get(fact).copied().unwrap_or(0),
            "vacuous: {fact} {:?}",
            walk.facts
        );
    }
    assert!(200 < walk.seen.len() && 5000 < walk.n_moves, "vacuous: {}", walk.summary());
}

/// Goal: the same for a target and what it needs.
/// The hands only say what matters between incidents; the walk above says the rest.
#[test]
fn a_cause_and_its_symptom_keep_the_laws_on_every_path() {
    let targets = vec![target("db", &[]), target("api", &["db"])];
    related(targets, &[("service_down", "db"), ("service_down", "api")], "resolved");
}

/// Goal: the same for two types of trouble on one target.
#[test]
fn two_troubles_of_one_target_keep_the_laws_on_every_path() {
    related(vec![target("api", &[])], &[("service_down", "api"), ("slow", "api")], "held");
}

fn related(
    targets: Vec<Target>,
    events: &'static [(&'static str, &'static str)],
    fact: &'static str,
) {
    let mut policy = generous();
    policy.attempts = 1;
    policy.hold_timeout = Span::from_secs(100);
    policy.cooldown = Cooldown { per_target: Span::from_secs(5), ..Cooldown::default() };
    let scope = Scope { events, hands: Some(few), ..Scope::default() };
    let walk = Walk::over(config(targets, policy), scope);
    assert!(walk.statuses.contains(&view::Status::Merged));
    for fact in ["became_symptom", "released", fact] {
        let n = walk.facts.get(fact).copied().unwrap_or(0);
        assert!(3 <= n, "vacuous: {fact} {:?}", walk.facts);
    }
    assert!(100 < walk.seen.len() && 2000 < walk.n_moves, "vacuous: {}", walk.summary());
}

impl Walk {
    fn over(config: Config, scope: Scope) -> Self {
        let mut walk = Self { scope, ..Self::default() };
        let mut queue = VecDeque::from([World::new(config)]);
        while let Some(world) = queue.pop_front() {
            for step in walk.scope.moves(&world) {
                walk.n_moves += 1;
                if let Some(next) = walk.step(&world, &step) {
                    queue.push_back(next);
                }
            }
        }
        walk
    }

    /// Makes one step; returns where it leads, if nobody was there before.
    fn step(&mut self, world: &World, step: &Move) -> Option<World> {
        let position = crate::id::Position::new(world.seq + 1, 0);
        let mut desk = world.desk.clone();
        let handled = desk.receive(&step.input, position, step.at);
        if handled.recorded.is_empty() {
            assert_eq!(handled.faults, [], "{:?}", step.input);
            self.n_void += 1;
            return None;
        }
        let is_refusal = |it: &Recorded| matches!(it.decision.fact, Fact::CommandRefused { .. });
        let is_refused = handled.recorded.iter().all(is_refusal);
        assert!(!step.is_void || is_refused, "{:?} led to {:?}", step.input, handled.recorded);
        let mut next = world.clone();
        next.at = step.at;
        next.send_now(&step.input);
        for recorded in &handled.recorded {
            *self.facts.entry(recorded.decision.fact.name()).or_default() += 1;
        }
        self.statuses.extend(next.desk.incidents.all_shared().map(|it| it.status()));
        if !self.seen.insert(self.scope.key(&next)) {
            return None;
        }
        next.clone().run_out(TIMERS_MAX);
        Some(next)
    }

    fn summary(&self) -> String {
        format!("{} states, {} moves, {} void", self.seen.len(), self.n_moves, self.n_void)
    }
}

impl Scope {
    /// Names a state by what inputs can tell apart.
    fn key(&self, world: &World) -> String {
        let desk = &world.desk;
        let of = |it: &Incident| {
            let approved = it.approval.as_ref().is_some_and(|one| world.at < one.expires_at);
            let tried = it.n_tried();
            let heard = it.news.is_some();
            let n_rechecks = it.n_rechecks_failed.min(self.n_rechecks);
            let kind = it.event.kind.as_str();
            format!(
                "{:?} {kind} {} {tried} {n_rechecks} {approved} {heard} {:?}",
                it.target,
                self.phase(world, it),
                it.recall
            )
        };
        let incidents: BTreeSet<_> = desk.open_incidents().map(of).collect();
        let tripped = desk.breaker_until.is_some_and(|until| world.at < until);
        format!("{incidents:?} {} {tripped}", desk.paused.is_some())
    }

    fn phase(&self, world: &World, incident: &Incident) -> String {
        let plan = incident.plan().map(|it| it.runbook.clone());
        let age = world.desk.config.policy.plan_max_age.to_delta();
        let more = match &incident.phase {
            Phase::Proposed { hold, diagnosed_at, .. } => {
                let guard = hold.as_ref().map(|(guard, _)| guard);
                format!("{guard:?} {}", *diagnosed_at + age < world.at)
            }
            Phase::AwaitingApproval { diagnosed_at, .. } => {
                format!("{}", *diagnosed_at + age < world.at)
            }
            Phase::Symptom { of } | Phase::Verifying { purpose: Purpose::Symptom { of }, .. } => {
                let cause = world.desk.incident(*of).filter(|it| !it.is_over());
                format!("{:?}", cause.map(|it| (it.target.clone(), it.event.kind.clone())))
            }
            Phase::Verifying { purpose: Purpose::Recheck { escalated }, .. } => {
                format!("{} {:?}", escalated.is_some(), escalated.filter(|_| self.reasons))
            }
            Phase::RetryWaiting { why, .. } => format!("{:?}", self.reasons.then_some(why)),
            Phase::Escalated(why) => format!("{:?}", self.reasons.then_some(why)),
            Phase::Undoing { .. } => "undo".to_owned(),
            Phase::Diagnosing | Phase::Fixing { .. } | Phase::Verifying { .. } | Phase::Over(_) => {
                String::new()
            }
        };
        format!("{} {plan:?} {more}", incident.status().as_str())
    }

    fn moves(&self, world: &World) -> Vec<Move> {
        let soon = world.at + secs(1);
        let now = |input| Move { input, at: soon, is_void: false };
        let void = |input| Move { input, at: soon, is_void: true };
        let mut moves = Vec::new();
        let n_opened = world.desk.incidents.len();
        for (kind, name) in self.events {
            let mut event = world.clone().event(kind, name);
            event.id = format!("{kind}-{name}-{}", world.seq);
            moves.push(now(Input::Event(Event { status: Status::Resolved, ..event.clone() })));
            let is_open =
                world.desk.incidents.of_fingerprint(&event.fingerprint(Some(name))).is_some();
            if is_open || n_opened < INCIDENTS_MAX {
                moves.push(now(Input::Event(event)));
            }
        }
        if self.people {
            moves.push(now(command(Verb::Pause { reason: String::new() })));
            moves.push(now(command(Verb::Resume)));
        }
        for incident in world.desk.incidents.all_shared() {
            // Long after the end it would be a new event; `portions` tells of that.
            let opener = incident.event.event();
            if world.desk.known_delivery(opener.delivery(), soon).is_some() {
                moves.push(void(Input::Event(opener)));
            }
            moves.extend(self.commands(incident).into_iter().map(now));
            moves.extend(timers(world, incident));
            let reports = self.hands.map(|of| of(incident)).unwrap_or_default();
            if incident.is_over() {
                moves.extend(reports.into_iter().map(void));
            } else {
                moves.extend(reports.into_iter().map(now));
                moves.extend(stale(incident).into_iter().map(void));
            }
        }
        moves
    }

    fn commands(&self, incident: &Incident) -> Vec<Input> {
        let id = incident.id;
        let close = Verb::Close { incident: id, reason: String::new() };
        if !self.people {
            return vec![command(close)];
        }
        let mut verbs = vec![
            Verb::Approve { incident: id, plan_hash: plan("another").hash() },
            Verb::Reject { incident: id, reason: String::new() },
            Verb::Acknowledge { incident: id },
            close,
            Verb::Retry { incident: id },
        ];
        if let Some(plan) = incident.plan() {
            verbs.push(Verb::Approve { incident: id, plan_hash: plan.hash() });
        }
        verbs.into_iter().map(command).collect()
    }
}

/// The timer that is due, one that is too early, and an approval that is too late.
fn timers(world: &World, incident: &Incident) -> Vec<Move> {
    let id = incident.id;
    let deadline = world.desk.deadline(incident);
    let due = deadline.unwrap_or(world.at);
    let timer = || Input::Timer(TimerFired::of(id, due));
    let at = due.max(world.at);
    let is_early = deadline.is_none_or(|due| world.at < due);
    let mut moves = vec![
        Move { input: timer(), at: world.at, is_void: is_early },
        Move { input: timer(), at, is_void: deadline.is_none() },
    ];
    if let (Phase::AwaitingApproval { expires_at, .. }, Some(plan)) =
        (&incident.phase, incident.plan())
    {
        let approve = || command(Verb::Approve { incident: id, plan_hash: plan.hash() });
        moves.push(Move { input: approve(), at: *expires_at, is_void: true });
        moves.push(Move { input: approve(), at: *expires_at - secs(1), is_void: false });
    }
    moves
}
