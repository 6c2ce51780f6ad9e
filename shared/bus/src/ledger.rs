//! The ledger: decisions, appended by one leader at a time.

use std::{sync::Arc, time::Duration};

use async_nats::{
    HeaderMap,
    jetstream::{
        ErrorCode,
        message::{PublishMessage, StreamMessage},
        stream::{LastRawMessageErrorKind, Stream},
    },
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::{sync::Mutex, time::Instant};
use tracing::debug;

use crate::{
    Error, StreamState, Unbelieved,
    core::Core,
    ensure,
    error::Cause,
    link::{Backoff, CONNECTION_LOST},
    log::{LogItem, LogMessage, LogReader, Start},
    publish::{self, Fault, GIVE_UP},
    signing::SIGNATURE,
    state,
    topology::{LEDGER_BYTES_MAX, StreamId},
};

/// Names one append, so that our own is recognised after its answer was lost.
const APPEND_ID: &str = "Selfheal-Append";

/// First and last wait between tries of one append.
const RETRY_FIRST: Duration = Duration::from_millis(25);
const RETRY_LAST: Duration = Duration::from_millis(500);

/// Held while an append of this process is under way: two would not fence each other.
pub(crate) type InFlight = Arc<Mutex<()>>;

/// The decisions.
#[derive(Clone, Debug)]
pub struct Ledger {
    core: Core,
    in_flight: InFlight,
}

/// Why an append failed.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Another leader has appended first: ours is stale and must step down.
    #[error("the ledger does not end at {expected} any more: another supervisor decided first")]
    Fenced {
        /// Where it was thought to end.
        expected: u64,
    },
    /// Nobody knows whether it was stored: read the ledger anew.
    #[error("cannot tell whether the ledger has taken what follows {expected}")]
    Unknown {
        /// Where it was thought to end.
        expected: u64,
        /// The client's words.
        #[source]
        source: Cause,
    },
    /// Nothing was stored: there is no room.
    #[error("the ledger is full: {detail}")]
    Full {
        /// The broker's words.
        detail: String,
    },
    /// Nothing was stored: it must be split.
    #[error("a batch of {bytes} bytes is larger than {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The broker refused it, for instance for want of permission.
    #[error("the broker refuses the append: {detail}")]
    Refused {
        /// The broker's words.
        detail: String,
    },
}

/// One batch of decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerMessage {
    /// Its place; the first is 1.
    pub seq: u64,
    /// When the broker stored it, by the broker's clock.
    pub at: DateTime<Utc>,
    /// As it was appended.
    pub payload: Bytes,
}

/// A message in the ledger that no supervisor has written. It decides nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignMessage {
    /// Its place.
    pub seq: u64,
    /// When the broker stored it.
    pub at: DateTime<Utc>,
    /// How it is known to be foreign.
    pub why: Unbelieved,
    /// Its size, in bytes.
    pub bytes: usize,
}

/// What a reader of the ledger hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerItem {
    /// The next batch.
    Message(LedgerMessage),
    /// What somebody else has put there comes next.
    Foreign(ForeignMessage),
    /// All that was stored when reading began has been returned. Said once.
    CaughtUp,
}

/// Reads the ledger: first all that is stored, then what comes.
#[derive(Debug)]
pub struct LedgerReader {
    core: Core,
    log: LogReader,
    caught_up: bool,
}

/// What stands in the place that an append wanted.
enum Place {
    Ours(u64),
    Another,
    Free,
}

impl Ledger {
    pub(crate) fn new(core: &Core, in_flight: &InFlight) -> Self {
        Self { core: core.clone(), in_flight: Arc::clone(in_flight) }
    }

    /// Returns the sequence of the last batch; 0 when there is none.
    ///
    /// # Errors
    ///
    /// As [`Self::state`].
    pub async fn last_seq(&self) -> Result<u64, Error> {
        Ok(self.state().await?.last_seq)
    }

