//! One incident: where it stands, how facts move it, and what it waits for.
//!
//! [`Incident::apply`] folds one fact and decides nothing; what the incident waits for
//! follows from its [`Phase`] alone. After a crash the ledger is folded and the same
//! question asked again: there is no other recovery.

mod fold;
mod news;
mod notice;
mod opener;
mod step;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

pub(crate) use notice::will_be_tried_again;
pub use notice::{Call, Notice};
pub use opener::Opener;
pub use step::Step;

use crate::{
    access::Proof,
    fact::{DiagnosedCause, Escalation, Fact},
    guard::{self, Authorized},
    id::IncidentId,
    plan::Plan,
    policy::Policy,
    span::Span,
    target::Target,
    view::Status,
    wire::{AttemptRecord, Evidence, FixMode, VerificationReport, WorkRef},
};

/// Added to a fix's own time before its report is not waited for any more: when it is over, no
/// fixer can be at it.
const FIX_GRACE: TimeDelta = TimeDelta::seconds(guard::FIX_DELAY_MAX.num_seconds() + 10);
/// Added to a verification's own time before nobody waits for its report any more.
const VERIFY_GRACE: TimeDelta = TimeDelta::seconds(60);
/// How soon a person's incident is looked at again whose sender has said that it is over; later
/// each time, see [`Incident::recheck_due`].
const RECHECK_MIN: TimeDelta = TimeDelta::seconds(60);
/// Senders of one trouble that are told apart.
pub(super) const FIRING_MAX: usize = 16;
/// For how long: whoever has it by then knows whether it is over.
const RECHECK_FOR: TimeDelta = TimeDelta::hours(6);
/// How long a symptom waits for its cause.
const SYMPTOM_MAX: TimeDelta = TimeDelta::hours(6);

/// Times that news start a diagnosis at once, before they have to wait.
const NEWS_AT_ONCE: u32 = 3;
/// What events claimed, as far as it is remembered of one incident.
const CLAIMS_MAX: usize = 16;

/// Where an incident stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
        #[serde(deserialize_with = "guard::from_snapshot")]
        plan: Authorized<Plan>,
        /// After this time it must not be begun.
        not_after: DateTime<Utc>,
        /// Targets that must be well after it.
        neighbours: Vec<String>,
        /// When the evidence of the plan was taken; unknown, and so too old, in the snapshots of
        /// older versions.
        #[serde(default)]
        diagnosed_at: DateTime<Utc>,
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
        #[serde(deserialize_with = "guard::from_snapshot")]
        plan: Authorized<Plan>,
        /// After this time it must not be begun.
        not_after: DateTime<Utc>,
    },
    /// It waits for the incident that is its cause.
    Symptom {
        /// The cause.
        of: IncidentId,
    },
    /// Nothing could be done for a reason that may pass. It is diagnosed again at this time.
    RetryWaiting {
        /// When.
        until: DateTime<Utc>,
        /// Why a person is asked when no retry helps.
        why: Escalation,
    },
    /// A person has it.
    Escalated(Escalation),
    /// Nothing more will happen.
    Over(Ending),
}

/// What a verification is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Purpose {
    /// To see whether the fix helped.
    Fix {
        /// The plan that was carried out.
        #[serde(deserialize_with = "guard::from_snapshot")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// Proven, by a fix or with its cause.
    Resolved,
    /// Without a fix.
    SelfResolved,
    /// By a person.
    Closed,
}

/// A person's yes to one exact plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Who.
    pub by: String,
    /// The plan's hash.
    pub plan_hash: String,
    /// When it is worth nothing any more.
    pub expires_at: DateTime<Utc>,
    /// How he has proved who he is; his right is looked at again with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

impl Approval {
    fn new(by: &str, plan_hash: &str, proof: Option<&Proof>, now: DateTime<Utc>) -> Self {
        Self {
            by: by.to_owned(),
            plan_hash: plan_hash.to_owned(),
            expires_at: now + guard::APPROVAL_WORTH,
            proof: proof.cloned(),
        }
    }

    /// Returns what tells the person from others, as far as it was proven.
    #[must_use]
    pub fn person(&self) -> String {
        person(&self.by, self.proof.as_ref())
    }
}

