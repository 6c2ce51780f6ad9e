//! Events: what somebody observed, in one form, whatever form it came in.

mod decode;
pub(crate) mod delivery;
mod lenient;
mod origin;
mod schema;
mod shorten;
mod visible;

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use chrono::{DateTime, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::digest;

pub use delivery::Delivery;
pub use origin::{NATS, Origin, RESERVED_PREFIX};
pub(crate) use origin::{origin_of, sender, source_of};
pub use schema::{Cloud, Plain};

pub use decode::{
    Context, DEPTH_MAX, DecodeError, cloudevent_binary, cloudevent_structured, json, message, plain,
};
pub use lenient::{TARGET_KEYS, short_text, time_of};
pub(crate) use shorten::json_len;

/// The type of an event, such as `service_down` or `disk.full`; part of its subject.
///
/// One or more tokens of `A-Z a-z 0-9 _ -`, separated by single dots, at most
/// [`EventType::LEN_MAX`] bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventType(String);

/// Why a text is no event type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an event type; use letters, digits, `_` and `-`, in parts separated by single dots, such as `service_down` or `disk.full`, at most 128 bytes"
)]
pub struct NotAType(String);

impl EventType {
    /// The longest type, in bytes.
    pub const LEN_MAX: usize = 128;

    /// Wraps a type that this program names itself.
    #[must_use]
    pub fn known(name: &'static str) -> Self {
        debug_assert!(name.parse::<Self>().is_ok(), "{name}");
        Self(name.to_owned())
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventType {
    type Err = NotAType;

    fn from_str(text: &str) -> Result<Self, NotAType> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let token = |token: &str| !token.is_empty() && token.bytes().all(legal);
        if Self::LEN_MAX < text.len() || !text.split('.').all(token) {
            let shown: String = text.chars().take(64).collect();
            return Err(NotAType(shown));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for EventType {
    type Error = NotAType;
    fn try_from(text: String) -> Result<Self, NotAType> {
        text.parse()
    }
}

impl From<EventType> for String {
    fn from(kind: EventType) -> Self {
        kind.0
    }
}

impl JsonSchema for EventType {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "EventType".into()
    }
    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$",
            "maxLength": Self::LEN_MAX,
        })
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Type of the event that says that an agent of ours has stopped without leaving.
pub const AGENT_DOWN: &str = "agent_down";
/// Type of the incident that new events join while too many incidents are open.
pub const EVENT_FLOOD: &str = "event_flood";
/// Type of the event that says that somebody else has written into the ledger.
pub const LEDGER_FOREIGN: &str = "selfheal.ledger_foreign";
/// Type of the event that says that no agent of some kind serves a zone that targets are in.
pub const ZONE_UNSERVED: &str = "zone_unserved";

/// What the event says: whether the trouble is there or gone, that somebody looks at it,
/// or that there is none and something was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "EventStatus")]
pub enum Status {
    /// It is there.
    #[default]
    Firing,
    /// It is gone.
    Resolved,
    /// It is there, and somebody on the sender's side is looking at it.
    Acknowledged,
    /// There is no trouble: something was changed, such as by a deployment. Diagnoses are
    /// told of it.
    Change,
}

/// How bad the sender says it is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// May become trouble.
    Warning,
    /// Something does not work.
    #[default]
    Error,
    /// People are affected now.
    Critical,
}

impl Severity {
    /// All of them, the least bad first.
    pub const ALL: [Self; 4] = [Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// Returns the name as in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// Labels, or texts at the top of the payload, that name what fails.
const CLAIMED_NAMES: [&str; 2] = ["check", "alertname"];
/// Labels, or texts at the top of the payload, that describe how it is.
const CLAIMED_TEXTS: [&str; 4] = ["state", "process_state", "reason", "phase"];
/// Names of flags at the top of the payload by which it does.
const CLAIMED_FLAGS: [&str; 2] = ["running", "process_running"];

/// One observation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// The sender's id; with `source` it identifies a repeated delivery.
    pub id: String,
    /// What kind of trouble.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// Who observed it, as the sender says.
    pub source: String,
    /// Who sent it, as it was proven where it came in; nothing for what our own agents report, and
    /// in logs of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The target that the sender names; the desk finds the configured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The sender's own key for "the same trouble".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// There, or gone.
    #[serde(default)]
    pub status: Status,
    /// How bad.
    #[serde(default)]
    pub severity: Severity,
    /// Since when, by the sender's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<DateTime<Utc>>,
    /// Until when, by the sender's clock. While it fires: for how long its word is good; when the
    /// sender has not said it again by then, the incident is looked at as if it were resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<DateTime<Utc>>,
    /// Identifying texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Explaining texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where to read more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    /// The sender's own data, whole.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub payload: Value,
    /// Fields that we do not know, kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Value>,
}

impl Event {
    /// Returns an event of this type with defaults everywhere else.
    #[must_use]
    pub fn new(id: impl Into<String>, kind: EventType, source: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            kind,
            source: source.into(),
            origin: None,
            target: None,
            fingerprint: None,
            status: Status::Firing,
            severity: Severity::Error,
            starts_at: None,
            ends_at: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            links: Vec::new(),
            payload: Value::Null,
            extra: BTreeMap::new(),
        }
    }

