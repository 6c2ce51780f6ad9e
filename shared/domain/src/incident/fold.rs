//! How facts move an incident.

use super::{
    Approval, Circumstance, Corrupt, Ending, FIRING_MAX, Incident, News, Phase, Purpose, Recalling,
    Reported, Retries, Step,
};
use crate::{
    event::{self, Event},
    fact::Fact,
    guard::Authorized,
    view::Status,
    wire::{AttemptRecord, FixMode, FixOutcome, FixReport},
};

/// Entries that a timeline keeps; the log has them all.
const TIMELINE_MAX: usize = 200;

/// Reports of one incident that are remembered. Beyond them a report that is sent again may be
/// recorded again.
const REPORTED_MAX: usize = 64;

impl Incident {
    /// Folds one fact into the state.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] when the fact cannot follow the present phase; nothing has changed then.
    pub fn apply(&mut self, fact: &Fact, now: Circumstance<'_>) -> Result<(), Corrupt> {
        if let Some(phase) = self.next_phase(fact, now)? {
            self.phase = phase;
            self.recall = None;
            self.measured = None;
            self.revision += 1;
            self.entered_at = now.at;
            if self.phase == Phase::Diagnosing {
                // It looks at everything that was reported so far.
                self.news = None;
            }
            if !self.is_under_treatment() {
                self.former_target = None;
            }
        }
        self.keep(fact, now);
        self.keep_attempt(fact, now);
        self.keep_hold(fact, now);
        let status = self.status();
        self.note(fact, status, now);
        Ok(())
    }

