//! Lets others see what was decided: work, answers, rejected input.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bus::Bus;
use bytes::Bytes;
use domain::{config::Config, desk::Wish, id::Position, wire::Answer};
use service::{Chain, trace};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::core::{Published, Rejection};

/// How often it is said that wishes are not published: when there is no room, there are many.
const SAID_AGAIN: Duration = Duration::from_secs(10);

/// Lets others see what was decided.
#[derive(Clone, Debug)]
pub(crate) struct Deliver {
    bus: Bus,
    tasks: TaskTracker,
    unpublished: Arc<Mutex<Unpublished>>,
    published: Arc<Mutex<Published>>,
    /// The configuration that is to be put where agents follow it: the newest counts.
    configuration: Arc<Mutex<Option<Bytes>>>,
    /// Under which this one leads.
    epoch: u64,
    /// Held by who puts it there, so that a former one never comes after a newer one: the one that
    /// was put there last, and its revision.
    putting: Arc<tokio::sync::Mutex<Option<(u64, Bytes)>>>,
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
    pub(crate) fn new(bus: &Bus, tasks: &TaskTracker, epoch: u64) -> Self {
        Self {
            epoch,
            bus: bus.clone(),
            tasks: tasks.clone(),
            unpublished: Arc::default(),
            published: Arc::default(),
            configuration: Arc::default(),
            putting: Arc::default(),
        }
    }

    /// Begins to go through all that is pending.
    pub(super) fn republish(&self) {
        self.published().turn();
    }

    fn published(&self) -> MutexGuard<'_, Published> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes a wish, unless its queue still holds it. What the broker does not take now is
    /// published again with all that is pending.
    pub(super) async fn wish(&self, wish: Wish) {
        let work = self.bus.work();
        let (kind, zone, id) = (wish.kind(), wish.zone(), wish.id());
        let place = self.published().place(id);
        if let Some(place) = place
            && work.holds(kind, place, id).await
        {
            return;
        }
        let payload = match wish.payload() {
            Ok(payload) => Bytes::from(payload),
            Err(failure) => {
                warn!(wish = wish.id(), error = %Chain(&failure), "a work item cannot be written");
                return;
            }
        };
        let trace = trace::begin(wish.trace());
        match work.publish_traced(kind, zone, id, payload, trace).await {
            Ok(place) => {
                self.published().note(id, place);
            }
            Err(failure) => {
                let mut unpublished =
                    self.unpublished.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(n_wishes) = unpublished.one_more(Instant::now()) {
                    warn!(wish = wish.id(), n_wishes, error = %Chain(&failure), "work items were not published, will retry");
                }
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
            let mut active = this.putting.lock().await;
            let newest = || this.configuration.lock().unwrap_or_else(PoisonError::into_inner);
            // Another one has put it there.
            let Some(text) = newest().take() else { return };
            match store.put(text.clone(), this.epoch).await {
                Ok(Some(revision)) => *active = Some((revision, text)),
                Ok(None) => debug!("a later leader gives agents the configuration"),
                Err(failure) => {
                    warn!(error = %Chain(&failure), "agents could not be given the configuration");
                }
            }
        });
    }

    /// Puts the configuration there again when somebody else has written in its place: agents that
    /// start would follow a former one.
    pub(super) fn guard_configuration(&self) {
        let Ok(mut active) = Arc::clone(&self.putting).try_lock_owned() else { return };
        let (store, epoch) = (self.bus.config_store(), self.epoch);
        self.tasks.spawn(async move {
            let Some((revision, text)) = active.clone() else { return };
            if !matches!(store.is_last(revision).await, Ok(false)) {
                return;
            }
            warn!(
                "somebody else has written in place of the configuration, agents are given it again"
            );
            match store.put(text.clone(), epoch).await {
                Ok(put) => *active = put.map(|revision| (revision, text)),
                Err(failure) => {
                    warn!(error = %Chain(&failure), "agents could not be given the configuration");
                }
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
    use bus::{testing::Broker, topology::StreamId};
    use domain::{
        desk::Desk,
        event::{Event, EventType},
        wire::{Command, Input, Verb, WorkKind},
    };

    use super::*;

    const WAIT: Duration = Duration::from_secs(10);

    fn wish() -> Wish {
        let mut desk = Desk::default();
        let text = "targets: [{name: shop, checks: [{tcp: \"127.0.0.1:1\"}]}]";
        let config = Box::new(domain::config::parse(text).unwrap());
        let configure = Verb::Configure { config, text: None, parts: Vec::new() };
        let mut event = Event::new("1", EventType::known("service_down"), "test");
        event.target = Some("shop".to_owned());
        let inputs = [Input::Command(Command::new("test", configure)), Input::Event(event)];
        for (seq, input) in (1..).zip(&inputs) {
            desk.receive(input, Position::new(seq, 0), chrono::Utc::now());
        }
        desk.pending().pop().unwrap()
    }

    /// Goal: work that nobody takes does not fill its queue. Method: a queue that forgets ids
    /// soon, so that only a question tells what it still holds.
    #[tokio::test]
    async fn what_a_queue_still_holds_is_not_published_again_and_what_it_lost_is() {
        let broker = Broker::start().await;
        let bus = broker.bus().await.unwrap();
        let state = async || bus.stream_state(StreamId::Work(WorkKind::Diagnose)).await.unwrap();
        let name = bus.subjects().stream(StreamId::Work(WorkKind::Diagnose));
        let call = async |what: &str, payload: serde_json::Value| {
            let subject = format!("$JS.API.STREAM.{what}.{name}");
            let answer = bus.request(subject, payload.to_string().into(), WAIT).await.unwrap();
            let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
            assert!(answer["error"].is_null(), "{answer}");
            answer
        };
        let mut config = call("INFO", serde_json::json!({})).await["config"].take();
        config["duplicate_window"] = 100_000_000.into();
        call("UPDATE", config).await;

        let (wish, deliver) = (wish(), Deliver::new(&bus, &TaskTracker::new(), 1));
        deliver.wish(wish.clone()).await;
        let first = state().await;
        assert_eq!((first.messages, first.last_seq), (1, 1));
        // Another leader's, which knows nothing of it: when this is stored, ids are forgotten.
        let other = Deliver::new(&bus, &TaskTracker::new(), 1);
        while state().await.messages < 2 {
            other.wish(wish.clone()).await;
            other.republish();
            other.republish();
        }
        for _ in 0..3 {
            deliver.republish();
            deliver.wish(wish.clone()).await;
        }
        assert_eq!(state().await.messages, 2, "the queue still holds it");
        call("PURGE", serde_json::json!({})).await;
        while state().await.messages < 1 {
            deliver.republish();
            deliver.wish(wish.clone()).await;
        }
        assert_eq!(state().await.messages, 1, "what was lost is published again");
    }

    #[test]
    fn that_there_is_no_room_is_said_at_once_and_then_now_and_again() {
        let mut unpublished = Unpublished::default();
        let now = Instant::now();
        assert_eq!(unpublished.one_more(now), Some(1));
        assert!((0..1000).all(|_| unpublished.one_more(now).is_none()));
        assert_eq!(unpublished.one_more(now + SAID_AGAIN), Some(1001));
    }
}
