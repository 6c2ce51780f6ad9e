//! How much is open and how long work has waited, for gauges.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::Desk;
use crate::{
    event::Severity,
    incident::{Incident, Phase},
    view::Status,
    wire::WorkKind,
};

/// Work of one kind that is wanted and not reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Number of pieces.
    pub n_pieces: usize,
    /// Since when the oldest is wanted.
    pub oldest: DateTime<Utc>,
}

impl Desk {
    /// Returns the number of incidents by status and severity; none where there are none.
    pub fn by_state(&self) -> impl Iterator<Item = (Status, Severity, usize)> + '_ {
        self.incidents.by_state().iter().map(|((status, severity), n)| (*status, *severity, *n))
    }

    /// Returns the work that is wanted now, by kind; none where there is none. Looks at each
    /// incident that wants some.
    #[must_use]
    pub fn backlog(&self) -> BTreeMap<WorkKind, Backlog> {
        let mut all = BTreeMap::new();
        let mut add = |kind, since: DateTime<Utc>| {
            let backlog = all.entry(kind).or_insert(Backlog { n_pieces: 0, oldest: since });
            backlog.n_pieces += 1;
            backlog.oldest = backlog.oldest.min(since);
        };
        for incident in self.incidents.wanting() {
            if let Some(kind) = wanted(incident) {
                add(kind, incident.entered_at);
            }
            for _ in &incident.notices {
                add(WorkKind::Notify, incident.entered_at);
            }
        }
        all
    }

    /// Returns whether new fixes are stopped by a person.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Returns whether the circuit breaker is tripped at this time.
    #[must_use]
    pub fn is_breaker_tripped(&self, now: DateTime<Utc>) -> bool {
        self.breaker_until.is_some_and(|until| now < until)
    }
}

fn wanted(incident: &Incident) -> Option<WorkKind> {
    match incident.phase {
        Phase::Diagnosing => Some(WorkKind::Diagnose),
        Phase::Fixing { .. } | Phase::Undoing { .. } => Some(WorkKind::Fix),
        Phase::Verifying { .. } => Some(WorkKind::Verify),
        Phase::RetryWaiting { .. }
        | Phase::Proposed { .. }
        | Phase::AwaitingApproval { .. }
        | Phase::Symptom { .. }
        | Phase::Escalated(_)
        | Phase::Over(_) => None,
    }
}
