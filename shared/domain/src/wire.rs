//! What crosses the wire: inputs, work, answers.
//!
//! Every message is JSON. Unknown fields are ignored when read, unknown kinds are
//! rejected, whole and with the reason.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::{
    access::Proof,
    check::Check,
    event::Event,
    id::{IncidentId, Position},
    measure::{Measure, Measured},
    plan::Plan,
    span::Span,
    target::Target,
    trace::TraceContext,
};

/// Version of the messages that this build writes.
pub const SCHEMA: u16 = 1;

/// What kind of input a message or a frame holds; part of its subject.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// An observation.
    Event,
    /// An analyzer's report.
    Analysis,
    /// A fixer's report.
    Fix,
    /// A monitor's report.
    Verification,
    /// A notifier's report.
    Notice,
    /// A person's command.
    Command,
    /// A deadline that has come.
    Timer,
}

impl InputKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Event,
        Self::Analysis,
        Self::Fix,
        Self::Verification,
        Self::Notice,
        Self::Command,
        Self::Timer,
    ];

    /// Returns the name in subjects.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Analysis => "analysis",
            Self::Fix => "fix",
            Self::Verification => "verification",
            Self::Notice => "notice",
            Self::Command => "command",
            Self::Timer => "timer",
        }
    }
}

/// One input on its way into the inbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Envelope {
    /// Version of the message; [`SCHEMA`] when written by this build.
    pub v: u16,
    /// Unique id; the same when the same input is sent again.
    pub id: String,
    /// Subject that takes the [`Answer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The span that it comes from.
    #[serde(
        default,
        deserialize_with = "crate::trace::lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub traceparent: Option<TraceContext>,
    /// The input.
    #[serde(flatten)]
    pub input: Input,
}

impl Envelope {
    /// Wraps an input that wants no answer.
    #[must_use]
    pub fn new(id: impl Into<String>, input: Input) -> Self {
        Self { v: SCHEMA, id: id.into(), reply_to: None, traceparent: None, input }
    }

    /// Says which span it comes from, if any.
    #[must_use]
    pub fn traced(self, traceparent: Option<TraceContext>) -> Self {
        Self { traceparent, ..self }
    }
}

/// Everything that can change an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// An observation.
    Event(Event),
    /// What an analyzer found.
    Analysis(AnalysisReport),
    /// What a fixer did.
    Fix(FixReport),
    /// What a monitor saw after a fix.
    Verification(VerificationReport),
    /// What a notifier sent.
    Notice(NoticeReport),
    /// What a person wants.
    Command(Command),
    /// A deadline that has come.
    Timer(TimerFired),
}

impl Input {
    /// Returns the kind, which is part of the subject.
    #[must_use]
    pub const fn kind(&self) -> InputKind {
        match self {
            Self::Event(_) => InputKind::Event,
            Self::Analysis(_) => InputKind::Analysis,
            Self::Fix(_) => InputKind::Fix,
            Self::Verification(_) => InputKind::Verification,
            Self::Notice(_) => InputKind::Notice,
            Self::Command(_) => InputKind::Command,
            Self::Timer(_) => InputKind::Timer,
        }
    }
}

/// Names one piece of work; reports carry it back, and a late one ends as stale.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct WorkRef {
    /// The incident.
    pub incident: IncidentId,
    /// The attempt; 0 before the first fix.
    pub attempt: u32,
    /// Counts the incident's changes of phase; names one wish exactly.
    pub revision: u64,
}

impl WorkRef {
    /// Returns the id under which the work is published; the same when published again.
    #[must_use]
    pub fn wish_id(&self, kind: WorkKind) -> String {
        format!("{}/{}/{}/{}", self.incident, self.attempt, self.revision, kind.as_str())
    }
}

/// Which queue a piece of work goes to.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum WorkKind {
    /// To an analyzer.
    Diagnose,
    /// To a fixer.
    Fix,
    /// To a monitor.
    Verify,
    /// To a notifier.
    Notify,
}

impl WorkKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Diagnose, Self::Fix, Self::Verify, Self::Notify];

    /// Returns the name in subjects.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Diagnose => "diagnose",
            Self::Fix => "fix",
            Self::Verify => "verify",
            Self::Notify => "notify",
        }
    }
}