    /// Returns the source and the id: what a sender has to repeat when it sends an event again.
    #[must_use]
    pub fn delivery_key(&self) -> String {
        format!("{}\n{}", self.source, self.id)
    }

    /// Returns what makes two events the same trouble: the sender's own key, else type
    /// and target, where `target` is the configured one if there is one.
    #[must_use]
    pub fn fingerprint(&self, target: Option<&str>) -> String {
        if let Some(own) = &self.fingerprint {
            return format!("{}#{own}", self.sender().replace('\n', " "));
        }
        let target = target.or(self.target.as_deref()).unwrap_or("-");
        format!("{}@{target}", self.kind)
    }

    /// Returns a digest of what the event claims: two events of one incident say the same when
    /// it is equal. It is made of the type, the check or state that it names, and
    /// `severity`, the highest that was reported so far. Times, counters and measured values
    /// are not in it: they differ from one report of the same state to the next.
    #[must_use]
    pub fn claim(&self, severity: Severity) -> u64 {
        let text = |key: &str| {
            let label = self.labels.get(key).map(String::as_str);
            label.or_else(|| self.payload.get(key).and_then(Value::as_str)).unwrap_or_default()
        };
        let named = |key: &&str| format!("{key}={}", text(key));
        // A measured value may stand in such a text.
        let described = |key: &&str| {
            let words: String = text(key).chars().filter(|it| !it.is_ascii_digit()).collect();
            format!("{key}={words}")
        };
        let flag = |key: &&str| {
            let told = self.payload.get(*key).and_then(Value::as_bool);
            format!("{key}={told:?}")
        };
        let failing = self.payload.get("failing_checks").map(Value::to_string);
        let mut parts = vec![
            self.kind.as_str().to_owned(),
            severity.as_str().to_owned(),
            failing.unwrap_or_default(),
        ];
        parts.extend(CLAIMED_NAMES.iter().map(named));
        parts.extend(CLAIMED_TEXTS.iter().map(described));
        parts.extend(CLAIMED_FLAGS.iter().map(flag));
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        let [.., a, b, c, d, e, f, g, h] = digest(&parts).to_be_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Returns the check that it says fails, if it names one.
    #[must_use]
    pub fn check(&self) -> Option<&str> {
        let label = self.labels.get("check").map(String::as_str);
        label.or_else(|| self.payload.get("check").and_then(Value::as_str))
    }

    /// Returns whether labels, and texts at the top of the payload, contain all pairs of
    /// `selector`. An empty selector matches nothing.
    #[must_use]
    pub fn matches(&self, selector: &BTreeMap<String, String>) -> bool {
        let has = |key: &String, value: &String| {
            self.labels.get(key) == Some(value)
                || self.payload.get(key).and_then(Value::as_str) == Some(value.as_str())
        };
        !selector.is_empty() && selector.iter().all(|(key, value)| has(key, value))
    }
}
