//! Reading a stream as a log: in order, without gap or duplicate, whatever happens to
//! the broker or the connection.
//!
//! The client has an ordered consumer of its own. We do not build on it: it waits for
//! two missed heartbeats where we know at once that the connection is another one, and it
//! cannot tell that the end of a stream was lost. Here a task pulls through a short-lived
//! consumer, checks every sequence number itself, and begins anew behind the last message
//! that it has passed on whenever anything is not as it must be.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    jetstream::{
        self,
        consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
    },
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use crate::{
    Error,
    core::{Core, utc},
    error::Cause,
    link::{Backoff, CONNECTION_LOST},
};

/// Messages read ahead of the reader, and asked for at one time.
const AHEAD_MAX: usize = 64;

/// How long one request for messages stands at the broker.
const PULL_EXPIRES: Duration = Duration::from_secs(30);

/// Sign of life of a request that has nothing to deliver; missed twice, it is made anew. In a
/// cluster nothing else tells that the server which kept our consumer is gone.
const PULL_HEARTBEAT: Duration = Duration::from_secs(1);

/// How long the broker keeps the consumer of a reader that is gone.
const CONSUMER_IDLE: Duration = Duration::from_secs(30);

/// First and last wait before a consumer is made anew.
const REOPEN_FIRST: Duration = Duration::from_millis(25);
const REOPEN_LAST: Duration = Duration::from_secs(1);

/// Tries after which the log tells that we cannot read; until then it is a passing thing.
const QUIET_TRIES: u32 = 5;

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Behind this sequence; and after an interruption behind what was read last.
    After(u64),
    /// At the last message of each subject; after an interruption all of them again,
    /// since a stream in memory begins with 1 when it is made anew.
    LastPerSubject,
    /// At the first message that is kept; after an interruption all of them again.
    All,
}

/// A message of a log.
#[derive(Clone, Debug)]
pub(crate) struct LogMessage {
    pub(crate) seq: u64,
    pub(crate) at: DateTime<Utc>,
    pub(crate) subject: String,
    pub(crate) headers: Option<HeaderMap>,
    pub(crate) payload: Bytes,
}

/// What a reader hears.
#[derive(Debug)]
pub(crate) enum LogItem {
    /// A consumer stands; but with [`Start::After`], what follows is everything again.
    Opened,
    /// The next message.
    Message(LogMessage),
    /// All that was stored when the consumer was made has been passed on.
    CaughtUp,
}

/// Reads one stream.
#[derive(Debug)]
pub(crate) struct LogReader {
    items: mpsc::Receiver<Result<LogItem, Error>>,
    /// What the broker's consumer is called while one stands.
    consumer: watch::Receiver<Option<String>>,
    _pump: AbortOnDropHandle<()>,
}

impl LogReader {
    pub(crate) fn open(core: Core, stream: String, filter: String, start: Start) -> Self {
        Self::open_ahead(core, stream, filter, start, AHEAD_MAX)
    }

    /// Opens one that reads at most so many messages ahead.
    pub(crate) fn open_ahead(
        core: Core,
        stream: String,
        filter: String,
        start: Start,
        ahead: usize,
    ) -> Self {
        let (tx, items) = mpsc::channel(ahead);
        let (name, consumer) = watch::channel(None);
        let pump = Pump { core, stream, filter, start, ahead, tx, name };
        Self { items, consumer, _pump: AbortOnDropHandle::new(tokio::spawn(pump.run())) }
    }

    /// Returns the next item. May be dropped at any point without losing one.
    pub(crate) async fn next(&mut self) -> Result<LogItem, Error> {
        match self.items.recv().await {
            Some(item) => item,
            None => Err(Error::client("read on", "the reader has ended after an error")),
        }
    }

    /// Returns the name of the consumer that is read through, while one stands.
    pub(crate) fn consumer(&self) -> Option<String> {
        self.consumer.borrow().clone()
    }

    /// Returns an item that is already here.
    pub(crate) fn try_next(&mut self) -> Option<Result<LogItem, Error>> {
        self.items.try_recv().ok()
    }
}

/// Why reading stopped.
enum Stop {
    /// Begin anew, behind what was passed on.
    Again(Cause),
    /// The reader is gone.
    Gone,
    /// No further try can help.
    Lost(Error),
}

struct Pump {
    core: Core,
    stream: String,
    filter: String,
    start: Start,
    ahead: usize,
    tx: mpsc::Sender<Result<LogItem, Error>>,
    name: watch::Sender<Option<String>>,
}

impl Pump {
    async fn run(mut self) {
        let mut backoff = Backoff::new(REOPEN_FIRST, REOPEN_LAST);
        let mut n_tries = 0_u32;
        loop {
            let generation = self.core.link.generation();
            let before = self.start;
            let (opened, stop) = self.read().await;
            self.name.send_replace(None);
            match stop {
                Stop::Gone => return,
                Stop::Lost(error) => {
                    // The receiver may be gone, too: then nobody needs to know.
                    drop(self.tx.send(Err(error)).await);
                    return;
                }
                Stop::Again(cause) => {
                    n_tries = if opened || before != self.start { 0 } else { n_tries + 1 };
                    if n_tries == QUIET_TRIES && self.core.link.is_connected() {
                        warn!(stream = self.stream, error = %cause, "cannot read from the broker, trying again");
                    } else {
                        debug!(stream = self.stream, error = %cause, "reading anew");
                    }
                }
            }
            if n_tries == 0 {
                backoff = Backoff::new(REOPEN_FIRST, REOPEN_LAST);
            }
            // A new connection is the best moment to try; without one there is no use.
            if self.core.link.generation() == generation {
                tokio::select! {
                    () = backoff.wait() => {}
                    () = self.core.link.newer_than(generation) => {}
                    () = self.tx.closed() => return,
                }
            }
            let mut connected = self.core.link.connection();
            tokio::select! {
                seen = connected.wait_for(|connected| *connected) => if seen.is_err() { return },
                () = self.tx.closed() => return,
            }
        }
    }