/// Returns what tells who gave a command from others, as far as it was proven: who holds a password
/// that several share is one person, whatever name the command has.
#[must_use]
pub fn person(by: &str, proof: Option<&Proof>) -> String {
    match proof {
        Some(Proof::Token { name, .. }) => format!("token:{name}"),
        Some(Proof::Slack { user }) => format!("slack:{user}"),
        Some(Proof::Link { to }) => format!("link:{to}"),
        Some(Proof::ApiToken) => "api-token".to_owned(),
        Some(Proof::Host) => "local".to_owned(),
        Some(Proof::Broker) => "cli".to_owned(),
        // What stands before the brackets is proven.
        Some(Proof::Provider { .. }) => by.split(" (").next().unwrap_or(by).to_owned(),
        Some(Proof::Unknown) | None => "unknown".to_owned(),
    }
}

/// What is new since the last diagnosis began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// In words.
    pub text: String,
    /// The check that is said to fail, when that is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
}

/// Retries under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retries {
    /// Since when nothing could be done.
    pub since: DateTime<Utc>,
    /// Number of retries scheduled.
    pub n: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A report of a fixer that is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// The attempt.
    pub attempt: u32,
    /// Forwards, or back.
    pub mode: FixMode,
    /// The fixer.
    pub by: String,
}

/// What becomes of a plan whose order is withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recalling {
    /// It waits for its guards again.
    Keep,
    /// It is made anew.
    Replan,
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
}

/// One incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Its id.
    pub id: IncidentId,
    /// What makes further events the same trouble.
    pub fingerprint: String,
    /// The event that opened it, with the newest payload.
    pub event: Opener,
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
    pub hypotheses: Vec<DiagnosedCause>,
    /// What it looked at.
    pub evidence: Vec<Evidence>,
    /// Since when guards hold its plans; a plan that is made anew meanwhile changes nothing.
    pub held_since: Option<DateTime<Utc>>,
    /// A person's yes, while it is worth something.
    pub approval: Option<Approval>,
    /// Those that were given before it, while others were still wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals_before: Vec<Approval>,
    /// Who wanted it to be tried again, at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retried_by: Option<String>,
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
    /// For how long its sender's word is good, when it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<DateTime<Utc>>,
    /// Its sender has said that it is over, or is silent about it, and nothing was reported since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub said_over: bool,
    /// Senders who have said that it is there, and not that it is over; no more than
    /// [`FIRING_MAX`].
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub firing: BTreeSet<String>,
    /// Notices that people are owed.
    pub notices: Vec<Notice>,
    /// Receivers that were called, and what each way must know to go on, such as the message
    /// that it keeps up to date.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub told: BTreeMap<String, String>,
    /// Fixes that were ordered but not begun, since a person asked to try again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts_returned: u32,
    /// The target as it was when its fix began, after the configuration has changed or
    /// removed it: the fix is verified with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_target: Option<Box<Target>>,
    /// Retries under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// Digests of what its events claimed; see [`Event::claim`](crate::event::Event::claim).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<u64>,
    /// What is new since the last diagnosis began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub news: Option<News>,
    /// Diagnoses that news started, lately.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub n_reopened: u32,
    /// When news started the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reopened_at: Option<DateTime<Utc>>,
    /// Set while the fix that was ordered must not begin any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall: Option<Recalling>,
    /// Reports of fixers that are in the log, the newest last: each is recorded once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reported: Vec<Reported>,
    /// Escalations under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
    /// The incident whose notices stand for those of this one, since its source had called people
    /// too often.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notified_by: Option<IncidentId>,
    /// What was measured for another incident of its target and answers this one, too; until
    /// that is decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Box<VerificationReport>>,
    /// What happened, the oldest first.
    pub timeline: Vec<Step>,
}

impl Incident {
    /// Makes a new incident from the fact that opened it; `None` for any other fact.
    #[must_use]
    pub fn open(id: IncidentId, fact: &Fact, now: Circumstance<'_>) -> Option<Self> {
        let Fact::Opened { event, target, fingerprint, previous } = fact else { return None };
        let mut incident = Self {
            id,
            fingerprint: fingerprint.clone(),
            event: Opener::from(&**event),
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
            approvals_before: Vec::new(),
            retried_by: None,
            count: 1,
            previous: *previous,
            cause: None,
            opened_at: now.at,
            updated_at: now.at,
            closed_at: None,
            analysis: None,
            resolution: None,
            acknowledged_by: None,
            said_over: false,
            firing: BTreeSet::from([event.sender().into_owned()]),
            lease: event.ends_at,
            notices: Vec::new(),
            told: BTreeMap::new(),
            attempts_returned: 0,
            former_target: None,
            retries: None,
            claims: vec![event.claim(event.severity)],
            news: None,
            n_reopened: 0,
            reopened_at: None,
            recall: None,
            reported: Vec::new(),
            calls: Vec::new(),
            notified_by: None,
            measured: None,
            timeline: Vec::new(),
        };
        incident.note(fact, Status::Open, now);
        Some(incident)
    }

