//! Writing a snapshot.

use async_nats::{HeaderMap, jetstream::message::PublishMessage};
use bytes::{Bytes, BytesMut};
use chrono::{SecondsFormat, Utc};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{
    CHUNK_BYTES, PART_TIMEOUT, Record, WRITE_MAX, chunks_subject, digest, new_nuid, object_name,
    purge, record, record_subject,
};
use crate::{Error, core::Core, publish, signing::SIGNATURE, topology::BucketId};

/// Writes one snapshot. It holds one part in memory, never the whole.
#[derive(Debug)]
pub struct SnapshotWriter {
    core: Core,
    seq: u64,
    nuid: String,
    subject: String,
    part: BytesMut,
    hash: Sha256,
    n_chunks: u64,
    n_bytes: u64,
    deadline: Instant,
}

impl SnapshotWriter {
    pub(super) fn new(core: Core, seq: u64) -> Self {
        let nuid = new_nuid();
        Self {
            subject: chunks_subject(&core, &nuid),
            core,
            seq,
            nuid,
            part: BytesMut::with_capacity(CHUNK_BYTES),
            hash: Sha256::new(),
            n_chunks: 0,
            n_bytes: 0,
            deadline: Instant::now() + WRITE_MAX,
        }
    }

    /// Takes what comes next; resolves when the broker has what does not fit into a part.
    ///
    /// # Errors
    ///
    /// [`Error::NotStored`] when the broker does not take it in time. The snapshot is lost
    /// then: drop it and begin another.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = CHUNK_BYTES.saturating_sub(self.part.len()).min(rest.len());
            let (now, later) = rest.split_at(room);
            self.part.extend_from_slice(now);
            rest = later;
            if CHUNK_BYTES <= self.part.len() {
                self.send().await?;
            }
        }
        Ok(())
    }

    /// Ends the snapshot, and returns its size. From now on it is there for all.
    ///
    /// # Errors
    ///
    /// [`Error::NotStored`]: it may be there nevertheless.
    pub async fn finish(mut self) -> Result<u64, Error> {
        if !self.part.is_empty() {
            self.send().await?;
        }
        let before = record(&self.core, self.seq).await?;
        let made = Record {
            name: object_name(self.seq),
            bucket: self.core.subjects.bucket(BucketId::Snapshots),
            nuid: self.nuid.clone(),
            size: self.n_bytes,
            chunks: self.n_chunks,
            mtime: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            digest: digest(std::mem::take(&mut self.hash)),
            deleted: false,
        };
        let payload = serde_json::to_vec(&made).map(Bytes::from);
        let payload = payload.map_err(|error| not_stored(error.into()))?;
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Rollup", "sub");
        headers.insert("Nats-Msg-Id", self.nuid.as_str());
        let subject = record_subject(&self.core, self.seq);
        if let Some(signature) = self.core.keys.sign(&subject, self.seq, &payload) {
            headers.insert(SIGNATURE, signature.as_str());
        }
        self.publish(subject, payload, headers).await?;
        // Another leader's of the same place: its readers notice, and take another.
        if let Some(before) = before.filter(|before| before.nuid != self.nuid) {
            purge(&self.core, &chunks_subject(&self.core, &before.nuid)).await?;
        }
        Ok(self.n_bytes)
    }

    async fn send(&mut self) -> Result<(), Error> {
        let chunk = self.part.split().freeze();
        self.part.reserve(CHUNK_BYTES);
        self.hash.update(&chunk);
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("{}/{}", self.nuid, self.n_chunks));
        self.n_chunks += 1;
        self.n_bytes += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        self.publish(self.subject.clone(), chunk, headers).await
    }

    /// The very same message again under the same id, until it is stored: so the next one
    /// is never stored before it.
    async fn publish(
        &self,
        subject: String,
        payload: Bytes,
        headers: HeaderMap,
    ) -> Result<(), Error> {
        let give_up = self.deadline.saturating_duration_since(Instant::now()).min(PART_TIMEOUT);
        let message = || PublishMessage::build().payload(payload.clone()).headers(headers.clone());
        let stored = publish::until_acked(&self.core, &subject, message, give_up).await;
        stored.map(drop).map_err(|fault| not_stored(fault.into()))
    }
}

fn not_stored(source: crate::error::Cause) -> Error {
    Error::NotStored { what: "the snapshot", source }
}
