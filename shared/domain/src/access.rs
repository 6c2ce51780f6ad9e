//! Who may do what at the gateway: roles, and tokens that have one.

mod scope;
mod settings;

use std::fmt;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{id::sha256_hex, span::Rates};

pub use scope::{NotAScope, Scope, ScopePart};
pub use settings::{Access, Oidc, RateLimits};

/// What all of our tokens begin with, so that scanners for secrets find one that was lost.
pub const TOKEN_PREFIX: &str = "sht_";

/// Random bytes of a token. So many cannot be guessed, so a plain hash keeps them: a slow one,
/// such as Argon2, protects texts that people choose, and would cost each request its time.
pub const TOKEN_BYTES: usize = 32;

/// Longest name of a token.
pub const TOKEN_NAME_BYTES_MAX: usize = 64;

/// What somebody may do. Viewer, operator, approver and admin each may all that the one before
/// may; a publisher may publish events and nothing else.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Publishes events, and sees nothing.
    Publisher,
    /// Reads.
    Viewer,
    /// Also publishes events, and acknowledges, closes, retries, silences, pauses and resumes.
    Operator,
    /// Also approves and rejects plans.
    Approver,
    /// Also gives a new configuration, and sees the tokens.
    Admin,
}

impl Role {
    /// All roles, the least first.
    pub const ALL: [Self; 5] =
        [Self::Publisher, Self::Viewer, Self::Operator, Self::Approver, Self::Admin];

    /// Returns its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Admin => "admin",
        }
    }

    /// Returns whether who has this role may do what needs at least `least`.
    #[must_use]
    pub fn covers(self, least: Self) -> bool {
        match least {
            Self::Publisher => self != Self::Viewer,
            // A publisher is below all of them.
            Self::Viewer | Self::Operator | Self::Approver | Self::Admin => least <= self,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The end of a token before its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// When.
    pub at: DateTime<Utc>,
    /// By whom.
    pub by: String,
}

/// What is kept of a token: all but the token. A newer version may know more fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// What it is called, here and in the log.
    pub name: String,
    /// What its holder may do.
    pub role: Role,
    /// The SHA-256 of the token, in hexadecimal digits.
    pub hash: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// By whom.
    pub created_by: String,
    /// When it ends; never, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// How often it may be used, instead of what the configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rates>,
    /// The part of the fleet that its holder's commands may be about; all, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Set when it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revoked>,
}

/// Whether a token counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// It does.
    Valid,
    /// Its time is over.
    Expired,
    /// Somebody has ended it.
    Revoked,
}

impl TokenState {
    /// Returns it as a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl TokenRecord {
    /// Returns whether the token counts at this time.
    #[must_use]
    pub fn state(&self, now: DateTime<Utc>) -> TokenState {
        if self.revoked.is_some() {
            return TokenState::Revoked;
        }
        match self.expires_at {
            Some(end) if end <= now => TokenState::Expired,
            Some(_) | None => TokenState::Valid,
        }
    }
}

/// How somebody who gave a command has proved who he is, for those who look at his right again
/// later. Nothing in it is secret, and nothing in it proves anything by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Proof {
    /// By a token of ours.
    Token {
        /// Its name.
        name: String,
        /// Tells it from others that had the name; see [`token_id`].
        id: String,
    },
    /// By a token of the provider.
    Provider {
        /// The provider.
        issuer: String,
    },
    /// By a button in Slack.
    Slack {
        /// Id of the user there.
        user: String,
    },
    /// By a link that was sent to a receiver.
    Link {
        /// The receiver.
        to: String,
    },
    /// By the token of a gateway's flags.
    ApiToken,
    /// By being on the host of a gateway that asks for no token.
    Host,
    /// By the password of the broker's user `cli`.
    Broker,
    /// In a way that a newer version knows.
    #[serde(other)]
    Unknown,
}

/// Digits of a hash that are a token's id: enough to tell tokens of one name apart.
const TOKEN_ID_CHARS: usize = 16;

/// Returns what tells a token from others that had its name, given its hash.
#[must_use]
pub fn token_id(hash: &str) -> String {
    hash.chars().take(TOKEN_ID_CHARS).collect()
}

/// Returns the text of a token made of these random bytes.
#[must_use]
pub fn token_text(random: &[u8; TOKEN_BYTES]) -> String {
    use fmt::Write as _;
    let start = String::with_capacity(TOKEN_PREFIX.len() + 2 * TOKEN_BYTES) + TOKEN_PREFIX;
    random.iter().fold(start, |mut text, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// Returns what is kept of a token's text.
#[must_use]
pub fn token_hash(text: &str) -> String {
    sha256_hex(text.as_bytes())
}

/// Returns whether a token may be called so.
#[must_use]
pub fn is_token_name(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=TOKEN_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_all_that_the_one_before_may_and_a_publisher_only_publishes() {
        use Role::{Admin, Approver, Operator, Publisher, Viewer};
        let line = [Viewer, Operator, Approver, Admin];
        for (idx, role) in line.into_iter().enumerate() {
            for (least_idx, least) in line.into_iter().enumerate() {
                assert_eq!(role.covers(least), least_idx <= idx, "{role} {least}");
            }
            assert_eq!(role.covers(Publisher), role != Viewer, "{role}");
            assert!(!Publisher.covers(role), "{role}");
        }
        assert!(Publisher.covers(Publisher));
    }

    #[test]
    fn a_token_ends_at_its_time_and_before_it_when_it_is_revoked() {
        let at = |s| DateTime::<Utc>::from_timestamp(s, 0).unwrap();
        let mut record = TokenRecord {
            name: "ci".to_owned(),
            role: Role::Operator,
            hash: token_hash("x"),
            created_at: at(0),
            created_by: "ann".to_owned(),
            expires_at: Some(at(10)),
            rate: None,
            scope: None,
            revoked: None,
        };
        assert_eq!(record.state(at(9)), TokenState::Valid);
        assert_eq!(record.state(at(10)), TokenState::Expired);
        record.revoked = Some(Revoked { at: at(5), by: "ann".to_owned() });
        assert_eq!(record.state(at(6)), TokenState::Revoked);
        let stored = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<TokenRecord>(&stored).unwrap(), record);
    }

    #[test]
    fn a_role_of_a_newer_version_is_no_role_here() {
        let text = r#"{"name":"a","role":"owner","hash":"","created_at":"2026-01-01T00:00:00Z","created_by":""}"#;
        assert!(serde_json::from_str::<TokenRecord>(text).is_err());
    }

    #[test]
    fn a_token_is_told_from_other_texts_by_its_beginning() {
        let text = token_text(&[0xab; TOKEN_BYTES]);
        assert_eq!(text, format!("sht_{}", "ab".repeat(32)));
        assert_eq!(token_hash(&text).len(), 64);
        assert!(is_token_name("ci-1_b") && !is_token_name("a.b") && !is_token_name(""));
    }
}
