//! Virtual time, and the clocks that agents have of it.

use std::{sync::OnceLock, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// Microseconds since the beginning.
pub(crate) type Micros = u64;

pub(crate) const MS: Micros = 1000;
pub(crate) const SECOND: Micros = 1000 * MS;
pub(crate) const MINUTE: Micros = 60 * SECOND;
pub(crate) const HOUR: Micros = 60 * MINUTE;

/// The beginning, by the broker's clock, in seconds of Unix time.
const BEGINNING_S: i64 = 1_767_225_600;

/// Returns the broker's time.
pub(crate) fn utc(at: Micros) -> DateTime<Utc> {
    let beginning = DateTime::from_timestamp(BEGINNING_S, 0).unwrap_or_default();
    beginning + TimeDelta::microseconds(signed(at))
}

/// Returns the moment of a broker's time.
pub(crate) fn moment(at: DateTime<Utc>) -> Micros {
    u64::try_from((at - utc(0)).num_microseconds().unwrap_or(0)).unwrap_or(0)
}

pub(crate) fn micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}

fn signed(at: Micros) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX / 4)
}

/// An agent's clock: set wrongly, and not quite as fast as the broker's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    pub(crate) offset_us: i64,
    pub(crate) drift_ppm: i64,
}

impl Clock {
    /// Returns what the clock on the wall says.
    pub(crate) fn utc(self, now: Micros) -> DateTime<Utc> {
        let drifted = signed(now) / 1_000_000 * self.drift_ppm;
        utc(now) + TimeDelta::microseconds(self.offset_us + drifted)
    }

    /// Returns what the stop-watch says. It runs as fast as the clock on the wall.
    pub(crate) fn instant(self, now: Micros) -> Instant {
        static BASE: OnceLock<Instant> = OnceLock::new();
        let base = *BASE.get_or_init(Instant::now);
        base + Duration::from_micros(self.passed(now))
    }

    fn passed(self, now: Micros) -> u64 {
        let drift = i128::from(now) * i128::from(self.drift_ppm) / 1_000_000;
        u64::try_from(i128::from(now) + drift).unwrap_or(0)
    }

    /// Returns how long a wait takes that this clock measures.
    pub(crate) fn real(self, wait: Micros) -> Micros {
        let drift = i128::from(wait) * i128::from(self.drift_ppm) / 1_000_000;
        u64::try_from(i128::from(wait) - drift).unwrap_or(0)
    }
}
