//! Deadlines: the shell looks at the clock, the desk never does.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    id::IncidentId,
    wire::{Envelope, Input, TimerFired},
};
use tokio::time::Instant;

/// A deadline that is still there so long after it was told is told again: our clock may
/// be ahead of the broker's, whose time counts.
const AGAIN: Duration = Duration::from_secs(1);
/// Deadlines told at once. What was missed while nobody led comes in portions.
const AT_ONCE_MAX: usize = 256;

/// What is due when.
#[derive(Debug, Default)]
pub(crate) struct Wheel {
    due: Vec<(DateTime<Utc>, IncidentId)>,
    told: BTreeMap<IncidentId, (DateTime<Utc>, Instant)>,
}

impl Wheel {
    /// Takes the deadlines of the present state, the next first.
    pub(crate) fn set(&mut self, due: Vec<(DateTime<Utc>, IncidentId)>) {
        self.told.retain(|id, (at, _)| due.contains(&(*at, *id)));
        self.due = due;
    }

    /// Returns how long until something is due, at most `longest`.
    #[must_use]
    pub(crate) fn wait(&self, now: DateTime<Utc>, longest: Duration) -> Duration {
        let next = self.due.iter().find(|(_, id)| !self.told.contains_key(id));
        let wait = next.map(|(at, _)| (*at - now).to_std().unwrap_or_default());
        wait.unwrap_or(longest).min(longest)
    }

    /// Returns the timers that are to be told now.
    pub(crate) fn fire(&mut self, now: DateTime<Utc>, clock: Instant) -> Vec<Envelope> {
        let told = &self.told;
        let is_due = |(at, id): &&(DateTime<Utc>, IncidentId)| {
            *at <= now && told.get(id).is_none_or(|(_, since)| AGAIN <= clock - *since)
        };
        let due: Vec<_> = self.due.iter().filter(is_due).take(AT_ONCE_MAX).copied().collect();
        let mut fired = Vec::with_capacity(due.len());
        for (at, incident) in due {
            self.told.insert(incident, (at, clock));
            let timer = TimerFired { incident, due: at };
            let id = format!("timer/{incident}/{}", at.timestamp_millis());
            fired.push(Envelope::new(id, Input::Timer(timer)));
        }
        fired
    }
}

#[cfg(test)]
mod tests {
    use domain::id::Position;

    use super::*;

    #[test]
    fn a_deadline_is_told_once_and_again_only_while_it_stays() {
        let at = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
        let id = IncidentId::derive(at, Position::new(1, 0), "a");
        let later = at + chrono::TimeDelta::seconds(5);
        let clock = Instant::now();
        let mut wheel = Wheel::default();
        wheel.set(vec![(later, id)]);
        assert_eq!(wheel.wait(at, Duration::from_secs(60)), Duration::from_secs(5));
        assert!(wheel.fire(at, clock).is_empty(), "not yet due");
        assert_eq!(wheel.fire(later, clock).len(), 1);
        assert!(wheel.fire(later, clock).is_empty(), "told");
        assert_eq!(wheel.fire(later, clock + AGAIN).len(), 1, "nobody decided: told again");
        wheel.set(Vec::new());
        assert!(wheel.fire(later, clock + AGAIN * 3).is_empty());
    }
}
