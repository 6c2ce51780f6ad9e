//! Events that are no trouble: somebody looks at it, or something was changed.

use serde_json::Value;

use super::{Desk, Turn, events::NOT_YOURS};
use crate::{
    event::{Delivery, Event, short_text},
    fact::Fact,
    id::IncidentId,
    wire::{AnswerStatus, Change},
};

/// Longest line about a change.
const WHAT_CHARS_MAX: usize = 300;

impl Desk {
    /// Takes up that somebody on the sender's side is looking at it.
    pub(super) fn on_acknowledgement(
        &mut self,
        turn: &mut Turn,
        open: Option<IncidentId>,
        event: &Event,
    ) {
        let Some(id) = open else {
            let message = "Nothing is open for this; there is nothing to acknowledge.";
            turn.answer(AnswerStatus::NotFound, None, message);
            return;
        };
        if !self.may_speak(id, event) {
            turn.answer(AnswerStatus::Suppressed, Some(id), NOT_YOURS);
            return;
        }
        let by = acknowledged_by(event);
        let known = self.incidents.get(&id).and_then(|it| it.acknowledged_by.as_ref());
        // The same said again, such as by a sender that did not hear us, decides nothing.
        if known != Some(&by) {
            let why = format!("{by} is looking at it");
            self.record(turn, Some(id), Fact::Acknowledged { by }, why);
        }
        turn.answer(AnswerStatus::IncidentUpdated, Some(id), "Acknowledged.");
    }

    /// Remembers a change, so that diagnoses are told of it. Nothing is opened.
    pub(super) fn on_change(
        &mut self,
        turn: &mut Turn,
        target: Option<String>,
        event: &Event,
        delivery: Delivery,
    ) {
        let summary = event.annotations.get("summary").map(String::as_str);
        let summary = summary.or_else(|| event.payload.get("summary").and_then(Value::as_str));
        let what = match summary {
            Some(summary) => format!("{}: {summary}", event.kind),
            None => event.kind.to_string(),
        };
        let change = Change {
            at: event.starts_at.map_or(turn.at, |it| it.min(turn.at)),
            what: short_text(&what, WHAT_CHARS_MAX),
            target,
            source: Some(event.source.clone()),
            link: event.links.first().cloned(),
        };
        let why = format!("{} reports a change: {}", event.source, change.what);
        self.record(turn, None, Fact::Changed { delivery, change }, why);
        let message = "The change is recorded and shown to diagnoses.";
        turn.answer(AnswerStatus::Done, None, message);
    }
}

/// Returns who looks at it: what was proven, and behind it whom the sender names.
fn acknowledged_by(event: &Event) -> String {
    let named = event.annotations.get("by").unwrap_or(&event.source);
    match &event.origin {
        None => named.clone(),
        Some(origin) if *named == origin.name => named.clone(),
        Some(origin) => format!("{} ({named})", origin.name),
    }
}
