//! The ledger: decisions, appended by one leader at a time.

use std::{
    sync::{Arc, Mutex as SyncMutex, PoisonError},
    time::Duration,
};

use async_nats::{
    HeaderMap, HeaderValue,
    jetstream::{
        ErrorCode,
        message::{PublishMessage, StreamMessage},
        stream::{LastRawMessageError, LastRawMessageErrorKind, Stream},
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use tokio::{sync::Mutex, time::Instant};
use tracing::debug;

use crate::{
    Error, StreamState, Unbelieved,
    core::{Core, utc},
    ensure,
    error::Cause,
    link::{Backoff, CONNECTION_LOST},
    log::{LogItem, LogMessage, LogReader, Start},
    publish::{self, Fault, GIVE_UP},
    signing::{PREVIOUS, SIGNATURE},
    state,
    topology::{LEDGER_BYTES_MAX, StreamId},
};

/// Names one append, so that our own is recognised after its answer was lost.
const APPEND_ID: &str = "Selfheal-Append";

/// First and last wait between tries of one append.
const RETRY_FIRST: Duration = Duration::from_millis(25);
const RETRY_LAST: Duration = Duration::from_millis(500);

/// Messages before an append that are looked at for the last one of a supervisor.
const LOOK_BACK: u64 = 100;

/// Foreign messages that an append passes over at one time.
const PASSED_MAX: u64 = 64;

/// Held while an append of this process is under way: two would not fence each other.
pub(crate) type InFlight = Arc<Alone>;

/// What all appends of a process share.
#[derive(Debug, Default)]
pub(crate) struct Alone {
    lock: Mutex<()>,
    /// The last message of a supervisor that this process has read or written.
    tail: SyncMutex<Option<Tail>>,
}

/// A message, and its hash.
#[derive(Clone, Debug)]
struct Tail {
    seq: u64,
    hash: String,
}

impl Alone {
    fn tail(&self) -> Option<Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ends_with(&self, seq: u64, hash: String) {
        *self.tail.lock().unwrap_or_else(PoisonError::into_inner) = Some(Tail { seq, hash });
    }
}

/// Returns the SHA-256 of a message, as the next one names it.
fn hash_of(payload: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(payload))
}

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
    /// Whether its writer has named another message before it than the one that was read: that one
    /// was removed or replaced.
    pub is_cut_off: bool,
}

