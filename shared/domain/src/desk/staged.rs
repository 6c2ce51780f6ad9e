//! Parts of a configuration that is larger than one message, until the rest of it comes.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::config::{Config, PARTS_MAX};

/// A part whose configuration has not come after this time is forgotten: who gave it is gone.
const AGE_MAX: TimeDelta = TimeDelta::hours(1);
/// Parts at once: of two whole configurations.
const STAGED_MAX: usize = 2 * PARTS_MAX;

/// Parts that are given already.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Staged(BTreeMap<String, Staging>);

/// A part that is given already.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Staging {
    at: DateTime<Utc>,
    part: Config,
}

impl Staged {
    /// Keeps a part, and forgets those that nobody asks for.
    pub(super) fn keep(&mut self, sha256: &str, part: &Config, at: DateTime<Utc>) {
        self.0.retain(|_, it| at - AGE_MAX < it.at);
        while STAGED_MAX <= self.0.len() {
            let oldest = self.0.iter().min_by_key(|(_, it)| it.at).map(|(name, _)| name.clone());
            match oldest {
                Some(name) => self.0.remove(&name),
                None => return,
            };
        }
        let part = part.clone();
        self.0.insert(sha256.to_owned(), Staging { at, part });
    }

    /// Returns whether a part is there.
    pub(super) fn has(&self, sha256: &str) -> bool {
        self.0.contains_key(sha256)
    }

    /// Puts a configuration together; `None` when one of its parts is missing.
    pub(super) fn whole(&self, rest: &Config, parts: &[String]) -> Option<Config> {
        let parts: Option<Vec<&Config>> =
            parts.iter().map(|it| self.0.get(it).map(|it| &it.part)).collect();
        Some(rest.joined(parts?.into_iter()))
    }

    /// Forgets the parts of a configuration that came into force.
    pub(super) fn forget(&mut self, parts: &[String]) {
        for sha256 in parts {
            self.0.remove(sha256);
        }
    }

    /// Returns all, each for a line of a snapshot.
    pub(super) fn all(&self) -> Vec<(String, Staging)> {
        self.0.iter().map(|(name, it)| (name.clone(), it.clone())).collect()
    }

    /// Takes up one of a snapshot.
    pub(super) fn take_up(&mut self, sha256: String, staging: Staging) {
        self.0.insert(sha256, staging);
    }
}