    /// Returns the phase that follows, or `None` when the phase stays.
    #[expect(clippy::too_many_lines, reason = "the whole life of an incident, in one place")]
    fn next_phase(&self, fact: &Fact, now: Circumstance<'_>) -> Result<Option<Phase>, Corrupt> {
        use {Fact as F, Phase as P};
        let next = match (&self.phase, fact) {
            (
                P::Over(_),
                F::Notified { .. }
                | F::NoticesDue { .. }
                | F::LateReport { .. }
                | F::CommandRefused { .. },
            ) => None,
            (P::Over(_), _) => return Err(self.corrupt(fact, now)),

            (
                _,
                F::Repeated { .. }
                | F::ReportedBeside { .. }
                | F::CommandRefused { .. }
                | F::RecoveryReported { .. }
                | F::LeaseEnded
                | F::Acknowledged { .. }
                | F::Notified { .. }
                | F::NoticesDue { .. }
                | F::LateReport { .. }
                | F::Paged { .. },
            )
            | (P::Fixing { .. }, F::RecallRequested { .. })
            | (P::AwaitingApproval { .. }, F::ApprovalGiven { .. }) => None,
            (_, F::Closed { .. }) => Some(P::Over(Ending::Closed)),

            (
                P::Diagnosing
                | P::RetryWaiting { .. }
                | P::Proposed { .. }
                | P::AwaitingApproval { .. },
                F::BecameSymptom { of },
            ) => Some(P::Symptom { of: *of }),
            (P::Diagnosing, F::RetryScheduled { why, until }) => {
                Some(P::RetryWaiting { until: *until, why: *why })
            }
            (
                P::Diagnosing | P::RetryWaiting { .. } | P::Escalated(_),
                F::RediagnosisStarted { .. },
            )
            | (P::Fixing { .. }, F::AttemptReturned)
            | (P::RetryWaiting { .. }, F::Retried { .. }) => Some(P::Diagnosing),

            (P::Symptom { .. } | P::Verifying { .. }, F::Released)
            | (P::Proposed { .. } | P::AwaitingApproval { .. }, F::PlanExpired)
            | (P::Fixing { .. } | P::Verifying { .. }, F::AttemptFailed)
            | (P::Escalated(_), F::Retried { .. }) => Some(P::Diagnosing),

            (P::Diagnosing, F::Diagnosed { report, chosen }) => {
                let hypothesis = chosen.and_then(|idx| report.hypotheses.get(idx));
                hypothesis.and_then(|it| it.plan.clone()).map(|plan| P::Proposed {
                    plan,
                    diagnosed_at: now.at,
                    hold: None,
                })
            }
            (P::Proposed { plan, diagnosed_at, .. }, F::Held { guard, until }) => {
                Some(P::Proposed {
                    plan: plan.clone(),
                    diagnosed_at: *diagnosed_at,
                    hold: Some((guard.clone(), *until)),
                })
            }
            (P::Proposed { plan, diagnosed_at, .. }, F::ApprovalRequested { expires_at, .. }) => {
                Some(P::AwaitingApproval {
                    plan: plan.clone(),
                    diagnosed_at: *diagnosed_at,
                    expires_at: *expires_at,
                })
            }
            (P::AwaitingApproval { plan, diagnosed_at, .. }, F::Approved { .. }) => {
                Some(P::Proposed { plan: plan.clone(), diagnosed_at: *diagnosed_at, hold: None })
            }
            (
                P::Proposed { diagnosed_at, .. },
                F::FixStarted { plan, approved_by, not_after, neighbours, .. },
            ) => Some(P::Fixing {
                diagnosed_at: *diagnosed_at,
                plan: Authorized::from_ledger((**plan).clone(), approved_by.clone()),
                not_after: *not_after,
                neighbours: neighbours.clone(),
            }),
            (P::Fixing { plan, diagnosed_at, .. }, F::FixRecalled { .. }) => match self.recall {
                Some(Recalling::Replan) => Some(P::Diagnosing),
                Some(Recalling::Keep) | None => Some(P::Proposed {
                    plan: (**plan).clone(),
                    diagnosed_at: *diagnosed_at,
                    hold: None,
                }),
            },
            (P::Fixing { plan, neighbours, .. }, F::FixEnded { report }) => {
                needs_proof(report.as_deref()).then(|| P::Verifying {
                    purpose: Purpose::Fix { plan: plan.clone(), neighbours: neighbours.clone() },
                    since: now.at,
                })
            }
            (
                P::Diagnosing
                | P::RetryWaiting { .. }
                | P::Proposed { .. }
                | P::AwaitingApproval { .. },
                F::RecheckStarted,
            ) => Some(recheck(Purpose::Recheck { escalated: None }, now)),
            (P::Escalated(why), F::RecheckStarted) => {
                Some(recheck(Purpose::Recheck { escalated: Some(*why) }, now))
            }
            (P::Symptom { of }, F::RecheckStarted) => {
                Some(recheck(Purpose::Symptom { of: *of }, now))
            }
            (P::Verifying { .. }, F::Verified { .. } | F::NotVerified { .. })
            | (P::Undoing { .. }, F::UndoEnded { .. }) => None,
            (P::Verifying { purpose: Purpose::Fix { plan, .. }, .. }, F::UndoStarted { .. }) => {
                Some(P::Undoing {
                    plan: plan.clone(),
                    not_after: now.at + crate::guard::START_WITHIN,
                })
            }
            (P::Verifying { .. }, F::Resolved) => Some(P::Over(Ending::Resolved)),
            (
                P::Diagnosing
                | P::RetryWaiting { .. }
                | P::Proposed { .. }
                | P::AwaitingApproval { .. }
                | P::Verifying { .. }
                | P::Symptom { .. }
                | P::Escalated(_),
                F::SelfResolved,
            ) => Some(P::Over(Ending::SelfResolved)),
            (_, F::Escalated { why }) => Some(P::Escalated(*why)),
            _ => return Err(self.corrupt(fact, now)),
        };
        Ok(next)
    }

    fn corrupt(&self, fact: &Fact, now: Circumstance<'_>) -> Corrupt {
        Corrupt {
            seq: now.seq,
            fact: fact.name(),
            phase: self.status().as_str().to_owned(),
            incident: self.id,
        }
    }

