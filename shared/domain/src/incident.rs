//! One incident: where it stands, how facts move it, and what it waits for.
//!
//! [`Incident::apply`] folds one fact and decides nothing; what the incident waits for
//! follows from its [`Phase`] alone. After a crash the ledger is folded and the same
//! question asked again: there is no other recovery.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use crate::{
    event::Event,
    fact::{Escalation, Fact},
    guard::Authorized,
    id::IncidentId,
    plan::Plan,
    policy::Policy,
    span::Span,
    view::{Status, TimelineEntry},
    wire::{AttemptRecord, Evidence, FixOutcome, FixReport, Hypothesis, WorkRef},
};

/// Added to a fix's own time before nobody waits for its report any more.
const FIX_GRACE: TimeDelta = TimeDelta::seconds(15);
/// Added to a verification's own time before nobody waits for its report any more.
const VERIFY_GRACE: TimeDelta = TimeDelta::seconds(60);
/// How long a symptom waits for its cause.
const SYMPTOM_MAX: TimeDelta = TimeDelta::hours(6);
/// Entries that a timeline keeps; the log has them all.
const TIMELINE_MAX: usize = 200;

/// Where an incident stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Phase {
    /// The cause is being sought.
    Diagnosing,
    /// There is a plan, which waits for its guards.
    Proposed {
        /// The plan.
        plan: Plan,
        /// When its evidence was taken.
        diagnosed_at: DateTime<Utc>,
        /// The guard that holds it, and until when at most.
        hold: Option<(String, DateTime<Utc>)>,
    },
    /// A person must approve the plan.
    AwaitingApproval {
        /// The plan.
        plan: Plan,
        /// When its evidence was taken.
        diagnosed_at: DateTime<Utc>,
        /// When an approval is too late.
        expires_at: DateTime<Utc>,
    },
    /// The plan is being carried out.
    Fixing {
        /// The plan, which all guards allowed.
        plan: Authorized<Plan>,
        /// After this time it must not be begun.
        not_after: DateTime<Utc>,
        /// Targets that must be well after it.
        neighbours: Vec<String>,
    },
    /// It is being verified.
    Verifying {
        /// What for.
        purpose: Purpose,
        /// Samples must be newer.
        since: DateTime<Utc>,
    },
    /// The plan is being taken back.
    Undoing {
        /// The plan.
        plan: Authorized<Plan>,
        /// After this time it must not be begun.
        not_after: DateTime<Utc>,
    },
    /// It waits for the incident that is its cause.
    Symptom {
        /// The cause.
        of: IncidentId,
    },
    /// A person has it.
    Escalated(Escalation),
    /// Nothing more will happen.
    Over(Ending),
}

/// What a verification is for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
pub enum Purpose {
    /// To see whether the fix helped.
    Fix {
        /// The plan that was carried out.
        plan: Authorized<Plan>,
        /// Targets that were well before it.
        neighbours: Vec<String>,
    },
    /// To see whether the target is well without a fix.
    Recheck {
        /// Where a failure leads back to, when a person had it.
        escalated: Option<Escalation>,
    },
    /// To see whether the target is well with its cause.
    Symptom {
        /// The cause, which is over.
        of: IncidentId,
    },
}

/// How an incident ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Ending {
    /// Proven, by a fix or with its cause.
    Resolved,
    /// Without a fix.
    SelfResolved,
    /// By a person.
    Closed,
}

/// A person's yes to one exact plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Approval {
    /// Who.
    pub by: String,
    /// The plan's hash.
    pub plan_hash: String,
    /// When it is worth nothing any more.
    pub expires_at: DateTime<Utc>,
}

/// A notice that people are owed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// Names it; number of the decision that caused it.
    pub id: String,
    /// One line.
    pub title: String,
    /// Why, in words.
    pub text: String,
}

/// A fact that cannot follow the phase it met: the ledger is corrupt, or we are wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("decision {seq} `{fact}` cannot follow on {phase} of incident {incident}")]
pub struct Corrupt {
    /// The decision.
    pub seq: u64,
    /// Its fact's name.
    pub fact: &'static str,
    /// The phase that it met.
    pub phase: String,
    /// The incident.
    pub incident: IncidentId,
}

