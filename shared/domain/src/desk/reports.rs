//! What reports of the hands and deadlines do.

use chrono::{DateTime, Utc};

use super::{Desk, Turn};
use crate::{
    fact::{Escalation, Fact, Trigger},
    id::IncidentId,
    incident::{Incident, Phase, Purpose, will_be_tried_again},
    wire::{FixMode, FixOutcome, FixReport, NoticeReport, VerificationReport, WorkRef},
};

impl Desk {
    /// Returns the incident if it waits for exactly this piece of work; a late or repeated
    /// report ends here.
    pub(super) fn awaited(&self, work: WorkRef) -> Option<&Incident> {
        self.incidents.get(&work.incident).filter(|it| it.work() == work)
    }

    pub(super) fn on_fix(&mut self, turn: &mut Turn, report: &FixReport) {
        let id = report.work.incident;
        if self.awaited(report.work).is_none() {
            return self.on_late_report(turn, report);
        }
        if self.on_recalled(turn, report) {
            return;
        }
        let (FixOutcome::Failed { reason }
        | FixOutcome::Unknown { reason }
        | FixOutcome::Refused { reason, .. }) = &report.outcome
        else {
            let done: Vec<_> = report.steps.iter().map(|it| it.summary.as_str()).collect();
            let why = format!("{} carried it out: {}", report.by, done.join("; "));
            return self.fix_ended(turn, id, report, &why);
        };
        let by = &report.by;
        let why = match &report.outcome {
            FixOutcome::Refused { .. } => format!("{by} refused: {reason}"),
            FixOutcome::Unknown { .. } => format!("outcome unknown: {reason}"),
            FixOutcome::Failed { .. } if report.undone => {
                format!("failed and taken back: {reason}")
            }
            FixOutcome::Failed { .. } | FixOutcome::Succeeded => format!("failed: {reason}"),
        };
        self.fix_ended(turn, id, report, &why);
    }

