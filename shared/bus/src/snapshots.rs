//! Snapshots of the desk: objects on the broker, named by the place in the ledger that they cover.
//!
//! They are laid out as all NATS clients lay out objects, so that `nats object ls` shows
//! them; but they are written and read by hand. A snapshot is written in order, one part in
//! flight, each part under an id, so that a try again stores nothing twice and a part never
//! passes its elder. Its record comes last: what has none is not there. It is read with a
//! few parts ahead, and its digest is checked at the end.

mod read;
mod write;

use std::{collections::BTreeSet, time::Duration};

use async_nats::jetstream::{
    ErrorCode,
    stream::{LastRawMessageError, LastRawMessageErrorKind, Stream},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use chrono::Utc;
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tracing::warn;

pub use self::{read::SnapshotReader, write::SnapshotWriter};
use crate::{
    Error, Unbelieved,
    asking::{Unanswered, until_answered},
    core::Core,
    error::Cause,
    topology::{BucketId, OBJECT_CHUNKS, OBJECT_RECORDS},
};

/// Size of all parts but the last: small beside a message's limit, large enough that the
/// sync of each to disk does not count.
const CHUNK_BYTES: usize = 128 * 1024;

/// How long one part may take, an election of the brokers included: nobody waits for it.
const PART_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest time from the beginning of a snapshot to its end.
const WRITE_MAX: Duration = Duration::from_secs(5 * 60);

/// Age at which parts without a record belong to a writer that died: far beyond
/// [`WRITE_MAX`], so that clocks may differ.
const ORPHAN_AGE: Duration = Duration::from_secs(15 * 60);

/// The snapshots of the desk.
#[derive(Clone, Debug)]
pub struct Snapshots {
    core: Core,
}

/// What is told about an object, in the spelling of all NATS clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    name: String,
    bucket: String,
    nuid: String,
    size: u64,
    chunks: u64,
    mtime: String,
    digest: String,
    #[serde(default)]
    deleted: bool,
}

impl Snapshots {
    pub(crate) fn new(core: &Core) -> Self {
        Self { core: core.clone() }
    }

    /// Begins a snapshot that covers the ledger up to and with `seq`. Nobody sees it
    /// before [`SnapshotWriter::finish`]; one that is dropped leaves nothing to be seen.
    #[must_use]
    pub fn create(&self, seq: u64) -> SnapshotWriter {
        SnapshotWriter::new(self.core.clone(), seq)
    }

    /// Returns what the snapshots cover, the newest first. Where supervisors sign, those that one of
    /// them has written.
    ///
    /// # Errors
    ///
    /// [`Error::Client`] when the broker does not tell in time.
    pub async fn newest_first(&self) -> Result<Vec<u64>, Error> {
        let records = self.core.subjects.key(BucketId::Snapshots, OBJECT_RECORDS);
        let subjects = subjects(&self.core, &format!("{records}.>")).await?;
        let name = |subject: &String| {
            let encoded = subject.rsplit('.').next()?;
            String::from_utf8(URL_SAFE.decode(encoded).ok()?).ok()
        };
        let mut seqs: Vec<u64> =
            subjects.iter().filter_map(|subject| name(subject)?.parse().ok()).collect();
        seqs.sort_unstable_by(|a, b| b.cmp(a));
        if !self.core.keys.are_required() {
            return Ok(seqs);
        }
        // The ledger is forgotten behind them: one that somebody else made stands for nothing.
        let mut believed = Vec::with_capacity(seqs.len());
        for seq in seqs {
            match signed_record(&self.core, seq).await? {
                Some((_, Ok(()))) => believed.push(seq),
                Some((_, Err(why))) => {
                    warn!(snapshot = seq, reason = %why, "a snapshot that no supervisor has written is passed over");
                }
                None => {}
            }
        }
        Ok(believed)
    }

    /// Opens a snapshot. What it returns before it ends must not be trusted until then.
    ///
    /// # Errors
    ///
    /// [`Error::Unreadable`] when there is none of this sequence, [`Error::NotBelieved`] when no
    /// supervisor has written it.
    pub async fn read(&self, seq: u64) -> Result<SnapshotReader, Error> {
        match signed_record(&self.core, seq).await? {
            Some((record, Ok(()))) => Ok(SnapshotReader::new(self.core.clone(), record)),
            Some((_, Err(source))) => Err(Error::NotBelieved { what: "the snapshot", source }),
            None => Err(unreadable(format!("there is none of {seq}"))),
        }
    }

    /// Deletes all but the newest `n`, and what dead writers have left behind.
    ///
    /// # Errors
    ///
    /// [`Error::Client`] when the broker does not do it in time.
    pub async fn keep_newest(&self, n: usize) -> Result<(), Error> {
        self.keep(|idx, _seq| idx < n).await
    }

