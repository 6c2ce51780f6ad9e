//! What an incident was before a decision, for those who measure.

use chrono::{DateTime, Utc};

use crate::{
    incident::{Incident, Phase},
    view::Status,
};

/// Whether an attempt to heal is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// None is.
    None,
    /// A plan is carried out, or its proof is due.
    UnderWay,
    /// It is taken back.
    Undoing,
}

/// What an incident was before a decision changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// Where it stood.
    pub status: Status,
    /// Since when.
    pub entered_at: DateTime<Utc>,
    /// Counts its changes of phase.
    pub revision: u64,
    /// Fixes begun; 0 before the first.
    pub attempt: u32,
    /// Whether an attempt was under way.
    pub treatment: Treatment,
    /// Whether a person had said to be looking at it.
    pub is_acknowledged: bool,
    /// When it was opened.
    pub opened_at: DateTime<Utc>,
    /// Whether the decision ended its phase.
    pub has_left: bool,
}

impl Before {
    pub(super) fn of(incident: &Incident) -> Self {
        Self {
            status: incident.status(),
            entered_at: incident.entered_at,
            revision: incident.revision,
            attempt: incident.attempt,
            treatment: match &incident.phase {
                Phase::Undoing { .. } => Treatment::Undoing,
                Phase::Diagnosing
                | Phase::RetryWaiting { .. }
                | Phase::Proposed { .. }
                | Phase::AwaitingApproval { .. }
                | Phase::Fixing { .. }
                | Phase::Verifying { .. }
                | Phase::Symptom { .. }
                | Phase::Escalated(_)
                | Phase::Over(_) => {
                    if incident.is_under_treatment() {
                        Treatment::UnderWay
                    } else {
                        Treatment::None
                    }
                }
            },
            is_acknowledged: incident.acknowledged_by.is_some(),
            opened_at: incident.opened_at,
            has_left: false,
        }
    }

    /// Returns whether nobody, neither a person nor a fixer, had done anything yet.
    #[must_use]
    pub const fn is_untouched(&self) -> bool {
        self.attempt == 0 && !self.is_acknowledged
    }
}
