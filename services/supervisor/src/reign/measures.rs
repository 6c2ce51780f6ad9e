//! What the leader counts of what was decided.
//!
//! Only once it is stored, and only by who stored it: of all supervisors one counts each
//! decision. When a leader dies between an append and its answer, nobody counts that batch.

use chrono::TimeDelta;
use domain::{
    config::{Config, known_runbooks},
    desk::{Before, Recorded},
    event::Severity,
    fact::{Escalation, Fact},
    guard::PIPELINE,
};
use metrics::{Counter, Histogram, counter, histogram};

use crate::core::{
    Consequences,
    outcomes::{HowEnded, Outcome},
};

/// What is counted for every incident of a storm; looked up once.
pub(super) struct Measures {
    opened: [Counter; Severity::ALL.len()],
    detect: Histogram,
    acknowledge: Histogram,
}

impl std::fmt::Debug for Measures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Measures")
    }
}

impl Measures {
    pub(super) fn new() -> Self {
        let opened =
            |it: Severity| counter!("selfheal_incidents_opened_total", "severity" => it.as_str());
        Self {
            opened: Severity::ALL.map(opened),
            detect: histogram!("selfheal_incident_detect_seconds"),
            acknowledge: histogram!("selfheal_incident_acknowledge_seconds"),
        }
    }

    /// Counts what was decided.
    pub(super) fn count(&self, stored: &Consequences) {
        for (kind, n) in &stored.inputs {
            counter!("selfheal_supervisor_inputs_total", "kind" => kind.as_str()).increment(*n);
        }
        for recorded in &stored.recorded {
            self.decision(recorded);
        }
        for outcome in &stored.outcomes {
            match outcome {
                Outcome::Ended(runbook, how) => counter!("selfheal_fixes_ended_total",
                    "runbook" => runbook.clone(), "outcome" => how.as_str())
                .increment(1),
                Outcome::FalseHeal(runbook) => {
                    counter!("selfheal_false_heals_total", "runbook" => runbook.clone())
                        .increment(1);
                }
            }
        }
        if !stored.faults.is_empty() {
            let n = u64::try_from(stored.faults.len()).unwrap_or(u64::MAX);
            counter!("selfheal_decision_faults_total").increment(n);
        }
    }

    #[expect(clippy::too_many_lines, reason = "an arm for each fact that is counted")]
    fn decision(&self, recorded: &Recorded) {
        let decision = &recorded.decision;
        match &decision.fact {
            Fact::Opened { event, .. } => {
                let known = Severity::ALL.iter().zip(&self.opened);
                known.filter(|it| *it.0 == event.severity).for_each(|it| it.1.increment(1));
                if let Some(starts_at) = event.starts_at {
                    self.detect.record(seconds(decision.at - starts_at));
                }
            }
            Fact::Acknowledged { .. } => self.responded(recorded),
            Fact::FixStarted { plan, .. } => {
                counter!("selfheal_fixes_started_total", "runbook" => plan.runbook.clone())
                    .increment(1);
                self.responded(recorded);
            }
            Fact::Resolved | Fact::SelfResolved | Fact::Closed { .. } => ended(recorded),
            Fact::Escalated { why } => escalated(*why, &decision.reason),
            Fact::Held { guard, .. } => {
                counter!("selfheal_guard_holds_total", "guard" => known_guard(guard)).increment(1);
            }
            Fact::ApprovalRequested { .. } => approval("requested"),
            Fact::ApprovalGiven { .. } => approval("given"),
            Fact::Approved { .. } => approval("approved"),
            Fact::BreakerTripped { .. } => counter!("selfheal_breaker_trips_total").increment(1),
            Fact::Notified { report } => {
                let outcome = if report.outcome.is_ok() { "sent" } else { "failed" };
                counter!("selfheal_notices_total", "outcome" => outcome).increment(1);
            }
            Fact::Suppressed { by, .. } => {
                counter!("selfheal_suppressions_total", "by" => by.as_str()).increment(1);
            }
            Fact::RecoveryNoted { .. }
            | Fact::EventOver { .. }
            | Fact::Configured { .. }
            | Fact::LeadershipTaken { .. }
            | Fact::CommandRefused { .. }
            | Fact::ReportedBeside { .. }
            | Fact::RetryScheduled { .. }
            | Fact::RediagnosisStarted { .. }
            | Fact::AttemptReturned
            | Fact::ConfigurationPart { .. }
            | Fact::ConfigurationHeld { .. }
            | Fact::ConfigurationUnchanged { .. }
            | Fact::Changed { .. }
            | Fact::Silenced { .. }
            | Fact::SilenceEnded { .. }
            | Fact::SuppressionEnded { .. }
            | Fact::SuppressionExtended { .. }
            | Fact::InputRejected { .. }
            | Fact::LeaseEnded
            | Fact::NoticesDue { .. }
            | Fact::Paged { .. }
            | Fact::Paused { .. }
            | Fact::Resumed { .. }
            | Fact::Repeated { .. }
            | Fact::RecoveryReported { .. }
            | Fact::BecameSymptom { .. }
            | Fact::Released
            | Fact::Diagnosed { .. }
            | Fact::PlanExpired
            | Fact::RecallRequested { .. }
            | Fact::FixRecalled { .. }
            | Fact::FixEnded { .. }
            | Fact::LateReport { .. }
            | Fact::RecheckStarted
            | Fact::Verified { .. }
            | Fact::NotVerified { .. }
            | Fact::UndoStarted { .. }
            | Fact::UndoEnded { .. }
            | Fact::AttemptFailed
            | Fact::Retried { .. } => {}
        }
    }

