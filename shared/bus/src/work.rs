//! Wanted work: published by the leader, taken by whoever is free.

use std::{fmt, sync::Arc, time::Duration};

use async_nats::jetstream::{
    AckKind,
    message::{Acker, PublishMessage},
};
use bytes::Bytes;
use domain::{trace::TraceContext, wire::WorkKind};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::sleep,
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use crate::{
    Error, Keys,
    core::Core,
    publish::{self, Fault, GIVE_UP},
    signing::{ANYWHERE, SIGNATURE},
    topology::{HEARTBEAT, LEDGER_BYTES_MAX, StreamId},
    work_queue::{Delivery, WorkQueue},
};

/// Header of what makes a message the same when it is published again.
const MESSAGE_ID: &str = "Nats-Msg-Id";
/// Header of W3C Trace Context.
const TRACEPARENT: &str = "traceparent";

/// The work queues.
#[derive(Clone, Debug)]
pub struct Work {
    core: Core,
}

impl Work {
    pub(crate) fn new(core: &Core) -> Self {
        Self { core: core.clone() }
    }

    /// Publishes a wish; returns its place in the queue of its kind. Doing it again under the same
    /// id within a minute stores nothing new; later it is heard again, and ends at the claim or as
    /// a stale report. [`Self::holds`] tells whether that is needed.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`], or [`Error::NotStored`] when the broker does not take it in time.
    pub async fn publish(
        &self,
        kind: WorkKind,
        zone: &str,
        wish_id: &str,
        payload: Bytes,
    ) -> Result<u64, Error> {
        self.publish_traced(kind, zone, wish_id, payload, None).await
    }

    /// Publishes a wish as [`Self::publish`] does, and tells who takes it which span it
    /// belongs below: header `traceparent`.
    ///
    /// # Errors
    ///
    /// As [`Self::publish`].
    pub async fn publish_traced(
        &self,
        kind: WorkKind,
        zone: &str,
        wish_id: &str,
        payload: Bytes,
        trace: Option<TraceContext>,
    ) -> Result<u64, Error> {
        let subject = self.core.subjects.work(kind, zone);
        let bytes = payload.len();
        let trace = trace.map(|it| it.to_string());
        let signature = self.core.keys.sign(&subject, ANYWHERE, &payload);
        let message = || {
            let message = PublishMessage::build().payload(payload.clone()).message_id(wish_id);
            let headers = [(TRACEPARENT, &trace), (SIGNATURE, &signature)];
            let given = headers.into_iter().filter_map(|(name, it)| Some((name, it.as_deref()?)));
            given.fold(message, |message, (name, value)| message.header(name, value))
        };
        let published = publish::until_acked(&self.core, &subject, message, GIVE_UP).await;
        published.map(|ack| ack.sequence).map_err(|fault| match fault {
            Fault::TooLarge(_) => {
                Error::TooLarge { what: "wish", bytes, bytes_max: LEDGER_BYTES_MAX }
            }
            Fault::WrongSequence
            | Fault::Full(_)
            | Fault::NoStream
            | Fault::Unknown(_)
            | Fault::Refused(_) => Error::NotStored { what: "a wish", source: fault.into() },
        })
    }

    /// Returns whether a queue still holds a wish at this place: nobody has acknowledged it, so
    /// somebody has it or will be given it. `false` also when the broker does not say.
    pub async fn holds(&self, kind: WorkKind, seq: u64, wish_id: &str) -> bool {
        let name = self.core.subjects.stream(StreamId::Work(kind));
        let asked = self.core.link.while_it_lasts(async {
            let stream = self.core.js.get_stream_no_info(&name).await.ok()?;
            stream.direct_get(seq).await.ok()
        });
        let found = asked.await.flatten();
        // A broker that was started again counts from 1 again.
        let id = found.as_ref().and_then(|it| it.headers.get(MESSAGE_ID));
        id.is_some_and(|it| it.as_str() == wish_id)
    }

