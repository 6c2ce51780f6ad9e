//! Lets others see what was decided: work, answers, rejected input.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bus::Bus;
use bytes::Bytes;
use domain::{config::Config, desk::Wish, id::Position, wire::Answer};
use service::{Chain, trace};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::core::Rejection;

/// How often it is said that wishes are not published: when there is no room, there are many.
const SAID_AGAIN: Duration = Duration::from_secs(10);

/// Lets others see what was decided.
#[derive(Clone, Debug)]
pub(crate) struct Deliver {
    bus: Bus,
    tasks: TaskTracker,
    unpublished: Arc<Mutex<Unpublished>>,
    /// The configuration that is to be put where agents follow it: the newest counts.
    configuration: Arc<Mutex<Option<Bytes>>>,
    /// Held by who puts it there, so that a former one never comes after a newer one.
    putting: Arc<tokio::sync::Mutex<()>>,
}

/// Wishes that the broker did not take.
#[derive(Debug, Default)]
struct Unpublished {
    /// How many since it was said last.
    n: u64,
    said: Option<Instant>,
}

impl Unpublished {
    /// Counts one; returns how many are to be told now, if any.
    fn one_more(&mut self, now: Instant) -> Option<u64> {
        self.n += 1;
        if self.said.is_some_and(|at| now.duration_since(at) < SAID_AGAIN) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.n))
    }
}

impl Deliver {
    /// Begins with nothing published.
    pub(crate) fn new(bus: &Bus, tasks: &TaskTracker) -> Self {
        Self {
            bus: bus.clone(),
            tasks: tasks.clone(),
            unpublished: Arc::default(),
            configuration: Arc::default(),
            putting: Arc::default(),
        }
    }

    /// Publishes a wish. What the broker does not take now is published again with all
    /// that is pending.
    pub(super) async fn wish(&self, wish: Wish) {
        let payload = match wish.payload() {
            Ok(payload) => Bytes::from(payload),
            Err(failure) => {
                warn!(wish = wish.id(), error = %Chain(&failure), "a wish cannot be written");
                return;
            }
        };
        let trace = trace::begin(wish.trace());
        let work = self.bus.work();
        let (kind, zone, id) = (wish.kind(), wish.zone(), wish.id());
        if let Err(failure) = work.publish_traced(kind, zone, id, payload, trace).await {
            let mut unpublished = self.unpublished.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(n_wishes) = unpublished.one_more(Instant::now()) {
                warn!(wish = wish.id(), n_wishes, error = %Chain(&failure), "wishes were not published, tried again later");
            }
        }
    }

    /// Puts the configuration where agents follow it, until the broker has it.
    pub(crate) fn configuration(&self, config: &Config) {
        let text = match serde_json::to_vec(config) {
            Ok(text) => Bytes::from(text),
            Err(failure) => {
                warn!(error = %Chain(&failure), "the configuration cannot be written");
                return;
            }
        };
        *self.configuration.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        let (this, store) = (self.clone(), self.bus.config_store());
        self.tasks.spawn(async move {
            let _mine = this.putting.lock().await;
            let newest = || this.configuration.lock().unwrap_or_else(PoisonError::into_inner);
            // Another one has put it there.
            let Some(text) = newest().take() else { return };
            if let Err(failure) = store.put(text).await {
                warn!(error = %Chain(&failure), "agents could not be given the configuration");
            }
        });
    }

    /// Keeps what could not be understood.
    pub(crate) fn rejections(&self, rejections: Vec<(Position, Rejection)>) {
        for (position, rejection) in rejections {
            let bus = self.bus.clone();
            self.tasks.spawn(async move {
                let Rejection { reason, why, raw } = rejection;
                if let Err(failure) = bus.reject(reason, position, raw, &why).await {
                    warn!(%position, reason, error = %Chain(&failure), "a rejected input could not be kept");
                }
            });
        }
    }

    /// Answers those who wait.
    pub(crate) async fn answers(&self, answers: &[(String, Answer)]) {
        if let Err(failure) = self.bus.answer(answers).await {
            warn!(error = %Chain(&failure), "answers could not be sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_there_is_no_room_is_said_at_once_and_then_now_and_again() {
        let mut unpublished = Unpublished::default();
        let now = Instant::now();
        assert_eq!(unpublished.one_more(now), Some(1));
        assert!((0..1000).all(|_| unpublished.one_more(now).is_none()));
        assert_eq!(unpublished.one_more(now + SAID_AGAIN), Some(1001));
    }
}
