//! The active configuration, by revision.

use std::collections::BTreeSet;

use async_nats::jetstream::{message::PublishMessage, stream::Stream};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use tokio::sync::{oneshot, watch};
use tracing::{debug, warn};

use crate::{
    Error,
    asking::{Unanswered, until_answered},
    config_parts::{Shelf, split},
    core::Core,
    error::Cause,
    lease::is_mark,
    log::{LogItem, LogMessage, LogReader, Start},
    publish,
    topology::{BucketId, CONFIG_BYTES_MAX},
};

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
    /// # Errors
    ///
    /// [`Error::TooLarge`], or [`Error::NotStored`] when the broker does not take it in time.
    pub async fn put(&self, config: Bytes) -> Result<u64, Error> {
        if config.len() <= CONFIG_BYTES_MAX {
            return self.put_key(&self.core.subjects.config_key(), config).await;
        }
        let (manifest, parts) = split(&config)?;
        let stored = self.stored_parts().await?;
        for (sha256, part) in parts {
            let key = self.core.subjects.config_part_key(&sha256);
            if !stored.contains(&key) {
                self.put_key(&key, part).await?;
            }
        }
        let text = serde_json::to_vec(&manifest).map_err(|source| Error::Unreadable {
            what: "the manifest of the configuration",
            source: source.into(),
        })?;
        let key = self.core.subjects.config_manifest_key();
        let revision = self.put_key(&key, text.into()).await?;
        let named: BTreeSet<String> =
            manifest.parts.iter().map(|it| self.core.subjects.config_part_key(it)).collect();
        for key in stored.difference(&named) {
            if let Err(error) = self.purge(key).await {
                // They take room and nothing else; the next one deletes them.
                debug!(%error, key, "a former part of the configuration stays");
            }
        }
        Ok(revision)
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
        shelf.part(sha256, payload);
    } else if subject == subjects.config_key() {
        shelf.whole(seq, payload);
    } else if subject == subjects.config_manifest_key()
        && let Err(error) = shelf.manifest(seq, &payload)
    {
        warn!(%error, "the manifest of the configuration cannot be read, the former one stays");
    }
}
