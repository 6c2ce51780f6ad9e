//! What happened, as far as the judge must know it: read from the ledger, the logs and the
//! records of the targets. Small, so that an hour of it fits into memory.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use chrono::{DateTime, Utc};
use domain::event::{Event, EventType, Origin};
use serde_json::Value;

use crate::record::Entry;

/// All that the judge looks at.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Events that were acknowledged to a client.
    pub accepted: Vec<Accepted>,
    /// What clients could not get done, however often they tried.
    pub unanswered: Vec<String>,
    /// The ledger.
    pub facts: Vec<Fact>,
    /// The log of each supervisor, all files in order.
    pub logs: BTreeMap<String, Vec<Line>>,
    /// The record of each target that has a check.
    pub targets: BTreeMap<String, Vec<Entry>>,
    /// Targets that were sick at the end.
    pub sick: Vec<String>,
    /// How long a target must stay well to be called so.
    pub soak: Duration,
}

/// An event that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its id, for people.
    pub id: String,
    /// Names the delivery, as the ledger has it.
    pub delivery: String,
    /// The incident that the answer named, if there was an answer.
    pub incident: Option<String>,
}

/// A decision of the ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fact {
    /// Its number.
    pub seq: u64,
    /// Broker's time of its cause.
    pub at: DateTime<Utc>,
    /// Its incident.
    pub incident: Option<String>,
    /// Its name, such as `opened`.
    pub kind: String,
    /// The deliveries that it counts.
    pub deliveries: Vec<String>,
    /// Of `opened`: the configured target.
    pub target: Option<String>,
    /// Of `became_symptom`: the incident that is its cause.
    pub cause: Option<String>,
    /// Of `fix_started`: the attempt.
    pub attempt: Option<u32>,
    /// Of `verified`: the proof.
    pub proof: Option<Proof>,
    /// Names the whole decision.
    pub hash: u64,
}

/// What a monitor said when it had seen a target well.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    /// Whether it was well.
    pub passed: bool,
    /// Time of the first sample.
    pub from: DateTime<Utc>,
    /// Number of samples.
    pub n_samples: usize,
}

/// A line of a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// Number of the decision.
    pub seq: u64,
    /// Its incident; all zeros for none.
    pub incident: String,
    /// Type of the event that opened it.
    pub kind: String,
    /// Where it stands then.
    pub status: Option<String>,
    /// Names the whole decision, as [`Fact::hash`].
    pub hash: u64,
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
#[error("`{field}` is missing or odd in {text}")]
pub struct Unreadable {
    field: &'static str,
    text: String,
}

impl Fact {
    /// Reads a decision, as it stands in a message of the ledger.
    ///
    /// By field, not by type: a judge that shares the types would share their mistakes.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] names what is missing.
    pub fn read(decision: &Value) -> Result<Self, Unreadable> {
        let fact = part(decision, "fact")?;
        let event = fact.get("event");
        let opened = text(fact, "kind")? == "opened";
        let mut deliveries: Vec<String> = texts(fact, "deliveries");
        deliveries.extend(optional(fact, "delivery"));
        if let Some(event) = event.filter(|_| opened) {
            deliveries.push(delivery(event));
        }
        let report = fact.get("report").filter(|it| it.get("samples_from").is_some());
        Ok(Self {
            seq: number(decision, "seq")?,
            at: time(decision, "at")?,
            incident: optional(decision, "incident"),
            kind: text(fact, "kind")?,
            deliveries,
            target: optional(fact, "target"),
            cause: optional(fact, "of"),
            attempt: fact.get("attempt").and_then(Value::as_u64).and_then(|it| it.try_into().ok()),
            proof: report.map(Proof::read).transpose()?,
            hash: hash(decision),
        })
    }
}

impl Proof {
    fn read(report: &Value) -> Result<Self, Unreadable> {
        Ok(Self {
            passed: report.get("passed").and_then(Value::as_bool) == Some(true),
            from: time(report, "samples_from")?,
            n_samples: usize::try_from(number(report, "n_samples")?).unwrap_or(usize::MAX),
        })
    }
}

impl Line {
    /// Reads a line of a log.
    ///
    /// # Errors
    ///
    /// [`Unreadable`] when it is torn, or a field is missing.
    pub fn read(line: &str) -> Result<Self, Unreadable> {
        let odd = |field| Unreadable { field, text: excerpt(line) };
        let value: Value = serde_json::from_str(line).map_err(|_no_json| odd("JSON"))?;
        for field in ["analysis", "resolution", "timestamp"] {
            part(&value, field)?;
        }
        Ok(Self {
            seq: number(&value, "seq")?,
            incident: text(&value, "incident_id")?,
            kind: text(&value, "incident_type")?,
            status: optional(&value, "status"),
            hash: hash(part(&value, "detail")?),
        })
    }
}

/// Returns what names the delivery of an event in the ledger.
#[must_use]
pub fn delivery(event: &Value) -> String {
    let field = |name: &str| optional(event, name).unwrap_or_default();
    let kind = field("type").parse().unwrap_or_else(|_| EventType::known("unknown"));
    let mut sent = Event::new(field("id"), kind, field("source"));
    sent.target = optional(event, "target");
    let origin = event.get("origin").and_then(|it| optional(it, "name"));
    origin.into_iter().for_each(|it| sent.origin = Some(Origin::new(it)));
    sent.delivery().to_string()
}

fn hash(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

fn excerpt(text: &str) -> String {
    text.chars().take(200).collect()
}

fn odd(value: &Value, field: &'static str) -> Unreadable {
    Unreadable { field, text: excerpt(&value.to_string()) }
}

fn part<'a>(value: &'a Value, field: &'static str) -> Result<&'a Value, Unreadable> {
    value.get(field).ok_or_else(|| odd(value, field))
}

fn text(value: &Value, field: &'static str) -> Result<String, Unreadable> {
    optional(value, field).ok_or_else(|| odd(value, field))
}

fn number(value: &Value, field: &'static str) -> Result<u64, Unreadable> {
    part(value, field)?.as_u64().ok_or_else(|| odd(value, field))
}

fn time(value: &Value, field: &'static str) -> Result<DateTime<Utc>, Unreadable> {
    text(value, field)?.parse().map_err(|_no_time| odd(value, field))
}

fn optional(value: &Value, field: &str) -> Option<String> {
    value.get(field).and_then(Value::as_str).map(str::to_owned)
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    let list = value.get(field).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