    /// Reads through one consumer for as long as all is well. Tells whether there was one.
    async fn read(&mut self) -> (bool, Stop) {
        let generation = self.core.link.generation();
        let consumer = match self.core.link.while_it_lasts(self.consumer()).await {
            Some(Ok(consumer)) => consumer,
            Some(Err(stop)) => return (false, stop),
            None => return (false, Stop::Again(CONNECTION_LOST.into())),
        };
        let pull = consumer
            .stream()
            .max_messages_per_batch(self.ahead)
            .expires(PULL_EXPIRES)
            .heartbeat(PULL_HEARTBEAT);
        let mut messages = match pull.messages().await {
            Ok(messages) => messages,
            Err(error) => return (false, Stop::Again(error.into())),
        };
        self.name.send_replace(Some(consumer.cached_info().name.clone()));
        let mut caught_up = consumer.cached_info().num_pending == 0;
        let mut first = vec![LogItem::Opened];
        if caught_up {
            first.push(LogItem::CaughtUp);
        }
        for item in first {
            if self.tx.send(Ok(item)).await.is_err() {
                return (true, Stop::Gone);
            }
        }
        let mut n_delivered = 0;
        loop {
            let next = tokio::select! {
                biased;
                next = messages.next() => next,
                () = self.core.link.newer_than(generation) => {
                    return (true, Stop::Again("the connection is another one".into()));
                }
                () = self.tx.closed() => return (true, Stop::Gone),
            };
            let message = match next {
                Some(Ok(message)) => message,
                Some(Err(error)) => return (true, Stop::Again(error.into())),
                None => return (true, Stop::Again("the consumer ended".into())),
            };
            n_delivered += 1;
            let (message, pending) = match self.check(message, n_delivered) {
                Ok(checked) => checked,
                Err(cause) => return (true, Stop::Again(cause)),
            };
            if self.tx.send(Ok(LogItem::Message(message))).await.is_err() {
                return (true, Stop::Gone);
            }
            if !caught_up && pending == 0 {
                caught_up = true;
                if self.tx.send(Ok(LogItem::CaughtUp)).await.is_err() {
                    return (true, Stop::Gone);
                }
            }
        }
    }

    /// Takes a message if it is the one that must come now; also tells how many remain.
    fn check(
        &mut self,
        message: jetstream::Message,
        n_delivered: u64,
    ) -> Result<(LogMessage, u64), Cause> {
        let info = message.info()?;
        // The consumer counts what it sends: a number left out is a message lost on the way.
        if info.consumer_sequence != n_delivered {
            return Err("a message was lost on the way".into());
        }
        let (seq, at, pending) = (info.stream_sequence, utc(info.published), info.pending);
        if let Start::After(last) = self.start {
            if seq <= last {
                return Err("the broker went back".into());
            }
            self.start = Start::After(seq);
        }
        let message = message.message;
        let message = LogMessage {
            seq,
            at,
            subject: message.subject.into_string(),
            headers: message.headers,
            payload: message.payload,
        };
        Ok((message, pending))
    }

    async fn consumer(&self) -> Result<PullConsumer, Stop> {
        let deliver_policy = match self.start {
            Start::After(last) => {
                self.check_ends(last).await?;
                DeliverPolicy::ByStartSequence { start_sequence: last + 1 }
            }
            Start::LastPerSubject => DeliverPolicy::LastPerSubject,
            Start::All => DeliverPolicy::All,
        };
        let config = pull::Config {
            name: Some(format!("log-{}", uuid::Uuid::new_v4().simple())),
            description: Some("reads a log in order".to_owned()),
            deliver_policy,
            ack_policy: AckPolicy::None,
            filter_subject: self.filter.clone(),
            inactive_threshold: CONSUMER_IDLE,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let made = self.core.js.create_consumer_on_stream(config, &self.stream).await;
        made.map_err(|error| Stop::Again(error.into()))
    }

    /// Compares where the stream begins and ends with what was read. A broker that lost its
    /// disk would otherwise number new messages as old ones, and they would be passed over.
    async fn check_ends(&self, last: u64) -> Result<(), Stop> {
        let stream = match self.core.js.get_stream(&self.stream).await {
            Ok(stream) => stream,
            Err(error) => return Err(Stop::Again(error.into())),
        };
        let state = &stream.cached_info().state;
        if state.last_sequence < last {
            return Err(Stop::Lost(Error::LogLost {
                stream: self.stream.clone(),
                last: state.last_sequence,
                read: last,
            }));
        }
        if 0 < last && last + 1 < state.first_sequence {
            return Err(Stop::Lost(Error::LogPurged {
                stream: self.stream.clone(),
                first: state.first_sequence,
                wanted: last + 1,
            }));
        }
        Ok(())
    }
}
