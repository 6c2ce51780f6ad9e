//! What is done about a diagnosis.

use super::{Desk, Turn, observable::Proof, reopen};
use crate::{
    catalogue::Case,
    fact::{DiagnosedCause, Diagnosis, Escalation, Fact},
    id::IncidentId,
    incident::{Incident, Phase, Purpose},
    plan::Plan,
    wire::{AnalysisReport, HYPOTHESES_MAX, Hypothesis, cause},
};

/// A hypothesis that is less sure than this is shown, but nothing is done about it.
const CONFIDENCE_MIN_PERCENT: u8 = 30;
/// Verifications without a fix that may fail before a person is asked.
const RECHECKS_MAX: u32 = 5;

/// Returns whether a diagnosis says that all checks pass: those that measure the event, or
/// those that there are.
fn is_well(found: &str) -> bool {
    found == cause::HEALTHY || found == cause::NOT_OBSERVABLE
}

impl Desk {
    pub(super) fn on_analysis(&mut self, turn: &mut Turn, report: &AnalysisReport) {
        let id = report.work.incident;
        let Some(incident) = self.awaited(report.work) else { return };
        if incident.phase != Phase::Diagnosing {
            return;
        }
        let has_target = incident.target.is_some();
        let n_tried = incident.n_tried();
        let (diagnosis, chosen) = self.judge(incident, report);
        let hypothesis = chosen.and_then(|idx| diagnosis.hypotheses.get(idx)).cloned();
        let exhausted = self.config.policy.attempts <= n_tried;
        // A plan that may not be tried any more is not proposed.
        let plan_wanted = hypothesis.as_ref().is_some_and(|it| it.plan.is_some());
        let kept = chosen.filter(|_| !(exhausted && plan_wanted));
        let told = hypothesis.as_ref().or_else(|| diagnosis.hypotheses.first());
        let why = told.map_or_else(
            || "no diagnosis rule matched".to_owned(),
            |it| format!("{}: {}", it.summary, it.because.join("; ")),
        );
        let first = diagnosis.hypotheses.first().cloned();
        let fact = Fact::Diagnosed { report: Box::new(diagnosis), chosen: kept };
        self.record(turn, Some(id), fact, why);
        match hypothesis {
            Some(it) if is_well(&it.cause) && has_target => self.recheck(turn, id),
            Some(it) if is_well(&it.cause) => {
                self.escalate_without_plan(turn, id, first.as_ref(), has_target, n_tried);
            }
            Some(it) if it.cause == cause::DEPENDENCY_DOWN && it.plan.is_none() => {
                self.blame(turn, id, &it);
            }
            Some(_) if exhausted && plan_wanted => {
                let why = format!("all {n_tried} attempts failed, attempt limit reached");
                self.escalate(turn, id, Escalation::AttemptsExhausted, why);
            }
            Some(_) => {}
            None => self.escalate_without_plan(turn, id, first.as_ref(), has_target, n_tried),
        }
        self.settle(turn);
    }

    /// Takes what was reported, and makes the plan of the first cause that can be acted upon:
    /// a report names causes and runbooks, and what is done is said by the catalogue and the
    /// configuration in force. Returns which cause that is, too.
    fn judge(&self, incident: &Incident, report: &AnalysisReport) -> (Diagnosis, Option<usize>) {
        let mut chosen = None;
        let mut hypotheses = Vec::new();
        for (idx, said) in report.hypotheses.iter().take(HYPOTHESES_MAX).enumerate() {
            let mut found = DiagnosedCause {
                cause: said.cause.clone(),
                confidence_percent: said.confidence_percent,
                summary: said.summary.clone(),
                because: said.because.clone(),
                elsewhere: said.elsewhere.clone(),
                plan: None,
            };
            let is_sure =
                CONFIDENCE_MIN_PERCENT <= said.confidence_percent && !said.because.is_empty();
            if is_sure && chosen.is_none() {
                match self.plan_of(incident, said) {
                    Some(Ok(plan)) => found.plan = Some(plan),
                    Some(Err(why)) => found.because.push(why),
                    None => {}
                }
                let needs_no_plan = is_well(&said.cause) || said.cause == cause::DEPENDENCY_DOWN;
                chosen = (found.plan.is_some() || needs_no_plan).then_some(idx);
            }
            hypotheses.push(found);
        }
        let diagnosis = Diagnosis {
            work: report.work,
            by: report.by.clone(),
            hypotheses,
            evidence: report.evidence.clone(),
            took_ms: report.took_ms,
        };
        (diagnosis, chosen)
    }