    /// Returns the sequence of the first batch that is kept; of an empty ledger, of the one
    /// that comes next.
    ///
    /// # Errors
    ///
    /// As [`Self::state`].
    pub async fn first_seq(&self) -> Result<u64, Error> {
        Ok(self.state().await?.first_seq)
    }

    /// Returns where the ledger begins and ends, and how full it is.
    ///
    /// # Errors
    ///
    /// [`Error::Client`] when there is no ledger, or the broker does not tell in time.
    pub async fn state(&self) -> Result<StreamState, Error> {
        state::of(&self.core, StreamId::Ledger).await
    }

    /// Forgets the batches up to and with `seq`, which a snapshot covers.
    ///
    /// # Errors
    ///
    /// [`Error::Client`] when the broker does not do it.
    pub async fn purge_to(&self, seq: u64) -> Result<(), Error> {
        ensure::forget(&self.core, StreamId::Ledger, seq).await
    }

    /// Appends one batch behind `expected_last`, and returns its sequence.
    ///
    /// One append is under way at a time, because several would not fence (measured: two
    /// writers interleave). An answer that was lost is looked up in the stream.
    ///
    /// # Errors
    ///
    /// See [`AppendError`].
    pub async fn append(
        &self,
        expected_last: u64,
        payload: Bytes,
        headers: &[(&str, &str)],
    ) -> Result<u64, AppendError> {
        if LEDGER_BYTES_MAX < payload.len() {
            return Err(AppendError::TooLarge {
                bytes: payload.len(),
                bytes_max: LEDGER_BYTES_MAX,
            });
        }
        let _alone = self.in_flight.lock().await;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let subject = self.core.subjects.ledger();
        let mut map = HeaderMap::new();
        for &(name, value) in headers {
            map.insert(name, value);
        }
        map.insert(APPEND_ID, id.as_str());
        if let Some(signature) = self.core.keys.sign(&subject, expected_last + 1, &payload) {
            map.insert(SIGNATURE, signature.as_str());
        }
        let deadline = Instant::now() + GIVE_UP;
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        let mut in_doubt = false;
        loop {
            let message = PublishMessage::build()
                .payload(payload.clone())
                .headers(map.clone())
                .expected_last_sequence(expected_last);
            let fault = match publish::once(&self.core, &subject, message, deadline).await {
                Ok(ack) => return Ok(ack.sequence),
                Err(fault) => fault,
            };
            match &fault {
                Fault::WrongSequence if !in_doubt => {
                    return Err(AppendError::Fenced { expected: expected_last });
                }
                Fault::Full(detail) if !in_doubt => {
                    return Err(AppendError::Full { detail: detail.clone() });
                }
                Fault::Refused(detail) if !in_doubt => {
                    return Err(AppendError::Refused { detail: detail.clone() });
                }
                Fault::TooLarge(_) => {
                    let bytes_max = self.core.client.max_payload();
                    return Err(AppendError::TooLarge { bytes: payload.len(), bytes_max });
                }
                Fault::Unknown(_) => in_doubt = true,
                // With an earlier try in doubt, each of these may be the answer to that one.
                Fault::WrongSequence | Fault::Full(_) | Fault::Refused(_) | Fault::NoStream => {}
            }
            debug!(%fault, expected_last, "an append was not acknowledged, looking for it");
            match self.settle(expected_last, &id, deadline).await {
                Ok(Place::Ours(seq)) => return Ok(seq),
                Ok(Place::Another) => {
                    return Err(AppendError::Fenced { expected: expected_last });
                }
                Ok(Place::Free) => {}
                Err(source) => {
                    return Err(AppendError::Unknown { expected: expected_last, source });
                }
            }
            if deadline <= Instant::now() {
                let source = fault.into();
                return Err(AppendError::Unknown { expected: expected_last, source });
            }
            backoff.wait().await;
        }
    }

