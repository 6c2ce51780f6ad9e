//! The inbox, read in its one order.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::{
    Error,
    core::Core,
    log::{LogItem, LogMessage, LogReader, Start},
    topology::StreamId,
};

/// Reads the inbox as a log. It survives restarts of the broker by itself.
#[derive(Debug)]
pub struct InboxReader {
    log: LogReader,
    caught_up: bool,
}

/// A message of the inbox: one input, or a frame of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxMessage {
    /// Its place; the first is 1.
    pub seq: u64,
    /// When the broker stored it, by the broker's clock.
    pub at: DateTime<Utc>,
    /// See [`crate::Subjects::parse_inbox`].
    pub subject: String,
    /// All headers, in the sender's spelling.
    pub headers: Vec<(String, String)>,
    /// As the sender wrote it.
    pub payload: Bytes,
}

pub(crate) fn open(core: &Core, after: u64) -> InboxReader {
    let stream = core.subjects.stream(StreamId::Inbox);
    // The stream takes nothing but inbox messages: no filter.
    let log = LogReader::open(core.clone(), stream, String::new(), Start::After(after));
    InboxReader { log, caught_up: false }
}

impl InboxReader {
    /// Returns what comes next: at once what is here, up to `max`; else what comes within
    /// `wait`, or nothing. May be dropped at any point without losing a message.
    ///
    /// # Errors
    ///
    /// [`Error::LogLost`] or [`Error::LogPurged`]: the broker no longer has what comes next.
    pub async fn next_batch(
        &mut self,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<InboxMessage>, Error> {
        let deadline = Instant::now() + wait;
        let mut batch = Vec::new();
        while batch.is_empty() {
            match tokio::time::timeout_at(deadline, self.log.next()).await {
                Ok(item) => self.take(item?, &mut batch),
                Err(_elapsed) => return Ok(batch),
            }
        }
        while batch.len() < max {
            match self.log.try_next() {
                Some(Ok(item)) => self.take(item, &mut batch),
                // What was read counts; the error is final and comes again.
                Some(Err(_)) | None => break,
            }
        }
        Ok(batch)
    }

    /// Tells whether all that was stored when reading began has been returned.
    #[must_use]
    pub const fn is_caught_up(&self) -> bool {
        self.caught_up
    }

    fn take(&mut self, item: LogItem, batch: &mut Vec<InboxMessage>) {
        match item {
            LogItem::Opened => {}
            LogItem::CaughtUp => self.caught_up = true,
            LogItem::Message(message) => batch.push(message.into()),
        }
    }
}

impl From<LogMessage> for InboxMessage {
    fn from(message: LogMessage) -> Self {
        let headers = message.headers.map(|headers| {
            let each = headers.iter().flat_map(|(name, values)| {
                let name: &str = name.as_ref();
                values.iter().map(move |value| (name.to_owned(), value.as_str().to_owned()))
            });
            each.collect()
        });
        Self {
            seq: message.seq,
            at: message.at,
            subject: message.subject,
            headers: headers.unwrap_or_default(),
            payload: message.payload,
        }
    }
}
