//! Facts: what was decided, in the past tense. They are all that is stored.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Proof,
    config::Config,
    event::{Delivery, Event, delivery},
    id::{IncidentId, Position},
    plan::Plan,
    silence::{Cause, Silence, SilenceId},
    view::HeldConfig,
    wire::{
        Change, Evidence, FixMode, FixOutcome, FixReport, NoticeReport, StepReport,
        VerificationReport, WorkRef,
    },
};

/// One decision: a line of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// Number of the decision; the first is 1, without gaps.
    pub seq: u64,
    /// Broker's time of the input that caused it.
    pub at: DateTime<Utc>,
    /// Position of that input.
    pub cause: Position,
    /// The incident, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<IncidentId>,
    /// What was decided.
    pub fact: Fact,
    /// Why, in one sentence.
    pub reason: String,
}

/// What an analyzer found, and what can be done about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnosis {
    /// The work that this answers.
    pub work: WorkRef,
    /// The member that did it.
    pub by: String,
    /// Possible causes, the likeliest first. Empty when no diagnosis rule matched.
    pub hypotheses: Vec<DiagnosedCause>,
    /// What was looked at.
    pub evidence: Vec<Evidence>,
    /// How long it took.
    pub took_ms: u64,
}

/// A possible cause, and the plan that the supervisor made for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiagnosedCause {
    /// Name of the cause, such as `process_exited`.
    pub cause: String,
    /// How sure the rule is, in per cent.
    pub confidence_percent: u8,
    /// One line for people.
    pub summary: String,
    /// What speaks for it, in words; then why the runbook that was proposed gives no plan, if
    /// it gives none.
    pub because: Vec<String>,
    /// The target that is the cause, when it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<String>,
    /// What the proposed runbook does, by the catalogue and the configuration in force. Made for
    /// the cause that is acted upon alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fact {
    // About no incident.
    /// A configuration came into force.
    Configured {
        /// The whole configuration.
        config: Box<Config>,
        /// Who gave it.
        by: String,
        /// SHA-256 of the text that it was read from. Older versions do not say it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// Parts that were recorded before, in their order: their targets come before those of
        /// `config`. Only of a configuration that is larger than one input.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        parts: Vec<String>,
    },
    /// A part of a configuration was given. The configuration follows, or the part is forgotten.
    ConfigurationPart {
        /// The hash of its targets.
        sha256: String,
        /// A configuration that has these targets and nothing else.
        part: Box<Config>,
        /// Who gave it.
        by: String,
    },
    /// A configuration file removes or loosens something, so it is not in force until a person
    /// confirms it.
    ConfigurationHeld {
        /// Which, and what must be confirmed.
        held: Box<HeldConfig>,
    },
    /// A text was given that asks for the configuration in force.
    ConfigurationUnchanged {
        /// Who gave it.
        by: String,
        /// SHA-256 of the text.
        text: String,
    },
    /// New fixes were stopped.
    Paused {
        /// By whom.
        by: String,
    },
    /// New fixes were allowed again, and the breaker was reset.
    Resumed {
        /// By whom.
        by: String,
    },
    /// The breaker tripped.
    BreakerTripped {
        /// It is closed again at this time.
        until: DateTime<Utc>,
    },
    /// A person silenced something.
    Silenced {
        /// What, and until when.
        silence: Box<Silence>,
    },
    /// A silence ended.
    SilenceEnded {
        /// Which.
        id: SilenceId,
        /// Who ended it; `None` when its time was over.
        by: Option<String>,
    },
    /// An event opened no incident, since it is to be kept quiet; or it is so for another cause.
    Suppressed {
        /// The event.
        event: Box<Event>,
        /// The configured target that it is about.
        target: Option<String>,
        /// What makes further events the same trouble.
        fingerprint: String,
        /// Why.
        by: Cause,
        /// It is looked at again at this time.
        until: DateTime<Utc>,
    },
    /// It is not kept quiet any more; what follows is decided apart.
    SuppressionEnded {
        /// What was kept quiet.
        fingerprint: String,
    },
    /// A supervisor took over leadership while incidents were open. Deadlines of work that
    /// nobody could do or report meanwhile count from here.
    LeadershipTaken {
        /// Revision of the lease under which it leads.
        epoch: u64,
    },
    /// The sender said when something ended for which nothing is open: what began before that
    /// and arrives later is over.
    RecoveryNoted {
        /// What makes the event one delivery.
        delivery: Delivery,
        /// Who said so.
        source: String,
        /// What makes further events the same trouble.
        fingerprint: String,
        /// When it ended, by the sender's clock.
        ends_at: DateTime<Utc>,
    },
    /// An event opened no incident: its sender had said before that it is over.
    EventOver {
        /// What makes the event one delivery.
        delivery: Delivery,
        /// What makes further events the same trouble.
        fingerprint: String,
    },
    /// The sender of what is suppressed says again that it goes on: its word is good for longer.
    SuppressionExtended {
        /// What is suppressed.
        fingerprint: String,
        /// Until then.
        ends_at: DateTime<Utc>,
    },
    /// An input could not be decided, and is not looked at again. It is kept in the stream
    /// `REJECTED`.
    InputRejected {
        /// Its place in the inbox.
        position: Position,
        /// Why, in one word.
        reason: String,
        /// Its size.
        bytes: u64,
    },
    /// Somebody outside told of a change, such as a deployment.
    Changed {
        /// What makes the event one delivery.
        delivery: Delivery,
        /// What was changed.
        change: Change,
    },

    // About an incident or none.
    /// A command was refused. The reason is what the sender was answered.
    CommandRefused {
        /// Who sent it.
        by: String,
        /// Its verb.
        verb: String,
    },

    // About an incident.
    /// It was opened.
    Opened {
        /// The event that opened it.
        event: Box<Event>,
        /// The configured target that it is about.
        target: Option<String>,
        /// What makes further events the same trouble.
        fingerprint: String,
        /// The former incident of that fingerprint, if there was one lately.
        previous: Option<IncidentId>,
    },
    /// Further events of the same trouble arrived.
    Repeated {
        /// What makes each of them one delivery; as many as there were events.
        #[serde(alias = "delivery", deserialize_with = "delivery::one_or_many")]
        deliveries: Vec<Delivery>,
        /// What they say together: the highest severity, the latest start, and the last
        /// payload that says something, which replaces the one that diagnoses are given.
        event: Box<Event>,
    },
    /// The sender says that it is gone; what follows is decided apart.
    RecoveryReported {
        /// What makes the event one delivery.
        delivery: Delivery,
        /// When it ended, by the sender's clock.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ends_at: Option<DateTime<Utc>>,
        /// Whose word it is, where another sender says that it goes on; absent when nobody does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// The sender's word was good until now, and it did not say again that the trouble goes on;
    /// what follows is decided apart.
    LeaseEnded,
    /// It waits for the incident that is its cause.
    BecameSymptom {
        /// The cause.
        of: IncidentId,
    },
    /// It does not wait for another incident any more, and is diagnosed by itself.
    Released,
    /// Another event about its target was reported beside it; what follows is decided apart.
    ReportedBeside {
        /// The incident of that event.
        incident: IncidentId,
    },
    /// Nothing could be done for a reason that may pass; it is diagnosed again later.
    RetryScheduled {
        /// Why a person is asked when no retry helps.
        why: Escalation,
        /// When it is diagnosed again.
        until: DateTime<Utc>,
    },
    /// It is diagnosed again. A plan or an approval from before is void.
    RediagnosisStarted {
        /// Why.
        trigger: Trigger,
    },
    /// An analyzer reported.
    Diagnosed {
        /// Its report, with the plans that the supervisor made.
        report: Box<Diagnosis>,
        /// Index of the hypothesis that is acted upon.
        chosen: Option<usize>,
    },
    /// The plan waits for its guards.
    Held {
        /// The guard that holds it.
        guard: String,
        /// Looked at again at this time, if nothing happens before.
        until: DateTime<Utc>,
    },
    /// The plan had waited so long that the cause is sought anew.
    PlanExpired,
    /// A person must approve this exact plan.
    ApprovalRequested {
        /// Its hash.
        plan_hash: String,
        /// Until when.
        expires_at: DateTime<Utc>,
    },
    /// A person approved it, and others must approve it, too.
    ApprovalGiven {
        /// Who.
        by: String,
        /// The plan's hash.
        plan_hash: String,
        /// How they have proved who they are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proof: Option<Proof>,
    },
    /// A person approved it, and nobody else has to.
    Approved {
        /// Who.
        by: String,
        /// The plan's hash.
        plan_hash: String,
        /// How he has proved who he is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proof: Option<Proof>,
    },
    /// All guards allowed the plan; the attempt began. Stored before anything is touched.
    FixStarted {
        /// The attempt; the first is 1.
        attempt: u32,
        /// The plan.
        plan: Box<Plan>,
        /// Who approved it, when somebody had to.
        approved_by: Option<String>,
        /// After this time it must not be begun.
        not_after: DateTime<Utc>,
        /// Targets that were well when it began and must be well after it.
        neighbours: Vec<String>,
        /// The first start of a target that no monitor has seen healthy: it uses up no budget.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        bring_up: bool,
    },
    /// What was ordered must not begin any more; a fixer that has begun it goes on to its end.
    RecallRequested {
        /// Whether the plan is made anew when it was not begun; else it waits for its guards.
        replan: bool,
    },
    /// The order was withdrawn before it was begun: it counts as no attempt. The plan waits for
    /// its guards again, or is made anew.
    FixRecalled {
        /// Who withdrew it.
        by: String,
    },
    /// A fixer reported, or nobody did in time.
    FixEnded {
        /// The report; `None` when the time had run out.
        report: Option<Box<FixReport>>,
    },
    /// A fixer reported what it had done about work that is not waited for any more. Nothing
    /// follows from it; but everything that was done stands in the log.
    LateReport {
        /// The attempt.
        attempt: u32,
        /// Forwards, or back.
        mode: FixMode,
        /// The fixer.
        by: String,
        /// How it ended there.
        outcome: FixOutcome,
        /// What was done, without what it printed.
        steps: Vec<StepReport>,
    },
    /// The verification began without a fix: somebody says that the target is well.
    RecheckStarted,
    /// The verification passed. Its report is the proof.
    Verified {
        /// The proof.
        report: Box<VerificationReport>,
    },
    /// The verification failed.
    NotVerified {
        /// The report; `None` when the time had run out.
        report: Option<Box<VerificationReport>>,
    },
    /// The fix made a neighbour sick and is being taken back.
    UndoStarted {
        /// The neighbours.
        broken: Vec<String>,
    },
    /// A fixer reported on the undo, or nobody did in time.
    UndoEnded {
        /// The report; `None` when the time had run out.
        report: Option<Box<FixReport>>,
    },
    /// The attempt did not help; the cause is sought anew.
    AttemptFailed,
    /// The fix was not begun: it counts as no attempt, and the cause is sought anew.
    AttemptReturned,
    /// The trouble ended, proven, by our fix or with its cause.
    Resolved,
    /// The trouble ended without a fix of ours.
    SelfResolved,
    /// A person was asked to take over.
    Escalated {
        /// Why.
        why: Escalation,
    },
    /// A person is looking at it.
    Acknowledged {
        /// Who.
        by: String,
    },
    /// A person closed it.
    Closed {
        /// Who.
        by: String,
    },
    /// A person wants it to be tried again.
    Retried {
        /// Who.
        by: String,
        /// The configured target that fits its event now, when none did before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<String>,
    },
    /// A notice was sent, or could not be.
    Notified {
        /// The notifier's report.
        report: NoticeReport,
    },
    /// Notices have waited for long enough, and are sent.
    NoticesDue {
        /// Their names.
        notices: Vec<String>,
    },
    /// Nobody acknowledged in time; the next step of an escalation is told.
    Paged {
        /// Name of the escalation.
        escalation: String,
        /// Index of the step.
        step: u32,
    },
}

