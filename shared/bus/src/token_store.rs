//! What is kept of the tokens of the gateway's callers.
//!
//! Where supervisors sign, a record counts only when it is signed with a trusted key, by the
//! command that makes it. What is not signed neither opens a door nor closes one: the record that
//! is known stays. A former record of a token that is stored once more does not count either.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::access::TokenRecord;
use tokio::{sync::watch, time::Instant};
use tracing::{debug, warn};

use crate::{
    Error,
    core::Core,
    lease::is_mark,
    log::{LogItem, LogMessage, LogReader, Start},
    publish::{self, Fault},
    signing::{ANYWHERE, SIGNATURE},
    topology::{BucketId, TOKEN_KEY_PREFIX},
};

/// The present record of each token, by its name, with its place in the bucket.
pub type Tokens = BTreeMap<String, (u64, TokenRecord)>;

/// What is known of the tokens, and of how new that is.
#[derive(Debug, Default)]
struct Book {
    tokens: Tokens,
    /// When each record was made, or revoked.
    newest: BTreeMap<String, DateTime<Utc>>,
    /// Where records stand that nobody trusted has made.
    foreign: BTreeMap<String, u64>,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum PutToken {
    /// It is stored.
    Stored,
    /// Another has changed the token since it was looked at: nothing was stored.
    Changed,
}

/// What is kept of the tokens of the gateway's callers.
#[derive(Clone, Debug)]
pub struct TokenStore {
    core: Core,
}

impl TokenStore {
    pub(crate) fn new(core: &Core) -> Self {
        Self { core: core.clone() }
    }

    /// Stores a record, if the token still stands at `expected` in the bucket; 0 for a new name.
    ///
    /// # Errors
    ///
    /// [`Error::NotStored`] when the broker does not take it in time.
    pub async fn put(&self, record: &TokenRecord, expected: u64) -> Result<PutToken, Error> {
        let failed = |source| Error::NotStored { what: "the token", source };
        let text = serde_json::to_vec(record).map(Bytes::from);
        let text = text.map_err(|error| failed(error.into()))?;
        let keys = &self.core.keys;
        let mut expected = expected;
        if expected == 0 && keys.are_required() {
            // What nobody trusted has put under this name is in nobody's way.
            let foreign = self.book(publish::GIVE_UP).await?.foreign;
            expected = foreign.get(&record.name).copied().unwrap_or(0);
        }
        // Sent twice, it is known by its id before its place is looked at.
        let id = uuid::Uuid::new_v4().simple().to_string();
        let key = self.core.subjects.token_key(&record.name);
        let signature = keys.sign(&key, ANYWHERE, &text);
        let message = || {
            let message = PublishMessage::build().payload(text.clone()).message_id(&id);
            let message = message.expected_last_subject_sequence(expected);
            match &signature {
                Some(signature) => message.header(SIGNATURE, signature.as_str()),
                None => message,
            }
        };
        match publish::until_acked(&self.core, &key, message, publish::GIVE_UP).await {
            Ok(_ack) => Ok(PutToken::Stored),
            Err(Fault::WrongSequence) => Ok(PutToken::Changed),
            Err(
                fault @ (Fault::Full(_)
                | Fault::TooLarge(_)
                | Fault::NoStream
                | Fault::Unknown(_)
                | Fault::Refused(_)),
            ) => Err(failed(fault.into())),
        }
    }

    /// Returns all tokens as they are now.
    ///
    /// # Errors
    ///
    /// [`Error::NoAnswer`] when the broker does not tell within this time.
    pub async fn list(&self, within: Duration) -> Result<Tokens, Error> {
        Ok(self.book(within).await?.tokens)
    }

    async fn book(&self, within: Duration) -> Result<Book, Error> {
        let (mut log, deadline) = (self.open(), Instant::now() + within);
        let mut found = Book::default();
        loop {
            let Ok(item) = tokio::time::timeout_at(deadline, log.next()).await else {
                let subject = self.core.subjects.token_key("*");
                return Err(Error::NoAnswer { subject, timeout: within });
            };
            match item? {
                LogItem::Opened => found.begin_anew(),
                LogItem::Message(message) => found.take(&self.core, &message),
                LogItem::CaughtUp => return Ok(found),
            }
        }
    }