/// Wanted: the cause of an incident, and a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiagnoseWork {
    /// Which piece of work this is.
    pub work: WorkRef,
    /// The event that opened the incident, with the newest payload.
    pub event: Event,
    /// The target, if one is known.
    pub target: Option<Target>,
    /// What is measured of it, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<Measure>,
    /// What it needs, directly and indirectly, the nearest first.
    pub dependencies: Vec<Target>,
    /// Names of dependencies that have an open incident.
    pub sick_dependencies: Vec<String>,
    /// What was tried so far.
    pub attempts: Vec<AttemptRecord>,
    /// When the target's recent incidents were opened, the newest last.
    pub recent_incidents: Vec<DateTime<Utc>>,
    /// What changed lately and may concern the target, such as the configuration or by a
    /// deployment, the newest last.
    pub changes: Vec<Change>,
    /// Default soak time for plans.
    pub soak: Span,
    /// Default time to become well for plans.
    pub within: Span,
    /// After this time nobody waits for the answer.
    pub not_after: DateTime<Utc>,
}

/// Something that changed and may have caused trouble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// When.
    pub at: DateTime<Utc>,
    /// What, in one line.
    pub what: String,
    /// The configured target that was changed; none when it may concern all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Who tells of it; none for our own configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Where to read more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

impl Change {
    /// Returns a change of ours, which may concern all targets.
    #[must_use]
    pub const fn of_all(at: DateTime<Utc>, what: String) -> Self {
        Self { at, what, target: None, source: None, link: None }
    }
}

/// What was tried before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptRecord {
    /// The attempt, the first is 1.
    pub attempt: u32,
    /// The runbook.
    pub runbook: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// Why it did not help; `None` while it is under way.
    pub failure: Option<String>,
    /// Whether a fixer reported that a step of it failed: then it may have started nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub step_failed: bool,
    /// Whether it was the first start of a target that no monitor had seen healthy, and so no
    /// repair: it uses up no budget.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bring_up: bool,
    /// Whether nobody knows how it ended, since its fixer died or was not heard of any more: it
    /// may have started nothing, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outcome_unknown: bool,
}

/// What an analyzer found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnalysisReport {
    /// The work that this answers.
    pub work: WorkRef,
    /// The member that did it.
    pub by: String,
    /// Possible causes, the likeliest first. Empty when no diagnosis rule matched.
    pub hypotheses: Vec<Hypothesis>,
    /// What was looked at.
    pub evidence: Vec<Evidence>,
    /// How long it took.
    pub took_ms: u64,
}

/// Causes in one report that are looked at: more than a person reads.
pub const HYPOTHESES_MAX: usize = 10;

/// A possible cause, as an analyzer reports it. It names a runbook and nothing of what that
/// does: the supervisor makes the plan ([`crate::fact::DiagnosedCause`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Hypothesis {
    /// Name of the cause, such as `process_exited`; see [`cause`] for those that the
    /// supervisor treats in a way of its own.
    pub cause: String,
    /// How sure the rule is, in per cent.
    pub confidence_percent: u8,
    /// One line for people.
    pub summary: String,
    /// What speaks for it, in words; never empty.
    pub because: Vec<String>,
    /// The target that is the cause, when it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<String>,
    /// Name of the runbook that is proposed, if the catalogue has one that has not been used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// The target that it is proposed for: that of the incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// A possible cause as it arrives. An analyzer of a former version sends a whole plan: its
/// runbook is taken as the proposal, and whatever else it holds is not read.
#[derive(Deserialize)]
struct SentHypothesis {
    cause: String,
    confidence_percent: u8,
    summary: String,
    because: Vec<String>,
    #[serde(default)]
    elsewhere: Option<String>,
    #[serde(default)]
    runbook: Option<String>,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    plan: Option<Value>,
}

impl<'de> Deserialize<'de> for Hypothesis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let sent = SentHypothesis::deserialize(deserializer)?;
        let plan = sent.plan.unwrap_or_default();
        let of_plan = |key: &str| plan.get(key).and_then(Value::as_str).map(str::to_owned);
        let target = match &sent.runbook {
            Some(_) => sent.target,
            None => sent.target.or_else(|| of_plan("target")),
        };
        Ok(Self {
            cause: sent.cause,
            confidence_percent: sent.confidence_percent,
            summary: sent.summary,
            because: sent.because,
            elsewhere: sent.elsewhere,
            runbook: sent.runbook.or_else(|| of_plan("runbook")),
            target,
        })
    }
}

