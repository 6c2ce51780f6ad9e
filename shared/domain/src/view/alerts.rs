//! Trouble as others list it: with all labels that its sender gave, and also what is kept quiet.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Status;
use crate::{event::Severity, id::IncidentId, silence::Cause};

/// Where a page of alerts begins: first all open incidents, then what is kept quiet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AlertsFrom {
    /// Behind this incident.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<IncidentId>,
    /// Behind what is kept quiet under this fingerprint; no incident follows any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<String>,
}

/// A page of alerts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Alerts {
    /// Open incidents, the oldest first; then what is kept quiet.
    pub alerts: Vec<AlertView>,
    /// Where the next page begins; null on the last one.
    pub next: Option<AlertsFrom>,
}

/// One trouble.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertView {
    /// The incident; null when it is kept quiet.
    pub incident: Option<IncidentId>,
    /// Where the incident stands.
    pub status: Option<Status>,
    /// Type of the event.
    #[serde(rename = "type")]
    pub kind: String,
    /// Who observed it.
    pub source: String,
    /// How bad the sender says it is.
    pub severity: Severity,
    /// The target, or what the sender called it.
    pub target: Option<String>,
    /// Zone of the target.
    pub zone: String,
    /// Labels, as the sender gave them.
    pub labels: BTreeMap<String, String>,
    /// Texts for people, as the sender gave them.
    pub annotations: BTreeMap<String, String>,
    /// Where to read more.
    pub links: Vec<String>,
    /// When it began.
    pub starts_at: DateTime<Utc>,
    /// When the sender's word ends.
    pub ends_at: Option<DateTime<Utc>>,
    /// When something was decided last.
    pub updated_at: DateTime<Utc>,
    /// What is known about the cause.
    pub analysis: Option<String>,
    /// Who is looking at it.
    pub acknowledged_by: Option<String>,
    /// The incident that is its cause.
    pub symptom_of: Option<IncidentId>,
    /// Why it is kept quiet, or its fixes are held.
    pub quiet: Option<Cause>,
    /// Names of the receivers that were called.
    pub receivers: Vec<String>,
}