/// Why an incident is diagnosed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// An event says something else than those before.
    News,
    /// The time of a retry has come.
    Retry,
    /// An agent that was missing serves the zone again.
    AgentBack,
}

/// Why a person was asked to take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Escalation {
    /// No configured target fits the event.
    UnknownTarget,
    /// Nothing explains the findings.
    NoCause,
    /// The cause is known, but the catalogue has no (further) cure.
    NoPlan,
    /// Nobody diagnosed it in time.
    NotDiagnosed,
    /// The policy only allows a suggestion.
    SuggestOnly,
    /// A guard refused the plan, or fixers did not begin it.
    Refused,
    /// The plan waited too long for its guards.
    HeldTooLong,
    /// The approver said no.
    Rejected,
    /// Nobody approved in time.
    ApprovalExpired,
    /// Every allowed attempt failed.
    AttemptsExhausted,
    /// Nobody verified the fix in time.
    NotVerified,
    /// The fix made a neighbour sick.
    Regression,
    /// It waited too long for its cause.
    CauseNotHealed,
    /// All checks of the target pass, and none measures the type of the event. The incident
    /// ends on its sender's word.
    NotObservable,
    /// Too many incidents of its source are open; new events of it join this one.
    EventFlood,
}

impl Escalation {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::UnknownTarget,
        Self::NoCause,
        Self::NoPlan,
        Self::NotDiagnosed,
        Self::SuggestOnly,
        Self::Refused,
        Self::HeldTooLong,
        Self::Rejected,
        Self::ApprovalExpired,
        Self::AttemptsExhausted,
        Self::NotVerified,
        Self::Regression,
        Self::CauseNotHealed,
        Self::NotObservable,
        Self::EventFlood,
    ];

    /// Returns the name as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownTarget => "unknown_target",
            Self::NoCause => "no_cause",
            Self::NoPlan => "no_plan",
            Self::NotDiagnosed => "not_diagnosed",
            Self::SuggestOnly => "suggest_only",
            Self::Refused => "refused",
            Self::HeldTooLong => "held_too_long",
            Self::Rejected => "rejected",
            Self::ApprovalExpired => "approval_expired",
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::NotVerified => "not_verified",
            Self::Regression => "regression",
            Self::CauseNotHealed => "cause_not_healed",
            Self::NotObservable => "not_observable",
            Self::EventFlood => "event_flood",
        }
    }
}

