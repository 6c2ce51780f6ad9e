//! The broker's time, on a clock of this host that also counts while it sleeps.
//!
//! All limits that are agreed upon between processes are in the broker's time: clocks of hosts
//! differ. Spans are measured with `CLOCK_BOOTTIME`, so that a process that was stopped, or whose
//! host was suspended, sees on its first look how long that took.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use serde_json::json;

use crate::{Bus, Error, topology::BucketId};

/// How long the broker may take to tell its time.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Returns how long ago this host was started.
#[must_use]
pub(crate) fn since_boot() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), nanos)
}

/// The broker's time, as it was told once and has gone on since. It was told somewhere between
/// question and answer, so it is known as a span.
#[derive(Clone, Copy, Debug)]
pub struct BrokerClock {
    told: DateTime<Utc>,
    asked: Duration,
    answered: Duration,
}

impl BrokerClock {
    /// Returns the latest time that it may be at the broker now: for "not after".
    #[must_use]
    pub fn latest(&self) -> DateTime<Utc> {
        self.after(self.asked)
    }

    /// Returns the earliest time that it may be at the broker now: for "not before".
    #[must_use]
    pub fn earliest(&self) -> DateTime<Utc> {
        self.after(self.answered)
    }

    fn after(&self, then: Duration) -> DateTime<Utc> {
        let passed = since_boot().saturating_sub(then);
        self.told + TimeDelta::from_std(passed).unwrap_or(TimeDelta::MAX)
    }
}

impl Bus {
    /// Asks the broker for its time.
    ///
    /// # Errors
    ///
    /// [`Error::Client`] when it does not answer in time.
    pub async fn clock(&self) -> Result<BrokerClock, Error> {
        #[derive(Deserialize)]
        struct Answer {
            ts: DateTime<Utc>,
        }
        let failed = |error: crate::error::Cause| Error::client("ask for the broker's time", error);
        let stream = self.subjects().bucket_stream(BucketId::Members);
        let asked = since_boot();
        let answer = self
            .request(
                format!("$JS.API.STREAM.INFO.{stream}"),
                json!({}).to_string().into(),
                ANSWER_WITHIN,
            )
            .await?;
        let Answer { ts } =
            serde_json::from_slice(&answer).map_err(|error| failed(error.into()))?;
        Ok(BrokerClock { told: ts, asked, answered: since_boot() })
    }
}
