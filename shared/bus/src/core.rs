//! What every part needs to talk to the broker. Tasks hold this, never the [`Bus`](crate::Bus),
//! so that dropping the last handle ends them.

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use async_nats::{Client, jetstream};

use tokio::time::timeout;
use tracing::debug;

use crate::{Keys, Sizing, Subjects, link::Link};

/// The connection and the names.
#[derive(Clone)]
pub(crate) struct Core {
    pub(crate) client: Client,
    pub(crate) js: jetstream::Context,
    pub(crate) link: Arc<Link>,
    pub(crate) subjects: Subjects,
    pub(crate) sizing: Arc<OnceLock<Sizing>>,
    pub(crate) keys: Keys,
    /// The last message of the configuration's bucket that a warning was written about: several
    /// follow it, and one warning is enough.
    pub(crate) warned: Arc<AtomicU64>,
    /// The same of the tokens' bucket.
    pub(crate) warned_token: Arc<AtomicU64>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("link", &self.link)
            .field("subjects", &self.subjects)
            .finish_non_exhaustive()
    }
}

/// How long the broker may take to show that it has read what we sent.
const ROUND_TRIP_TIMEOUT: Duration = Duration::from_secs(2);

impl Core {
    pub(crate) fn sizing(&self) -> Sizing {
        self.sizing.get().copied().unwrap_or_default()
    }

    /// Waits until the broker has read all that was sent before, such as a subscription:
    /// flushing only empties our own buffers, and another's message may be there first.
    ///
    /// Without a connection there is nothing to wait for: subscriptions go out with the next
    /// one before everything else. A user who may not ask this gets no answer, and goes on.
    pub(crate) async fn round_trip(&self) {
        if !self.link.is_connected() {
            return;
        }
        let answer = timeout(ROUND_TRIP_TIMEOUT, self.js.query_account());
        tokio::select! {
            answer = answer => if !matches!(answer, Ok(Ok(_))) {
                debug!("the broker does not answer a round trip");
            },
            () = self.link.violated() => {}
        }
    }
}

/// Turns the client's time into ours.
pub(crate) fn utc(at: async_nats::datetime::DateTime) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp(at.unix_timestamp(), at.nanosecond()).unwrap_or_default()
}