    fn fix_ended(&mut self, turn: &mut Turn, id: IncidentId, report: &FixReport, why: &str) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let boxed = Some(Box::new(report.clone()));
        match (&incident.phase, report.mode) {
            (Phase::Fixing { .. }, FixMode::Apply) => {
                self.record(turn, Some(id), Fact::FixEnded { report: boxed }, why);
                match report.outcome {
                    FixOutcome::Failed { .. } => self.attempt_failed(turn, id, why),
                    FixOutcome::Refused { .. } => {
                        let returned = "it was not started, so it does not count as an attempt";
                        self.record(turn, Some(id), Fact::AttemptReturned, returned);
                        self.try_later(turn, id, Escalation::Refused, why);
                    }
                    FixOutcome::Succeeded | FixOutcome::Unknown { .. } => {}
                }
            }
            (Phase::Undoing { .. }, FixMode::Undo) => {
                self.record(turn, Some(id), Fact::UndoEnded { report: boxed }, why);
                let why = format!(
                    "regression: the fix made a neighbour unhealthy and was rolled back: {why}"
                );
                self.escalate(turn, id, Escalation::Regression, why);
            }
            _ => return,
        }
        self.settle(turn);
    }

    pub(super) fn on_verification(&mut self, turn: &mut Turn, report: &VerificationReport) {
        let id = report.work.incident;
        let Some(incident) = self.awaited(report.work) else { return };
        let Phase::Verifying { purpose, since } = incident.phase.clone() else { return };
        if report.samples_from < since || (report.passed && report.n_samples == 0) {
            // Samples from before the fix prove nothing, nor does a verification without
            // any; the deadline or a repeated verification brings better ones.
            return;
        }
        let broken = &self.regressions(id, &report.broken_neighbours);
        let boxed = Box::new(report.clone());
        let helped = report.passed && broken.is_empty();
        if helped {
            let why = report.summary.clone();
            self.record(turn, Some(id), Fact::Verified { report: boxed }, why);
            self.prove(turn, id, &purpose, report);
        } else {
            let why = if broken.is_empty() {
                report.summary.clone()
            } else {
                format!("{}; unhealthy afterwards: {}", report.summary, broken.join(", "))
            };
            let fact = Fact::NotVerified { report: Some(boxed) };
            self.record(turn, Some(id), fact, why.clone());
            self.disprove(turn, id, &purpose, broken, &why);
        }
        self.settle(turn);
    }

    /// Returns those of the sick neighbours that the fix may have made sick. One whose own
    /// trouble began before the fix, or that nobody has ever seen well, is not among them.
    fn regressions(&self, id: IncidentId, broken: &[String]) -> Vec<String> {
        let began =
            self.incidents.get(&id).and_then(|it| it.attempts.last()).map(|it| it.started_at);
        let was_sick = |name: &String| {
            self.incidents.on_target(name).any(|it| {
                let since = it.event.starts_at.unwrap_or(it.opened_at);
                let seen_well = it.event.seen_well();
                it.id != id
                    && (began.is_some_and(|began| since < began) || seen_well == Some(false))
            })
        };
        broken.iter().filter(|name| !was_sick(name)).cloned().collect()
    }

    pub(super) fn prove(
        &mut self,
        turn: &mut Turn,
        id: IncidentId,
        purpose: &Purpose,
        report: &VerificationReport,
    ) {
        let name = self.incidents.get(&id).and_then(|it| it.target.as_deref());
        let gone = name
            .filter(|name| self.config.target(name).is_none())
            .map_or_else(String::new, |name| {
                format!("; target {name} was removed from the configuration meanwhile")
            });
        let proof =
            format!("{} ({} samples by {}){gone}", report.summary, report.n_samples, report.by);
        let (fact, why) = match purpose {
            Purpose::Fix { plan, .. } => (Fact::Resolved, format!("{}; {proof}", **plan)),
            Purpose::Symptom { of } => {
                (Fact::Resolved, format!("healthy again with its cause {of}; {proof}"))
            }
            Purpose::Recheck { .. } => {
                (Fact::SelfResolved, format!("healthy again without a fix; {proof}"))
            }
        };
        self.record(turn, Some(id), fact, why);
    }

    pub(super) fn disprove(
        &mut self,
        turn: &mut Turn,
        id: IncidentId,
        purpose: &Purpose,
        broken: &[String],
        why: &str,
    ) {
        match purpose {
            Purpose::Fix { plan, .. } if !broken.is_empty() && plan.can_be_undone() => {
                let fact = Fact::UndoStarted { broken: broken.to_vec() };
                let why = format!("regression: {} became unhealthy", broken.join(", "));
                self.record(turn, Some(id), fact, why);
            }
            Purpose::Fix { plan, .. } if !broken.is_empty() => {
                let why = format!(
                    "regression: {} became unhealthy after {}, which has no rollback",
                    broken.join(", "),
                    **plan
                );
                self.escalate(turn, id, Escalation::Regression, why);
            }
            Purpose::Fix { .. } => self.attempt_failed(turn, id, why),
            Purpose::Recheck { escalated: Some(former) } => {
                let why = format!("recovery was reported but not proven: {why}");
                self.escalate(turn, id, *former, why);
            }
            Purpose::Recheck { escalated: None } => {
                let why = format!("recovery was not proven: {why}");
                self.record(turn, Some(id), Fact::Released, why);
            }
            Purpose::Symptom { .. } => {
                let why = format!("still unhealthy although its cause has ended: {why}");
                self.record(turn, Some(id), Fact::Released, why);
            }
        }
    }

    fn attempt_failed(&mut self, turn: &mut Turn, id: IncidentId, why: &str) {
        self.record(turn, Some(id), Fact::AttemptFailed, why);
        self.trip_breaker(turn);
    }

    /// Trips the breaker when too many fixes failed lately.
    fn trip_breaker(&mut self, turn: &mut Turn) {
        let breaker = self.config.policy.breaker;
        let from = turn.at - breaker.within.to_delta();
        let from = self.breaker_since.map_or(from, |since| since.max(from));
        let n_failed = self
            .history
            .iter()
            .filter(|it| it.failed && !it.bring_up && it.ended_at.is_some_and(|at| from < at))
            .count();
        let is_closed = self.breaker_until.is_none_or(|until| until <= turn.at);
        if is_closed && usize::try_from(breaker.failures).unwrap_or(usize::MAX) <= n_failed {
            let until = turn.at + breaker.reset_after.to_delta();
            let why = format!(
                "{n_failed} fixes failed within {}; no new fix starts until {until}",
                breaker.within
            );
            self.record(turn, None, Fact::BreakerTripped { until }, why);
        }
    }

    pub(super) fn escalate(
        &mut self,
        turn: &mut Turn,
        id: IncidentId,
        why: Escalation,
        text: impl Into<String>,
    ) {
        let fix_failed = self.incidents.get(&id).is_some_and(Incident::is_under_treatment);
        self.record(turn, Some(id), Fact::Escalated { why }, text);
        if fix_failed {
            self.trip_breaker(turn);
        }
    }

    pub(super) fn on_notice(&mut self, turn: &mut Turn, report: &NoticeReport) {
        let id = report.work.incident;
        let Some(incident) = self.incidents.get(&id) else { return };
        if let Some(notice) = incident.notices.iter().find(|it| it.name() == report.notice) {
            let to = if notice.to.is_empty() { "people" } else { notice.to.as_str() };
            let why = match &report.outcome {
                Ok(how) => format!("notified {to}: {how}"),
                Err(error) if will_be_tried_again(notice, report) => {
                    format!("could not notify {to}, will retry: {error}")
                }
                Err(error) => format!("could not notify {to}: {error}"),
            };
            self.record(turn, Some(id), Fact::Notified { report: report.clone() }, why);
        }
    }

    /// A deadline may have come. The timer is only a nudge: what counts is the deadline
    /// and the broker's time, so a repeated, late or early one does no harm.
    pub(super) fn on_timer(&mut self, turn: &mut Turn, id: IncidentId) {
        if id == IncidentId::NONE {
            return self.look_again(turn);
        }
        self.tell_due(turn, id);
        let has_come = |at: Option<DateTime<Utc>>| at.is_some_and(|at| at <= turn.at);
        if !has_come(self.incidents.deadline(id)) {
            return;
        }
        let Some(incident) = self.incidents.get(&id) else { return };
        if has_come(incident.lease) {
            self.end_lease(turn, id);
        }
        self.end_phase(turn, id);
        self.settle(turn);
    }

    /// Does what follows when the present phase has lasted as long as it may.
    fn end_phase(&mut self, turn: &mut Turn, id: IncidentId) {
        let policy = &self.config.policy;
        let Some(incident) = self.incidents.get(&id) else { return };
        let proof = super::proof_within(&self.config, incident);
        let due = incident.phase_deadline(policy, proof, self.incidents.led_at());
        // What can move without having waited for its end is looked at in any case.
        if due.is_none_or(|due| turn.at < due) && !self.incidents.is_movable(id) {
            return;
        }
        if incident.news_due(policy).is_some_and(|due| due <= turn.at) {
            return self.hear_news(turn, id);
        }
        let held_since = incident.held_since.unwrap_or(incident.entered_at);
        match incident.phase.clone() {
            Phase::Diagnosing => {
                let why = "no diagnosis in time; is an analyzer running for its zone?";
                self.try_later(turn, id, Escalation::NotDiagnosed, why);
            }
            Phase::RetryWaiting { .. } => {
                let n = incident.retries.map_or(0, |it| it.n);
                let why = format!("retry {n}");
                self.rediagnose(turn, id, Trigger::Retry, &why);
            }
            Phase::Proposed { hold, diagnosed_at, .. } => {
                let last = incident.held_since.unwrap_or(diagnosed_at);
                let last = last + policy.hold_timeout.to_delta();
                if last <= turn.at || hold.is_none() {
                    let guard = hold.map_or_else(String::new, |(guard, _)| guard);
                    let why = format!("held by `{guard}` since {held_since}, which is too long");
                    self.escalate(turn, id, Escalation::HeldTooLong, why);
                } else {
                    self.guard(turn, id);
                }
            }
            Phase::AwaitingApproval { expires_at, .. } => {
                let why = format!("approval expired at {expires_at}");
                self.escalate(turn, id, Escalation::ApprovalExpired, why);
            }
            Phase::Fixing { .. } => {
                let why = "fixer did not report in time; outcome unknown, verifying";
                self.record(turn, Some(id), Fact::FixEnded { report: None }, why);
            }
            Phase::Undoing { .. } => {
                let why = "no fixer reported on the undo in time";
                self.record(turn, Some(id), Fact::UndoEnded { report: None }, why);
                self.escalate(turn, id, Escalation::Regression, why);
            }
            // Its deadline has come because it need not wait: settling knows what follows.
            Phase::Verifying { .. } | Phase::Symptom { .. } if self.incidents.is_movable(id) => {}
            Phase::Verifying { purpose, .. } => self.unverified(turn, id, &purpose),
            Phase::Symptom { of } => {
                let why = format!("its cause {of} was not healed in time");
                self.escalate(turn, id, Escalation::CauseNotHealed, why);
            }
            Phase::Escalated(_) if due.is_some_and(|due| due <= turn.at) => {
                let because = format!("{} has reported that it has ended", incident.event.source);
                self.may_be_over(turn, id, &because);
            }
            Phase::Escalated(_) | Phase::Over(_) => {}
        }
    }

    fn unverified(&mut self, turn: &mut Turn, id: IncidentId, purpose: &Purpose) {
        let why = "no verification in time; is a monitor running for its zone?";
        self.record(turn, Some(id), Fact::NotVerified { report: None }, why);
        let former = match purpose {
            Purpose::Recheck { escalated } => *escalated,
            Purpose::Fix { .. } | Purpose::Symptom { .. } => None,
        };
        self.escalate(turn, id, former.unwrap_or(Escalation::NotVerified), why);
    }
}