/// Causes that the supervisor treats in a way of its own.
pub mod cause {
    /// All checks pass: verify, and close without a fix.
    pub const HEALTHY: &str = "healthy";
    /// A target that this one needs is sick ([`super::Hypothesis::elsewhere`]).
    pub const DEPENDENCY_DOWN: &str = "dependency_down";
    /// Nothing of the process runs.
    pub const PROCESS_EXITED: &str = "process_exited";
    /// Its container has ended.
    pub const CONTAINER_EXITED: &str = "container_exited";
    /// The kernel killed it for want of memory.
    pub const OUT_OF_MEMORY: &str = "out_of_memory";
    /// The program of the process handle does not exist: probably a deployment in progress.
    pub const PROGRAM_MISSING: &str = "program_missing";
    /// The image of the container does not exist on its engine.
    pub const IMAGE_MISSING: &str = "image_missing";
    /// No process of the target runs, and something else answers one of its checks.
    pub const ANSWERED_BY_ANOTHER: &str = "answered_by_another";
    /// The main process has ended, and processes that it left behind answer the checks.
    pub const MAIN_PROCESS_EXITED: &str = "main_process_exited";
    /// All checks pass, and none of them measures the type of the event.
    pub const NOT_OBSERVABLE: &str = "not_observable";
    /// Part of the evidence did not arrive in time, and the rest explains nothing.
    pub const EVIDENCE_INCOMPLETE: &str = "evidence_incomplete";
    /// The target was started lately and is within its start period.
    pub const STARTING: &str = "starting";
    /// The target runs and its host is too busy for it to answer in time.
    pub const HOST_OVERLOADED: &str = "host_overloaded";
}

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// What it was taken from: `check`, `process`, `container`, `log`, `host`, `dependency`,
    /// `metric`, `change`.
    pub source: String,
    /// The target it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// One line for people.
    pub summary: String,
    /// Everything else.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

impl Evidence {
    /// The source of what a check gave; its detail names the check and says whether it passed.
    pub const CHECK: &str = "check";
    /// The source of what a measure gave. It is for people: no guard counts it as a look.
    pub const METRIC: &str = "metric";
}

/// Wanted: a fix. Written by [`crate::guard::Authorized`] alone, read by fixers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FixOrder {
    /// Which piece of work this is.
    pub work: WorkRef,
    /// Forwards, or back.
    pub mode: FixMode,
    /// What is to be done.
    pub plan: Plan,
    /// The plan's hash; a plan that does not have it is not run.
    pub plan_hash: String,
    /// Who approved it, when somebody had to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// After this time it must not be begun.
    pub not_after: DateTime<Utc>,
}

/// Whether a plan is carried out or taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FixMode {
    /// Its steps, in order.
    Apply,
    /// The undo of its steps, in the opposite order.
    Undo,
}

impl FixOrder {
    /// Returns the last part of the claim's subject.
    #[must_use]
    pub fn claim_key(&self) -> String {
        match self.mode {
            FixMode::Apply => self.work.attempt.to_string(),
            FixMode::Undo => format!("{}-undo", self.work.attempt),
        }
    }
}

/// "This is mine", written before anything is touched or sent.
///
/// That of an attempt is a lease: its holder writes the record again, each time behind the one
/// before, and does nothing any more when another's stands in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Claim {
    /// Random; tells one's own claim after an answer was lost.
    pub id: String,
    /// The member that claims.
    pub by: String,
    /// By its own clock, for people.
    pub at: DateTime<Utc>,
    /// The plan that it is about to run, or what it is about to send.
    pub plan_hash: String,
    /// For how long after the broker stored this record its holder may still act, in
    /// milliseconds. Absent in records of versions that do not renew them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// How often it was renewed before.
    #[serde(default)]
    pub renewal: u64,
    /// What the record says.
    #[serde(default)]
    pub state: ClaimState,
}

/// What a claim says about its attempt.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ClaimState {
    /// The member that claims carries it out.
    #[default]
    Held,
    /// Its former holder begins no further step, and nobody carries it out again. A step that
    /// was begun may still act for the time of the lease.
    Expired,
    /// The supervisor withdrew the order before it was begun.
    Recalled,
}