    /// Looks up what stands behind `expected_last`, as long as the deadline allows.
    async fn settle(
        &self,
        expected_last: u64,
        id: &str,
        deadline: Instant,
    ) -> Result<Place, Cause> {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        loop {
            if !self.core.link.connected_by(deadline).await {
                return Err("no connection".into());
            }
            let place = self.core.link.while_it_lasts(self.place(expected_last + 1, id)).await;
            match place.unwrap_or_else(|| Err(CONNECTION_LOST.into())) {
                Ok(place) => return Ok(place),
                Err(error) if deadline <= Instant::now() => return Err(error),
                Err(_) => backoff.wait().await,
            }
        }
    }

    async fn place(&self, seq: u64, id: &str) -> Result<Place, Cause> {
        let name = self.core.subjects.stream(StreamId::Ledger);
        let stream: Stream<()> = self.core.js.get_stream_no_info(name).await?;
        match stream.get_raw_message(seq).await {
            Ok(message) if is_ours(&message, id) => Ok(Place::Ours(seq)),
            Ok(_) => Ok(Place::Another),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(Place::Free),
                LastRawMessageErrorKind::JetStream(told)
                    if told.error_code() == ErrorCode::NO_MESSAGE_FOUND =>
                {
                    Ok(Place::Free)
                }
                LastRawMessageErrorKind::JetStream(_)
                | LastRawMessageErrorKind::InvalidSubject
                | LastRawMessageErrorKind::Other => Err(error.into()),
            },
        }
    }

    /// Reads from behind `after`: first all that is stored, then what comes.
    #[must_use]
    pub fn read(&self, after: u64) -> LedgerReader {
        let stream = self.core.subjects.stream(StreamId::Ledger);
        let log = LogReader::open(self.core.clone(), stream, String::new(), Start::After(after));
        LedgerReader { core: self.core.clone(), log, caught_up: false }
    }
}

fn is_ours(message: &StreamMessage, id: &str) -> bool {
    message.headers.get(APPEND_ID).is_some_and(|found| found.as_str() == id)
}

impl LedgerReader {
    /// Returns what comes next, waiting for it. May be dropped at any point without losing
    /// anything.
    ///
    /// # Errors
    ///
    /// [`Error::LogLost`] or [`Error::LogPurged`]: the broker no longer has what comes next.
    pub async fn next(&mut self) -> Result<LedgerItem, Error> {
        loop {
            let item = self.log.next().await?;
            if let Some(item) = self.pass(item) {
                return Ok(item);
            }
        }
    }

    /// Returns what is already here.
    ///
    /// # Errors
    ///
    /// As [`Self::next`].
    pub fn try_next(&mut self) -> Result<Option<LedgerItem>, Error> {
        while let Some(item) = self.log.try_next() {
            if let Some(item) = self.pass(item?) {
                return Ok(Some(item));
            }
        }
        Ok(None)
    }

    fn pass(&mut self, item: LogItem) -> Option<LedgerItem> {
        match item {
            LogItem::Opened => None,
            LogItem::CaughtUp if self.caught_up => None,
            LogItem::CaughtUp => {
                self.caught_up = true;
                Some(LedgerItem::CaughtUp)
            }
            LogItem::Message(message) => Some(self.judged(message)),
        }
    }

    fn judged(&self, message: LogMessage) -> LedgerItem {
        let LogMessage { seq, at, subject: _, headers, payload } = message;
        let subject = self.core.subjects.ledger();
        // Each append has its name, an answer of the broker that was led here has none.
        let is_append = headers.as_ref().is_some_and(|it| it.get(APPEND_ID).is_some());
        let judged = match self.core.keys.judge(&subject, seq, headers.as_ref(), &payload) {
            Ok(()) if !is_append => Err(Unbelieved::NoAppend),
            judged => judged,
        };
        match judged {
            Ok(()) => LedgerItem::Message(LedgerMessage { seq, at, payload }),
            Err(why) => LedgerItem::Foreign(ForeignMessage { seq, at, why, bytes: payload.len() }),
        }
    }
}
