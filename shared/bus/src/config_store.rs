//! The active configuration, by revision.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_nats::{
    HeaderMap, HeaderValue,
    jetstream::{message::PublishMessage, stream::Stream},
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep},
};
use tracing::{debug, warn};

use crate::{
    Error, Unbelieved,
    asking::{Unanswered, until_answered},
    claims::is_nothing,
    config_parts::{Shelf, split},
    core::Core,
    error::Cause,
    lease::is_mark,
    link::Backoff,
    log::{LogItem, LogMessage, LogReader, Start},
    publish::{self, Fault},
    signing::SIGNATURE,
    topology::{BucketId, CONFIG_BYTES_MAX},
};

/// Header that names the epoch of the leader that wrote a configuration.
const EPOCH: &str = "Selfheal-Epoch";

/// First and last wait between tries.
const RETRY_FIRST: Duration = Duration::from_millis(25);
const RETRY_LAST: Duration = Duration::from_secs(1);

/// What stands in the bucket.
struct Stands {
    /// Sequence of its last message, of whatever key.
    last: u64,
    /// Sequence of the active configuration; 0 when there is none.
    seq: u64,
    /// Of the leader that wrote it.
    epoch: u64,
    /// Of the message that made it active.
    id: Option<String>,
}

/// The active configuration.
#[derive(Clone, Debug)]
pub struct ConfigStore {
    core: Core,
}

impl ConfigStore {
    pub(crate) fn new(core: &Core) -> Self {
        Self { core: core.clone() }
    }

    /// Makes this the active configuration, and returns its revision. What is larger than one
    /// value is stored in parts; only the parts that changed are written.
    ///
    /// `epoch` is that of the lease under which the writer leads. A leader that was replaced does
    /// not overwrite what its successor has written, however late its write arrives: nothing is
    /// stored then, and the answer is `None`.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`], or [`Error::NotStored`] when the broker does not take it in time.
    pub async fn put(&self, config: Bytes, epoch: u64) -> Result<Option<u64>, Error> {
        if config.len() <= CONFIG_BYTES_MAX {
            return self.publish(&self.core.subjects.config_key(), config, epoch).await;
        }
        let (manifest, parts) = split(&config)?;
        let stored = self.stored_parts().await?;
        self.put_parts(&parts, &stored).await?;
        let text = serde_json::to_vec(&manifest).map_err(|source| Error::Unreadable {
            what: "the manifest of the configuration",
            source: source.into(),
        })?;
        let key = self.core.subjects.config_manifest_key();
        let Some(revision) = self.publish(&key, text.into(), epoch).await? else {
            return Ok(None);
        };
        let named: BTreeSet<String> =
            manifest.parts.iter().map(|it| self.core.subjects.config_part_key(it)).collect();
        // A former leader may have deleted some that it did not need, after we saw them.
        self.put_parts(&parts, &self.stored_parts().await?).await?;
        for key in stored.difference(&named) {
            if self.stands().await?.seq != revision {
                break;
            }
            if let Err(error) = self.purge(key).await {
                // They take room and nothing else; the next one deletes them.
                debug!(%error, key, "a former part of the configuration stays");
            }
        }
        Ok(Some(revision))
    }