    /// Deletes those that stand behind these messages, and what dead writers have left behind.
    ///
    /// # Errors
    ///
    /// [`Error::Client`] when the broker does not do it in time.
    pub async fn delete(&self, old: &[u64]) -> Result<(), Error> {
        self.keep(|_idx, seq| !old.contains(&seq)).await
    }

    /// Deletes what is not kept, by its place among the newest and its message.
    async fn keep(&self, is_kept: impl Fn(usize, u64) -> bool) -> Result<(), Error> {
        let seqs = self.newest_first().await?;
        let mut kept = BTreeSet::new();
        for (idx, &seq) in seqs.iter().enumerate() {
            let Some(record) = record(&self.core, seq).await? else { continue };
            if is_kept(idx, seq) {
                kept.insert(record.nuid);
                continue;
            }
            // The record first: what has none is not there.
            purge(&self.core, &record_subject(&self.core, seq)).await?;
            purge(&self.core, &chunks_subject(&self.core, &record.nuid)).await?;
        }
        let chunks = self.core.subjects.key(BucketId::Snapshots, OBJECT_CHUNKS);
        for subject in subjects(&self.core, &format!("{chunks}.>")).await? {
            let Some(nuid) = subject.rsplit('.').next() else { continue };
            if !kept.contains(nuid) && is_orphan(nuid) {
                purge(&self.core, &subject).await?;
            }
        }
        Ok(())
    }
}

/// Names the parts of one writing; tells when it began.
fn new_nuid() -> String {
    format!("{}-{}", Utc::now().timestamp_millis(), uuid::Uuid::new_v4().simple())
}

fn is_orphan(nuid: &str) -> bool {
    let began = nuid.split('-').next().and_then(|millis| millis.parse::<i64>().ok());
    let age_max = i64::try_from(ORPHAN_AGE.as_millis()).unwrap_or(i64::MAX);
    began.is_some_and(|began| began.saturating_add(age_max) < Utc::now().timestamp_millis())
}

fn object_name(seq: u64) -> String {
    // Of equal length, so that people see them in order.
    format!("{seq:020}")
}

fn record_subject(core: &Core, seq: u64) -> String {
    let name = URL_SAFE.encode(object_name(seq));
    core.subjects.key(BucketId::Snapshots, &format!("{OBJECT_RECORDS}.{name}"))
}

fn chunks_subject(core: &Core, nuid: &str) -> String {
    core.subjects.key(BucketId::Snapshots, &format!("{OBJECT_CHUNKS}.{nuid}"))
}

fn digest(hash: Sha256) -> String {
    format!("SHA-256={}", URL_SAFE.encode(hash.finalize()))
}

fn unreadable(why: impl Into<Cause>) -> Error {
    Error::Unreadable { what: "the snapshot", source: why.into() }
}

async fn stream(core: &Core) -> Result<Stream<()>, Unanswered> {
    let name = core.subjects.bucket_stream(BucketId::Snapshots);
    core.js.get_stream_no_info(name).await.map_err(crate::state::judge)
}

async fn subjects(core: &Core, filter: &str) -> Result<Vec<String>, Error> {
    until_answered(core, "list the snapshots", || async {
        let passing = |error: Cause| Unanswered::Passing(error);
        let info = stream(core).await?.info_with_subjects(filter).await;
        let found = info.map_err(|error| passing(error.into()))?;
        let found: Result<Vec<(String, usize)>, _> = found.try_collect().await;
        let found = found.map_err(|error| passing(error.into()))?;
        Ok(found.into_iter().map(|(subject, _)| subject).collect())
    })
    .await
}

async fn purge(core: &Core, subject: &str) -> Result<(), Error> {
    until_answered(core, "delete a snapshot", || async {
        let purged = stream(core).await?.purge().filter(subject).await;
        purged.map(drop).map_err(|error| Unanswered::Passing(error.into()))
    })
    .await
}

/// Returns the record, whoever has written it.
async fn record(core: &Core, seq: u64) -> Result<Option<Record>, Error> {
    Ok(signed_record(core, seq).await?.map(|(record, _)| record))
}

/// Returns the record, and whether a supervisor has written it: it holds the digest of all parts.
/// Asks the stream's leader, never a copy of it, which may lag behind.
async fn signed_record(
    core: &Core,
    seq: u64,
) -> Result<Option<(Record, Result<(), Unbelieved>)>, Error> {
    let subject = record_subject(core, seq);
    until_answered(core, "look for a snapshot", || async {
        match stream(core).await?.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => {
                let record: Result<Record, _> = serde_json::from_slice(&message.payload);
                let record = record.map_err(|error| Unanswered::Final(error.into()))?;
                let judged =
                    core.keys.judge(&subject, seq, Some(&message.headers), &message.payload);
                Ok(Some((record, judged)).filter(|(record, _)| !record.deleted))
            }
            Err(error) if is_nothing(&error) => Ok(None),
            Err(error) => Err(Unanswered::Passing(error.into())),
        }
    })
    .await
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
