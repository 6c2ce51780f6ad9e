//! How many incidents of one source people are called for one by one.
//!
//! A source that has called people for `notify.flood.incidents` incidents within
//! `notify.flood.within` opens one incident more, `event_flood`. Its notice says so, and while it
//! is open people are not called for further incidents of that source: they are opened, logged
//! and healed as ever, and each `notify.flood.summary` one notice says how many they are. The
//! sources outside have a limit together, too, since senders choose their names.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Desk, Turn};
use crate::{
    event::{EVENT_FLOOD, Event, EventType, Severity},
    fact::{Escalation, Fact},
    id::IncidentId,
    incident::{Circumstance, Corrupt, Incident},
    notify::{Flood, Occasion},
};

/// All sources outside together may call people for so many times the incidents of one.
const SOURCES_TOGETHER: usize = 4;
/// Sources that are counted. Beyond them the one that was silent for longest is forgotten; the
/// limit of all together holds.
const SOURCES_MAX: usize = 1000;
/// What the fingerprint of such an incident begins with. That of an event begins with its type or
/// its source, which are never empty, so no sender can open one.
const PREFIX: &str = "#notice_flood#";

/// For how many incidents people were called lately, by source; all outside together under `""`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Calls(BTreeMap<String, Called>);

/// For how many incidents of one source people were called lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Called {
    /// When, the first of them first; as many as the limit.
    at: VecDeque<DateTime<Utc>>,
    /// Incidents for which nobody was called, since the flood began.
    #[serde(default)]
    n_quiet: u64,
    /// Of these, those that the last summary told.
    #[serde(default)]
    n_told: u64,
}

impl Calls {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes that people are called for one more incident.
    fn note(&mut self, key: &str, limit: usize, at: DateTime<Utc>) {
        if SOURCES_MAX <= self.0.len() && !self.0.contains_key(key) {
            let silent = self.0.iter().filter(|it| it.1.n_quiet == 0);
            let silent = silent.min_by_key(|it| it.1.at.back().copied()).map(|it| it.0.clone());
            silent.map(|it| self.0.remove(&it));
        }
        let called = self.0.entry(key.to_owned()).or_default();
        called.at.push_back(at);
        let n_over = called.at.len().saturating_sub(limit);
        called.at.drain(..n_over);
    }

    /// Returns since when people were called for as many incidents as they may be, if so.
    fn full(
        &self,
        key: &str,
        limit: usize,
        flood: &Flood,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let called = self.0.get(key).filter(|it| limit <= it.at.len())?;
        let first = *called.at.get(called.at.len() - limit)?;
        (now <= first + flood.within.to_delta()).then_some(first)
    }
}

/// Returns the limit of a key of [`Calls`].
fn limit(key: &str, flood: &Flood) -> usize {
    let one = usize::try_from(flood.incidents).unwrap_or(usize::MAX);
    if key.is_empty() { one.saturating_mul(SOURCES_TOGETHER) } else { one }
}

fn fingerprint(key: &str) -> String {
    format!("{PREFIX}{key}")
}

/// Returns the key that an incident stands for, when it is a flood of notices.
fn key_of(incident: &Incident) -> Option<&str> {
    let is_flood = incident.event.kind.as_str() == EVENT_FLOOD;
    incident.fingerprint.strip_prefix(PREFIX).filter(|_| is_flood)
}

/// Returns the keys under which an incident is counted.
fn keys(incident: &Incident) -> Vec<String> {
    let whose = incident.event.whose().to_owned();
    if incident.event.is_ours() { vec![whose] } else { vec![whose, String::new()] }
}

fn whose(key: &str) -> &str {
    if key.is_empty() { "all external sources" } else { key }
}

impl Desk {
    /// Returns the flood that an incident is part of, when nobody is called for it.
    pub(super) fn quieted_by(&self, incident: &Incident, occasion: Occasion) -> Option<IncidentId> {
        if !is_first_call(incident, occasion) {
            return None;
        }
        let open = |key: &String| self.incidents.of_fingerprint(&fingerprint(key));
        keys(incident).iter().find_map(open)
    }

    /// Notes that people are called for an incident for the first time.
    pub(super) fn note_call(&mut self, id: IncidentId, occasion: Occasion, at: DateTime<Utc>) {
        let Some(incident) = self.incidents.get(&id) else { return };
        if is_first_call(incident, occasion) {
            let flood = self.config.people().flood;
            for key in keys(incident) {
                self.calls.note(&key, limit(&key, &flood), at);
            }
        }
    }

    /// Counts an incident for which nobody is called since its source floods them.
    pub(super) fn quiet(
        &mut self,
        id: IncidentId,
        of: IncidentId,
        fact: &Fact,
        now: Circumstance<'_>,
    ) -> Result<(), Corrupt> {
        let fleet = self.config.clone();
        let is_new = self.incidents.get(&id).is_some_and(|it| it.notified_by != Some(of));
        let key = self.incidents.get(&of).and_then(key_of).map(str::to_owned);
        let (true, Some(key)) = (is_new, key) else { return Ok(()) };
        self.calls.0.entry(key).or_default().n_quiet += 1;
        let unknown = |incident| {
            move || Corrupt {
                seq: now.seq,
                fact: fact.name(),
                phase: "nothing".to_owned(),
                incident,
            }
        };
        self.incidents.change(of, &fleet, unknown(of), |it| {
            it.count += 1;
            Ok(())
        })?;
        self.incidents.change(id, &fleet, unknown(id), |it| {
            it.notified_by = Some(of);
            Ok(())
        })?;
        Ok(())
    }

