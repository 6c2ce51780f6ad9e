//! What lists look at first, so that a page is found without touching every incident.

use std::cell::RefCell;

use chrono::{DateTime, Utc};

use super::signature::Signature;
use crate::{
    event::Severity,
    id::digest,
    incident::Incident,
    view::{Filter, Status},
};

/// The filterable part of an incident, small enough to look at a hundred thousand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    status: Status,
    severity: Severity,
    opened_at: DateTime<Utc>,
    kind: u64,
    target: Option<u64>,
    /// Of the texts that [`texts`] returns.
    signature: Signature,
}

impl Row {
    pub(super) fn of(incident: &Incident) -> Self {
        let target = incident.named_target();
        Self {
            status: incident.status(),
            severity: incident.event.severity,
            opened_at: incident.opened_at,
            kind: short(incident.event.kind.as_str()),
            target: target.map(short),
            signature: Signature::of(texts(incident)),
        }
    }

    /// Takes up what can change.
    pub(super) fn update(&mut self, incident: &Incident) {
        self.status = incident.status();
        self.severity = incident.event.severity;
        // A target that fits may be configured later.
        self.target = incident.named_target().map(short);
        self.signature = Signature::of(texts(incident));
    }
}

/// A filter, prepared.
#[derive(Clone, Debug)]
pub(super) struct Sieve<'a> {
    filter: &'a Filter,
    kind: Option<u64>,
    target: Option<u64>,
    text: Option<Wanted>,
    buffer: RefCell<String>,
}

/// A text to look for.
#[derive(Clone, Debug)]
struct Wanted {
    /// In lower case.
    text: String,
    signature: Signature,
    is_part_of_id: bool,
}

impl Wanted {
    fn new(text: &str) -> Option<Self> {
        let text = text.to_lowercase();
        let signature = Signature::of([text.as_str()]);
        let is_part_of_id = is_part_of_id(&text);
        (!text.is_empty()).then_some(Self { text, signature, is_part_of_id })
    }

    fn is_in(&self, row: &Row, incident: &Incident, buffer: &mut String) -> bool {
        let is_in_texts = row.signature.may_contain(&self.signature)
            && texts(incident).any(|it| contains(it, &self.text, buffer));
        is_in_texts || self.is_part_of_id && incident.id.to_string().contains(&self.text)
    }
}

impl<'a> Sieve<'a> {
    pub(super) fn new(filter: &'a Filter) -> Self {
        Self {
            filter,
            kind: filter.kind.as_deref().map(short),
            target: filter.target.as_deref().map(short),
            buffer: RefCell::default(),
            text: filter.q.as_deref().and_then(Wanted::new),
        }
    }

    /// Returns whether all fit, without looking at any.
    pub(super) const fn is_open(&self) -> bool {
        self.filter.status.is_empty()
            && !self.filter.open
            && self.kind.is_none()
            && self.target.is_none()
            && self.text.is_none()
            && self.filter.severity.is_none()
            && self.filter.since.is_none()
    }

    pub(super) fn lets_through(&self, row: &Row, incident: &Incident) -> bool {
        let filter = self.filter;
        (filter.status.is_empty() || filter.status.contains(&row.status))
            && !(filter.open && row.status.is_over())
            && self.target.is_none_or(|it| row.target == Some(it))
            && self.kind.is_none_or(|it| row.kind == it)
            && filter.severity.is_none_or(|it| it <= row.severity)
            && filter.since.is_none_or(|it| it <= row.opened_at)
            && self
                .text
                .as_ref()
                .is_none_or(|it| it.is_in(row, incident, &mut self.buffer.borrow_mut()))
    }
}

/// Returns the texts of an incident that are looked through, besides its id.
fn texts(incident: &Incident) -> impl Iterator<Item = &str> {
    let fields = [
        Some(incident.event.kind.as_str()),
        Some(&*incident.event.source),
        incident.named_target(),
        incident.analysis.as_deref(),
        incident.resolution.as_deref(),
    ];
    fields.into_iter().flatten()
}

fn is_part_of_id(text: &str) -> bool {
    text.len() <= 36 && text.bytes().all(|it| it.is_ascii_hexdigit() || it == b'-')
}

/// Returns whether `text` contains `lower`, whatever the case of its letters. `buffer` is
/// used again for each text: a list looks at a hundred thousand.
fn contains(text: &str, lower: &str, buffer: &mut String) -> bool {
    buffer.clear();
    if text.is_ascii() {
        buffer.push_str(text);
        buffer.make_ascii_lowercase();
    } else {
        buffer.extend(text.chars().flat_map(char::to_lowercase));
    }
    buffer.contains(lower)
}

fn short(text: &str) -> u64 {
    let [_, _, _, _, _, _, _, _, low @ ..] = digest(&[text]).to_be_bytes();
    u64::from_be_bytes(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_whatever_its_case() {
        let contains = |text, lower| contains(text, lower, &mut String::new());
        assert!(contains("The Database is DOWN", "is down"));
        assert!(contains("aab", "ab"), "after a false start");
        assert!(!contains("databas", "database"));
        assert!(contains("StÖrung", "störung"));
        assert!(contains("anything", ""));
    }
}
