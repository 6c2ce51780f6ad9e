//! Further events of open incidents: a storm of them costs one decision per batch and
//! incident, not one per event.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{Desk, Turn};
use crate::{
    event::{Delivery, Event},
    fact::Fact,
    id::{IncidentId, Position},
    incident::Phase,
};

/// Repeats of one incident that one decision tells at most, so that it fits a message.
const TOLD_MAX: usize = 2000;

/// Size of the event that a decision about repeats holds; of a larger one the payload and long
/// texts are cut. A sender may say the same every few seconds for weeks.
const EVENT_BYTES_MAX: usize = 4 * 1024;

/// Repeats that were answered but are not recorded yet. Empty between batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Repeats {
    by_incident: BTreeMap<IncidentId, Repeat>,
    deliveries: BTreeMap<Delivery, IncidentId>,
}

/// Repeats of one incident.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Repeat {
    deliveries: Vec<Delivery>,
    /// The last event, with what the ones before it said and it does not.
    event: Event,
    at: DateTime<Utc>,
    position: Position,
}

impl Repeats {
    /// Returns the incident of a delivery that was only counted so far.
    pub(super) fn of(&self, delivery: Delivery) -> Option<IncidentId> {
        self.deliveries.get(&delivery).copied()
    }

    /// Returns the number of events.
    pub(super) fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// Counts one; returns whether the incident's repeats are as many as one decision tells.
    fn add(&mut self, turn: &Turn, id: IncidentId, delivery: Delivery, event: &Event) -> bool {
        self.deliveries.insert(delivery, id);
        let repeat = self.by_incident.entry(id).or_insert_with(|| Repeat {
            deliveries: Vec::new(),
            event: event.clone(),
            at: turn.at,
            position: turn.position,
        });
        if !repeat.deliveries.is_empty() {
            let former = std::mem::replace(&mut repeat.event, event.clone());
            repeat.event.severity = repeat.event.severity.max(former.severity);
            repeat.event.starts_at = repeat.event.starts_at.max(former.starts_at);
            repeat.event.ends_at = repeat.event.ends_at.or(former.ends_at);
            if repeat.event.payload.is_null() {
                repeat.event.payload = former.payload;
            }
        }
        repeat.deliveries.push(delivery);
        (repeat.at, repeat.position) = (turn.at, turn.position);
        TOLD_MAX <= repeat.deliveries.len()
    }

    pub(super) fn take(&mut self, id: IncidentId) -> Option<Repeat> {
        let repeat = self.by_incident.remove(&id)?;
        for delivery in &repeat.deliveries {
            self.deliveries.remove(delivery);
        }
        Some(repeat)
    }

    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (IncidentId, Repeat)> + use<> {
        self.deliveries.clear();
        std::mem::take(&mut self.by_incident).into_iter()
    }
}

impl Desk {
    /// Takes up a further event of an open incident.
    pub(super) fn on_repeat(
        &mut self,
        turn: &mut Turn,
        id: IncidentId,
        delivery: Delivery,
        event: &Event,
    ) {
        let incident = self.incidents.get(&id);
        let is_verified = incident.is_some_and(|it| matches!(it.phase, Phase::Verifying { .. }));
        let is_news = incident.is_some_and(|it| it.is_news(event));
        if is_news && let Some(repeat) = self.repeats.take(id) {
            // What says something else stands in a decision of its own.
            self.record_repeat(turn, id, repeat);
        }
        let is_full = self.repeats.add(turn, id, delivery, event);
        if (is_full || is_verified || is_news)
            && let Some(repeat) = self.repeats.take(id)
        {
            self.record_repeat(turn, id, repeat);
        }
        if is_verified {
            self.sick_again(turn, id, event);
        }
        if is_news {
            self.report_beside(turn, id, event);
            self.hear_news(turn, id);
        }
        if is_verified || is_news {
            self.settle(turn);
        }
    }

    pub(super) fn record_repeat(&mut self, turn: &mut Turn, id: IncidentId, repeat: Repeat) {
        let Repeat { deliveries, event, at, position } = repeat;
        let source = event.source.clone();
        let why = match deliveries.len() {
            1 => format!("{source} reports it again"),
            n => format!("reported {n} times more, at last by {source}"),
        };
        let event = Box::new(event.shortened(EVENT_BYTES_MAX));
        let fact = Fact::Repeated { deliveries, event };
        self.record_at(turn, Some(id), fact, why, at, position);
    }
}
