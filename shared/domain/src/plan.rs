//! Plans: what is to be done about a cause, and how one will see that it helped.

mod render;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::render::{render, render_value};
pub use crate::autonomy::Risk;
use crate::{action::Action, autonomy::Autonomy, check::Check, id::sha256_hex, span::Span};

/// One step of a plan, with everything it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Name in reports.
    pub name: String,
    /// What is done.
    #[serde(flatten)]
    pub action: Action,
    /// Longest time it may take.
    pub timeout: Span,
    /// Must pass immediately before the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_check: Option<Check>,
    /// What takes the step back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Action>,
}

/// What an action gets beyond its timeout to end by itself, before the fixer drops it.
pub const OVERTIME: Span = Span::from_millis(500);

impl Step {
    /// Returns the longest time from its pre-check to the end of its action.
    #[must_use]
    pub fn longest(&self) -> Span {
        let pre_check = self.pre_check.as_ref().map_or(Span::ZERO, |it| it.timeout);
        pre_check.plus(self.timeout).plus(OVERTIME)
    }

    /// Returns the longest time of its undo; none when it has no undo.
    #[must_use]
    pub fn undo_longest(&self) -> Span {
        self.undo.as_ref().map_or(Span::ZERO, |_| self.timeout.plus(OVERTIME))
    }
}

/// How one sees that a fix helped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Success {
    /// Must all pass on every sample of the soak time. Never empty.
    pub checks: Vec<Check>,
    /// How long the target must stay well.
    pub soak: Span,
    /// How long it may take to become well first.
    pub within: Span,
}

/// A cure for one target. It has at least one step and one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Plan {
    // A pointer, since plans lie in states of which there are many.
    parts: Box<Parts>,
}

/// What a plan is made of; [`Plan::new`] turns it into one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Parts {
    /// Name of the runbook.
    pub runbook: String,
    /// One line for people.
    pub title: String,
    /// The cause that it cures.
    pub cause: String,
    /// The target that is acted upon.
    pub target: String,
    /// The zone of the target.
    pub zone: String,
    /// How much harm it may do.
    pub risk: Risk,
    /// What the runbook states about its autonomy, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autonomy: Option<Autonomy>,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// How one sees that it helped.
    pub success: Success,
}

/// Why parts make no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing would be done.
    #[error("plan `{0}` has no step")]
    NoStep(String),
    /// Nothing would prove it.
    #[error("plan `{0}` has no check that could prove it")]
    NoCheck(String),
    /// It is for no target.
    #[error("plan `{0}` names no target")]
    NoTarget(String),
}

impl Plan {
    /// Makes a plan.
    ///
    /// # Errors
    ///
    /// [`Error`] when there is no step, no check, or no target.
    pub fn new(parts: Parts) -> Result<Self, Error> {
        if parts.target.is_empty() {
            return Err(Error::NoTarget(parts.runbook));
        }
        if parts.steps.is_empty() {
            return Err(Error::NoStep(parts.runbook));
        }
        if parts.success.checks.is_empty() {
            return Err(Error::NoCheck(parts.runbook));
        }
        Ok(Self { parts: Box::new(parts) })
    }

    /// Returns the SHA-256 of the whole plan: an approval is for exactly this.
    #[must_use]
    pub fn hash(&self) -> String {
        // Serialising plain data with string keys cannot fail; an empty text would
        // match no approval.
        sha256_hex(&serde_json::to_vec(&self.parts).unwrap_or_default())
    }

    /// Returns the names of all actions, also of those that take a step back.
    #[must_use]
    pub fn action_names(&self) -> Vec<&'static str> {
        let undo = |step: &Step| step.undo.as_ref().map(|it| it.name().as_str());
        let names = |step: &Step| [Some(step.action.name().as_str()), undo(step)];
        self.parts.steps.iter().flat_map(names).flatten().collect()
    }

    /// Returns the longest time that the plan may take: all pre-checks and actions, and the undo
    /// of every step when the last one fails.
    #[must_use]
    pub fn timeout(&self) -> Span {
        let longest = |step: &Step| step.longest().plus(step.undo_longest());
        self.parts.steps.iter().fold(Span::ZERO, |sum, step| sum.plus(longest(step)))
    }

    /// Returns whether the plan can be taken back, at least in part.
    #[must_use]
    pub fn can_be_undone(&self) -> bool {
        self.parts.steps.iter().any(|step| step.undo.is_some())
    }
}

impl std::ops::Deref for Plan {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl TryFrom<Parts> for Plan {
    type Error = Error;
    fn try_from(parts: Parts) -> Result<Self, Error> {
        Self::new(parts)
    }
}

impl From<Plan> for Parts {
    fn from(plan: Plan) -> Self {
        *plan.parts
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.runbook)?;
        for (idx, step) in self.steps.iter().enumerate() {
            let then = if idx == 0 { "" } else { ", then " };
            write!(f, "{then}{}", step.action)?;
        }
        Ok(())
    }
}