    /// Keeps what the fact tells besides the phase.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most facts tell nothing but a phase")]
    fn keep(&mut self, fact: &Fact, now: Circumstance<'_>) {
        match fact {
            Fact::Repeated { event, deliveries } => {
                self.said_over = false;
                self.count(event, deliveries.len());
            }
            Fact::RecoveryReported { by, .. } => {
                self.said_over = true;
                match by {
                    Some(by) => self.ends(by),
                    None => self.firing.clear(),
                }
                self.lease = None;
                // Whatever is reported after it is news.
                self.claims.clear();
            }
            Fact::LeaseEnded => {
                self.said_over = true;
                self.firing.clear();
                self.lease = None;
            }
            Fact::ReportedBeside { .. } => {
                self.news = Some(News { text: now.reason.to_owned(), check: None });
            }
            Fact::RetryScheduled { .. } => {
                let former = self.retries.unwrap_or(Retries { since: now.at, n: 0 });
                self.retries = Some(Retries { n: former.n + 1, ..former });
            }
            Fact::RediagnosisStarted { trigger } => self.reopen(*trigger, now),
            Fact::BecameSymptom { of } => {
                self.cause = Some(*of);
                self.analysis = Some(now.reason.to_owned());
            }
            Fact::Diagnosed { report, chosen } => {
                self.hypotheses.clone_from(&report.hypotheses);
                self.evidence.clone_from(&report.evidence);
                self.forget_what_was_seen();
                let told = chosen.and_then(|idx| report.hypotheses.get(idx));
                let told = told.or_else(|| report.hypotheses.first());
                self.analysis = Some(told.map_or_else(
                    || format!("no known cause fits: {}", now.reason),
                    |it| format!("{} ({} %): {}", it.cause, it.confidence_percent, it.summary),
                ));
            }
            Fact::ApprovalRequested { .. } => self.approvals_before.clear(),
            Fact::ApprovalGiven { by, plan_hash, proof } => {
                self.approvals_before.push(Approval::new(by, plan_hash, proof.as_ref(), now.at));
            }
            Fact::Approved { by, plan_hash, proof } => {
                self.approval = Some(Approval::new(by, plan_hash, proof.as_ref(), now.at));
            }
            Fact::Released => {
                self.cause = None;
                self.n_rechecks_failed += 1;
            }
            Fact::Retried { target, by } => {
                self.retried_by = Some(by.clone());
                if self.target.is_none() {
                    self.target.clone_from(target);
                }
                self.start_over();
            }
            Fact::Acknowledged { by } => self.acknowledged_by = Some(by.clone()),
            Fact::Notified { report } => self.notified(report, now.at),
            Fact::NoticesDue { notices } => self.release(notices),
            Fact::Escalated { .. } => self.end(now),
            Fact::Resolved | Fact::SelfResolved | Fact::Closed { .. } => {
                self.end(now);
                self.closed_at = Some(now.at);
            }
            _ => {}
        }
    }

    /// Keeps what the fact tells about an attempt.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most facts are about no attempt")]
    fn keep_attempt(&mut self, fact: &Fact, now: Circumstance<'_>) {
        match fact {
            Fact::FixStarted { attempt, plan, bring_up, .. } => {
                self.attempt = *attempt;
                self.approval = None;
                self.approvals_before.clear();
                self.attempts.push(AttemptRecord {
                    attempt: *attempt,
                    runbook: plan.runbook.clone(),
                    started_at: now.at,
                    failure: None,
                    step_failed: false,
                    bring_up: *bring_up,
                    outcome_unknown: false,
                });
            }
            Fact::RecallRequested { replan } => {
                self.recall = Some(if *replan { Recalling::Replan } else { Recalling::Keep });
            }
            Fact::FixRecalled { .. } | Fact::AttemptReturned => {
                self.attempts.pop_if(|it| it.attempt == self.attempt);
                self.attempts_returned += 1;
            }
            Fact::FixEnded { report } | Fact::UndoEnded { report } => {
                if !was_refused(report.as_deref()) {
                    self.retries = None;
                }
                let is_known = report
                    .as_ref()
                    .is_some_and(|it| !matches!(it.outcome, FixOutcome::Unknown { .. }));
                if let Some(record) = self.attempts.last_mut().filter(|_| !is_known) {
                    record.outcome_unknown |= matches!(fact, Fact::FixEnded { .. });
                }
                if let Some(it) = report {
                    let has_failed = matches!(it.outcome, FixOutcome::Failed { .. });
                    if let Some(record) = self.attempts.last_mut().filter(|_| has_failed) {
                        record.step_failed |= it.mode == FixMode::Apply;
                    }
                    self.has_reported(it.work.attempt, it.mode, &it.by);
                }
            }
            Fact::LateReport { attempt, mode, by, .. } => self.has_reported(*attempt, *mode, by),
            Fact::AttemptFailed | Fact::UndoStarted { .. } => {
                if let Some(record) = self.attempts.last_mut() {
                    record.failure.get_or_insert_with(|| now.reason.to_owned());
                }
            }
            _ => {}
        }
    }

