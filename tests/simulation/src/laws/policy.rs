//! What policy allows, counted anew from the ledger alone: a second opinion on the guards.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    autonomy::{Autonomy, Risk},
    catalogue::Catalogue,
    config::Config,
    fact::{Decision, Fact, Trigger},
    id::IncidentId,
    plan::Plan,
    span::{Rates, Span},
    wire::{FixOutcome, FixReport},
};

use crate::clock::{Micros, moment};

/// How long a yes is worth something.
const APPROVAL_WORTH: TimeDelta = TimeDelta::minutes(5);

/// Where an incident stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stand {
    Diagnosing,
    Proposed,
    Awaiting,
    Fixing,
    Undoing,
    Proving {
        is_fix: bool,
    },
    /// A retry waits for its time.
    Waiting,
    Symptom(IncidentId),
    Escalated,
    Over,
}

/// One incident.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) stand: Stand,
    pub(super) since: DateTime<Utc>,
    pub(super) target: Option<String>,
    /// What the sender called it, configured or not.
    pub(super) named: Option<String>,
    pub(super) plan: Option<Plan>,
    diagnosed_at: DateTime<Utc>,
    attempt: u32,
    before_retry: u32,
    /// Attempts since then that were not begun.
    returned: u32,
    /// What was ordered and is withdrawn is planned anew.
    replan: bool,
    yes: Option<(String, DateTime<Utc>)>,
    pub(super) held_since: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug)]
struct Fix {
    incident: IncidentId,
    target: String,
    runbook: String,
    started: DateTime<Utc>,
    ended: Option<DateTime<Utc>>,
    failed: bool,
    bring_up: bool,
}

/// All that policy looks at.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) config: Config,
    pub(super) cases: BTreeMap<IncidentId, Case>,
    paused: bool,
    breaker_until: Option<DateTime<Utc>>,
    breaker_since: Option<DateTime<Utc>>,
    /// So many fixes have failed that the breaker must trip before the next one begins.
    owes_trip: bool,
    fixes: Vec<Fix>,
}

impl Model {
    /// Returns whether an incident waits for its diagnosis.
    pub(super) fn is_diagnosing(&self, id: IncidentId) -> bool {
        self.cases.get(&id).is_some_and(|it| it.stand == Stand::Diagnosing)
    }

    /// Returns whether an incident was over at that time.
    pub(super) fn was_over(&self, id: IncidentId, at: DateTime<Utc>) -> bool {
        self.cases.get(&id).is_some_and(|it| it.stand == Stand::Over && it.since <= at)
    }

    pub(super) fn attempt(&self, id: IncidentId) -> u32 {
        self.cases.get(&id).map_or(0, |it| it.attempt)
    }

    /// Returns of what, since when, and for how long health must be proven.
    pub(super) fn proof(&self, id: IncidentId) -> (Option<&str>, Option<Micros>, Span) {
        let Some(case) = self.cases.get(&id) else { return (None, None, Span::ZERO) };
        let is_fix = case.stand == Stand::Proving { is_fix: true };
        let planned = case.plan.as_ref().filter(|_| is_fix).map(|it| it.success.soak);
        let target = case.target.as_deref();
        let own = target.and_then(|it| self.config.target(it)).and_then(|it| it.soak);
        let soak = planned.or(own).unwrap_or(self.config.policy.soak);
        // A change of the configuration may have changed the soak meanwhile.
        let soak = if is_fix { soak } else { soak.min(Span::from_secs(1)) };
        (target, Some(moment(case.since)), soak)
    }

    /// Takes a decision. Says what is wrong with it.
    pub(super) fn decide(
        &mut self,
        decision: &Decision,
        whole: Option<Config>,
    ) -> Result<(), String> {
        let at = decision.at;
        if let Some(config) = whole {
            self.config = config;
        }
        match (&decision.fact, decision.incident) {
            (Fact::Paused { .. }, _) => self.paused = true,
            (Fact::Resumed { .. }, _) => {
                self.paused = false;
                self.owes_trip = false;
                self.breaker_until = None;
                self.breaker_since = Some(at);
            }
            (Fact::BreakerTripped { until }, _) => {
                self.owes_trip = false;
                self.breaker_until = Some(*until);
                self.breaker_since = Some(at);
            }
            (Fact::Opened { target, event, .. }, Some(id)) => {
                let case = Case {
                    stand: Stand::Diagnosing,
                    since: at,
                    target: target.clone(),
                    named: event.target.clone(),
                    plan: None,
                    diagnosed_at: at,
                    attempt: 0,
                    before_retry: 0,
                    returned: 0,
                    replan: false,
                    yes: None,
                    held_since: None,
                };
                self.cases.insert(id, case);
            }
            (fact, Some(id)) => self.about(id, fact, at)?,
            (_, None) => {}
        }
        Ok(())
    }

