//! One step in the life of an incident, kept small.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    fact::Fact,
    view::{Status, TimelineEntry},
};

/// One step in the life of an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    seq: u64,
    at: DateTime<Utc>,
    #[serde(deserialize_with = "name")]
    decision: Cow<'static, str>,
    status: Status,
    reason: Box<str>,
}

impl Step {
    pub(super) fn new(
        seq: u64,
        at: DateTime<Utc>,
        fact: &Fact,
        status: Status,
        reason: &str,
    ) -> Self {
        Self { seq, at, decision: Cow::Borrowed(fact.name()), status, reason: reason.into() }
    }

    /// Returns it as people see it.
    #[must_use]
    pub fn view(&self) -> TimelineEntry {
        TimelineEntry {
            seq: self.seq,
            at: self.at,
            decision: self.decision.to_string(),
            status: self.status,
            reason: self.reason.to_string(),
        }
    }
}

/// Reads the name of a fact; one that this version knows costs no memory.
fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'static, str>, D::Error> {
    let text = Cow::<'de, str>::deserialize(deserializer)?;
    let known = Fact::NAMES.into_iter().find(|it| **it == *text);
    Ok(known.map_or_else(|| Cow::Owned(text.into_owned()), Cow::Borrowed))
}