    /// Writes the value that makes a configuration the active one, unless a later leader has
    /// written one.
    async fn publish(&self, key: &str, value: Bytes, epoch: u64) -> Result<Option<u64>, Error> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let deadline = Instant::now() + publish::GIVE_UP;
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        loop {
            let stands = self.stands().await?;
            if stands.id.as_deref() == Some(id.as_str()) {
                // By a try of ours whose answer was lost.
                return Ok(Some(stands.seq));
            }
            if epoch < stands.epoch {
                return Ok(None);
            }
            // Behind all of the bucket, as what is active has either of two keys.
            let mut message = PublishMessage::build()
                .payload(value.clone())
                .header(async_nats::header::NATS_MESSAGE_ID, id.as_str())
                .header(EPOCH, epoch.to_string().as_str())
                .expected_last_sequence(stands.last);
            if let Some(signature) = self.core.keys.sign(key, epoch, &value) {
                message = message.header(SIGNATURE, signature.as_str());
            }
            let fault = match publish::once(&self.core, key, message, deadline).await {
                Ok(ack) => return Ok(Some(ack.sequence)),
                Err(fault) => fault,
            };
            let is_passing = match fault {
                Fault::WrongSequence | Fault::Unknown(_) | Fault::NoStream => true,
                Fault::Full(_) | Fault::TooLarge(_) | Fault::Refused(_) => false,
            };
            let wait = backoff.step();
            if !is_passing || deadline <= Instant::now() + wait {
                let what = "the configuration";
                return Err(Error::NotStored { what, source: fault.into() });
            }
            sleep(wait).await;
        }
    }

    /// Returns what is active, as the leader of the bucket's stream knows it.
    async fn stands(&self) -> Result<Stands, Error> {
        let subjects = &self.core.subjects;
        until_answered(&self.core, "look which configuration is active", || async {
            let passing = |error: Cause| Unanswered::Passing(error);
            let stream = self.stream().await?;
            let info = stream.get_info().await.map_err(|error| passing(error.into()))?;
            let mut stands = Stands { last: info.state.last_sequence, seq: 0, epoch: 0, id: None };
            for key in [subjects.config_key(), subjects.config_manifest_key()] {
                let found = match stream.get_last_raw_message_by_subject(&key).await {
                    Ok(found) => found,
                    Err(error) if is_nothing(&error) => continue,
                    Err(error) => return Err(passing(error.into())),
                };
                if stands.seq < found.sequence {
                    let header = |name: &str| found.headers.get(name).map(HeaderValue::as_str);
                    stands.seq = found.sequence;
                    stands.epoch = header(EPOCH).and_then(|it| it.parse().ok()).unwrap_or(0);
                    stands.id = header("Nats-Msg-Id").map(str::to_owned);
                }
            }
            Ok(stands)
        })
        .await
    }

    /// Stores the parts that are not stored.
    async fn put_parts(
        &self,
        parts: &BTreeMap<String, Bytes>,
        stored: &BTreeSet<String>,
    ) -> Result<(), Error> {
        for (sha256, part) in parts {
            let key = self.core.subjects.config_part_key(sha256);
            if !stored.contains(&key) {
                self.put_key(&key, part.clone()).await?;
            }
        }
        Ok(())
    }

    async fn put_key(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let message = || PublishMessage::build().payload(value.clone()).message_id(&id);
        let stored = publish::until_acked(&self.core, key, message, publish::GIVE_UP).await;
        stored
            .map(|ack| ack.sequence)
            .map_err(|fault| Error::NotStored { what: "the configuration", source: fault.into() })
    }

    /// Returns the keys of the parts that are stored.
    async fn stored_parts(&self) -> Result<BTreeSet<String>, Error> {
        let filter = self.core.subjects.config_part_key("*");
        let passing = |error: Cause| Unanswered::Passing(error);
        until_answered(&self.core, "list the parts of the configuration", || async {
            let info = self.stream().await?.info_with_subjects(&filter).await;
            let found = info.map_err(|error| passing(error.into()))?;
            let found: Result<Vec<(String, usize)>, _> = found.try_collect().await;
            let found = found.map_err(|error| passing(error.into()))?;
            Ok(found.into_iter().map(|(key, _)| key).collect())
        })
        .await
    }

    async fn purge(&self, key: &str) -> Result<(), Error> {
        until_answered(&self.core, "delete a part of the configuration", || async {
            let purged = self.stream().await?.purge().filter(key).await;
            purged.map(drop).map_err(|error| Unanswered::Passing(error.into()))
        })
        .await
    }

    async fn stream(&self) -> Result<Stream<()>, Unanswered> {
        let name = self.core.subjects.bucket_stream(BucketId::Config);
        self.core.js.get_stream_no_info(name).await.map_err(crate::state::judge)
    }

    /// Follows the active configuration with its revision; `None` until there is one.
    ///
    /// Ends when the last receiver of this call is dropped.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Option<(u64, Bytes)>> {
        self.watch_from_the_first_look().0
    }

    /// Follows it as [`Self::watch`] does, and tells with the second receiver when it was looked
    /// for once: from then on, `None` means that there is none.
    #[must_use]
    pub fn watch_from_the_first_look(
        &self,
    ) -> (watch::Receiver<Option<(u64, Bytes)>>, oneshot::Receiver<()>) {
        let (tx, rx) = watch::channel(None);
        let (looked, seen) = oneshot::channel();
        // Ends with its receivers, and with the client at the latest.
        drop(tokio::spawn(follow(self.core.clone(), tx, looked)));
        (rx, seen)
    }
}

