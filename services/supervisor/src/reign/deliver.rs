//! Lets others see what was decided: work, answers, rejected input.

use bus::Bus;
use bytes::Bytes;
use domain::{config::Config, desk::Wish, id::Position, wire::Answer};
use service::{Chain, trace};
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::core::Rejection;

/// Lets others see what was decided.
#[derive(Clone, Debug)]
pub(crate) struct Deliver {
    bus: Bus,
    tasks: TaskTracker,
}

impl Deliver {
    /// Begins with nothing published.
    pub(crate) fn new(bus: &Bus, tasks: &TaskTracker) -> Self {
        Self { bus: bus.clone(), tasks: tasks.clone() }
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
            warn!(wish = wish.id(), error = %Chain(&failure), "a wish was not published, tried again later");
        }
    }

    /// Puts the configuration where agents follow it.
    pub(crate) fn configuration(&self, config: &Config) {
        let store = self.bus.config_store();
        match serde_json::to_vec(config) {
            Ok(text) => {
                self.tasks.spawn(async move {
                    if let Err(failure) = store.put(text.into()).await {
                        warn!(error = %Chain(&failure), "agents could not be given the configuration");
                    }
                });
            }
            Err(failure) => warn!(error = %Chain(&failure), "the configuration cannot be written"),
        }
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
