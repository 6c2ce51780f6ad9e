//! Ids that follow from where an input stands, so that deciding it again gives
//! the same incident.

use std::{borrow::Cow, fmt, str::FromStr};

use chrono::{DateTime, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The place of an input in the inbox: the message, and the part within its frame.
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
pub struct Position {
    /// Stream sequence of the inbox message; the first is 1.
    pub seq: u64,
    /// Index of the input within the message; 0 for a single message.
    pub idx: u32,
}

impl Position {
    /// Returns the position of part `idx` of message `seq`.
    #[must_use]
    pub const fn new(seq: u64, idx: u32) -> Self {
        Self { seq, idx }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seq, self.idx)
    }
}

/// The id of an incident: a UUID of version 7, so that ids sort by opening time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IncidentId(Uuid);

impl IncidentId {
    /// Stands in the log for decisions that belong to no incident.
    pub const NONE: Self = Self(Uuid::nil());

    /// Returns when the incident was opened, to the millisecond.
    #[must_use]
    pub fn opened_at(self) -> DateTime<Utc> {
        let millis = i64::try_from(self.0.as_u128() >> 80).unwrap_or_default();
        DateTime::from_timestamp_millis(millis).unwrap_or_default()
    }

    /// Derives the id from the broker's time and the position of the input that
    /// opened the incident, and from the fingerprint.
    ///
    /// Layout as in RFC 9562, section 5.7; the random bits are replaced by a hash.
    #[must_use]
    pub fn derive(at: DateTime<Utc>, position: Position, fingerprint: &str) -> Self {
        let ms = u64::try_from(at.timestamp_millis()).unwrap_or(0);
        let mut hash = Sha256::new();
        hash.update(position.seq.to_be_bytes());
        hash.update(position.idx.to_be_bytes());
        hash.update(fingerprint.as_bytes());
        let mut random = [0_u8; 10];
        for (to, from) in random.iter_mut().zip(hash.finalize()) {
            *to = from;
        }
        Self(uuid::Builder::from_unix_timestamp_millis(ms, &random).into_uuid())
    }
}

impl IncidentId {
    /// Returns the id as a number; the id of its trace.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }
}

impl JsonSchema for IncidentId {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "IncidentId".into()
    }
    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "uuid" })
    }
}

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for IncidentId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Returns the lower-case hexadecimal SHA-256 of `bytes`.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    let digits = Sha256::digest(bytes).into_iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
}

/// Returns the first half of the SHA-256 of texts, each with its length, so that other texts
/// give another number. Stands for keys that are only compared.
#[must_use]
pub(crate) fn digest(texts: &[&str]) -> u128 {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(text.as_bytes());
    }
    let mut half = [0_u8; 16];
    for (to, from) in half.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    u128::from_be_bytes(half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_input_gives_the_same_id_and_another_input_another() {
        let at = DateTime::from_timestamp_millis(1_755_520_496_000).unwrap();
        let id = IncidentId::derive(at, Position::new(7, 1), "a");
        assert_eq!(id, IncidentId::derive(at, Position::new(7, 1), "a"));
        assert_ne!(id, IncidentId::derive(at, Position::new(7, 2), "a"));
        assert_ne!(id, IncidentId::derive(at, Position::new(8, 1), "a"));
        assert_ne!(id, IncidentId::derive(at, Position::new(7, 1), "b"));
        assert_eq!(id.0.get_version_num(), 7);
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn ids_sort_by_opening_time() {
        let id = |ms| {
            let at = DateTime::from_timestamp_millis(ms).unwrap();
            IncidentId::derive(at, Position::new(1, 0), "a")
        };
        assert!(id(1000) < id(2000));
    }
}
