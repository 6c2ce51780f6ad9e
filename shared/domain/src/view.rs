//! What people read: incidents as the API and the CLI show them, and log lines.

mod alerts;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    event::{Event, Severity},
    fact::{Decision, DiagnosedCause},
    id::{IncidentId, Position},
    plan::Plan,
    silence::{Cause, Silence, Window},
    wire::{AttemptRecord, Evidence},
};

pub use alerts::{AlertView, Alerts, AlertsFrom};

/// Where an incident stands, in one word.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "IncidentStatus")]
pub enum Status {
    /// Just opened.
    Open,
    /// The cause is being sought.
    Diagnosing,
    /// There is a plan, which waits for its guards.
    Proposed,
    /// A person must approve the plan.
    AwaitingApproval,
    /// The plan is being carried out, or taken back.
    Fixing,
    /// It is being verified.
    Verifying,
    /// A symptom: it waits for its cause.
    Merged,
    /// Over, proven.
    Resolved,
    /// Over without a fix.
    SelfResolved,
    /// A person has it.
    Escalated,
    /// Nothing is done about it.
    Suppressed,
    /// A person closed it.
    Closed,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Open,
        Self::Diagnosing,
        Self::Proposed,
        Self::AwaitingApproval,
        Self::Fixing,
        Self::Verifying,
        Self::Merged,
        Self::Resolved,
        Self::SelfResolved,
        Self::Escalated,
        Self::Suppressed,
        Self::Closed,
    ];

    /// Returns the name as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Diagnosing => "diagnosing",
            Self::Proposed => "proposed",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Fixing => "fixing",
            Self::Verifying => "verifying",
            Self::Merged => "merged",
            Self::Resolved => "resolved",
            Self::SelfResolved => "self_resolved",
            Self::Escalated => "escalated",
            Self::Suppressed => "suppressed",
            Self::Closed => "closed",
        }
    }

    /// Returns whether the trouble is over: nothing more will happen to the incident.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Resolved | Self::SelfResolved | Self::Suppressed | Self::Closed)
    }
}

/// One line of the log, and one message on `live.<incident>`. The first five fields are
/// always there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// The incident; all zeros for decisions about none.
    pub incident_id: IncidentId,
    /// Broker's time of the input that caused the decision.
    pub timestamp: DateTime<Utc>,
    /// Type of the event that opened the incident; `selfheal.<fact>` for decisions about none.
    pub incident_type: String,
    /// What is known about the cause; null until known.
    pub analysis: Option<String>,
    /// How it ended; null until known.
    pub resolution: Option<String>,
    /// Number of the decision: line n is decision n, over all rotated files.
    pub seq: u64,
    /// Where the incident stands after the decision.
    pub status: Option<Status>,
    /// What was decided.
    pub decision: String,
    /// Position of the input that caused it.
    pub cause: Position,
    /// Why.
    pub reason: String,
    /// The target, if one is known.
    pub target: Option<String>,
    /// The message of the ledger that holds the decision.
    pub entry: u64,
    /// The inbox position that this message covers.
    pub covers: Position,
    /// The decision itself, from which the ledger can be rebuilt.
    pub detail: Decision,
}

/// A configuration file that is not in force until a person confirms it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeldConfig {
    /// SHA-256 of its text.
    pub sha256: String,
    /// Who found it.
    pub by: String,
    /// Since when it waits.
    pub since: DateTime<Utc>,
    /// What must be confirmed: what it removes or loosens, or why its text is doubtful.
    pub differences: Vec<String>,
}

/// One incident in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentView {
    /// Its id.
    pub id: IncidentId,
    /// Where it stands.
    pub status: Status,
    /// Type of the event that opened it.
    #[serde(rename = "type")]
    pub kind: String,
    /// How bad the sender says it is.
    pub severity: Severity,
    /// The target, or what the sender called it.
    pub target: Option<String>,
    /// Zone of the target.
    pub zone: String,
    /// Who observed it.
    pub source: String,
    /// What makes further events the same trouble.
    pub fingerprint: String,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// When something was decided last.
    pub updated_at: DateTime<Utc>,
    /// When it was over.
    pub closed_at: Option<DateTime<Utc>>,
    /// Number of events.
    pub count: u64,
    /// Fixes begun so far.
    pub attempt: u32,
    /// Whether the last of them is a bring-up: the first start of a target that no monitor had
    /// seen healthy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bring_up: bool,
    /// What is known about the cause.
    pub analysis: Option<String>,
    /// How it ended; null while it is open.
    pub resolution: Option<String>,
    /// The incident that is its cause, when it is a symptom.
    pub symptom_of: Option<IncidentId>,
    /// The former incident of the same trouble.
    pub previous: Option<IncidentId>,
    /// The plan that waits or is under way.
    pub plan: Option<PlanView>,
    /// Why it waits; of an escalated incident, why it was escalated.
    pub waiting: Option<String>,
    /// Who is looking at it.
    pub acknowledged_by: Option<String>,
    /// When its present state ends by itself.
    pub deadline: Option<DateTime<Utc>>,
    /// The `event_flood` incident whose notifications stand for those of this one; absent when
    /// people are notified of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notified_by: Option<IncidentId>,
}

/// A plan, and what an approval must name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanView {
    /// What an approval must name.
    pub hash: String,
    /// One line.
    pub summary: String,
    /// When an approval is too late.
    pub expires_at: Option<DateTime<Utc>>,
    /// The plan itself.
    pub plan: Plan,
}

