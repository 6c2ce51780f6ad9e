//! What is kept of the tokens of the gateway's callers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use domain::access::TokenRecord;
use tokio::{sync::watch, time::Instant};
use tracing::{debug, warn};

use crate::{
    Error,
    core::Core,
    lease::is_mark,
    log::{LogItem, LogMessage, LogReader, Start},
    publish::{self, Fault},
    topology::{BucketId, TOKEN_KEY_PREFIX},
};

/// The present record of each token, by its name, with its place in the bucket.
pub type Tokens = BTreeMap<String, (u64, TokenRecord)>;

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
        // Sent twice, it is known by its id before its place is looked at.
        let id = uuid::Uuid::new_v4().simple().to_string();
        let key = self.core.subjects.token_key(&record.name);
        let message = || {
            let message = PublishMessage::build().payload(text.clone()).message_id(&id);
            message.expected_last_subject_sequence(expected)
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
        let (mut log, deadline) = (self.open(), Instant::now() + within);
        let mut found = Tokens::new();
        loop {
            let Ok(item) = tokio::time::timeout_at(deadline, log.next()).await else {
                let subject = self.core.subjects.token_key("*");
                return Err(Error::NoAnswer { subject, timeout: within });
            };
            match item? {
                LogItem::Opened => found.clear(),
                LogItem::Message(message) => take(&mut found, &message),
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
        drop(tokio::spawn(follow(self.open(), tx)));
        rx
    }

    fn open(&self) -> LogReader {
        let stream = self.core.subjects.bucket_stream(BucketId::Tokens);
        let filter = self.core.subjects.key(BucketId::Tokens, &format!("{TOKEN_KEY_PREFIX}.*"));
        LogReader::open(self.core.clone(), stream, filter, Start::LastPerSubject)
    }
}

async fn follow(mut log: LogReader, tx: watch::Sender<Option<Arc<Tokens>>>) {
    let (mut found, mut is_whole) = (Tokens::new(), false);
    loop {
        let item = tokio::select! {
            item = log.next() => item,
            () = tx.closed() => return,
        };
        match item {
            // All comes again; until it has come, what was known counts.
            Ok(LogItem::Opened) => (found, is_whole) = (Tokens::new(), false),
            Ok(LogItem::Message(message)) => take(&mut found, &message),
            Ok(LogItem::CaughtUp) => is_whole = true,
            Err(error) => {
                warn!(%error, "the tokens can no longer be followed");
                return;
            }
        }
        if is_whole {
            tx.send_if_modified(|known| {
                let is_new = known.as_deref() != Some(&found);
                if is_new {
                    *known = Some(Arc::new(found.clone()));
                }
                is_new
            });
        }
    }
}

/// Takes the record of a message. One that cannot be read is none: it opens no door.
fn take(found: &mut Tokens, message: &LogMessage) {
    let Some(name) = message.subject.rsplit('.').next() else { return };
    let record = serde_json::from_slice::<TokenRecord>(&message.payload);
    let is_gone = is_mark(message.headers.as_ref());
    match record {
        Ok(record) if !is_gone => {
            found.insert(name.to_owned(), (message.seq, record));
        }
        Ok(_) | Err(_) => {
            debug!(name, is_gone, "a token is gone, or its record cannot be read");
            found.remove(name);
        }
    }
}
