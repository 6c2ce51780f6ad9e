//! Whether a process may be given work.

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Keeps a process unready while any clone of it lives.
#[derive(Clone, Debug)]
pub struct Latch(#[expect(dead_code, reason = "held for its drop only")] Arc<DropGuard>);

/// Tells whether a process may be given work: every [`Latch`] has been dropped,
/// the broker is connected, and nobody has asked the process to stop.
#[derive(Clone, Debug)]
pub struct Readiness {
    released: CancellationToken,
    stop: CancellationToken,
    connection: Arc<OnceLock<watch::Receiver<bool>>>,
}

/// Why a process is not ready.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unready {
    /// It is still setting up its subscriptions.
    Starting,
    /// It has no connection to the broker.
    BrokerAway,
    /// It was told to stop and ends its work.
    Stopping,
}

impl Unready {
    /// Returns the reason in the words of `/readyz`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::BrokerAway => "broker away",
            Self::Stopping => "stopping",
        }
    }
}

impl Readiness {
    /// Returns an unready process and the latch that holds it so.
    #[must_use]
    pub fn new(stop: CancellationToken) -> (Self, Latch) {
        let released = CancellationToken::new();
        let latch = Latch(Arc::new(released.clone().drop_guard()));
        (Self { released, stop, connection: Arc::default() }, latch)
    }

    /// Names the broker's connection. Only the first call counts.
    pub fn follow(&self, connection: watch::Receiver<bool>) {
        self.connection.get_or_init(|| connection);
    }

    /// Returns whether the broker is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection.get().is_some_and(|connection| *connection.borrow())
    }

    /// Returns whether the process may be given work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.check().is_ok()
    }

    /// Returns why the process may not be given work.
    ///
    /// # Errors
    ///
    /// The first reason that holds.
    pub fn check(&self) -> Result<(), Unready> {
        if self.stop.is_cancelled() {
            Err(Unready::Stopping)
        } else if !self.is_connected() {
            Err(Unready::BrokerAway)
        } else if !self.released.is_cancelled() {
            Err(Unready::Starting)
        } else {
            Ok(())
        }
    }

    /// Waits until every latch has been dropped.
    pub async fn released(&self) {
        self.released.cancelled().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_released_connected_and_not_stopping() {
        let stop = CancellationToken::new();
        let (readiness, latch) = Readiness::new(stop.clone());
        let (broker, connection) = watch::channel(true);
        assert_eq!(readiness.check(), Err(Unready::BrokerAway));
        readiness.follow(connection);
        let second = latch.clone();
        drop(latch);
        assert_eq!(readiness.check(), Err(Unready::Starting));
        drop(second);
        assert_eq!(readiness.check(), Ok(()));
        broker.send_replace(false);
        assert_eq!(readiness.check(), Err(Unready::BrokerAway));
        broker.send_replace(true);
        assert!(readiness.is_ready());
        stop.cancel();
        assert_eq!(readiness.check(), Err(Unready::Stopping));
    }
}