    /// The first thing that anybody does about an incident, a fixer or a person.
    fn responded(&self, recorded: &Recorded) {
        if let Some(before) = recorded.before.filter(Before::is_untouched) {
            self.acknowledge.record(seconds(recorded.decision.at - before.opened_at));
        }
    }
}

fn ended(recorded: &Recorded) {
    let (Some(status), Some(before)) = (recorded.status, recorded.before) else { return };
    let status = status.as_str();
    counter!("selfheal_incidents_ended_total", "status" => status).increment(1);
    histogram!("selfheal_incident_resolve_seconds", "status" => status)
        .record(seconds(recorded.decision.at - before.opened_at));
}

fn escalated(why: Escalation, reason: &str) {
    counter!("selfheal_escalations_total", "reason" => why.as_str()).increment(1);
    match why {
        Escalation::Refused => {
            // The reason begins with the guard's name; see `Desk::guard`.
            let guard = reason.split_once(": ").map_or("", |it| it.0);
            counter!("selfheal_guard_refusals_total", "guard" => known_guard(guard)).increment(1);
        }
        Escalation::Rejected => approval("rejected"),
        Escalation::ApprovalExpired => approval("expired"),
        Escalation::UnknownTarget
        | Escalation::NoCause
        | Escalation::NoPlan
        | Escalation::NotDiagnosed
        | Escalation::SuggestOnly
        | Escalation::HeldTooLong
        | Escalation::AttemptsExhausted
        | Escalation::NotVerified
        | Escalation::Regression
        | Escalation::CauseNotHealed
        | Escalation::NotObservable
        | Escalation::EventFlood => {}
    }
}

fn approval(outcome: &'static str) {
    counter!("selfheal_approvals_total", "outcome" => outcome).increment(1);
}

/// A label takes the names of the pipeline only.
fn known_guard(name: &str) -> &'static str {
    PIPELINE.iter().find(|it| it.0 == name).map_or("other", |it| it.0)
}

/// Clocks of others may be ahead: what seems to have begun later has begun now.
fn seconds(span: TimeDelta) -> f64 {
    span.max(TimeDelta::zero()).as_seconds_f64()
}

/// Counters that rules ask for exist from the beginning, at 0: `increase()` sees no first step.
pub(super) fn begin(config: &Config) {
    let own = config.runbooks.iter().map(|it| it.name.as_str());
    for runbook in own.chain(known_runbooks().iter().copied()) {
        let runbook = || runbook.to_owned();
        counter!("selfheal_fixes_started_total", "runbook" => runbook()).increment(0);
        counter!("selfheal_false_heals_total", "runbook" => runbook()).increment(0);
        for how in HowEnded::ALL {
            counter!("selfheal_fixes_ended_total",
                "runbook" => runbook(), "outcome" => how.as_str())
            .increment(0);
        }
    }
    for severity in Severity::ALL {
        counter!("selfheal_incidents_opened_total", "severity" => severity.as_str()).increment(0);
    }
    for status in ["resolved", "self_resolved", "closed"] {
        counter!("selfheal_incidents_ended_total", "status" => status).increment(0);
        drop(histogram!("selfheal_incident_resolve_seconds", "status" => status));
    }
    for outcome in ["requested", "approved", "rejected", "expired"] {
        counter!("selfheal_approvals_total", "outcome" => outcome).increment(0);
    }
    for outcome in ["sent", "failed"] {
        counter!("selfheal_notices_total", "outcome" => outcome).increment(0);
    }
    for (guard, _) in PIPELINE {
        counter!("selfheal_guard_holds_total", "guard" => guard).increment(0);
        counter!("selfheal_guard_refusals_total", "guard" => guard).increment(0);
    }
    for why in Escalation::ALL {
        counter!("selfheal_escalations_total", "reason" => why.as_str()).increment(0);
    }
    counter!("selfheal_breaker_trips_total").increment(0);
    counter!("selfheal_decision_faults_total").increment(0);
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    #[test]
    fn a_label_takes_no_name_that_is_not_in_the_pipeline() {
        assert_eq!(known_guard("storm brake"), "storm brake");
        assert_eq!(known_guard("anything else"), "other");
    }

    #[test]
    fn a_clock_that_is_ahead_gives_no_negative_time() {
        let now = DateTime::<Utc>::UNIX_EPOCH;
        let later = now + TimeDelta::seconds(5);
        assert!(seconds(now - later).abs() < f64::EPSILON);
        assert!((seconds(later - now) - 5.0).abs() < f64::EPSILON);
    }
}