/// A message in the ledger that no supervisor has written. It decides nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignMessage {
    /// Its place.
    pub seq: u64,
    /// When the broker stored it.
    pub at: DateTime<Utc>,
    /// The subject under which it was stored: that of a copy tells where it was copied from.
    pub subject: String,
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
    in_flight: InFlight,
    /// The hash of the last message of a supervisor.
    previous: Option<String>,
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
        let _alone = self.in_flight.lock.lock().await;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let subject = self.core.subjects.ledger();
        let mut map = HeaderMap::new();
        for &(name, value) in headers {
            map.insert(name, value);
        }
        map.insert(APPEND_ID, id.as_str());
        self.sign(&mut map, &subject, expected_last, &payload).await;
        let stored = |seq| {
            self.in_flight.ends_with(seq, hash_of(&payload));
            Ok(seq)
        };
        let deadline = Instant::now() + GIVE_UP;
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        let mut in_doubt = false;
        loop {
            let message = PublishMessage::build()
                .payload(payload.clone())
                .headers(map.clone())
                .expected_last_sequence(expected_last);
            let fault = match publish::once(&self.core, &subject, message, deadline).await {
                Ok(ack) => return stored(ack.sequence),
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
                Ok(Place::Ours(seq)) => return stored(seq),
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

    /// Signs what is to stand behind `expected_last`, and with it the message before.
    async fn sign(&self, map: &mut HeaderMap, subject: &str, expected_last: u64, payload: &[u8]) {
        let (keys, seq) = (&self.core.keys, expected_last + 1);
        if !keys.signs() {
            return;
        }
        let previous = self.previous(expected_last).await;
        let signature = match &previous {
            Some(previous) => keys.sign_linked(subject, seq, previous, payload),
            None => keys.sign(subject, seq, payload),
        };
        if let Some(previous) = previous {
            map.insert(PREVIOUS, previous.as_str());
        }
        if let Some(signature) = signature {
            map.insert(SIGNATURE, signature.as_str());
        }
    }

    /// Returns the hash of the last message of a supervisor up to `last`; `None` when there is
    /// none, or the broker does not tell: then the next one is bound to its place alone.
    async fn previous(&self, last: u64) -> Option<String> {
        let known = self.in_flight.tail().filter(|it| it.seq <= last);
        let stop = known.as_ref().map_or(0, |it| it.seq).max(last.saturating_sub(LOOK_BACK));
        for seq in (stop + 1..=last).rev() {
            match self.stored(seq).await {
                Ok(Some(message)) if self.judge(&message).is_ok() => {
                    return Some(hash_of(&message.payload));
                }
                Ok(_) => {}
                Err(error) => {
                    debug!(%error, seq, "the message before an append is not known");
                    return None;
                }
            }
        }
        known.map(|it| it.hash)
    }

    /// Returns what somebody else has put behind `after`, when nothing of a supervisor is there:
    /// an append may go on behind it. `None` when another supervisor has written.
    ///
    /// # Errors
    ///
    /// [`Error::Client`] when the broker does not tell.
    pub async fn foreign_behind(&self, after: u64) -> Result<Option<Vec<ForeignMessage>>, Error> {
        let failed = |error: Cause| Error::client("look what stands in the ledger", error);
        let mut found = Vec::new();
        for seq in after + 1..=after + PASSED_MAX {
            let Some(message) = self.stored(seq).await.map_err(failed)? else { break };
            let Err(why) = self.judge(&message) else { return Ok(None) };
            let at = utc(message.time);
            let (subject, bytes) = (message.subject.to_string(), message.payload.len());
            found.push(ForeignMessage { seq, at, subject, why, bytes });
        }
        Ok(Some(found).filter(|it| !it.is_empty()))
    }

    fn judge(&self, message: &StreamMessage) -> Result<(), Unbelieved> {
        judge(&self.core, message.sequence, Some(&message.headers), &message.payload)
    }

    /// Returns a message, if there is one.
    async fn stored(&self, seq: u64) -> Result<Option<StreamMessage>, Cause> {
        let name = self.core.subjects.stream(StreamId::Ledger);
        let look = async {
            let stream: Stream<()> = self.core.js.get_stream_no_info(name).await?;
            match stream.get_raw_message(seq).await {
                Ok(message) => Ok(Some(message)),
                Err(error) if is_nothing(&error) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        let seen = self.core.link.while_it_lasts(look).await;
        seen.unwrap_or_else(|| Err(CONNECTION_LOST.into()))
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
            match self.place(expected_last + 1, id).await {
                Ok(place) => return Ok(place),
                Err(error) if deadline <= Instant::now() => return Err(error),
                Err(_) => backoff.wait().await,
            }
        }
    }

    async fn place(&self, seq: u64, id: &str) -> Result<Place, Cause> {
        Ok(match self.stored(seq).await? {
            Some(message) if is_ours(&message, id) => Place::Ours(seq),
            Some(_) => Place::Another,
            None => Place::Free,
        })
    }

    /// Reads from behind `after`: first all that is stored, then what comes.
    #[must_use]
    pub fn read(&self, after: u64) -> LedgerReader {
        let stream = self.core.subjects.stream(StreamId::Ledger);
        let log = LogReader::open(self.core.clone(), stream, String::new(), Start::After(after));
        let in_flight = Arc::clone(&self.in_flight);
        LedgerReader { core: self.core.clone(), log, caught_up: false, in_flight, previous: None }
    }
}

fn is_nothing(error: &LastRawMessageError) -> bool {
    match error.kind() {
        LastRawMessageErrorKind::NoMessageFound => true,
        LastRawMessageErrorKind::JetStream(told) => {
            told.error_code() == ErrorCode::NO_MESSAGE_FOUND
        }
        LastRawMessageErrorKind::InvalidSubject | LastRawMessageErrorKind::Other => false,
    }
}

/// Judges whether a supervisor has appended a message. Each append has its name, an answer of the
/// broker that was led here has none.
fn judge(
    core: &Core,
    seq: u64,
    headers: Option<&HeaderMap>,
    payload: &[u8],
) -> Result<(), Unbelieved> {
    core.keys.judge(&core.subjects.ledger(), seq, headers, payload)?;
    let is_append = headers.is_some_and(|it| it.get(APPEND_ID).is_some());
    if is_append { Ok(()) } else { Err(Unbelieved::NoAppend) }
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

    fn judged(&mut self, message: LogMessage) -> LedgerItem {
        let LogMessage { seq, at, subject, headers, payload } = message;
        if let Err(why) = judge(&self.core, seq, headers.as_ref(), &payload) {
            let bytes = payload.len();
            return LedgerItem::Foreign(ForeignMessage { seq, at, subject, why, bytes });
        }
        let named = headers.as_ref().and_then(|it| it.get(PREVIOUS)).map(HeaderValue::as_str);
        // The first one that is read may follow what a snapshot covers.
        let is_cut_off = named.zip(self.previous.as_deref()).is_some_and(|(a, b)| a != b);
        if self.core.keys.signs() {
            let hash = hash_of(&payload);
            self.in_flight.ends_with(seq, hash.clone());
            self.previous = Some(hash);
        }
        LedgerItem::Message(LedgerMessage { seq, at, payload, is_cut_off })
    }
}