async fn follow(core: Core, tx: watch::Sender<Option<(u64, Bytes)>>, looked: oneshot::Sender<()>) {
    let mut looked = Some(looked);
    let stream = core.subjects.bucket_stream(BucketId::Config);
    let keys = core.subjects.key(BucketId::Config, ">");
    let mut log = LogReader::open(core.clone(), stream, keys, Start::LastPerSubject);
    let mut shelf = Shelf::default();
    // What is older than the newest must not be taken for it while the past is read.
    let mut is_caught_up = false;
    loop {
        let item = tokio::select! {
            item = log.next() => item,
            () = tx.closed() => return,
        };
        match item {
            Ok(LogItem::Opened) => {
                // All of it comes again, perhaps from a bucket that was made anew.
                shelf = Shelf::default();
                is_caught_up = false;
            }
            Ok(LogItem::CaughtUp) => is_caught_up = true,
            Ok(LogItem::Message(message)) => take(&core, &mut shelf, message),
            Err(error) => {
                debug!(%error, "the configuration can no longer be followed");
                return;
            }
        }
        if !is_caught_up {
            continue;
        }
        if let Some((seq, config)) = shelf.newest() {
            // The same one comes again after each reconnection.
            tx.send_if_modified(|known| {
                let newer = known.as_ref().is_none_or(|(known, _)| *known != seq);
                if newer {
                    *known = Some((seq, config));
                }
                newer
            });
        }
        if let Some(looked) = looked.take() {
            // Whoever does not wait for it has not kept the other end.
            let _heard = looked.send(());
        }
    }
}

/// Judges whether a supervisor has made this the active configuration. The broker's own answers
/// may be led here, and name no leader.
fn judge(
    core: &Core,
    key: &str,
    headers: Option<&HeaderMap>,
    value: &[u8],
) -> Result<(), Unbelieved> {
    let epoch = headers.and_then(|it| it.get(EPOCH)).and_then(|it| it.as_str().parse().ok());
    let epoch = epoch.ok_or(Unbelieved::NoAppend)?;
    core.keys.judge(key, epoch, headers, value)
}

/// Takes a message of the bucket. That a key is deleted or emptied says nothing about what is to
/// be watched: the configuration that is known stays.
fn take(core: &Core, shelf: &mut Shelf, message: LogMessage) {
    let LogMessage { seq, subject, payload, headers, .. } = message;
    let subjects = &core.subjects;
    let part = subject.strip_prefix(&subjects.config_part_key(""));
    if is_mark(headers.as_ref()) || payload.is_empty() {
        if part.is_none() {
            warn!(key = subject, "the stored configuration was deleted, the former one stays");
        }
        return;
    }
    if let Some(sha256) = part {
        // Its name is the hash of its content, and the manifest is signed.
        return shelf.part(sha256, payload);
    }
    if let Err(why) = judge(core, &subject, headers.as_ref(), &payload) {
        warn!(key = subject, reason = %why, "a configuration that no supervisor has written is passed over, the former one stays");
        return;
    }
    if subject == subjects.config_key() {
        shelf.whole(seq, payload);
    } else if subject == subjects.config_manifest_key()
        && let Err(error) = shelf.manifest(seq, &payload)
    {
        warn!(%error, "the manifest of the configuration cannot be read, the former one stays");
    }
}
