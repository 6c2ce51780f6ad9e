//! What lists look at first, so that a page is found without touching every incident.

use std::cell::RefCell;

use chrono::{DateTime, Utc};

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
        }
    }

    /// Takes up what can change.
    pub(super) fn update(&mut self, incident: &Incident) {
        self.status = incident.status();
        self.severity = incident.event.severity;
        if self.target.is_none() {
            self.target = incident.target.as_deref().map(short);
        }
    }
}

/// A filter, prepared.
#[derive(Clone, Debug)]
pub(super) struct Sieve<'a> {
    filter: &'a Filter,
    kind: Option<u64>,
    target: Option<u64>,
    text: Option<String>,
    buffer: RefCell<String>,
}

impl<'a> Sieve<'a> {
    pub(super) fn new(filter: &'a Filter) -> Self {
        Self {
            filter,
            kind: filter.kind.as_deref().map(short),
            target: filter.target.as_deref().map(short),
            buffer: RefCell::default(),
            text: filter.q.as_ref().map(|it| it.to_lowercase()).filter(|it| !it.is_empty()),
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
                .as_deref()
                .is_none_or(|text| tells(incident, text, &mut self.buffer.borrow_mut()))
    }
}

/// Returns whether an incident's id, type, target, analysis or resolution contains `text`,
/// which is in lower case.
fn tells(incident: &Incident, text: &str, buffer: &mut String) -> bool {
    let target = incident.named_target();
    let fields = [
        Some(incident.event.kind.as_str()),
        target,
        incident.analysis.as_deref(),
        incident.resolution.as_deref(),
    ];
    fields.into_iter().flatten().any(|it| contains(it, text, buffer))
        || (is_part_of_id(text) && incident.id.to_string().contains(text))
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