    /// Takes work of these zones, at most `max_in_flight` pieces of each zone at one time.
    ///
    /// No piece is fetched before there is a free slot for it, so none lies waiting here
    /// while another worker is idle.
    #[must_use]
    pub fn consume(&self, kind: WorkKind, zones: &[String], max_in_flight: usize) -> WorkConsumer {
        let (tx, deliveries) = mpsc::channel(1);
        let queues = zones.iter().map(|zone| {
            let queue = WorkQueue {
                core: self.core.clone(),
                kind,
                zone: zone.clone(),
                slots: Arc::new(Semaphore::new(max_in_flight.max(1))),
                tx: tx.clone(),
            };
            AbortOnDropHandle::new(tokio::spawn(queue.run()))
        });
        WorkConsumer { _queues: queues.collect(), deliveries, keys: self.core.keys.clone() }
    }
}

/// Takes work until it is dropped; see [`Work::consume`].
#[derive(Debug)]
pub struct WorkConsumer {
    deliveries: mpsc::Receiver<Delivery>,
    keys: Keys,
    _queues: Vec<AbortOnDropHandle<()>>,
}

impl WorkConsumer {
    /// Returns the next piece of work, waiting for it. May be dropped at any point without
    /// losing one. What no supervisor has ordered is taken out of the queue, and not returned.
    pub async fn next(&mut self) -> Job {
        loop {
            match self.deliveries.recv().await {
                Some((message, slot)) => {
                    let headers = message.headers.as_ref();
                    let judged =
                        self.keys.judge(&message.subject, ANYWHERE, headers, &message.payload);
                    let job = Job::new(message, slot);
                    let Err(why) = judged else { return job };
                    warn!(subject = job.subject, reason = %why, "work that no supervisor has ordered is not done");
                    // In a task, so that dropping this loses no piece of work.
                    drop(tokio::spawn(async move { job.say(AckKind::Term).await }));
                }
                // Only without zones: then there is never any work.
                None => std::future::pending().await,
            }
        }
    }
}

/// One piece of work. Unless it is acknowledged it comes again, here or elsewhere, five
/// seconds after the last sign of life.
pub struct Job {
    /// What is wanted.
    pub payload: Bytes,
    /// Its queue's subject.
    pub subject: String,
    /// How often it was delivered; 1 at first.
    pub deliveries: u64,
    /// The span that what is done belongs below, when whoever wants it records traces.
    pub trace: Option<TraceContext>,
    acker: Arc<Acker>,
    _slot: OwnedSemaphorePermit,
}

/// Tells the broker that work goes on, until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct KeepAlive {
    _task: AbortOnDropHandle<()>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("subject", &self.subject)
            .field("deliveries", &self.deliveries)
            .finish_non_exhaustive()
    }
}

impl Job {
    fn new(message: async_nats::jetstream::Message, slot: OwnedSemaphorePermit) -> Self {
        let deliveries =
            message.info().ok().and_then(|info| u64::try_from(info.delivered).ok()).unwrap_or(1);
        let (message, acker) = message.split();
        let trace = message.headers.as_ref().and_then(|it| it.get(TRACEPARENT));
        let trace = trace.and_then(|it| it.as_str().parse().ok());
        Self {
            trace,
            payload: message.payload,
            subject: message.subject.into_string(),
            deliveries,
            acker: Arc::new(acker),
            _slot: slot,
        }
    }

    /// Ends it: the report is stored. When the acknowledgement is lost it comes again,
    /// and ends at the claim or as a stale report.
    pub async fn ack(self) {
        self.say(AckKind::Ack).await;
    }

    /// Gives it back, to be delivered again after `delay`.
    pub async fn nak(self, delay: Duration) {
        self.say(AckKind::Nak(Some(delay))).await;
    }

    /// Tells the broker once a second that work goes on, from a task of its own.
    pub fn keep_alive(&self) -> KeepAlive {
        let acker = Arc::clone(&self.acker);
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = acker.ack_with(AckKind::Progress).await {
                    debug!(%error, "the broker could not be told that work goes on");
                }
                sleep(HEARTBEAT).await;
            }
        });
        KeepAlive { _task: AbortOnDropHandle::new(task) }
    }

    async fn say(&self, kind: AckKind) {
        if let Err(error) = self.acker.ack_with(kind).await {
            debug!(%error, "the broker could not be told, the work will come again");
        }
    }
}