/// When and where a fact was decided, and what the desk knows about it.
#[derive(Clone, Copy, Debug)]
pub struct Circumstance<'a> {
    /// Number of the decision.
    pub seq: u64,
    /// Its time.
    pub at: DateTime<Utc>,
    /// Its reason.
    pub reason: &'a str,
    /// Whether anybody is to be told about escalations.
    pub notify: bool,
}

/// One incident.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Incident {
    /// Its id.
    pub id: IncidentId,
    /// What makes further events the same trouble.
    pub fingerprint: String,
    /// The event that opened it, with the newest payload.
    pub event: Event,
    /// The configured target.
    pub target: Option<String>,
    /// Where it stands.
    pub phase: Phase,
    /// Counts the changes of phase.
    pub revision: u64,
    /// When it came to the present phase.
    pub entered_at: DateTime<Utc>,
    /// Fixes begun.
    pub attempt: u32,
    /// Fixes begun before a person asked to try again.
    pub attempts_before_retry: u32,
    /// Verifications without a fix that failed.
    pub n_rechecks_failed: u32,
    /// What was tried.
    pub attempts: Vec<AttemptRecord>,
    /// The last diagnosis.
    pub hypotheses: Vec<Hypothesis>,
    /// What it looked at.
    pub evidence: Vec<Evidence>,
    /// Since when guards hold its plans; a plan that is made anew meanwhile changes nothing.
    pub held_since: Option<DateTime<Utc>>,
    /// A person's yes, while it is worth something.
    pub approval: Option<Approval>,
    /// Number of events.
    pub count: u64,
    /// The former incident of the same trouble.
    pub previous: Option<IncidentId>,
    /// The incident that is or was its cause, when it is or was a symptom.
    pub cause: Option<IncidentId>,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// Last decision.
    pub updated_at: DateTime<Utc>,
    /// When it was over.
    pub closed_at: Option<DateTime<Utc>>,
    /// What is known about the cause.
    pub analysis: Option<String>,
    /// How it ended.
    pub resolution: Option<String>,
    /// Who is looking at it.
    pub acknowledged_by: Option<String>,
    /// Notices that people are owed.
    pub notices: Vec<Notice>,
    /// What happened, the oldest first.
    pub timeline: Vec<TimelineEntry>,
}

impl Incident {
    /// Makes a new incident from the fact that opened it; `None` for any other fact.
    #[must_use]
    pub fn open(id: IncidentId, fact: &Fact, now: Circumstance<'_>) -> Option<Self> {
        let Fact::Opened { event, target, fingerprint, previous } = fact else { return None };
        let mut incident = Self {
            id,
            fingerprint: fingerprint.clone(),
            event: (**event).clone(),
            target: target.clone(),
            phase: Phase::Diagnosing,
            revision: 1,
            entered_at: now.at,
            attempt: 0,
            attempts_before_retry: 0,
            n_rechecks_failed: 0,
            attempts: Vec::new(),
            hypotheses: Vec::new(),
            evidence: Vec::new(),
            held_since: None,
            approval: None,
            count: 1,
            previous: *previous,
            cause: None,
            opened_at: now.at,
            updated_at: now.at,
            closed_at: None,
            analysis: None,
            resolution: None,
            acknowledged_by: None,
            notices: Vec::new(),
            timeline: Vec::new(),
        };
        incident.note(fact, Status::Open, now);
        Some(incident)
    }

    /// Returns where it stands, in one word.
    #[must_use]
    pub const fn status(&self) -> Status {
        match &self.phase {
            Phase::Diagnosing => Status::Diagnosing,
            Phase::Proposed { .. } => Status::Proposed,
            Phase::AwaitingApproval { .. } => Status::AwaitingApproval,
            Phase::Fixing { .. } | Phase::Undoing { .. } => Status::Fixing,
            Phase::Verifying { .. } => Status::Verifying,
            Phase::Symptom { .. } => Status::Merged,
            Phase::Escalated(_) => Status::Escalated,
            Phase::Over(Ending::Resolved) => Status::Resolved,
            Phase::Over(Ending::SelfResolved) => Status::SelfResolved,
            Phase::Over(Ending::Closed) => Status::Closed,
        }
    }