/// One incident, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentDetail {
    /// As in the list.
    #[serde(flatten)]
    pub view: IncidentView,
    /// What happened, the oldest first.
    pub timeline: Vec<TimelineEntry>,
    /// The event that opened it, with the newest payload.
    pub event: Event,
    /// The last diagnosis, the likeliest cause first.
    pub hypotheses: Vec<DiagnosedCause>,
    /// What that diagnosis looked at.
    pub evidence: Vec<Evidence>,
    /// What was tried.
    pub attempts: Vec<AttemptRecord>,
    /// Incidents that wait for this one.
    pub symptoms: Vec<IncidentId>,
}

/// One step in the life of an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TimelineEntry {
    /// Number of the decision in the log.
    pub seq: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// What was decided.
    pub decision: String,
    /// Where the incident stood then.
    pub status: Status,
    /// Why.
    pub reason: String,
}

/// A question to any supervisor, on `query.<what>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Query {
    /// `query.incidents`: a page of the list, the newest first. Answer: [`Page`].
    Incidents(Filter),
    /// `query.incident`: one, whole. Answer: [`IncidentDetail`] or null.
    Incident {
        /// Which.
        id: IncidentId,
    },
    /// `query.status`: the whole system. Answer: [`SystemView`].
    Status,
    /// `query.silences`: silences, and what is kept quiet. Answer: [`SilencesView`].
    Silences,
    /// `query.alerts`: a page of all trouble, with its labels, also of what is kept quiet.
    /// Answer: [`Alerts`].
    Alerts(AlertsFrom),
    /// `query.config`: the active configuration. Answer: [`crate::config::Config`].
    Config,
}

impl Query {
    /// Returns the last part of the subject.
    #[must_use]
    pub const fn subject(&self) -> &'static str {
        match self {
            Self::Incidents(_) => "incidents",
            Self::Incident { .. } => "incident",
            Self::Status => "status",
            Self::Silences => "silences",
            Self::Alerts(_) => "alerts",
            Self::Config => "config",
        }
    }

    /// Last parts of all query subjects.
    pub const SUBJECTS: [&'static str; 6] =
        ["incidents", "incident", "status", "silences", "alerts", "config"];
}

/// Silences, windows, and what is kept quiet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SilencesView {
    /// Silences that are in force or will be.
    pub silences: Vec<SilenceView>,
    /// Maintenance windows of the configuration.
    pub windows: Vec<Window>,
    /// How many troubles are kept quiet, whatever the cause.
    pub n_suppressed: usize,
    /// The first of them.
    pub suppressed: Vec<MutedView>,
}

/// One silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SilenceView {
    /// The silence.
    #[serde(flatten)]
    pub silence: Silence,
    /// How many troubles it keeps quiet.
    pub n_suppressed: usize,
}

/// One trouble that is kept quiet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MutedView {
    /// What makes further events the same trouble.
    pub fingerprint: String,
    /// Type of the event.
    #[serde(rename = "type")]
    pub kind: String,
    /// Who reported it.
    pub source: String,
    /// The configured target.
    pub target: Option<String>,
    /// Why it is kept quiet.
    pub by: Cause,
    /// Since when.
    pub since: DateTime<Utc>,
    /// It is looked at again at this time.
    pub until: DateTime<Utc>,
    /// Why, in a sentence.
    pub reason: String,
}

/// Which incidents are wanted. What is absent does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Filter {
    /// Any of these states; empty: all.
    pub status: Vec<Status>,
    /// Only open incidents.
    pub open: bool,
    /// About this target.
    pub target: Option<String>,
    /// Of this type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Minimum severity.
    pub severity: Option<Severity>,
    /// Whose id, type, source, target, analysis or resolution contains this text.
    pub q: Option<String>,
    /// Opened at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Continues behind this incident ([`Page::next`]).
    pub after: Option<IncidentId>,
    /// At most so many (default 50, at most [`Filter::LIMIT_MAX`]).
    pub limit: Option<usize>,
}

impl Filter {
    /// Longest page.
    pub const LIMIT_MAX: usize = 500;
    /// Length of a page when none is asked for.
    pub const LIMIT_DEFAULT: usize = 50;
}

/// A page of the list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Page {
    /// The incidents, the newest first.
    pub incidents: Vec<IncidentView>,
    /// Where the next page begins; null on the last one.
    pub next: Option<IncidentId>,
    /// How many fit the filter, on all pages.
    pub total: usize,
}

/// The whole system at a glance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SystemView {
    /// The supervisor that answers.
    pub answered_by: String,
    /// The supervisor that decides, if one does.
    pub leader: Option<String>,
    /// Why new fixes are stopped, if they are.
    pub paused: Option<String>,
    /// Until when the breaker is tripped, if it is.
    pub breaker_until: Option<DateTime<Utc>>,
    /// Number of incidents by status.
    pub incidents: BTreeMap<String, usize>,
    /// Number of configured targets.
    pub n_targets: usize,
    /// Number of decisions so far.
    pub n_decisions: u64,
    /// Last input decided.
    pub position: Position,
    /// Inputs in the inbox that wait for a decision.
    pub inbox_lag: u64,
    /// Lines that are in the ledger but not yet in the log file (disk full).
    pub log_lag: u64,
    /// Inputs that could not be understood since the supervisor started.
    pub n_rejected: u64,
    /// Hash of the active configuration, its first 12 digits.
    pub config_hash: String,
    /// A configuration file that is not in force until a person confirms it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_held: Option<HeldConfig>,
    /// Messages of the ledger that no supervisor has written, since the last snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_foreign: Option<ForeignInLedger>,
}

/// Messages of the ledger that no supervisor has written. They decide nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ForeignInLedger {
    /// How many.
    pub n: u64,
    /// The place of the newest.
    pub seq: u64,
    /// When the broker stored the newest.
    pub at: DateTime<Utc>,
    /// Under which subject: that of a copy tells where it was copied from.
    pub subject: String,
}
