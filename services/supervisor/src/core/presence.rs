//! Whether a leader was away: stopped with its host, or by a signal, and continued later.

use std::time::Duration;

use bus::topology::LEASE_TTL;
use chrono::{DateTime, TimeDelta, Utc};

/// Notes when a leader must wake again, to tell whether it was away.
///
/// While it was, inputs and deadlines have waited for it as they wait for a new leader, so it
/// must take over as one: follow, lead anew, and say so. Otherwise what arrived meanwhile is
/// given up at once, since its deadlines have passed before anybody could do anything about it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Presence {
    wakes_by: Option<DateTime<Utc>>,
}

impl Presence {
    /// Notes that it waits for at most so long from `now`.
    pub fn waits(&mut self, now: DateTime<Utc>, wait: Duration) {
        let longest = TimeDelta::from_std(wait + LEASE_TTL).unwrap_or(TimeDelta::MAX);
        self.wakes_by = now.checked_add_signed(longest);
    }

    /// Returns whether it has waked too late by more than its lease lives. A clock that was set
    /// forward looks the same, and costs no more than another reign.
    #[must_use]
    pub fn was_away(&self, now: DateTime<Utc>) -> bool {
        self.wakes_by.is_some_and(|by| by < now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_wakes_after_its_lease_has_ended_was_away() {
        let now = DateTime::UNIX_EPOCH;
        let mut presence = Presence::default();
        assert!(!presence.was_away(now), "it has not waited yet");
        presence.waits(now, Duration::from_secs(1));
        let last = now + TimeDelta::seconds(1) + TimeDelta::from_std(LEASE_TTL).unwrap();
        assert!(!presence.was_away(last));
        assert!(presence.was_away(last + TimeDelta::milliseconds(1)));
    }
}