    fn about(&mut self, id: IncidentId, fact: &Fact, at: DateTime<Utc>) -> Result<(), String> {
        if let Fact::FixStarted { attempt, plan, bring_up, .. } = fact {
            self.may_begin(id, (*attempt, *bring_up), plan, at)
                .map_err(|why| format!("{id}: {why}"))?;
            self.fixes.push(Fix {
                incident: id,
                target: plan.target.clone(),
                runbook: plan.runbook.clone(),
                started: at,
                ended: None,
                failed: false,
                bring_up: *bring_up,
            });
        }
        if let Fact::Diagnosed { report, .. } = fact {
            let target = self.cases.get(&id).and_then(|it| it.target.as_deref());
            for plan in report.hypotheses.iter().filter_map(|it| it.plan.as_ref()) {
                self.is_of_a_runbook(plan, target).map_err(|why| format!("{id}: {why}"))?;
            }
        }
        if matches!(fact, Fact::AttemptReturned | Fact::FixRecalled { .. })
            && let Some(last) = self.fixes.iter().rposition(|it| it.incident == id)
        {
            self.fixes.remove(last);
        }
        let ends = matches!(
            fact,
            Fact::AttemptFailed | Fact::Resolved | Fact::Escalated { .. } | Fact::Closed { .. }
        );
        let mut own = self.fixes.iter_mut().rev();
        if ends
            && let Some(fix) = own.find(|it| it.incident == id)
            && fix.ended.is_none()
        {
            fix.ended = Some(at);
            fix.failed = !matches!(fact, Fact::Resolved);
            // A person who closes an incident trips nothing.
            let counts = matches!(fact, Fact::AttemptFailed | Fact::Escalated { .. });
            self.owes_trip |= counts && self.is_too_much(at);
        }
        self.move_on(id, fact, at);
        Ok(())
    }

    /// Says why a plan is not what a runbook in force makes of the incident's target.
    fn is_of_a_runbook(&self, plan: &Plan, target: Option<&str>) -> Result<(), String> {
        let catalogue = Catalogue::with(&self.config.runbooks);
        let runbook = catalogue.runbook(&plan.runbook).ok_or("a plan of no runbook")?;
        let target = target.and_then(|it| self.config.target(it)).ok_or("a plan for no target")?;
        let (soak, within) = (self.config.policy.soak, self.config.policy.verify_within);
        match runbook.plan(&plan.cause, target, soak, within) {
            Ok(made) if made == *plan => Ok(()),
            made => Err(format!("{plan:?} is not what its runbook gives, {made:?}")),
        }
    }

    /// Returns whether so many fixes have failed lately that no more may begin.
    fn is_too_much(&self, at: DateTime<Utc>) -> bool {
        let breaker = self.config.policy.breaker;
        let from = at - breaker.within.to_delta();
        let from = self.breaker_since.map_or(from, |since| since.max(from));
        let failed = self.fixes.iter().filter(|it| it.failed && !it.bring_up);
        let n_failed = failed.filter(|it| it.ended.is_some_and(|ended| from < ended)).count();
        let is_closed = self.breaker_until.is_none_or(|until| until <= at);
        is_closed && usize::try_from(breaker.failures).unwrap_or(usize::MAX) <= n_failed
    }

