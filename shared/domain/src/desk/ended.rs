//! When senders said that something ended: events do not always arrive in their order.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Desk, Turn, events::MONITOR};
use crate::{
    event::{Delivery, Event},
    fact::Fact,
    id::IncidentId,
    wire::AnswerStatus,
};

/// Ends that are remembered; events overtake each other within seconds, not days.
const ENDED_MAX: usize = 2000;

/// When senders said that something ended, by sender and fingerprint; the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Ended(VecDeque<(Delivery, DateTime<Utc>)>);

impl Ended {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn note(&mut self, sender: &str, fingerprint: &str, ends_at: DateTime<Utc>) {
        let key = Delivery::of(sender, fingerprint);
        self.0.retain(|it| it.0 != key);
        if self.0.len() == ENDED_MAX {
            self.0.pop_front();
        }
        self.0.push_back((key, ends_at));
    }

    fn get(&self, sender: &str, fingerprint: &str) -> Option<DateTime<Utc>> {
        let key = Delivery::of(sender, fingerprint);
        self.0.iter().find(|it| it.0 == key).map(|it| it.1)
    }
}

impl Desk {
    /// Returns whether an event began before its sender said that it ended. Our own monitors
    /// report in order, each by its own clock.
    pub(super) fn is_over_already(
        &mut self,
        turn: &mut Turn,
        event: &Event,
        fingerprint: &str,
    ) -> bool {
        let ends_at = self.ended.get(&event.sender(), fingerprint);
        let (Some(starts_at), Some(ends_at)) = (event.starts_at, ends_at) else { return false };
        if event.source == MONITOR || ends_at < starts_at {
            return false;
        }
        let why = format!(
            "it began at {starts_at}, and {} said that it ended at {ends_at}",
            event.source
        );
        turn.answer(AnswerStatus::Suppressed, None, &format!("It has ended already: {why}."));
        let (delivery, fingerprint) = (event.delivery(), fingerprint.to_owned());
        self.record(turn, None, Fact::EventOver { delivery, fingerprint }, why);
        true
    }

    /// Returns whether a recovery ended before the open incident began: it is about a former
    /// one, and arrives late.
    pub(super) fn is_of_before(&self, id: IncidentId, event: &Event) -> bool {
        let Some(incident) = self.incidents.get(&id) else { return false };
        let is_same = incident.event.sender() == event.sender() && event.source != MONITOR;
        let times = event.ends_at.zip(incident.event.starts_at);
        is_same && times.is_some_and(|(ends_at, starts_at)| ends_at < starts_at)
    }

    /// Notes a recovery for which nothing is open, when its sender says when that was.
    pub(super) fn note_recovery(&mut self, turn: &mut Turn, event: &Event, fingerprint: &str) {
        let Some(ends_at) = event.ends_at.filter(|_| event.source != MONITOR) else { return };
        if self.ended.get(&event.sender(), fingerprint).is_some_and(|it| ends_at <= it) {
            return;
        }
        let fact = Fact::RecoveryNoted {
            delivery: event.delivery(),
            source: event.sender().into_owned(),
            fingerprint: fingerprint.to_owned(),
            ends_at,
        };
        let why = format!("{} reports that it ended at {ends_at}; nothing is open", event.source);
        self.record(turn, None, fact, why);
    }
}