    /// Notes that a sender does not report it any more; in a log that knew no origins its source
    /// alone stood for it.
    fn ends(&mut self, sender: &str) {
        self.firing.remove(sender);
        self.firing.remove(event::source_of(sender));
    }

    fn has_reported(&mut self, attempt: u32, mode: FixMode, by: &str) {
        if self.reported.len() == REPORTED_MAX {
            self.reported.remove(0);
        }
        self.reported.push(Reported { attempt, mode, by: by.to_owned() });
    }

    fn count(&mut self, event: &Event, n_events: usize) {
        self.hear(event);
        if self.firing.len() < FIRING_MAX {
            self.firing.insert(event.sender().into_owned());
        }
        self.count += u64::try_from(n_events).unwrap_or(u64::MAX);
        self.lease = event.ends_at.or(self.lease);
        self.event.take_up(event);
    }

    /// Keeps since when guards hold its plans. A plan that is made anew begins no new hold.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most facts begin and end no hold")]
    fn keep_hold(&mut self, fact: &Fact, now: Circumstance<'_>) {
        match fact {
            Fact::Held { .. } => {
                self.held_since.get_or_insert(now.at);
            }
            Fact::ApprovalRequested { .. }
            | Fact::FixStarted { .. }
            | Fact::Released
            | Fact::RediagnosisStarted { .. }
            | Fact::RetryScheduled { .. }
            | Fact::Retried { .. } => self.held_since = None,
            _ => {}
        }
    }

    fn end(&mut self, now: Circumstance<'_>) {
        self.resolution = Some(now.reason.to_owned());
        let unknown = || "it ended before a cause was found".to_owned();
        self.analysis.get_or_insert_with(unknown);
    }

    pub(super) fn note(&mut self, fact: &Fact, status: Status, now: Circumstance<'_>) {
        self.updated_at = now.at;
        if self.timeline.len() == TIMELINE_MAX {
            // The opening stays; the oldest step after it goes.
            self.timeline.remove(1);
        }
        // There may be a hundred thousand incidents with two steps each.
        self.timeline.reserve_exact(1);
        self.timeline.push(Step::new(now.seq, now.at, fact, status, now.reason));
    }
}

const fn recheck(purpose: Purpose, now: Circumstance<'_>) -> Phase {
    Phase::Verifying { purpose, since: now.at }
}

/// Returns whether a fix ended so that only a verification can say what is true.
fn needs_proof(report: Option<&FixReport>) -> bool {
    report.is_none_or(|it| match it.outcome {
        FixOutcome::Succeeded | FixOutcome::Unknown { .. } => true,
        FixOutcome::Failed { .. } | FixOutcome::Refused { .. } => false,
    })
}

/// Returns whether a fixer did not begin the fix.
fn was_refused(report: Option<&FixReport>) -> bool {
    report.is_some_and(|it| matches!(it.outcome, FixOutcome::Refused { .. }))
}
