//! The records of a chain.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256, in base64 without padding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Returns the head behind a record.
    pub(super) fn then(self, record: &[u8]) -> Self {
        Self(Sha256::new().chain_update(self.0).chain_update(record).finalize().into())
    }

    /// Returns whether it is the one before the first record of all.
    pub(super) fn is_first(self) -> bool {
        self == Self::default()
    }

    pub(super) const fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for Hash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|it| it.try_into().ok());
        bytes.map(Self).ok_or("it is no SHA-256")
    }
}

/// One line of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// The first of each file.
    Begins {
        /// The last decision before it.
        after: u64,
        /// The head of the part before; that of no record when there is none.
        head: Hash,
        at: DateTime<Utc>,
        /// The lines came from another supervisor, to fill a gap: the parts before and behind it
        /// do not name it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        fetched: bool,
    },
    /// A line of the log: its decision, and the hash of its text without the line feed.
    Line(u64, Hash),
    /// These decisions are left out of the log.
    Missing { from: u64, to: u64 },
    /// Parts up to this decision were removed, as the retention of the log says.
    Removed { to: u64, at: DateTime<Utc> },
    /// The lines of these decisions were in the log when the supervisor started, and not in the
    /// chain. Their records follow.
    Found { from: u64, to: u64, at: DateTime<Utc> },
    /// When the supervisor started, the log ended with this decision. Records behind it do not
    /// count any more.
    Rewound { to: u64, at: DateTime<Utc> },
    /// Ends a batch. It is itself not covered by the head.
    Sealed {
        /// The last decision of the chain.
        seq: u64,
        /// The lines of this part.
        lines: u64,
        head: Hash,
        /// The key and the signature.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
    },
}