    fn move_on(&mut self, id: IncidentId, fact: &Fact, at: DateTime<Utc>) {
        let Some(case) = self.cases.get_mut(&id) else { return };
        let next = match fact {
            Fact::BecameSymptom { of } => Some(Stand::Symptom(*of)),
            Fact::Released | Fact::PlanExpired | Fact::AttemptFailed => Some(Stand::Diagnosing),
            Fact::RetryScheduled { .. } => Some(Stand::Waiting),
            Fact::RediagnosisStarted { trigger } => {
                if *trigger == Trigger::News {
                    (case.before_retry, case.returned) = (case.attempt, 0);
                    case.yes = None;
                }
                Some(Stand::Diagnosing)
            }
            Fact::AttemptReturned => {
                case.returned += 1;
                Some(Stand::Diagnosing)
            }
            Fact::RecallRequested { replan } => {
                case.replan = *replan;
                None
            }
            Fact::FixRecalled { .. } => {
                case.returned += 1;
                Some(if case.replan { Stand::Diagnosing } else { Stand::Proposed })
            }
            Fact::Retried { target, .. } => {
                if case.target.is_none() {
                    case.target.clone_from(target);
                }
                (case.before_retry, case.returned) = (case.attempt, 0);
                Some(Stand::Diagnosing)
            }
            Fact::Diagnosed { report, chosen } => {
                let chosen = chosen.and_then(|idx| report.hypotheses.get(idx));
                chosen.and_then(|it| it.plan.clone()).map(|plan| {
                    (case.plan, case.diagnosed_at) = (Some(plan), at);
                    Stand::Proposed
                })
            }
            Fact::Held { .. } => {
                case.held_since.get_or_insert(at);
                Some(Stand::Proposed)
            }
            Fact::ApprovalRequested { .. } => Some(Stand::Awaiting),
            Fact::Approved { plan_hash, .. } => {
                case.yes = Some((plan_hash.clone(), at));
                Some(Stand::Proposed)
            }
            Fact::FixStarted { attempt, plan, .. } => {
                case.attempt = *attempt;
                case.plan = Some((**plan).clone());
                case.yes = None;
                Some(Stand::Fixing)
            }
            Fact::FixEnded { report } => {
                may_have_worked(report.as_deref()).then_some(Stand::Proving { is_fix: true })
            }
            Fact::RecheckStarted => Some(Stand::Proving { is_fix: false }),
            Fact::UndoStarted { .. } => Some(Stand::Undoing),
            Fact::Resolved | Fact::SelfResolved | Fact::Closed { .. } => Some(Stand::Over),
            Fact::Escalated { .. } => Some(Stand::Escalated),
            _ => None,
        };
        let is_held = matches!(fact, Fact::Held { .. } | Fact::PlanExpired)
            || matches!(fact, Fact::Diagnosed { .. } | Fact::Approved { .. });
        if !is_held && next.is_some() {
            case.held_since = None;
        }
        if let Some(next) = next {
            (case.stand, case.since) = (next, at);
        }
    }

    /// Says why a fix must not begin now.
    fn may_begin(
        &self,
        id: IncidentId,
        (attempt, bring_up): (u32, bool),
        plan: &Plan,
        at: DateTime<Utc>,
    ) -> Result<(), String> {
        let policy = &self.config.policy;
        if bring_up && plan.risk != Risk::Low {
            return Err("a bring-up is a start of low risk".to_owned());
        }
        let case = self.cases.get(&id).ok_or("nobody opened the incident")?;
        if case.stand != Stand::Proposed || case.plan.as_ref() != Some(plan) {
            return Err("this plan was not proposed".to_owned());
        }
        if attempt != case.attempt + 1 {
            return Err(format!("attempt {attempt} follows {}", case.attempt));
        }
        let nth = attempt - case.before_retry - case.returned;
        if policy.attempts < nth {
            return Err(format!("{} attempts are allowed, this is {attempt}", policy.attempts));
        }
        if self.paused {
            return Err("fixes are paused".to_owned());
        }
        if policy.freeze.iter().any(|it| it.from <= at && at < it.until) {
            return Err("this is a freeze window".to_owned());
        }
        if case.target.as_deref() != Some(plan.target.as_str()) {
            return Err("the plan is for another target".to_owned());
        }
        if case.diagnosed_at + policy.plan_max_age.to_delta() < at {
            return Err("the plan is too old".to_owned());
        }
        self.may_without_asking(case, plan, at)?;
        self.may_beside_others(id, plan, bring_up)?;
        self.may_again(id, nth, plan, at, bring_up)?;
        if self.owes_trip || self.breaker_until.is_some_and(|until| at < until) {
            return Err("too many fixes have failed lately".to_owned());
        }
        Ok(())
    }

    fn may_without_asking(
        &self,
        case: &Case,
        plan: &Plan,
        at: DateTime<Utc>,
    ) -> Result<(), String> {
        let policy = &self.config.policy;
        let target = self.config.target(&plan.target).ok_or("the target is not configured")?;
        let by_risk = match plan.risk {
            Risk::Low => Autonomy::Auto,
            Risk::Medium => Autonomy::Approve,
            Risk::High => Autonomy::Suggest,
        };
        let here = policy.runbooks.get(&plan.runbook).and_then(|it| it.autonomy);
        let general = plan.autonomy.unwrap_or(by_risk).min(policy.autonomy);
        let mut allowed = here.unwrap_or(general);
        if let Some(own) = target.autonomy {
            allowed = allowed.min(own);
        }
        let yes = case.yes.as_ref();
        let is_approved =
            yes.is_some_and(|(hash, said)| *hash == plan.hash() && at < *said + APPROVAL_WORTH);
        match allowed {
            Autonomy::Auto => Ok(()),
            Autonomy::Approve if is_approved => Ok(()),
            Autonomy::Approve | Autonomy::Suggest | Autonomy::Observe => {
                Err(format!("`{}` may not begin by itself", plan.runbook))
            }
        }
    }

