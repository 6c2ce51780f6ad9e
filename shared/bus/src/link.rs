//! What the client tells about the connection.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_nats::{Event, ServerError};
use tokio::{sync::watch, time::Instant};
use tracing::{debug, info, warn};

/// How long an answer may take after a reconnection, before we assume that what was asked
/// went down with the old connection.
const AFTER_RECONNECTION: Duration = Duration::from_millis(250);

/// What is told in place of an answer that can no longer come.
pub(crate) const CONNECTION_LOST: &str = "the connection was lost";

/// The state of the connection, kept up by the client's events.
#[derive(Debug)]
pub(crate) struct Link {
    connected: watch::Sender<bool>,
    /// Counts connections; a change means that what was under way may have been lost.
    generation: watch::Sender<u64>,
    violation: Mutex<Option<String>>,
    violated: watch::Sender<u64>,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self {
            connected: watch::Sender::new(false),
            generation: watch::Sender::new(0),
            violation: Mutex::new(None),
            violated: watch::Sender::new(0),
        }
    }

    /// Takes one event of the client. Nothing that it tells may be dropped silently.
    pub(crate) fn heed(&self, event: &Event) {
        match event {
            Event::Connected => {
                info!("connected to the broker");
                self.connected.send_if_modified(|connected| !std::mem::replace(connected, true));
                self.generation.send_modify(|generation| *generation += 1);
            }
            Event::Disconnected => {
                warn!("connection to the broker lost, trying again");
                self.connected.send_if_modified(|connected| std::mem::replace(connected, false));
            }
            Event::Closed => {
                info!("connection to the broker closed");
                self.connected.send_if_modified(|connected| std::mem::replace(connected, false));
            }
            Event::SlowConsumer(subscription) => {
                warn!(subscription, "messages were dropped: a subscriber is too slow");
            }
            Event::ServerError(error) => self.heed_server(error),
            Event::ClientError(error) => debug!(%error, "client of the broker"),
            Event::LameDuckMode | Event::Draining => info!(%event, "broker is going away"),
        }
    }

    fn heed_server(&self, error: &ServerError) {
        let text = error.to_string();
        if text.to_ascii_lowercase().contains("permissions violation") {
            warn!(violation = text, "the broker does not permit this");
            *self.violation.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
            self.violated.send_modify(|n| *n += 1);
        } else {
            warn!(error = text, "error told by the broker");
        }
    }

    pub(crate) fn last_violation(&self) -> Option<String> {
        self.violation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Resolves at the next violation.
    pub(crate) async fn violated(&self) {
        let mut violated = self.violated.subscribe();
        if violated.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    pub(crate) fn connection(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }

    pub(crate) fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Resolves when there has been another connection than `generation`.
    pub(crate) async fn newer_than(&self, generation: u64) {
        let mut watch = self.generation.subscribe();
        // The sender lives in self, so that waiting cannot fail.
        if watch.wait_for(|now| *now > generation).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for an answer of the broker for as long as it can come: not when the connection
    /// over which it was asked for is gone. The client would wait for its whole timeout.
    pub(crate) async fn while_it_lasts<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let generation = self.generation();
        tokio::select! {
            biased;
            answer = answer => Some(answer),
            () = async {
                self.newer_than(generation).await;
                // What was asked for while there was no connection goes out with the new one.
                tokio::time::sleep(AFTER_RECONNECTION).await;
            } => None,
        }
    }

    /// Waits until connected.
    pub(crate) async fn connected(&self) {
        let mut watch = self.connected.subscribe();
        // The sender lives in self, so that waiting cannot fail.
        if watch.wait_for(|connected| *connected).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until connected; `false` when the deadline came first.
    pub(crate) async fn connected_by(&self, deadline: Instant) -> bool {
        let mut watch = self.connected.subscribe();
        tokio::time::timeout_at(deadline, watch.wait_for(|connected| *connected))
            .await
            .is_ok_and(|seen| seen.is_ok())
    }
}

/// Grows from `first` by doubling to `last`: for retries that wait for somebody else.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    last: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, last: Duration) -> Self {
        Self { next: first, last }
    }

    /// Returns how long to wait before the next try.
    pub(crate) fn step(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.last);
        now
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.step()).await;
    }
}