    /// Returns the configured target, else what the sender called it.
    #[must_use]
    pub fn named_target(&self) -> Option<&str> {
        self.target.as_deref().or(self.event.target.as_deref())
    }

    /// Returns where it stands, in one word.
    #[must_use]
    pub const fn status(&self) -> Status {
        match &self.phase {
            Phase::Diagnosing | Phase::RetryWaiting { .. } => Status::Diagnosing,
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
            | Phase::RetryWaiting { .. }
            | Phase::Verifying { .. }
            | Phase::Symptom { .. }
            | Phase::Escalated(_)
            | Phase::Over(_) => None,
        }
    }

    /// Returns the fixes that were begun since a person or news asked to try again.
    #[must_use]
    pub const fn n_tried(&self) -> u32 {
        self.attempt
            .saturating_sub(self.attempts_before_retry)
            .saturating_sub(self.attempts_returned)
    }

    /// Returns the attempts since a person or news asked to try again: what was tried before
    /// does not speak against a runbook.
    #[must_use]
    pub fn tried(&self) -> &[AttemptRecord] {
        let before = self.attempts.partition_point(|it| it.attempt <= self.attempts_before_retry);
        self.attempts.get(before..).unwrap_or_default()
    }

    /// Returns whether it waits, for a person or for time, so that news change what is to be
    /// done.
    #[must_use]
    pub const fn listens(&self) -> bool {
        match &self.phase {
            Phase::Escalated(_) => self.target.is_some(),
            Phase::Proposed { .. }
            | Phase::AwaitingApproval { .. }
            | Phase::RetryWaiting { .. } => true,
            // These end with a look at the target.
            Phase::Diagnosing
            | Phase::Fixing { .. }
            | Phase::Verifying { .. }
            | Phase::Undoing { .. }
            | Phase::Symptom { .. }
            | Phase::Over(_) => false,
        }
    }

    /// Returns when news that it listens to start a diagnosis: at once, or after a back-off
    /// when news have done so often lately.
    #[must_use]
    pub fn news_due(&self, policy: &Policy) -> Option<DateTime<Utc>> {
        if self.news.is_none() || !self.listens() {
            return None;
        }
        let last = self.reopened_at.unwrap_or(self.opened_at);
        let wait = self.n_reopened.checked_sub(NEWS_AT_ONCE).map(|n| policy.retry.wait(n));
        Some(wait.map_or(last, |wait| last + wait.to_delta()))
    }

    /// Returns when it is diagnosed again after nothing could be done now; `None` when
    /// retries have gone on for long enough.
    #[must_use]
    pub fn next_retry(&self, policy: &Policy, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let retries = self.retries.unwrap_or(Retries { since: now, n: 0 });
        let until = now + policy.retry.wait(retries.n).to_delta();
        (until <= retries.since + policy.retry.lasts.to_delta()).then_some(until)
    }

    /// Returns the incident that it waits for, while it is a symptom.
    #[must_use]
    pub fn symptom_of(&self) -> Option<IncidentId> {
        if let Phase::Symptom { of } = self.phase { Some(of) } else { None }
    }

    /// Returns the guard that holds its plan.
    #[must_use]
    pub fn held_by(&self) -> Option<&str> {
        if let Phase::Proposed { hold: Some((guard, _)), .. } = &self.phase {
            Some(guard)
        } else {
            None
        }
    }

