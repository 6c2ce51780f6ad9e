//! Reading a snapshot.

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::{PART_TIMEOUT, Record, chunks_subject, digest, unreadable};
use crate::{
    Error,
    core::Core,
    link::Backoff,
    log::{LogItem, LogReader, Start},
    topology::BucketId,
};

/// Parts read ahead: 2 MiB.
const AHEAD_MAX: usize = 16;

/// Looks for parts that a copy of the stream did not have (yet).
const LOOKS_MAX: u32 = 6;

/// First and last wait between them.
const LOOK_FIRST: Duration = Duration::from_millis(50);
const LOOK_LAST: Duration = Duration::from_secs(1);

/// Reads one snapshot, part by part.
#[derive(Debug)]
pub struct SnapshotReader {
    core: Core,
    record: Record,
    log: LogReader,
    last_seq: u64,
    hash: Option<Sha256>,
    n_chunks: u64,
    n_bytes: u64,
    n_looks: u32,
    backoff: Backoff,
}

impl SnapshotReader {
    pub(super) fn new(core: Core, record: Record) -> Self {
        Self {
            log: open(&core, &record, 0),
            core,
            record,
            last_seq: 0,
            hash: Some(Sha256::new()),
            n_chunks: 0,
            n_bytes: 0,
            n_looks: 0,
            backoff: Backoff::new(LOOK_FIRST, LOOK_LAST),
        }
    }

    /// Returns the size of the whole in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.record.size
    }

    /// Returns the next part; `None` at the end, when the whole is what was written.
    ///
    /// # Errors
    ///
    /// [`Error::Unreadable`] when a part is missing or the whole is not what was written:
    /// forget what it has returned, and take an older snapshot.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while self.n_chunks < self.record.chunks {
            let item = timeout(PART_TIMEOUT, self.log.next()).await;
            match item.map_err(|_elapsed| unreadable("the broker does not deliver it"))? {
                Ok(LogItem::Message(message)) => {
                    self.n_chunks += 1;
                    self.n_bytes += u64::try_from(message.payload.len()).unwrap_or(u64::MAX);
                    self.last_seq = message.seq;
                    self.n_looks = 0;
                    if let Some(hash) = &mut self.hash {
                        hash.update(&message.payload);
                    }
                    return Ok(Some(message.payload));
                }
                Ok(LogItem::Opened) => {}
                Ok(LogItem::CaughtUp) => self.look_again().await?,
                Err(error) => return Err(unreadable(error)),
            }
        }
        if let Some(hash) = self.hash.take()
            && (digest(hash) != self.record.digest || self.n_bytes != self.record.size)
        {
            return Err(unreadable("its digest is another one"));
        }
        Ok(None)
    }

    /// A copy of the stream that we read from may lag behind.
    async fn look_again(&mut self) -> Result<(), Error> {
        self.n_looks += 1;
        if LOOKS_MAX <= self.n_looks {
            return Err(unreadable(format!(
                "{} of {} parts are missing",
                self.record.chunks - self.n_chunks,
                self.record.chunks
            )));
        }
        self.backoff.wait().await;
        self.log = open(&self.core, &self.record, self.last_seq);
        Ok(())
    }
}

fn open(core: &Core, record: &Record, after: u64) -> LogReader {
    let stream = core.subjects.bucket_stream(BucketId::Snapshots);
    let filter = chunks_subject(core, &record.nuid);
    LogReader::open_ahead(core.clone(), stream, filter, Start::After(after), AHEAD_MAX)
}