impl Claim {
    /// Makes a claim that is not renewed.
    #[must_use]
    pub const fn new(id: String, by: String, at: DateTime<Utc>, plan_hash: String) -> Self {
        let state = ClaimState::Held;
        Self { id, by, at, plan_hash, lease_ms: None, renewal: 0, state }
    }
}

/// What a fixer did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FixReport {
    /// The work that this answers.
    pub work: WorkRef,
    /// Forwards, or back.
    pub mode: FixMode,
    /// The member that reports.
    pub by: String,
    /// How it ended.
    pub outcome: FixOutcome,
    /// What was done, step by step.
    pub steps: Vec<StepReport>,
    /// Whether the steps that were done have been taken back after a failure.
    #[serde(default)]
    pub undone: bool,
    /// How long it took.
    pub took_ms: u64,
}

/// How a fix ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum FixOutcome {
    /// All steps were carried out. Whether it helped is for the verification to say.
    Succeeded,
    /// A step failed.
    Failed {
        /// What went wrong.
        reason: String,
    },
    /// The one who claimed the attempt is gone; nobody knows how far it came.
    Unknown {
        /// What is known.
        reason: String,
    },
    /// It was not begun: too late, changed, or not on the fixer's own list.
    Refused {
        /// Why, and what to do.
        reason: String,
        /// The same for programs.
        #[serde(default)]
        code: Refusal,
    },
}

/// Why an order was not begun.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// After the time until which it might be begun: it may be ordered anew.
    TooLate,
    /// The plan is not the one that was authorized.
    ChangedPlan,
    /// The fixer's own list does not allow it.
    NotAllowed,
    /// The fixer cannot read the order.
    Unreadable,
    /// The supervisor withdrew it before it was begun.
    Recalled,
    /// Not told, or not known to this version.
    #[default]
    #[serde(other)]
    Other,
}

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepReport {
    /// Name of the step.
    pub name: String,
    /// The action and its main argument.
    pub action: String,
    /// Whether it was carried out.
    pub ok: bool,
    /// One line for people.
    pub summary: String,
    /// What it printed, cut to its last part.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// How long it took.
    pub took_ms: u64,
}

/// Wanted: proof.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyWork {
    /// Which piece of work this is.
    pub work: WorkRef,
    /// The target.
    pub target: Target,
    /// All must pass on every sample of the soak time.
    pub checks: Vec<Check>,
    /// Labels of checks that passed before the fix. That they pass proves something only if it
    /// is the target itself that answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_before: Vec<String>,
    /// Targets that were well before the fix and must be well after it.
    pub neighbours: Vec<Target>,
    /// Broker's time at which the fix had ended. Samples must be newer: the monitor
    /// counts from its receipt of this message, which lies behind that time by any clock.
    pub since: DateTime<Utc>,
    /// How long it must stay well.
    pub soak: Span,
    /// How long it may take to become well.
    pub within: Span,
    /// Whether a fix has just been carried out, so that the target may be about to start. Else
    /// one that does not run is not waited for. Older supervisors do not say it.
    #[serde(default = "is_after_fix")]
    pub after_fix: bool,
    /// After this time nobody waits for the answer.
    pub not_after: DateTime<Utc>,
}

const fn is_after_fix() -> bool {
    true
}

/// What a monitor saw after a fix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VerificationReport {
    /// The work that this answers.
    pub work: WorkRef,
    /// The member that looked.
    pub by: String,
    /// Whether all checks passed on every sample of the soak time.
    pub passed: bool,
    /// One line for people.
    pub summary: String,
    /// Time of the first sample that counts: [`VerifyWork::since`] plus what passed
    /// on the monitor's own clock between receipt and sample.
    pub samples_from: DateTime<Utc>,
    /// Number of samples that count.
    pub n_samples: u32,
    /// The last result of each check.
    pub checks: Vec<CheckResult>,
    /// Neighbours that were sick at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken_neighbours: Vec<String>,
}

/// What a check said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckResult {
    /// The check's name.
    pub check: String,
    /// Whether it passed.
    pub ok: bool,
    /// One line: the answer, or what went wrong.
    pub detail: String,
    /// How long it took.
    pub took_ms: u64,
}

