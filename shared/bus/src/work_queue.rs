//! One work queue's consumer, made anew whenever the broker forgot it.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, PullConsumer, pull},
};
use domain::wire::WorkKind;
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{debug, warn};

use crate::{
    core::Core,
    error::Cause,
    link::{Backoff, CONNECTION_LOST},
    topology::{ACK_WAIT, StreamId, queue},
};

/// How long one request for work stands at the broker.
const PULL_EXPIRES: Duration = Duration::from_secs(30);

/// Sign of life of a request that has no work to deliver.
const PULL_HEARTBEAT: Duration = Duration::from_secs(5);

/// First and last wait before the consumer is made anew.
const REOPEN_FIRST: Duration = Duration::from_millis(25);
const REOPEN_LAST: Duration = Duration::from_millis(500);

/// Tries after which the log tells about it.
const QUIET_TRIES: u32 = 20;

/// A delivery and the slot that it takes.
pub(crate) type Delivery = (jetstream::Message, OwnedSemaphorePermit);

/// Takes work of one kind and zone.
pub(crate) struct WorkQueue {
    pub(crate) core: Core,
    pub(crate) kind: WorkKind,
    pub(crate) zone: String,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) tx: mpsc::Sender<Delivery>,
}

impl WorkQueue {
    pub(crate) async fn run(self) {
        let mut backoff = Backoff::new(REOPEN_FIRST, REOPEN_LAST);
        let mut n_tries = 0_u32;
        loop {
            let generation = self.core.link.generation();
            let (opened, cause) = match self.take().await {
                Ok(()) => return,
                Err(stopped) => stopped,
            };
            n_tries = if opened { 0 } else { n_tries + 1 };
            if opened {
                backoff = Backoff::new(REOPEN_FIRST, REOPEN_LAST);
            }
            if n_tries == QUIET_TRIES && self.core.link.is_connected() {
                warn!(kind = self.kind.as_str(), zone = self.zone, error = %cause, "cannot take work, trying again");
            } else {
                debug!(kind = self.kind.as_str(), zone = self.zone, error = %cause, "taking work anew");
            }
            tokio::select! {
                () = backoff.wait() => {}
                () = self.core.link.newer_than(generation) => {}
                () = self.tx.closed() => return,
            }
            let mut connected = self.core.link.connection();
            tokio::select! {
                seen = connected.wait_for(|connected| *connected) => if seen.is_err() { return },
                () = self.tx.closed() => return,
            }
        }
    }

    /// Takes work as long as all is well. `Ok` when nobody wants it any more; else whether
    /// there was a consumer, and what went wrong.
    async fn take(&self) -> Result<(), (bool, Cause)> {
        let generation = self.core.link.generation();
        let consumer = self.core.link.while_it_lasts(self.consumer()).await;
        let consumer = consumer.unwrap_or_else(|| Err(CONNECTION_LOST.into()));
        let consumer = consumer.map_err(|cause| (false, cause))?;
        // One at a time: what is asked for is held by us, and must be worked on at once.
        let pull = consumer
            .stream()
            .max_messages_per_batch(1)
            .expires(PULL_EXPIRES)
            .heartbeat(PULL_HEARTBEAT);
        let mut messages = pull.messages().await.map_err(|error| (false, error.into()))?;
        loop {
            let slot = tokio::select! {
                slot = Arc::clone(&self.slots).acquire_owned() => match slot {
                    Ok(slot) => slot,
                    Err(_closed) => return Ok(()),
                },
                () = self.core.link.newer_than(generation) => {
                    return Err((true, "the connection is another one".into()));
                }
                () = self.tx.closed() => return Ok(()),
            };
            let next = tokio::select! {
                next = messages.next() => next,
                () = self.core.link.newer_than(generation) => {
                    return Err((true, "the connection is another one".into()));
                }
                () = self.tx.closed() => return Ok(()),
            };
            match next {
                Some(Ok(message)) => {
                    if self.tx.send((message, slot)).await.is_err() {
                        return Ok(());
                    }
                }
                Some(Err(error)) => return Err((true, error.into())),
                None => return Err((true, "the consumer ended".into())),
            }
        }
    }

    async fn consumer(&self) -> Result<PullConsumer, Cause> {
        let stream = self.core.subjects.stream(StreamId::Work(self.kind));
        let name = self.core.subjects.work_consumer(self.kind, &self.zone);
        let config = pull::Config {
            durable_name: Some(name.clone()),
            name: Some(name),
            description: Some("shared by all workers of this kind and zone".to_owned()),
            filter_subject: self.core.subjects.work(self.kind, &self.zone),
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            // What is in the queue will be delivered, so that it need not be published again.
            max_deliver: -1,
            max_ack_pending: queue(self.kind).in_flight_max,
            ..pull::Config::default()
        };
        Ok(self.core.js.create_consumer_on_stream(config, stream).await?)
    }
}