    /// Follows all tokens; `None` until they are known.
    ///
    /// While the broker is away, or forgets the bucket, they stay as they were last known. Ends
    /// when the last receiver of this call is dropped.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Tokens>>> {
        let (tx, rx) = watch::channel(None);
        // Ends with its receivers, and with the client at the latest.
        drop(tokio::spawn(follow(self.core.clone(), self.open(), tx)));
        rx
    }

    fn open(&self) -> LogReader {
        let stream = self.core.subjects.bucket_stream(BucketId::Tokens);
        let filter = self.core.subjects.key(BucketId::Tokens, &format!("{TOKEN_KEY_PREFIX}.*"));
        // All that is kept of each: what somebody else has put last must not hide what is before it.
        LogReader::open(self.core.clone(), stream, filter, Start::All)
    }
}

async fn follow(core: Core, mut log: LogReader, tx: watch::Sender<Option<Arc<Tokens>>>) {
    let (mut found, mut is_whole) = (Book::default(), false);
    loop {
        let item = tokio::select! {
            item = log.next() => item,
            () = tx.closed() => return,
        };
        match item {
            // All comes again; until it has come, what was known counts.
            Ok(LogItem::Opened) => {
                found.begin_anew();
                is_whole = false;
            }
            Ok(LogItem::Message(message)) => found.take(&core, &message),
            Ok(LogItem::CaughtUp) => is_whole = true,
            Err(error) => {
                warn!(%error, "the tokens can no longer be followed");
                return;
            }
        }
        if is_whole {
            tx.send_if_modified(|known| {
                let is_new = known.as_deref() != Some(&found.tokens);
                if is_new {
                    *known = Some(Arc::new(found.tokens.clone()));
                }
                is_new
            });
        }
    }
}

/// Returns when a record was made, or revoked.
fn made_at(record: &TokenRecord) -> DateTime<Utc> {
    record.revoked.as_ref().map_or(record.created_at, |it| it.at.max(record.created_at))
}

impl Book {
    /// All that is kept comes again, in order.
    fn begin_anew(&mut self) {
        *self = Self::default();
    }

    /// Notes that something which does not count stands last under a name: who changes the token
    /// writes behind it.
    fn stands_last(&mut self, name: &str, seq: u64) {
        if let Some((place, _)) = self.tokens.get_mut(name) {
            *place = seq;
        } else {
            self.foreign.insert(name.to_owned(), seq);
        }
    }

    /// Takes the record of a message. One that cannot be read is none: it opens no door.
    fn take(&mut self, core: &Core, message: &LogMessage) {
        let Some(name) = message.subject.rsplit('.').next() else { return };
        let (headers, seq) = (message.headers.as_ref(), message.seq);
        let record = serde_json::from_slice::<TokenRecord>(&message.payload);
        if core.keys.are_required() {
            let judged = core.keys.judge(&message.subject, ANYWHERE, headers, &message.payload);
            // Nobody of ours deletes a record, and that mark is not signed.
            if judged.is_ok() && is_mark(headers) {
                self.stands_last(name, seq);
                return;
            }
            if let Err(why) = judged {
                if core.warned_token.fetch_max(seq, Ordering::Relaxed) < seq {
                    warn!(name, reason = %why, "the record of a token that nobody trusted has made is passed over; `selfheal token create --signing-key` makes one that counts");
                }
                self.stands_last(name, seq);
                return;
            }
            if let Ok(record) = &record {
                let (at, known) = (made_at(record), self.newest.get(name));
                if known.is_some_and(|known| at < *known) {
                    warn!(
                        name,
                        "a former record of a token was stored once more and is passed over"
                    );
                    self.stands_last(name, seq);
                    return;
                }
                self.newest.insert(name.to_owned(), at);
                self.foreign.remove(name);
            }
        }
        let is_gone = is_mark(headers);
        match record {
            Ok(record) if !is_gone => {
                self.tokens.insert(name.to_owned(), (seq, record));
            }
            Ok(_) | Err(_) => {
                debug!(name, is_gone, "a token is gone, or its record cannot be read");
                self.tokens.remove(name);
            }
        }
    }
}