    /// Returns the plan for what an analyzer proposes, or why there is none. `None` when it
    /// proposes nothing.
    fn plan_of(&self, incident: &Incident, said: &Hypothesis) -> Option<Result<Plan, String>> {
        let runbook = said.runbook.as_deref()?;
        let own = incident.target.as_deref();
        if said.target.as_deref().is_some_and(|it| Some(it) != own) {
            // What is wrong with another target is the matter of an incident of that target.
            let own = own.unwrap_or("no configured target");
            return Some(Err(format!(
                "the proposed runbook is for another target than that of the incident, `{own}`"
            )));
        }
        let target = own.and_then(|name| self.config.target(name));
        let Some(target) = target else {
            return Some(Err("without a configured target there is no plan".to_owned()));
        };
        let case = Case {
            cause: &said.cause,
            event: &incident.event.kind,
            source: incident.event.whose(),
            target,
            tried: incident.tried(),
            soak: self.config.policy.soak,
            within: self.config.policy.verify_within,
        };
        Some(self.config.catalogue().plan(runbook, &case))
    }

    fn escalate_without_plan(
        &mut self,
        turn: &mut Turn,
        id: IncidentId,
        first: Option<&DiagnosedCause>,
        has_target: bool,
        n_tried: u32,
    ) {
        let (why, text) = match first {
            _ if !has_target => (
                Escalation::UnknownTarget,
                "no configured target fits the event; add one, or a selector that finds it"
                    .to_owned(),
            ),
            // The next look may see what this one did not.
            None => {
                let why = "no diagnosis rule matched";
                return self.try_later(turn, id, Escalation::NoCause, why);
            }
            // Such as while a deployment replaces it: no attempt is made, and none is counted.
            Some(it) if reopen::may_pass(&it.cause) => {
                let why = format!("{}: {}", it.cause, it.because.join("; "));
                return self.try_later(turn, id, Escalation::NoPlan, &why);
            }
            Some(it) if 0 < n_tried => (
                Escalation::AttemptsExhausted,
                format!("{n_tried} attempts failed, no further runbook for {}", it.cause),
            ),
            Some(it) => (
                Escalation::NoPlan,
                format!("no runbook fits {}: {}", it.cause, it.because.join("; ")),
            ),
        };
        self.escalate(turn, id, why, text);
    }

    /// Has fresh samples prove that all is well; what they cannot prove is for people.
    fn recheck(&mut self, turn: &mut Turn, id: IncidentId) {
        let Some(incident) = self.incidents.get(&id) else { return };
        if let Proof::Sender(unproven) = self.proof_of(incident) {
            let text = format!("{unproven}; watching for the resolve of {}", incident.event.source);
            return self.escalate(turn, id, Escalation::NotObservable, text);
        }
        if !self.flaps(turn, id) {
            let why = "all checks pass; fresh samples must prove it";
            self.record(turn, Some(id), Fact::RecheckStarted, why);
        }
    }

    /// Asks a person when a target was found well, by itself or with its cause, and sick
    /// again too often.
    fn flaps(&mut self, turn: &mut Turn, id: IncidentId) -> bool {
        let n_failed = self.incidents.get(&id).map_or(0, |it| it.n_rechecks_failed);
        if n_failed < RECHECKS_MAX {
            return false;
        }
        let why = format!("flapping: it recovered and failed again {n_failed} times");
        self.escalate(turn, id, Escalation::NoCause, why);
        true
    }

    /// Makes the incident a symptom of the one on the target that was found to be the cause.
    fn blame(&mut self, turn: &mut Turn, id: IncidentId, hypothesis: &DiagnosedCause) {
        if self.flaps(turn, id) {
            return;
        }
        let on = hypothesis.elsewhere.clone().unwrap_or_default();
        let own = self.incidents.get(&id).and_then(|it| it.target.as_deref());
        let needed = own.map(|it| self.config.dependencies(it)).unwrap_or_default();
        // A report opens no incident on what the target does not need.
        let cause = if needed.iter().any(|it| it.name == on) {
            self.open_cause(turn, &on, &hypothesis.summary)
        } else {
            None
        };
        let still = self.incidents.get(&id).is_some_and(|it| it.phase == Phase::Diagnosing);
        match cause {
            // Opening the cause has made it a symptom already.
            Some(_) if !still => {}
            Some(_) if self.seek_cause(turn, id) => {}
            // It is just being looked at whether the cause is well again; what comes of
            // that decides about this one, too.
            Some(of) if self.is_being_rechecked(of) => {
                let why = format!("a symptom of {on}, which is being verified: {of}");
                self.record(turn, Some(id), Fact::BecameSymptom { of }, why);
            }
            Some(_) | None => {
                let hint = "; is it configured, and in `depends_on`?";
                let why = format!("the cause is said to be `{on}`, which it does not need{hint}");
                self.escalate(turn, id, Escalation::NoPlan, why);
            }
        }
    }

    fn is_being_rechecked(&self, id: IncidentId) -> bool {
        self.incidents.get(&id).is_some_and(|it| {
            matches!(it.phase, Phase::Verifying { purpose: Purpose::Recheck { .. }, .. })
        })
    }
}
