//! Alerts as Prometheus, Alertmanager and Grafana describe them, and what they mean.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike as _, Utc};
use domain::{
    event::{Event, EventType, Severity, Status, short_text, time_of},
    id::sha256_hex,
};
use serde_json::{Map, Value};

/// Alerts of one message; Alertmanager and Prometheus send far fewer.
pub(crate) const ALERTS_MAX: usize = 10_000;
/// Longest label and annotation; what is longer is cut.
const TEXT_CHARS_MAX: usize = 8192;
/// Labels that say how bad it is, the one that counts most first.
const SEVERITY_LABELS: [&str; 3] = ["severity", "priority", "level"];
/// Fields and annotations of an alert that lead somewhere.
const LINKS: [&str; 5] = ["generatorURL", "dashboardURL", "panelURL", "silenceURL", "imageURL"];
/// Fields that stand elsewhere in the event: what is stored twice is also decided, written and
/// logged twice.
const ELSEWHERE: [&str; 5] = ["status", "startsAt", "endsAt", "fingerprint", "generatorURL"];
const LINKED: [&str; 3] = ["runbook_url", "dashboard_url", "runbook"];

/// What is known of an alert before it is an event.
#[derive(Debug)]
pub(crate) struct Alert {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) starts_at: Option<DateTime<Utc>>,
    pub(crate) ends_at: Option<DateTime<Utc>>,
    /// Everything else.
    pub(crate) rest: Map<String, Value>,
}

impl Alert {
    /// Reads one. What is missing or odd is left out: an alert is never refused.
    pub(crate) fn read(value: Value) -> Self {
        let mut rest = match value {
            Value::Object(fields) => fields,
            Value::Null => Map::new(),
            other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                Map::from_iter([("alert".to_owned(), other)])
            }
        };
        let labels = texts(rest.remove("labels"));
        let annotations = texts(rest.remove("annotations"));
        let time = |rest: &Map<String, Value>, field| real_time(rest.get(field)?.as_str()?);
        let (starts_at, ends_at) = (time(&rest, "startsAt"), time(&rest, "endsAt"));
        Self { labels, annotations, starts_at, ends_at, rest }
    }

    /// Returns a field that is a text and says something.
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.rest.get(field)?.as_str().filter(|it| !it.is_empty())
    }

    /// Returns what Alertmanager and Prometheus compute for its labels; see [`fingerprint`].
    pub(crate) fn fingerprint(&self) -> String {
        fingerprint(&self.labels)
    }

    /// Makes an event of it. `delivery` are the parts that make it one delivery.
    pub(crate) fn event(
        mut self,
        source: &str,
        fingerprint: String,
        status: Status,
        delivery: &[&str],
        now: DateTime<Utc>,
    ) -> Event {
        let id = sha256_hex(delivery.join("\n").as_bytes());
        let id = id.get(..32).unwrap_or(&id);
        let name = self.labels.get("alertname").map_or("", String::as_str);
        let mut event = Event::new(id, EventType::from_name(name), source);
        event.fingerprint = Some(fingerprint);
        event.status = status;
        let words = SEVERITY_LABELS.iter().filter_map(|it| self.labels.get(*it));
        event.severity = words.filter_map(|it| Severity::from_word(it)).next().unwrap_or_default();
        let fields = LINKS.iter().filter_map(|it| self.text(it));
        let noted = LINKED.iter().filter_map(|it| self.annotations.get(*it));
        event.links = fields.chain(noted.map(String::as_str)).map(str::to_owned).collect();
        event.starts_at = self.starts_at;
        event.ends_at = self.ends_at;
        event.labels = self.labels;
        event.annotations = self.annotations;
        for field in ELSEWHERE {
            self.rest.remove(field);
        }
        event.payload = if self.rest.is_empty() { Value::Null } else { Value::Object(self.rest) };
        event.target_from_labels();
        event.cut_times(now);
        event.make_visible();
        event
    }
}

/// Returns the key that Alertmanager and Prometheus compute for labels.
///
/// FNV-1a of 64 bits over the sorted names and values, each followed by the byte 255
/// (`LabelSet.Fingerprint` of prometheus/common); so an alert has the same key whichever
/// way it comes.
pub(crate) fn fingerprint(labels: &BTreeMap<String, String>) -> String {
    const OFFSET: u64 = 14_695_981_039_346_656_037;
    const PRIME: u64 = 1_099_511_628_211;
    let texts = labels.iter().flat_map(|(name, value)| [name, value]);
    let bytes = texts.flat_map(|it| it.bytes().chain([255]));
    let sum = bytes.fold(OFFSET, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(PRIME));
    format!("{sum:016x}")
}

/// Reads a time; that of the year 1 means none (`time.Time{}` of Go).
fn real_time(text: &str) -> Option<DateTime<Utc>> {
    time_of(text).filter(|it| 1 < it.year())
}

fn texts(value: Option<Value>) -> BTreeMap<String, String> {
    let Some(Value::Object(pairs)) = value else { return BTreeMap::new() };
    let text = |(name, value): (String, Value)| match value {
        Value::String(text) if text.len() <= TEXT_CHARS_MAX => Some((name, text)),
        Value::String(text) => Some((name, short_text(&text, TEXT_CHARS_MAX))),
        Value::Null => None,
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Some((name, short_text(&other.to_string(), TEXT_CHARS_MAX)))
        }
    };
    pairs.into_iter().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_key_of_labels_is_that_of_prometheus() {
        // As a real Alertmanager 0.25 has sent it.
        let sent = include_str!("../tests/captured/alertmanager-firing.json");
        let mut sent: Value = serde_json::from_str(sent).unwrap();
        let alert = Alert::read(sent["alerts"][0].take());
        assert_eq!(alert.text("fingerprint"), Some(alert.fingerprint().as_str()));
    }

    #[test]
    fn an_alert_is_never_refused() {
        let now = Utc::now();
        for odd in [
            json!(null),
            json!(7),
            json!("x"),
            json!([]),
            json!({"labels": [], "annotations": 7, "startsAt": 5}),
            json!({"labels": {"alertname": null, "n": 1, "b": true, "o": {"a": []}}}),
            json!({"startsAt": "yesterday", "endsAt": "0001-01-01T00:00:00Z"}),
        ] {
            let alert = Alert::read(odd.clone());
            let key = alert.fingerprint();
            let event = alert.event("alertmanager", key, Status::Firing, &["a"], now);
            assert_eq!((event.kind.as_str(), event.ends_at), ("alert", None), "{odd}");
        }
    }
}