    fn may_beside_others(&self, id: IncidentId, plan: &Plan, bring_up: bool) -> Result<(), String> {
        let policy = &self.config.policy;
        let treated = self.cases.iter().filter(|(other, it)| {
            let is_treated = matches!(
                it.stand,
                Stand::Fixing | Stand::Undoing | Stand::Proving { is_fix: true }
            );
            **other != id && is_treated
        });
        let treated: BTreeSet<&str> =
            treated.filter_map(|(_, it)| it.plan.as_ref()).map(|it| it.target.as_str()).collect();
        if treated.contains(plan.target.as_str()) {
            return Err("another fix of the target is under way".to_owned());
        }
        if bring_up {
            // It touches nothing that runs, and the guards have a limit of their own.
            let n = treated.len();
            return if n < 32 { Ok(()) } else { Err(format!("{n} targets are brought up")) };
        }
        let n_targets = self.config.targets.len();
        let radius = policy.budget.blast_radius.of(n_targets);
        if radius < treated.len() + 1 {
            return Err(format!("{} others are under treatment, of {radius}", treated.len()));
        }
        let sick = self.cases.values().filter(|it| {
            !matches!(it.stand, Stand::Symptom(_) | Stand::Waiting | Stand::Escalated | Stand::Over)
        });
        let sick: BTreeSet<&str> = sick.filter_map(|it| it.target.as_deref()).collect();
        if policy.storm.of(n_targets).max(3) < sick.len() {
            return Err(format!("{} targets are sick at once", sick.len()));
        }
        Ok(())
    }

    fn may_again(
        &self,
        id: IncidentId,
        nth: u32,
        plan: &Plan,
        at: DateTime<Utc>,
        bring_up: bool,
    ) -> Result<(), String> {
        let policy = &self.config.policy;
        let on_target = |it: &&Fix| it.target == plan.target;
        let of_runbook = |it: &&Fix| it.runbook == plan.runbook;
        let own = policy.runbooks.get(&plan.runbook).and_then(|it| it.budget.as_ref());
        let within = |rates: &Rates, concerns: &dyn Fn(&&Fix) -> bool| {
            rates.0.iter().all(|rate| {
                let from = at - rate.per.to_delta();
                let counted = self.fixes.iter().filter(concerns).filter(|it| !it.bring_up);
                let n = counted.filter(|it| from < it.started).count();
                n < usize::try_from(rate.count).unwrap_or(usize::MAX)
            })
        };
        let budget = &policy.budget;
        let is_used_up = !within(&budget.per_target, &on_target)
            || !within(own.unwrap_or(&budget.per_runbook), &of_runbook)
            || !within(&budget.fleet, &|_| true);
        if is_used_up && !bring_up {
            return Err("the budget is used up".to_owned());
        }
        let rested = |wait: Span, concerns: &dyn Fn(&&Fix) -> bool| {
            let ends = self.fixes.iter().filter(concerns).map(|it| it.ended.unwrap_or(at));
            ends.max().is_none_or(|last| last + wait.to_delta() <= at)
        };
        let cooldown = policy.cooldown;
        let doublings = nth.saturating_sub(2).min(20);
        let backoff = if nth < 2 {
            Span::ZERO
        } else {
            Span::from_millis((policy.backoff.as_millis() << doublings).min(300_000))
        };
        if !rested(backoff, &|it| it.incident == id)
            || !rested(cooldown.per_target, &on_target)
            || !rested(cooldown.per_runbook, &of_runbook)
            || !rested(cooldown.fleet, &|_| true)
        {
            return Err("it is too soon after the last fix".to_owned());
        }
        Ok(())
    }
}

fn may_have_worked(report: Option<&FixReport>) -> bool {
    report.is_none_or(|it| match it.outcome {
        FixOutcome::Succeeded | FixOutcome::Unknown { .. } => true,
        FixOutcome::Failed { .. } | FixOutcome::Refused { .. } => false,
    })
}