impl Fact {
    /// The names of all facts.
    pub const NAMES: [&'static str; 53] = [
        "configured",
        "configuration_part",
        "configuration_held",
        "configuration_unchanged",
        "paused",
        "resumed",
        "breaker_tripped",
        "silenced",
        "silence_ended",
        "suppressed",
        "suppression_ended",
        "leadership_taken",
        "recovery_noted",
        "event_over",
        "suppression_extended",
        "input_rejected",
        "changed",
        "command_refused",
        "opened",
        "repeated",
        "recovery_reported",
        "lease_ended",
        "became_symptom",
        "released",
        "reported_beside",
        "retry_scheduled",
        "rediagnosis_started",
        "diagnosed",
        "held",
        "plan_expired",
        "approval_requested",
        "approved",
        "fix_started",
        "recall_requested",
        "fix_recalled",
        "fix_ended",
        "late_report",
        "recheck_started",
        "verified",
        "not_verified",
        "undo_started",
        "undo_ended",
        "attempt_failed",
        "attempt_returned",
        "resolved",
        "self_resolved",
        "escalated",
        "acknowledged",
        "closed",
        "retried",
        "notified",
        "notices_due",
        "paged",
    ];

    /// Returns the name of the fact, as in the log.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Configured { .. } => "configured",
            Self::ConfigurationPart { .. } => "configuration_part",
            Self::ConfigurationHeld { .. } => "configuration_held",
            Self::ConfigurationUnchanged { .. } => "configuration_unchanged",
            Self::Paused { .. } => "paused",
            Self::Resumed { .. } => "resumed",
            Self::BreakerTripped { .. } => "breaker_tripped",
            Self::Silenced { .. } => "silenced",
            Self::SilenceEnded { .. } => "silence_ended",
            Self::Suppressed { .. } => "suppressed",
            Self::SuppressionEnded { .. } => "suppression_ended",
            Self::LeadershipTaken { .. } => "leadership_taken",
            Self::RecoveryNoted { .. } => "recovery_noted",
            Self::EventOver { .. } => "event_over",
            Self::SuppressionExtended { .. } => "suppression_extended",
            Self::InputRejected { .. } => "input_rejected",
            Self::Changed { .. } => "changed",
            Self::CommandRefused { .. } => "command_refused",
            Self::Opened { .. } => "opened",
            Self::Repeated { .. } => "repeated",
            Self::RecoveryReported { .. } => "recovery_reported",
            Self::LeaseEnded => "lease_ended",
            Self::BecameSymptom { .. } => "became_symptom",
            Self::Released => "released",
            Self::ReportedBeside { .. } => "reported_beside",
            Self::RetryScheduled { .. } => "retry_scheduled",
            Self::RediagnosisStarted { .. } => "rediagnosis_started",
            Self::Diagnosed { .. } => "diagnosed",
            Self::Held { .. } => "held",
            Self::PlanExpired => "plan_expired",
            Self::ApprovalRequested { .. } => "approval_requested",
            Self::ApprovalGiven { .. } => "approval_given",
            Self::Approved { .. } => "approved",
            Self::FixStarted { .. } => "fix_started",
            Self::RecallRequested { .. } => "recall_requested",
            Self::FixRecalled { .. } => "fix_recalled",
            Self::FixEnded { .. } => "fix_ended",
            Self::LateReport { .. } => "late_report",
            Self::RecheckStarted => "recheck_started",
            Self::Verified { .. } => "verified",
            Self::NotVerified { .. } => "not_verified",
            Self::UndoStarted { .. } => "undo_started",
            Self::UndoEnded { .. } => "undo_ended",
            Self::AttemptFailed => "attempt_failed",
            Self::AttemptReturned => "attempt_returned",
            Self::Resolved => "resolved",
            Self::SelfResolved => "self_resolved",
            Self::Escalated { .. } => "escalated",
            Self::Acknowledged { .. } => "acknowledged",
            Self::Closed { .. } => "closed",
            Self::Retried { .. } => "retried",
            Self::Notified { .. } => "notified",
            Self::NoticesDue { .. } => "notices_due",
            Self::Paged { .. } => "paged",
        }
    }
}
