//! Lets others see what was decided: work, answers, news, rejected input.

use std::collections::BTreeSet;

use bus::Bus;
use bytes::Bytes;
use domain::{config::Config, desk::Wish, id::Position, view::LogLine, wire::Answer};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use service::Chain;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::decode::Rejection;

/// Ids of published wishes that are remembered, so that a repeated event does not publish
/// the same wish again. When there are more, they are forgotten: doing it again is harmless.
const REMEMBERED_MAX: usize = 100_000;

/// Lets others see what was decided.
#[derive(Debug)]
pub(crate) struct Deliver {
    bus: Bus,
    tasks: TaskTracker,
    published: BTreeSet<String>,
}

impl Deliver {
    /// Begins with nothing published.
    pub(crate) fn new(bus: &Bus, tasks: &TaskTracker) -> Self {
        Self { bus: bus.clone(), tasks: tasks.clone(), published: BTreeSet::new() }
    }

    /// Publishes wishes that were not published before.
    pub(crate) async fn now(&mut self, wishes: Vec<Wish>) {
        let new = wishes.into_iter().filter(|it| !self.published.contains(it.id())).collect();
        self.publish(new).await;
    }

    /// Publishes all these wishes, also those that were published before.
    pub(crate) async fn all(&mut self, wishes: Vec<Wish>) {
        self.published.clear();
        self.publish(wishes).await;
    }

    /// What the broker does not take now is published again with all that is pending.
    async fn publish(&mut self, wishes: Vec<Wish>) {
        if REMEMBERED_MAX < self.published.len() {
            self.published.clear();
        }
        let work = self.bus.work();
        let publish = async |wish: Wish| {
            let payload = match wish.payload() {
                Ok(payload) => Bytes::from(payload),
                Err(failure) => {
                    warn!(wish = wish.id(), error = %Chain(&failure), "a wish cannot be written");
                    return None;
                }
            };
            match work.publish(wish.kind(), wish.zone(), wish.id(), payload).await {
                Ok(()) => Some(wish.id().to_owned()),
                Err(failure) => {
                    warn!(wish = wish.id(), error = %Chain(&failure), "a wish was not published, tried again later");
                    None
                }
            }
        };
        let mut under_way: FuturesUnordered<_> = wishes.into_iter().map(publish).collect();
        while let Some(done) = under_way.next().await {
            self.published.extend(done);
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
    pub(crate) async fn answers(&self, answers: Vec<(String, Answer)>) {
        for (to, answer) in answers {
            let Ok(text) = serde_json::to_vec(&answer) else { continue };
            if let Err(failure) = self.bus.publish_core(to, text.into()).await {
                warn!(error = %Chain(&failure), "an answer could not be sent");
            }
        }
    }

    /// Tells those who watch.
    pub(crate) async fn news(&self, lines: &[LogLine]) {
        for line in lines {
            let Ok(text) = serde_json::to_vec(line) else { continue };
            let subject = self.bus.subjects().live(&line.incident_id);
            if let Err(failure) = self.bus.publish_core(subject, text.into()).await {
                warn!(error = %Chain(&failure), "news could not be told");
            }
        }
    }
}
