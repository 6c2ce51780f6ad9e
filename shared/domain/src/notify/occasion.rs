//! What people are told of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    fact::{Fact, Trigger},
    guard::STORM_BRAKE,
};

/// What people are told of.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// An incident was opened.
    Opened,
    /// A person must approve a plan.
    ApprovalWanted,
    /// A person approved it.
    Approved,
    /// A fix was begun.
    FixStarted,
    /// A person must take over.
    #[default]
    Escalated,
    /// News came in, and it is diagnosed again; a plan that waited is void.
    Reopened,
    /// So much is sick at once that no fix is begun; told once.
    Storm,
    /// Somebody is looking at it.
    Acknowledged,
    /// The trouble is over.
    Resolved,
    /// A person closed it.
    Closed,
}

impl Occasion {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Opened,
        Self::ApprovalWanted,
        Self::Approved,
        Self::FixStarted,
        Self::Escalated,
        Self::Reopened,
        Self::Storm,
        Self::Acknowledged,
        Self::Resolved,
        Self::Closed,
    ];

    /// What a route that does not say it is for: all but those that nobody need act upon.
    pub const BY_DEFAULT: [Self; 8] = [
        Self::ApprovalWanted,
        Self::Approved,
        Self::Escalated,
        Self::Reopened,
        Self::Storm,
        Self::Acknowledged,
        Self::Resolved,
        Self::Closed,
    ];

    /// Returns what a fact is to people, if they may want to know it.
    #[must_use]
    #[expect(clippy::wildcard_enum_match_arm, reason = "the log tells of all other facts")]
    pub fn of(fact: &Fact) -> Option<Self> {
        Some(match fact {
            Fact::Opened { .. } => Self::Opened,
            Fact::ApprovalRequested { .. } => Self::ApprovalWanted,
            Fact::Approved { .. } => Self::Approved,
            Fact::FixStarted { .. } => Self::FixStarted,
            Fact::Escalated { .. } => Self::Escalated,
            Fact::RediagnosisStarted { trigger: Trigger::News } => Self::Reopened,
            Fact::Held { guard, .. } if guard == STORM_BRAKE => Self::Storm,
            Fact::Acknowledged { .. } => Self::Acknowledged,
            Fact::Resolved | Fact::SelfResolved => Self::Resolved,
            Fact::Closed { .. } => Self::Closed,
            _ => return None,
        })
    }

    /// Returns whether it calls somebody; else it only goes on with what was told before, to
    /// those who were called.
    #[must_use]
    pub const fn calls(self) -> bool {
        match self {
            Self::Opened | Self::ApprovalWanted | Self::Escalated | Self::Storm => true,
            Self::Approved
            | Self::FixStarted
            | Self::Reopened
            | Self::Acknowledged
            | Self::Resolved
            | Self::Closed => false,
        }
    }

    /// Returns whether it is the last thing that is told of an incident.
    #[must_use]
    pub const fn ends(self) -> bool {
        matches!(self, Self::Resolved | Self::Closed)
    }

    /// Returns the name, as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::ApprovalWanted => "approval_wanted",
            Self::Approved => "approved",
            Self::FixStarted => "fix_started",
            Self::Escalated => "escalated",
            Self::Reopened => "reopened",
            Self::Storm => "storm",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
            Self::Closed => "closed",
        }
    }

    /// Returns it in words, for the beginning of a line.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::ApprovalWanted => "approval required",
            Self::Approved => "approved",
            Self::FixStarted => "fix started",
            Self::Escalated => "escalated",
            Self::Reopened => "diagnosed again",
            Self::Storm => "storm, automatic fixes on hold",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
            Self::Closed => "closed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_of_json() {
        for occasion in Occasion::ALL {
            assert_eq!(serde_json::to_value(occasion).unwrap(), occasion.as_str());
        }
    }
}