/// Wanted: a notice to a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NotifyWork {
    /// Which piece of work this is.
    pub work: WorkRef,
    /// Names the notice; the report carries it back.
    pub notice: String,
    /// One line.
    pub title: String,
    /// The whole case, in words.
    pub text: String,
    /// The incident as the API shows it.
    pub incident: Value,
    /// To whom, for gateways that know no receivers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<crate::policy::Notifier>,
    /// To whom. A supervisor that knows no receivers does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receiver: Option<Box<crate::notify::Receiver>>,
    /// What it tells of.
    #[serde(default)]
    pub occasion: crate::notify::Occasion,
    /// What the way kept of this receiver and incident, as its last report said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// What happened lately, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<crate::view::TimelineEntry>,
    /// What was measured for the last diagnosis, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<String>,
}

/// What a notifier sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoticeReport {
    /// The work that this answers.
    pub work: WorkRef,
    /// The notice.
    pub notice: String,
    /// The member that reports.
    pub by: String,
    /// `Err` says why it could not be sent.
    pub outcome: Result<String, String>,
    /// Whether sending it again is of use and cannot tell anybody twice.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// What the way must know to go on, such as the message that it keeps up to date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
}

/// What a person wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Command {
    /// Who asks.
    pub by: String,
    /// How he has proved it. Older versions do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// What for.
    #[serde(flatten)]
    pub verb: Verb,
}

impl Command {
    /// Returns a command of somebody whose right nobody looks at again.
    #[must_use]
    pub fn new(by: impl Into<String>, verb: Verb) -> Self {
        Self { by: by.into(), proof: None, verb }
    }

    /// Says how who asks has proved who he is.
    #[must_use]
    pub fn proven(self, proof: Proof) -> Self {
        Self { proof: Some(proof), ..self }
    }
}

/// The verbs of a command; the name is the last part of its subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Verb {
    /// Carry this exact plan out.
    Approve {
        /// The incident.
        incident: IncidentId,
        /// The plan's hash.
        plan_hash: String,
    },
    /// Do not carry the plan out.
    Reject {
        /// The incident.
        incident: IncidentId,
        /// Why.
        #[serde(default)]
        reason: String,
    },
    /// Somebody is looking at it.
    Acknowledge {
        /// The incident.
        incident: IncidentId,
    },
    /// It is over, or nothing will be done.
    Close {
        /// The incident.
        incident: IncidentId,
        /// Why.
        #[serde(default)]
        reason: String,
    },
    /// Seek the cause anew, with a new set of attempts.
    Retry {
        /// The incident.
        incident: IncidentId,
    },
    /// Start no new fix.
    Pause {
        /// Why.
        #[serde(default)]
        reason: String,
    },
    /// Start fixes again.
    Resume,
    /// Keep something quiet for a while.
    Silence {
        /// What, and until when.
        #[serde(flatten)]
        request: crate::silence::SilenceRequest,
    },
    /// End a silence before its time.
    Unsilence {
        /// Which.
        id: crate::silence::SilenceId,
    },
    /// Use this configuration.
    Configure {
        /// The whole configuration.
        config: Box<crate::config::Config>,
        /// The text that it was read from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<ConfigText>,
        /// Parts that were given before, in their order: their targets come before its own.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        parts: Vec<String>,
    },
    /// Keep a part of a configuration that is larger than one input; the rest follows.
    ConfigurePart {
        /// The hash of its targets.
        sha256: String,
        /// A configuration that has these targets and nothing else.
        part: Box<crate::config::Config>,
    },
}

/// The text that a configuration was read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigText {
    /// Its SHA-256.
    pub sha256: String,
    /// Whether a supervisor found it in its file, and no person has asked for it: then what it
    /// removes or loosens must be confirmed.
    #[serde(default)]
    pub followed: bool,
    /// Why it may not be the whole text, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
}

impl ConfigText {
    /// Returns a text that a person asks for.
    #[must_use]
    pub fn given(text: &str) -> Self {
        let sha256 = crate::id::sha256_hex(text.as_bytes());
        Self { sha256, followed: false, doubts: Vec::new() }
    }
}

impl Verb {
    /// Asks for a configuration that was read from no text.
    #[must_use]
    pub fn configure(config: crate::config::Config) -> Self {
        Self::Configure { config: Box::new(config), text: None, parts: Vec::new() }
    }

