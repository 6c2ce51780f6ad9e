//! Orders that must not begin any more, and reports that come too late.
//!
//! What stops new fixes stops those, too, that are ordered and not begun. Whether a fixer has
//! begun one only the broker knows: the leader claims the attempt in the fixers' place, where
//! the first wins. What came of it is an input like any other.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Desk, Turn, fleet::Fleet, settle::MOVES_MAX};
use crate::{
    fact::Fact,
    guard::{self, START_WITHIN, Situation, Standing},
    id::IncidentId,
    incident::{Incident, Phase},
    wire::{FixMode, FixOutcome, FixReport, Refusal, StepReport, WorkRef},
};

/// Steps between the moments at which it is looked whether a maintenance window begins.
const LOOK_EVERY: TimeDelta = TimeDelta::seconds(5);

/// A fix that is ordered can be begun at least for so long.
const START_WITHIN_MIN: TimeDelta = TimeDelta::milliseconds(500);

/// An order that is to be withdrawn, unless a fixer has begun it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recall {
    /// Which piece of work it is.
    pub work: WorkRef,
    /// The last part of the claim's subject.
    pub claim_key: String,
    /// The plan's hash.
    pub plan_hash: String,
}

impl Desk {
    /// Returns the orders that are to be withdrawn.
    pub fn recalls(&self) -> impl Iterator<Item = Recall> + '_ {
        self.incidents.wanting().filter_map(recall_of)
    }

    /// Returns the order of one incident that is to be withdrawn.
    #[must_use]
    pub fn recall(&self, id: IncidentId) -> Option<Recall> {
        self.incidents.get(&id).and_then(recall_of)
    }

    /// Asks for the recall of all that was ordered and that a guard would hold now, or that was
    /// planned for another configuration than the one in force. Returns how many.
    pub(super) fn recall_fixes(&mut self, turn: &mut Turn, former: Option<&Fleet>) -> usize {
        let wanted: Vec<_> = self
            .incidents
            .treated()
            .filter_map(|it| Some((it.id, self.why_recalled(it, former, turn.at)?)))
            .take(MOVES_MAX)
            .collect();
        let n = wanted.len();
        for (id, (replan, why)) in wanted {
            self.record(turn, Some(id), Fact::RecallRequested { replan }, why);
        }
        n
    }

    /// Returns whether the plan is made anew, and why the order is withdrawn.
    fn why_recalled(
        &self,
        incident: &Incident,
        former: Option<&Fleet>,
        now: DateTime<Utc>,
    ) -> Option<(bool, String)> {
        let Phase::Fixing { plan, diagnosed_at, .. } = &incident.phase else { return None };
        if incident.recall.is_some() {
            return None;
        }
        let Some(target) = self.config.target(&plan.target) else {
            return Some((true, "its target is not configured any more".to_owned()));
        };
        if former.is_some_and(|it| self.has_changed(it, incident.target.as_ref())) {
            let why = "the configuration has changed, so the plan is made anew";
            return Some((true, why.to_owned()));
        }
        let situation = Situation {
            now,
            incident,
            target,
            plan,
            diagnosed_at: *diagnosed_at,
            approver: Standing::Stands,
            policy: &self.config.policy,
            paused: self.paused.as_deref().or_else(|| self.config.not_understood()),
            breaker_until: self.breaker_until,
            silenced: self.silenced_until(incident, now),
            history: &self.history,
            under_treatment: &[],
            n_targets: self.config.targets.len(),
            n_sick: self.incidents.n_sick(),
            bring_up: false,
        };
        guard::recalls(&situation, plan.approved_by()).map(|why| (false, why))
    }

    /// Returns until when a fix that is ordered now may begin: not in a window that is known to
    /// begin meanwhile.
    pub(super) fn begun_until(&self, incident: &Incident, at: DateTime<Utc>) -> DateTime<Utc> {
        let last = at + START_WITHIN;
        let freezes = self.config.policy.freeze.iter().map(|it| it.from);
        let freeze = freezes.filter(|from| at < *from).min().unwrap_or(last);
        let until = last.min(freeze);
        let moments = std::iter::successors(Some(at), |it| Some(*it + LOOK_EVERY));
        let is_silent = |it: &DateTime<Utc>| self.silenced_until(incident, *it).is_some();
        let silent = moments.take_while(|it| *it < until).find(is_silent);
        let until = silent.map_or(until, |it| it - LOOK_EVERY);
        until.max(at + START_WITHIN_MIN)
    }

    /// Takes the word that an order was withdrawn. `false` when it was not asked for.
    pub(super) fn on_recalled(&mut self, turn: &mut Turn, report: &FixReport) -> bool {
        let FixOutcome::Refused { code: Refusal::Recalled, reason } = &report.outcome else {
            return false;
        };
        let id = report.work.incident;
        if report.mode != FixMode::Apply || self.recall(id).is_none() {
            return false;
        }
        let fact = Fact::FixRecalled { by: report.by.clone() };
        self.record(turn, Some(id), fact, format!("it was not started: {reason}"));
        self.settle(turn);
        true
    }

    /// Records a report on work that is not waited for any more, when something was done.
    pub(super) fn on_late_report(&mut self, turn: &mut Turn, report: &FixReport) {
        let (id, attempt, mode) = (report.work.incident, report.work.attempt, report.mode);
        let Some(incident) = self.incidents.get(&id) else { return };
        let is_known = incident
            .reported
            .iter()
            .any(|it| it.attempt == attempt && it.mode == mode && it.by == report.by);
        if report.steps.is_empty() || incident.attempt < attempt || is_known {
            return;
        }
        let silent = |it: &StepReport| StepReport { output: String::new(), ..it.clone() };
        let fact = Fact::LateReport {
            attempt,
            mode,
            by: report.by.clone(),
            outcome: report.outcome.clone(),
            steps: report.steps.iter().map(silent).collect(),
        };
        let done: Vec<_> = report.steps.iter().map(|it| it.summary.as_str()).collect();
        let why = format!("{} reported too late what it had done: {}", report.by, done.join("; "));
        self.record(turn, Some(id), fact, why);
    }
}

fn recall_of(incident: &Incident) -> Option<Recall> {
    let Phase::Fixing { plan, not_after, .. } = &incident.phase else { return None };
    incident.recall.map(|_| {
        let order = plan.order(incident.work(), FixMode::Apply, *not_after);
        let (claim_key, plan_hash) = (order.claim_key(), order.plan_hash.clone());
        Recall { work: incident.work(), claim_key, plan_hash }
    })
}
