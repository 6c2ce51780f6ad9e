//! What this fixer has under way, and what it reported lately.
//!
//! The work queue may deliver an order twice to one fixer, as after a restart of the
//! broker. The claim keeps it from being run twice; this keeps us from calling our
//! own work unknown.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use domain::{id::IncidentId, wire::FixReport};

/// Reports that are remembered. An order comes again within minutes or never.
const REPORTS_MAX: usize = 256;

/// Names an attempt, as its claim does.
pub type Key = (IncidentId, String);

/// Remembers orders.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    orders: HashMap<Key, Option<FixReport>>,
    reported: VecDeque<Key>,
}

/// What is known of an order that has come.
#[derive(Debug)]
pub enum Seen {
    /// It is new; forgotten again when the entry is dropped without a report.
    First(Entry),
    /// It is being handled.
    UnderWay,
    /// It was handled.
    Reported(Box<FixReport>),
}

/// An order under way.
#[derive(Debug)]
pub struct Entry {
    memory: Memory,
    key: Key,
}

impl Memory {
    /// Looks an order up; a new one is noted.
    #[must_use]
    pub fn enter(&self, key: Key) -> Seen {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.orders.get(&key) {
            Some(None) => Seen::UnderWay,
            Some(Some(report)) => Seen::Reported(Box::new(report.clone())),
            None => {
                inner.orders.insert(key.clone(), None);
                Seen::First(Entry { memory: self.clone(), key })
            }
        }
    }
}

impl Entry {
    /// Notes the report; it is given again if the order comes again.
    pub fn reported(self, report: &FixReport) {
        let mut inner = self.memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.orders.insert(self.key.clone(), Some(report.clone()));
        inner.reported.push_back(self.key.clone());
        if REPORTS_MAX < inner.reported.len()
            && let Some(oldest) = inner.reported.pop_front()
        {
            inner.orders.remove(&oldest);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut inner = self.memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(None) = inner.orders.get(&self.key) {
            inner.orders.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::wire::{FixMode, FixOutcome, WorkRef};

    use super::*;

    fn report() -> FixReport {
        FixReport {
            work: WorkRef { incident: IncidentId::NONE, attempt: 1, revision: 1 },
            mode: FixMode::Apply,
            by: "fixer-1".to_owned(),
            outcome: FixOutcome::Succeeded,
            steps: Vec::new(),
            undone: false,
            took_ms: 1,
        }
    }

    fn key(n: usize) -> Key {
        (IncidentId::NONE, n.to_string())
    }

    #[test]
    fn an_order_is_under_way_until_it_is_reported_or_given_back() {
        let memory = Memory::default();
        let Seen::First(entry) = memory.enter(key(1)) else { panic!("it is new") };
        assert!(matches!(memory.enter(key(1)), Seen::UnderWay));
        drop(entry);
        let Seen::First(entry) = memory.enter(key(1)) else { panic!("it was given back") };
        entry.reported(&report());
        assert!(matches!(memory.enter(key(1)), Seen::Reported(it) if *it == report()));
    }

    #[test]
    fn only_the_last_reports_are_remembered() {
        let memory = Memory::default();
        for n in 0..=REPORTS_MAX {
            let Seen::First(entry) = memory.enter(key(n)) else { panic!("{n} is new") };
            entry.reported(&report());
        }
        assert!(matches!(memory.enter(key(0)), Seen::First(_)));
        assert!(matches!(memory.enter(key(1)), Seen::Reported(_)));
    }
}