    /// Returns whether nothing more will happen to it.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }

    /// Returns the name of the present piece of work.
    #[must_use]
    pub const fn work(&self) -> WorkRef {
        WorkRef { incident: self.id, attempt: self.attempt, revision: self.revision }
    }

    /// Returns the plan that waits or is under way.
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        match &self.phase {
            Phase::Proposed { plan, .. } | Phase::AwaitingApproval { plan, .. } => Some(plan),
            Phase::Fixing { plan, .. }
            | Phase::Undoing { plan, .. }
            | Phase::Verifying { purpose: Purpose::Fix { plan, .. }, .. } => Some(plan),
            Phase::Diagnosing
            | Phase::Verifying { .. }
            | Phase::Symptom { .. }
            | Phase::Escalated(_)
            | Phase::Over(_) => None,
        }
    }

    /// Returns the incident that it waits for, while it is a symptom.
    #[must_use]
    pub fn symptom_of(&self) -> Option<IncidentId> {
        if let Phase::Symptom { of } = self.phase { Some(of) } else { None }
    }

    /// Returns whether its target is being acted upon, or the proof is still due.
    #[must_use]
    pub const fn is_under_treatment(&self) -> bool {
        matches!(
            self.phase,
            Phase::Fixing { .. }
                | Phase::Undoing { .. }
                | Phase::Verifying { purpose: Purpose::Fix { .. }, .. }
        )
    }

    /// Returns when the present phase ends by itself. `soak` is how long the target must
    /// stay well when no plan says it.
    #[must_use]
    pub fn deadline(&self, policy: &Policy, soak: Span) -> Option<DateTime<Utc>> {
        match &self.phase {
            Phase::Diagnosing => Some(self.entered_at + policy.diagnosis_timeout.to_delta()),
            Phase::Proposed { hold, diagnosed_at, .. } => {
                let last = self.held_since.unwrap_or(*diagnosed_at);
                let last = last + policy.hold_timeout.to_delta();
                Some(hold.as_ref().map_or(last, |(_, until)| (*until).min(last)))
            }
            Phase::AwaitingApproval { expires_at, .. } => Some(*expires_at),
            Phase::Fixing { plan, not_after, .. } | Phase::Undoing { plan, not_after } => {
                Some(*not_after + plan.timeout().to_delta() + FIX_GRACE)
            }
            Phase::Verifying { purpose, .. } => {
                let (soak, within) = match purpose {
                    Purpose::Fix { plan, .. } => (plan.success.soak, plan.success.within),
                    Purpose::Recheck { .. } | Purpose::Symptom { .. } => {
                        (soak, policy.verify_within)
                    }
                };
                Some(self.entered_at + soak.plus(within).to_delta() + VERIFY_GRACE)
            }
            Phase::Symptom { .. } => Some(self.entered_at + SYMPTOM_MAX),
            Phase::Escalated(_) | Phase::Over(_) => None,
        }
    }

    /// Folds one fact into the state.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] when the fact cannot follow the present phase; nothing has changed then.
    pub fn apply(&mut self, fact: &Fact, now: Circumstance<'_>) -> Result<(), Corrupt> {
        if let Some(phase) = self.next_phase(fact, now)? {
            self.phase = phase;
            self.revision += 1;
            self.entered_at = now.at;
        }
        self.keep(fact, now);
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
            (P::Over(_), F::Notified { .. }) => None,
            (P::Over(_), _) => return Err(self.corrupt(fact, now)),

            (
                _,
                F::Repeated { .. }
                | F::RecoveryReported { .. }
                | F::Acknowledged { .. }
                | F::Notified { .. },
            ) => None,
            (_, F::Closed { .. }) => Some(P::Over(Ending::Closed)),

            (
                P::Diagnosing | P::Proposed { .. } | P::AwaitingApproval { .. },
                F::BecameSymptom { of },
            ) => Some(P::Symptom { of: *of }),
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
                P::Proposed { .. },
                F::FixStarted { plan, approved_by, not_after, neighbours, .. },
            ) => Some(P::Fixing {
                plan: Authorized::from_ledger((**plan).clone(), approved_by.clone()),
                not_after: *not_after,
                neighbours: neighbours.clone(),
            }),
            (P::Fixing { plan, neighbours, .. }, F::FixEnded { report }) => {
                needs_proof(report.as_deref()).then(|| P::Verifying {
                    purpose: Purpose::Fix { plan: plan.clone(), neighbours: neighbours.clone() },
                    since: now.at,
                })
            }
            (
                P::Diagnosing | P::Proposed { .. } | P::AwaitingApproval { .. },
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
            Fact::Repeated { event, .. } => {
                self.count += 1;
                self.event.severity = self.event.severity.max(event.severity);
                if !event.payload.is_null() {
                    self.event.payload = event.payload.clone();
                }
                self.event.starts_at = self.event.starts_at.max(event.starts_at);
            }
            Fact::BecameSymptom { of } => {
                self.cause = Some(*of);
                self.analysis = Some(now.reason.to_owned());
            }
            Fact::Diagnosed { report, chosen } => {
                self.hypotheses.clone_from(&report.hypotheses);
                self.evidence.clone_from(&report.evidence);
                let told = chosen.and_then(|idx| report.hypotheses.get(idx));
                let told = told.or_else(|| report.hypotheses.first());
                self.analysis = Some(told.map_or_else(
                    || format!("no known cause fits: {}", now.reason),
                    |it| format!("{} ({} %): {}", it.cause, it.confidence_percent, it.summary),
                ));
            }
            Fact::Approved { by, plan_hash } => {
                self.approval = Some(Approval {
                    by: by.clone(),
                    plan_hash: plan_hash.clone(),
                    expires_at: now.at + crate::guard::APPROVAL_WORTH,
                });
            }
            Fact::ApprovalRequested { .. } => self.owe("approval wanted", now),
            Fact::FixStarted { attempt, plan, .. } => {
                self.attempt = *attempt;
                self.approval = None;
                self.attempts.push(AttemptRecord {
                    attempt: *attempt,
                    runbook: plan.runbook.clone(),
                    started_at: now.at,
                    failure: None,
                });
            }
            Fact::AttemptFailed | Fact::UndoStarted { .. } => {
                if let Some(record) = self.attempts.last_mut() {
                    record.failure.get_or_insert_with(|| now.reason.to_owned());
                }
            }
            Fact::Released => {
                self.cause = None;
                self.n_rechecks_failed += 1;
            }
            Fact::Retried { .. } => {
                self.attempts_before_retry = self.attempt;
                self.n_rechecks_failed = 0;
                self.resolution = None;
            }
            Fact::Acknowledged { by } => self.acknowledged_by = Some(by.clone()),
            Fact::Notified { report } => self.notices.retain(|it| it.id != report.notice),
            Fact::Escalated { .. } => {
                self.end(now);
                self.owe("escalated", now);
            }
            Fact::Resolved | Fact::SelfResolved | Fact::Closed { .. } => {
                self.end(now);
                self.closed_at = Some(now.at);
            }
            _ => {}
        }
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
            | Fact::Retried { .. } => self.held_since = None,
            _ => {}
        }
    }

    fn end(&mut self, now: Circumstance<'_>) {
        self.resolution = Some(now.reason.to_owned());
        let unknown = || "it ended before a cause was found".to_owned();
        self.analysis.get_or_insert_with(unknown);
    }

    fn owe(&mut self, what: &str, now: Circumstance<'_>) {
        if now.notify {
            let target = self.target.as_deref().or(self.event.target.as_deref());
            self.notices.push(Notice {
                id: now.seq.to_string(),
                title: format!("{what}: {} on {}", self.event.kind, target.unwrap_or("unknown")),
                text: now.reason.to_owned(),
            });
        }
    }

    fn note(&mut self, fact: &Fact, status: Status, now: Circumstance<'_>) {
        self.updated_at = now.at;
        if self.timeline.len() == TIMELINE_MAX {
            // The opening stays; the oldest step after it goes.
            self.timeline.remove(1);
        }
        self.timeline.push(TimelineEntry {
            seq: now.seq,
            at: now.at,
            decision: fact.name().to_owned(),
            status,
            reason: now.reason.to_owned(),
        });
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
