//! The event that opened an incident, kept small: there may be a hundred thousand.

use std::{borrow::Cow, fmt};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, value::RawValue};

use crate::event::{self, Delivery, Event, EventType, Origin, RESERVED_PREFIX, Severity};

/// The event that opened an incident, with the newest payload. What decisions look at is at
/// hand, the rest is text until somebody wants to see it.
#[derive(Clone, Deserialize)]
#[serde(from = "Event")]
pub struct Opener {
    /// What kind of trouble.
    pub kind: EventType,
    /// Who observed it.
    pub source: Box<str>,
    /// Who sent it, as it was proven.
    pub origin: Option<Box<Origin>>,
    /// The target that the sender names.
    pub target: Option<Box<str>>,
    /// The highest severity that was told.
    pub severity: Severity,
    /// The latest begin that was told.
    pub starts_at: Option<DateTime<Utc>>,
    delivery: Delivery,
    seen_well: Option<bool>,
    /// The whole event, as JSON.
    text: Box<str>,
}

impl PartialEq for Opener {
    fn eq(&self, other: &Self) -> bool {
        // Mostly it is the same text, which need not be read then.
        self.text == other.text || self.event() == other.event()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<&Event> for Opener {
    fn from(event: &Event) -> Self {
        // Plain data with text keys can always be written.
        let text = serde_json::to_string(event).unwrap_or_default();
        Self {
            kind: event.kind.clone(),
            source: event.source.as_str().into(),
            origin: event.origin.clone().map(Box::new),
            target: event.target.as_deref().map(Into::into),
            severity: event.severity,
            starts_at: event.starts_at,
            delivery: event.delivery(),
            seen_well: seen_well(event),
            text: text.into(),
        }
    }
}

impl From<Event> for Opener {
    fn from(event: Event) -> Self {
        Self::from(&event)
    }
}

/// Writes the text as it stands: a snapshot has a hundred thousand of them.
impl Serialize for Opener {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serde_json::from_str::<&RawValue>(&self.text) {
            Ok(text) => text.serialize(serializer),
            Err(_) => self.event().serialize(serializer),
        }
    }
}

fn seen_well(event: &Event) -> Option<bool> {
    event.payload.get("seen_well").and_then(Value::as_bool)
}

impl Opener {
    /// Returns what tells its sender from all others.
    #[must_use]
    pub fn sender(&self) -> Cow<'_, str> {
        event::sender(&self.source, self.origin.as_deref())
    }

    /// Returns whose it is where each sender has a limit: the origin, which its sender cannot
    /// choose, or the source where none is known.
    #[must_use]
    pub fn whose(&self) -> &str {
        self.origin.as_ref().map_or(&self.source, |it| &it.name)
    }

    /// Returns whether an agent of ours has reported it: what it says was measured.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.source.starts_with(RESERVED_PREFIX)
    }

    /// Returns the event.
    #[must_use]
    pub fn event(&self) -> Event {
        let told = serde_json::from_str(&self.text);
        told.unwrap_or_else(|_| Event::new("", self.kind.clone(), &*self.source))
    }

    /// Returns the size of the event as JSON.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Returns what makes it one delivery.
    #[must_use]
    pub const fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// Returns whether a monitor says that it has seen the target well before.
    #[must_use]
    pub const fn seen_well(&self) -> Option<bool> {
        self.seen_well
    }

    /// Takes up what a further event says.
    pub(super) fn take_up(&mut self, event: &Event) {
        let severity = self.severity.max(event.severity);
        let starts_at = self.starts_at.max(event.starts_at);
        let is_same = (severity, starts_at) == (self.severity, self.starts_at);
        if is_same && event.payload.is_null() {
            return;
        }
        let mut whole = Event { severity, starts_at, ..self.event() };
        if !event.payload.is_null() {
            whole.payload = event.payload.clone();
        }
        *self = Self::from(&whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_the_event_with_what_further_ones_said() {
        let mut first = Event::new("1", EventType::known("service_down"), "test");
        first.payload = serde_json::json!({"seen_well": true, "at": 0.1, "n": u64::MAX});
        first.labels.insert("a".to_owned(), "b".to_owned());
        let mut opener = Opener::from(&first);
        assert_eq!(opener.event(), first);
        assert_eq!(opener.seen_well(), Some(true));

        let mut next = Event::new("2", EventType::known("service_down"), "other");
        next.severity = Severity::Critical;
        opener.take_up(&next);
        next.starts_at = DateTime::from_timestamp(9, 0);
        next.payload = serde_json::json!({"seen_well": false});
        opener.take_up(&next);
        let (severity, starts_at) = (next.severity, next.starts_at);
        let whole = Event { severity, starts_at, payload: next.payload, ..first.clone() };
        assert_eq!(opener.event(), whole);
        assert_eq!(opener.delivery(), first.delivery());
        assert_eq!(opener.seen_well(), Some(false));
    }
}