    /// Takes note of what the incident of a flood tells, and of its end.
    pub(super) fn note_flood(&mut self, id: IncidentId, fact: &Fact) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let Some(key) = key_of(incident) else { return };
        if incident.is_over() {
            let key = key.to_owned();
            self.calls.0.remove(&key);
        } else if matches!(fact, Fact::Escalated { .. })
            && let Some(called) = self.calls.0.get_mut(key)
        {
            called.n_told = called.n_quiet;
        }
    }

    /// Opens the incident of a flood for each source that has called people too often.
    pub(super) fn settle_notice_floods(&mut self, turn: &mut Turn, moved: &[IncidentId]) {
        let flood = self.config.people().flood;
        let incidents = moved.iter().filter_map(|id| self.incidents.get(id));
        let mut keys: Vec<_> = incidents.filter(|it| key_of(it).is_none()).flat_map(keys).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let limit = limit(&key, &flood);
            let first = self.calls.full(&key, limit, &flood, turn.at);
            let is_open = || self.incidents.of_fingerprint(&fingerprint(&key)).is_some();
            if let Some(first) = first.filter(|_| !is_open()) {
                self.open_notice_flood(turn, &key, limit, first);
            }
        }
    }

    fn open_notice_flood(
        &mut self,
        turn: &mut Turn,
        key: &str,
        limit: usize,
        first: DateTime<Utc>,
    ) {
        let flood = self.config.people().flood;
        let fingerprint = fingerprint(key);
        let id = IncidentId::derive(turn.at, turn.position, &fingerprint);
        let previous = self.incidents.former(&fingerprint);
        let event = flood_event(turn, key, &flood, limit);
        let whose = whose(key);
        let fact = Fact::Opened { event: Box::new(event), target: None, fingerprint, previous };
        let why = format!("people were notified of {limit} incidents of {whose} since {first}");
        self.record(turn, Some(id), fact, why.clone());
        let why = format!(
            "{why}; notifications of its further incidents are suppressed while this one is open, \
             with a summary each {}; the incidents stay open: {}",
            flood.summary,
            list(key)
        );
        self.escalate(turn, id, Escalation::EventFlood, why);
    }

    /// Sums up a flood whose time has come, or ends it. Returns whether the incident is one.
    pub(super) fn sum_up(&mut self, turn: &mut Turn, id: IncidentId) -> bool {
        let Some(key) = self.incidents.get(&id).and_then(key_of).map(str::to_owned) else {
            return false;
        };
        let flood = self.config.people().flood;
        let called = self.calls.0.get(&key);
        let (n_quiet, n_told) = called.map_or((0, 0), |it| (it.n_quiet, it.n_told));
        let whose = whose(&key);
        let list = list(&key);
        if n_told < n_quiet {
            let event = Box::new(flood_event(turn, &key, &flood, limit(&key, &flood)));
            let why = format!("{whose} goes on");
            self.record(turn, Some(id), Fact::Repeated { deliveries: Vec::new(), event }, why);
            let why = format!(
                "{} more incidents of {whose} without a notification in {}, {n_quiet} in all; \
                 those that are open: {list}",
                n_quiet - n_told,
                flood.summary
            );
            self.escalate(turn, id, Escalation::EventFlood, why);
        } else {
            let why = format!("no further incident of {whose} within {}", flood.summary);
            self.record(turn, Some(id), Fact::LeaseEnded, why.clone());
            let why =
                format!("{why}; {n_quiet} had no notification, those that are still open: {list}");
            self.record(turn, Some(id), Fact::SelfResolved, why);
        }
        true
    }
}

/// Returns whether people would be called for an incident for the first time. Of a flood itself
/// they are always told.
fn is_first_call(incident: &Incident, occasion: Occasion) -> bool {
    let is_known =
        !(incident.told.is_empty() && incident.notices.is_empty() && incident.calls.is_empty());
    occasion.calls() && !is_known && incident.event.kind.as_str() != EVENT_FLOOD
}

/// Returns how a person sees the incidents of a source.
fn list(key: &str) -> String {
    let source = if key.is_empty() { String::new() } else { format!(" '{key}'") };
    format!("selfheal incidents ls --open{source}")
}

fn flood_event(turn: &Turn, key: &str, flood: &Flood, limit: usize) -> Event {
    let id = format!("{}{PREFIX}", turn.position);
    let source = if key.is_empty() { super::reopen::SUPERVISOR } else { key };
    let mut event = Event::new(id, EventType::known(EVENT_FLOOD), source);
    event.severity = Severity::Error;
    event.starts_at = Some(turn.at);
    event.ends_at = Some(turn.at + flood.summary.to_delta());
    let summary = format!("too many incidents of {} to notify of each", whose(key));
    event.annotations.insert("summary".to_owned(), summary);
    event.payload = json!({"source": key, "incidents": limit, "within": flood.within.to_string()});
    event
}
