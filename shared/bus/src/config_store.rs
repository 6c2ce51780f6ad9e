//! The active configuration, by revision.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
    time::Duration,
};

use async_nats::{
    HeaderMap, HeaderValue,
    jetstream::{message::PublishMessage, stream::Stream},
};
use bytes::Bytes;
use chrono::Utc;
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
    signing::{SIGNATURE, linked},
    topology::{BucketId, CONFIG_BYTES_MAX},
};

/// Header that names the epoch of the leader that wrote a configuration.
const EPOCH: &str = "Selfheal-Epoch";

/// Header with a number that grows with each configuration, also under one leader: a former one
/// that is stored once more does not count. It is milliseconds, so that it also grows when the
/// bucket was lost.
const REVISION: &str = "Selfheal-Revision";

/// First and last wait between tries.
const RETRY_FIRST: Duration = Duration::from_millis(25);
const RETRY_LAST: Duration = Duration::from_secs(1);

/// What stands in the bucket.
struct Stands {
    /// Sequence of its last message, of whatever key.
    last: u64,
    /// Sequence of the active configuration; 0 when there is none.
    seq: u64,
    /// Of the leader that wrote it, and its revision.
    order: Order,
    /// Of the message that made it active.
    id: Option<String>,
}

/// Which of two configurations is the newer one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    epoch: u64,
    revision: u64,
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
            if epoch < stands.order.epoch {
                return Ok(None);
            }
            let now = u64::try_from(Utc::now().timestamp_millis()).unwrap_or(0);
            let revision = now.max(stands.order.revision + 1).to_string();
            // Behind all of the bucket, as what is active has either of two keys.
            let mut message = PublishMessage::build()
                .payload(value.clone())
                .header(async_nats::header::NATS_MESSAGE_ID, id.as_str())
                .header(EPOCH, epoch.to_string().as_str())
                .header(REVISION, revision.as_str())
                .expected_last_sequence(stands.last);
            let signature = self.core.keys.sign_linked(key, epoch, &revision, &value);
            if let Some(signature) = signature {
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
            let (last, order) = (info.state.last_sequence, Order::default());
            let mut stands = Stands { last, seq: 0, order, id: None };
            for key in [subjects.config_key(), subjects.config_manifest_key()] {
                let found = match stream.get_last_raw_message_by_subject(&key).await {
                    Ok(found) => found,
                    Err(error) if is_nothing(&error) => continue,
                    Err(error) => return Err(passing(error.into())),
                };
                // What others have put there says nothing about who leads, and is written over.
                let judged = judge(&self.core, &key, Some(&found.headers), &found.payload);
                if let Ok(order) = judged {
                    stands.order = stands.order.max(order);
                }
                if stands.seq < found.sequence {
                    stands.seq = found.sequence;
                    let id = found.headers.get(async_nats::header::NATS_MESSAGE_ID);
                    stands.id = id.map(|it| it.as_str().to_owned());
                }
            }
            Ok(stands)
        })
        .await
    }

    /// Returns whether the configuration of this revision, as [`Self::put`] returned it, is still
    /// the last that was written: somebody else may have stored a former one once more.
    ///
    /// # Errors
    ///
    /// [`Error::Client`] when the broker does not tell in time.
    pub async fn is_last(&self, revision: u64) -> Result<bool, Error> {
        Ok(self.stands().await?.seq == revision)
    }

    /// Returns the public key that the active configuration says it is signed with, as where
    /// supervisors sign; `None` when it is not, or the broker does not tell within this time.
    pub async fn signer(&self, within: Duration) -> Option<String> {
        let stream = self.core.subjects.bucket_stream(BucketId::Config);
        let keys = self.core.subjects.key(BucketId::Config, ">");
        let mut log = LogReader::open(self.core.clone(), stream, keys, Start::LastPerSubject);
        let deadline = Instant::now() + within;
        let mut found = None;
        loop {
            match tokio::time::timeout_at(deadline, log.next()).await.ok()?.ok()? {
                LogItem::Opened => {}
                LogItem::CaughtUp => return found,
                LogItem::Message(LogMessage { headers, .. }) => {
                    // Parts and what others have put there name no leader.
                    if let Some(headers) = headers.filter(|it| it.get(EPOCH).is_some()) {
                        let signature = headers.get(SIGNATURE).map(|it| it.as_str().to_owned());
                        found = signature.and_then(|it| Some(it.split_once(' ')?.0.to_owned()));
                    }
                }
            }
        }
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
    let (mut shelf, mut newest) = (Shelf::default(), Order::default());
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
            Ok(LogItem::Message(message)) => take(&core, &mut shelf, &mut newest, message),
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

/// Judges whether a supervisor has made this the active configuration, and returns when. The
/// broker's own answers may be led here, and name no leader. Older versions write no revision.
fn judge(
    core: &Core,
    key: &str,
    headers: Option<&HeaderMap>,
    value: &[u8],
) -> Result<Order, Unbelieved> {
    let header = |name: &str| headers.and_then(|it| it.get(name)).map(HeaderValue::as_str);
    let epoch = header(EPOCH).and_then(|it| it.parse().ok()).ok_or(Unbelieved::NoAppend)?;
    let signature = header(SIGNATURE);
    let Some(revision) = header(REVISION) else {
        core.keys.judge_value(key, epoch, signature, value)?;
        return Ok(Order { epoch, revision: 0 });
    };
    core.keys.judge_value(&linked(key, revision), epoch, signature, value)?;
    Ok(Order { epoch, revision: revision.parse().ok().ok_or(Unbelieved::Invalid)? })
}

/// Takes a message of the bucket. That a key is deleted or emptied says nothing about what is to
/// be watched: the configuration that is known stays.
fn take(core: &Core, shelf: &mut Shelf, newest: &mut Order, message: LogMessage) {
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
    let is_news = || core.warned.fetch_max(seq, Ordering::Relaxed) < seq;
    match judge(core, &subject, headers.as_ref(), &payload) {
        // Without keys anybody may claim to be newer than all to come.
        Ok(order) if core.keys.are_required() && order < *newest => {
            if is_news() {
                warn!(key = subject, ?order, newest = ?*newest, "a former configuration was stored once more and is passed over");
            }
            return;
        }
        Ok(order) => *newest = order,
        Err(why) => {
            if is_news() {
                warn!(key = subject, reason = %why, "a configuration that no supervisor has written is passed over, the former one stays");
            }
            return;
        }
    }
    if subject == subjects.config_key() {
        shelf.whole(seq, payload);
    } else if subject == subjects.config_manifest_key()
        && let Err(error) = shelf.manifest(seq, &payload)
    {
        warn!(%error, "the manifest of the configuration cannot be read, the former one stays");
    }
}
