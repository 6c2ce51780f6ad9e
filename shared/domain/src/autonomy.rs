//! How much harm something may do, and how far the system goes by itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much harm a wrong use may do.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// Acts by itself, unless the policy says otherwise.
    Low,
    /// Asks a person.
    Medium,
    /// Is only suggested.
    High,
}

/// How far the system goes by itself.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Autonomy {
    /// Diagnoses and logs.
    Observe,
    /// Tells a person which plan it would carry out.
    Suggest,
    /// Carries the plan out when a person has approved it.
    Approve,
    /// Carries the plan out.
    Auto,
}
