//! Which text a host had in its file last, kept in the data directory.

use std::{io, path::PathBuf};

use domain::desk::FoundText;
use serde::{Deserialize, Serialize};

/// Where it is kept.
#[derive(Clone, Debug)]
pub(crate) struct SeenFile {
    path: PathBuf,
}

/// The text that the file of this host had last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    #[serde(flatten)]
    pub(super) text: FoundText,
    /// Whether it ended with a line end.
    #[serde(default)]
    pub(super) ends_line: bool,
}

impl SeenFile {
    /// Names the file.
    #[must_use]
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Reads it; a former version wrote only the hash of a text that it had submitted.
    pub(super) fn read(&self) -> Option<Seen> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        if let Ok(seen) = serde_json::from_str(&text) {
            return Some(seen);
        }
        let sha256 = text.trim().to_owned();
        let is_hash = sha256.len() == 64 && sha256.bytes().all(|it| it.is_ascii_hexdigit());
        let text = FoundText { sha256, since: 0, changed: false };
        is_hash.then_some(Seen { text, ends_line: false })
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    ///
    /// When it cannot be written: after a restart the file then counts as one that was never
    /// seen on this host.
    pub(super) fn write(&self, seen: &Seen) -> io::Result<()> {
        private::replace(&self.path, &serde_json::to_vec(seen)?)
    }

    /// Returns what to say of a text that is in the file now, when `n_decisions` are made.
    pub(super) fn found(&self, sha256: &str, n_decisions: u64) -> FoundText {
        match self.read() {
            Some(seen) if seen.text.sha256 == sha256 => seen.text,
            before => FoundText {
                sha256: sha256.to_owned(),
                since: n_decisions,
                changed: before.is_some(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_host_is_remembered_with_the_moment_it_was_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = SeenFile::new(dir.path().join("config.seen"));
        let first = file.found("a", 7);
        assert_eq!((first.since, first.changed), (7, false));
        file.write(&Seen { text: first.clone(), ends_line: true }).unwrap();
        assert_eq!(file.found("a", 9), first, "also after a restart");
        let second = file.found("b", 9);
        assert_eq!((second.since, second.changed), (9, true));
        let hash = "0".repeat(64);
        std::fs::write(&file.path, &hash).unwrap();
        assert_eq!(file.found(&hash, 9).since, 0, "as a former version wrote it");
        assert!(file.found("a", 9).changed);
    }
}