    /// Returns whether it wants something from the hands.
    #[must_use]
    pub const fn wants_hands(&self) -> bool {
        let works = matches!(
            self.phase,
            Phase::Diagnosing
                | Phase::Fixing { .. }
                | Phase::Undoing { .. }
                | Phase::Verifying { .. }
        );
        works || !self.notices.is_empty()
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

    /// Returns since when it waits for a measurement of its target that is the same for all
    /// incidents of that target: whether it is healthy without a fix of this incident.
    #[must_use]
    pub fn shares_since(&self) -> Option<DateTime<Utc>> {
        match &self.phase {
            Phase::Verifying {
                purpose: Purpose::Recheck { .. } | Purpose::Symptom { .. },
                since,
            } => (self.measured.is_none() && self.target.is_some()).then_some(*since),
            Phase::Verifying { purpose: Purpose::Fix { .. }, .. }
            | Phase::Diagnosing
            | Phase::RetryWaiting { .. }
            | Phase::Proposed { .. }
            | Phase::AwaitingApproval { .. }
            | Phase::Fixing { .. }
            | Phase::Undoing { .. }
            | Phase::Symptom { .. }
            | Phase::Escalated(_)
            | Phase::Over(_) => None,
        }
    }

    /// Returns whether another incident asks what this one does: the same target and type, and
    /// not more severe. What our own monitors measure always asks for itself.
    #[must_use]
    pub fn asks_the_same_as(&self, other: &Self) -> bool {
        self.target.is_some()
            && self.target == other.target
            && self.event.kind == other.event.kind
            && self.event.severity <= other.event.severity
            && !self.event.is_ours()
    }

    /// Returns when something is to be done about it by itself. `proof` is how long a proof may
    /// take when no plan says it.
    #[must_use]
    pub fn deadline(
        &self,
        policy: &Policy,
        proof: Span,
        led_at: Option<DateTime<Utc>>,
    ) -> Option<DateTime<Utc>> {
        if self.is_over() {
            return None;
        }
        let phase = self.phase_deadline(policy, proof, led_at);
        phase.into_iter().chain(self.lease).min()
    }

    /// Returns when the present phase ends by itself, or by news. What agents have to do and
    /// report in time counts from when a supervisor took over, if that was later: until then
    /// nobody asked them, or took their reports.
    #[must_use]
    pub fn phase_deadline(
        &self,
        policy: &Policy,
        proof: Span,
        led_at: Option<DateTime<Utc>>,
    ) -> Option<DateTime<Utc>> {
        let news = self.news_due(policy);
        self.own_deadline(policy, proof, led_at).into_iter().chain(news).min()
    }

    fn own_deadline(
        &self,
        policy: &Policy,
        proof: Span,
        led_at: Option<DateTime<Utc>>,
    ) -> Option<DateTime<Utc>> {
        let led = |at: DateTime<Utc>| led_at.map_or(at, |led_at| led_at.max(at));
        match &self.phase {
            Phase::Diagnosing => Some(led(self.entered_at) + policy.diagnosis_timeout.to_delta()),
            Phase::RetryWaiting { until, .. } => Some(*until),
            Phase::Proposed { hold, diagnosed_at, .. } => {
                let last = self.held_since.unwrap_or(*diagnosed_at);
                let last = last + policy.hold_timeout.to_delta();
                Some(hold.as_ref().map_or(last, |(_, until)| (*until).min(last)))
            }
            Phase::AwaitingApproval { expires_at, .. } => Some(*expires_at),
            Phase::Fixing { plan, not_after, .. } | Phase::Undoing { plan, not_after } => {
                Some(led(*not_after) + plan.timeout().to_delta() + FIX_GRACE)
            }
            Phase::Verifying { purpose, .. } => {
                let lasts = match purpose {
                    Purpose::Fix { plan, .. } => plan.success.soak.plus(plan.success.within),
                    Purpose::Recheck { .. } | Purpose::Symptom { .. } => {
                        // One for another incident of the target may be under way and end first.
                        proof.plus(proof)
                    }
                };
                Some(led(self.entered_at) + lasts.to_delta() + VERIFY_GRACE)
            }
            Phase::Symptom { .. } => Some(self.entered_at + SYMPTOM_MAX),
            Phase::Escalated(_) => self.recheck_due(),
            Phase::Over(_) => None,
        }
    }

    /// Returns when an incident that waits for a person is looked at again by itself: its sender
    /// has said that it is over, a proof of that has failed, and the sender will not say it once
    /// more. Each time waits for twice as long as it has gone on, for [`RECHECK_FOR`].
    fn recheck_due(&self) -> Option<DateTime<Utc>> {
        let lasted = self.entered_at - self.opened_at;
        (self.said_over && lasted < RECHECK_FOR)
            .then(|| self.entered_at + (lasted + lasted).max(RECHECK_MIN))
    }
}
