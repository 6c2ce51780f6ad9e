//! The active configuration, by revision.

use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tracing::debug;

use crate::{
    Error,
    core::Core,
    lease::is_mark,
    log::{LogItem, LogReader, Start},
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

    /// Makes this the active configuration, and returns its revision.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`], or [`Error::NotStored`] when the broker does not take it in time.
    pub async fn put(&self, config: Bytes) -> Result<u64, Error> {
        if CONFIG_BYTES_MAX < config.len() {
            return Err(Error::TooLarge {
                what: "configuration",
                bytes: config.len(),
                bytes_max: CONFIG_BYTES_MAX,
            });
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        let key = self.core.subjects.config_key();
        let message = || PublishMessage::build().payload(config.clone()).message_id(&id);
        let stored = publish::until_acked(&self.core, &key, message, publish::GIVE_UP).await;
        stored
            .map(|ack| ack.sequence)
            .map_err(|fault| Error::NotStored { what: "the configuration", source: fault.into() })
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
    let key = core.subjects.config_key();
    let mut log = LogReader::open(core, stream, key, Start::LastPerSubject);
    loop {
        let item = tokio::select! {
            item = log.next() => item,
            () = tx.closed() => return,
        };
        match item {
            Ok(LogItem::Opened) => {}
            Ok(LogItem::CaughtUp) => {
                if let Some(looked) = looked.take() {
                    // Whoever does not wait for it has not kept the other end.
                    let _heard = looked.send(());
                }
            }
            Ok(LogItem::Message(message)) if is_mark(message.headers.as_ref()) => {}
            Ok(LogItem::Message(message)) => {
                // The same one comes again after each reconnection.
                tx.send_if_modified(|known| {
                    let newer = known.as_ref().is_none_or(|(seq, _)| *seq != message.seq);
                    if newer {
                        *known = Some((message.seq, message.payload));
                    }
                    newer
                });
            }
            Err(error) => {
                debug!(%error, "the configuration can no longer be followed");
                return;
            }
        }
    }
}