    /// Asks for a configuration of any size: returns what to send, each after the one before was
    /// stored.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](crate::config::TooLarge) when a part of it fits no input.
    pub fn configure_all(
        config: &crate::config::Config,
        text: Option<ConfigText>,
    ) -> Result<Vec<Self>, crate::config::TooLarge> {
        let (rest, parts) = config.split()?;
        let names = parts.iter().map(|it| it.sha256.clone()).collect();
        let part = |it: crate::config::ConfigPart| Self::ConfigurePart {
            sha256: it.sha256,
            part: Box::new(it.config),
        };
        let mut verbs: Vec<_> = parts.into_iter().map(part).collect();
        verbs.push(Self::Configure { config: Box::new(rest), text, parts: names });
        Ok(verbs)
    }

    /// Returns the name in subjects.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Approve { .. } => "approve",
            Self::Reject { .. } => "reject",
            Self::Acknowledge { .. } => "acknowledge",
            Self::Close { .. } => "close",
            Self::Retry { .. } => "retry",
            Self::Pause { .. } => "pause",
            Self::Resume => "resume",
            Self::Silence { .. } => "silence",
            Self::Unsilence { .. } => "unsilence",
            Self::Configure { .. } => "configure",
            Self::ConfigurePart { .. } => "configure_part",
        }
    }
}

/// A deadline that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimerFired {
    /// The incident. Whether its deadline has come is for the desk to see.
    pub incident: IncidentId,
    /// When it was due; for people.
    pub due: DateTime<Utc>,
    /// Instead of a deadline: a supervisor has taken over under this revision of the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
}

impl TimerFired {
    /// Returns that the deadline of an incident has come.
    #[must_use]
    pub const fn of(incident: IncidentId, due: DateTime<Utc>) -> Self {
        Self { incident, due, epoch: None }
    }

    /// Returns that a supervisor has taken over.
    #[must_use]
    pub const fn leadership(epoch: u64, at: DateTime<Utc>) -> Self {
        Self { incident: IncidentId::NONE, due: at, epoch: Some(epoch) }
    }
}

/// What the sender of an input hears, once the decision is in the ledger and the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// What became of it.
    pub status: AnswerStatus,
    /// The incident it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident_id: Option<IncidentId>,
    /// One sentence for people.
    pub message: String,
}

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerStatus {
    /// A new incident was opened.
    IncidentOpened,
    /// It belongs to an open incident.
    IncidentUpdated,
    /// A resolve event, and nothing is open any more, or its recovery is being verified.
    IncidentResolved,
    /// Nothing will be done about it; the message says why.
    Suppressed,
    /// A command was carried out.
    Done,
    /// A command was refused; the message says why.
    Refused,
    /// A command names no incident that is known.
    NotFound,
}

/// A living process of ours, as in the members bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// `<kind>-<8 hex digits>`.
    pub id: String,
    /// `supervisor`, `monitor`, `analyzer`, `fixer`, `gateway`.
    pub kind: String,
    /// Zones that it serves.
    pub zones: Vec<String>,
    /// Version of its build.
    pub version: String,
    /// Host it runs on.
    pub host: String,
    /// Process id there.
    pub pid: u32,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// What only the last sign of life knows; absent in the list of the living.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulse: Option<Pulse>,
}

/// What a process tells with each sign of life, for those who look for what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pulse {
    /// Its own clock, to be compared with the broker's time of the message.
    pub clock: DateTime<Utc>,
    /// What the broker last did not permit it to do, in the broker's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub violation: Option<String>,
}

/// A question to a monitor of a zone, on `probe.<zone>`: how are these targets, now?
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeRequest {
    /// The targets, with all their checks.
    pub targets: Vec<Target>,
    /// What else is to be measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measures: Vec<Measure>,
    /// Whether the last lines of their logs are wanted.
    pub logs: bool,
    /// Time for all of it; what has not answered then is named in [`TargetProbe::unseen`].
    pub timeout_ms: u64,
}

/// The answer to a [`ProbeRequest`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ProbeReply {
    /// The monitor that looked.
    pub by: String,
    /// One for each target asked for, in the same order.
    pub targets: Vec<TargetProbe>,
    /// One for each measure asked for, in the same order.
    pub measured: Vec<Measured>,
    /// The host that the monitor runs on.
    pub host: HostState,
}

