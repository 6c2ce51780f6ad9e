//! How the configuration in force was given, and which texts for it were decided about.
//!
//! A supervisor may have an old file: a standby whose host was forgotten, a pod that comes back.
//! So the ledger keeps which texts were decided about, and a file counts only when it is news.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::view::HeldConfig;

/// Former texts that are remembered, so that none of them is taken for a new one.
const TEXTS_MAX: usize = 64;

/// How the configuration in force was given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Given {
    /// Number of the decision that brought the configuration into force; 0 when none did.
    seq: u64,
    /// SHA-256 of the text that was decided about last, unless a configuration of no text came
    /// into force since.
    last: Option<String>,
    /// Those of former ones, the oldest first.
    former: VecDeque<String>,
    /// What a person must confirm.
    held: Option<HeldConfig>,
}

/// A configuration file as a supervisor has found it on its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundText {
    /// SHA-256 of the text.
    pub sha256: String,
    /// Number of decisions when it was found.
    pub since: u64,
    /// Whether another text was there before, on the same host.
    pub changed: bool,
}

/// What a text in a file means, given what was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is to be decided about.
    New,
    /// It was decided about last.
    Decided,
    /// Another configuration came into force since it was found. It counts until the file
    /// changes.
    Superseded,
    /// It was decided about long ago, and this host has never had another: an old file.
    Old,
}

impl Given {
    /// Returns what a text in a file means.
    #[must_use]
    pub fn standing(&self, found: &FoundText) -> Standing {
        if self.last.as_ref() == Some(&found.sha256) {
            return Standing::Decided;
        }
        if self.seq == 0 {
            return Standing::New;
        }
        if found.since < self.seq {
            return Standing::Superseded;
        }
        if !found.changed && self.former.contains(&found.sha256) {
            return Standing::Old;
        }
        Standing::New
    }

    /// Returns whether a configuration ever came into force.
    #[must_use]
    pub const fn is_configured(&self) -> bool {
        0 < self.seq
    }

    /// Returns the text that waits for a person's word, if one does.
    #[must_use]
    pub const fn held(&self) -> Option<&HeldConfig> {
        self.held.as_ref()
    }

    /// Returns SHA-256 of the text that was decided about last, unless a configuration of no text
    /// came into force since.
    pub(super) fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Notes a configuration that came into force.
    pub(super) fn configured(&mut self, seq: u64, text: Option<&str>) {
        self.seq = seq;
        self.held = None;
        match text {
            Some(text) => self.decided(text),
            // A file with the text that was decided about last is of the past from now on, and
            // counts when somebody writes it again.
            None => {
                if let Some(former) = self.last.take() {
                    self.passed(former);
                }
            }
        }
    }

    /// Notes a text that waits for a person's word.
    pub(super) fn hold(&mut self, held: HeldConfig) {
        self.decided(&held.sha256);
        self.held = Some(held);
    }

    /// Notes a text that asks for what is in force.
    pub(super) fn unchanged(&mut self, text: &str) {
        self.held = None;
        self.decided(text);
    }

    fn decided(&mut self, text: &str) {
        if self.last.as_deref() == Some(text) {
            return;
        }
        if let Some(former) = self.last.replace(text.to_owned()) {
            self.passed(former);
        }
    }

    fn passed(&mut self, former: String) {
        self.former.retain(|it| *it != former);
        super::push_bounded(&mut self.former, former, TEXTS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sha256: &str, since: u64, changed: bool) -> FoundText {
        FoundText { sha256: sha256.to_owned(), since, changed }
    }

    #[test]
    fn a_text_counts_when_the_file_changed_after_what_is_in_force() {
        use Standing as S;
        let mut given = Given::default();
        assert_eq!(given.standing(&found("a", 0, false)), S::New, "nothing is in force");
        given.configured(1, Some("a"));
        given.configured(5, Some("b"));
        // Somebody applies a configuration that is in no file.
        given.configured(9, None);
        for (text, since, changed, standing, scene) in [
            ("b", 5, true, S::Superseded, "the leader's own file, which was in force before"),
            ("b", 12, false, S::Old, "a new standby with that file"),
            ("b", 12, true, S::New, "edited back to what was in force before"),
            ("a", 0, false, S::Superseded, "a standby whose file was forgotten"),
            ("a", 12, false, S::Old, "a new standby with an old file"),
            ("c", 7, true, S::Superseded, "edited on a standby before the other was applied"),
            ("c", 9, true, S::New, "edited after it"),
            ("c", 12, false, S::New, "a new pod with a new file"),
            ("a", 10, true, S::New, "edited back to a former text"),
        ] {
            assert_eq!(given.standing(&found(text, since, changed)), standing, "{scene}");
        }
        given.unchanged("c");
        assert_eq!(given.standing(&found("c", 9, true)), S::Decided);
    }

    #[test]
    fn former_texts_are_remembered_and_their_number_has_a_bound() {
        let mut given = Given::default();
        for n in 0..=TEXTS_MAX as u64 + 9 {
            given.configured(n + 1, Some(&format!("{n}")));
        }
        assert_eq!(given.former.len(), TEXTS_MAX);
        let last = TEXTS_MAX as u64 + 8;
        assert_eq!(given.standing(&found(&last.to_string(), 999, false)), Standing::Old);
        assert_eq!(given.standing(&found("0", 999, false)), Standing::New, "forgotten");
    }
}