/// How one target is, now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TargetProbe {
    /// The target.
    pub target: String,
    /// Whether all checks passed.
    pub healthy: bool,
    /// One for each check.
    pub checks: Vec<CheckResult>,
    /// Its process, when it has such a handle.
    pub process: Option<ProcessState>,
    /// Its container, when it has such a handle.
    pub container: Option<ContainerState>,
    /// The last lines of its log, the newest last.
    pub log_tail: Vec<String>,
    /// Starts seen lately by time, the newest last (process or container).
    pub recent_starts: Vec<DateTime<Utc>>,
    /// What did not arrive in time: `process`, `container`, `log`, `starts`; or `configuration`,
    /// where the monitor does not know the target. Nothing follows from its absence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<String>,
    /// Labels of checks that were not seen in time, for reasons of the monitor. They did not fail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unseen_checks: Vec<String>,
    /// Labels of checks that cannot be asked, as by a mistake of the configuration. They say
    /// nothing about the target.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_asked: Vec<String>,
    /// While no process of the target runs: what its start needs and is not there, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_missing: Option<String>,
    /// While no process of the target runs: who answers its checks instead, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answered_by: Vec<String>,
    /// While no process of the target runs: checks that processes answer which its last run has
    /// left behind, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answered_by_left: Vec<String>,
}

/// The state of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ProcessState {
    /// Whether it is alive (a zombie is not).
    pub running: bool,
    /// Its id, while it runs, or the last one known.
    pub pid: Option<u32>,
    /// Its state letter as in `/proc/<pid>/stat`, while it runs: `R`, `S`, `D`, `T`.
    pub state: Option<String>,
    /// Exit code of the last run, when known.
    pub exit_code: Option<i32>,
    /// Signal that ended the last run, when known.
    pub signal: Option<i32>,
    /// Whether the kernel killed it for want of memory, when known.
    pub oom_killed: Option<bool>,
    /// Resident memory, while it runs.
    pub rss_bytes: Option<u64>,
    /// Open descriptors, while it runs.
    pub n_fds: Option<u64>,
    /// Limit of open descriptors.
    pub fds_max: Option<u64>,
    /// When it was started.
    pub started_at: Option<DateTime<Utc>>,
}

/// The state of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ContainerState {
    /// Whether there is such a container.
    pub exists: bool,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`.
    pub status: String,
    /// `healthy`, `unhealthy`, `starting`, or empty without a health check.
    pub health: String,
    /// Exit code of the last run.
    pub exit_code: Option<i64>,
    /// Whether the kernel killed it for want of memory.
    pub oom_killed: bool,
    /// Restarts by the engine.
    pub restart_count: i64,
    /// When it was started last.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended last.
    pub finished_at: Option<DateTime<Utc>>,
    /// Image.
    pub image: String,
    /// The engine's own words when it could not start it.
    pub error: String,
    /// Last output of its health check.
    pub health_log: String,
}

/// How busy a host is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct HostState {
    /// Processors busy, in per cent of all.
    pub cpu_percent: f32,
    /// Memory used, in per cent.
    pub memory_percent: f32,
    /// Load over one minute.
    pub load_1m: f64,
    /// Threads that ran or waited for a processor when it was looked, for each processor
    /// (`procs_running` of `/proc/stat`).
    pub runnable_per_cpu: Option<f64>,
    /// Disks, in per cent used, by mount point.
    pub disks_percent: BTreeMap<String, f32>,
    /// Share of the last 10 s in which some task waited for memory
    /// (`/proc/pressure/memory`, `some avg10`).
    pub memory_pressure: Option<f64>,
    /// The same for input and output.
    pub io_pressure: Option<f64>,
}

/// One message of the ledger: a micro-batch of decisions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerEntry {
    /// Version of the message.
    pub v: u16,
    /// Revision of the lease under which it was written; for people.
    pub epoch: u64,
    /// All inputs up to here have been decided.
    pub covers: Position,
    /// What was decided, in order.
    pub decisions: Vec<crate::fact::Decision>,
    /// The rules by which its leader folds what was decided; see [`FOLD`](crate::desk::FOLD).
    /// Older versions do not say it.
    #[serde(default)]
    pub fold: u32,
}
