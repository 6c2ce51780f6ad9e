//! What is told and not stored.

use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::{Error, core::Core};

/// A message that was told, not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreMessage {
    /// Where it was told.
    pub subject: String,
    /// Where an answer is awaited.
    pub reply: Option<String>,
    /// What was told.
    pub payload: Bytes,
}

/// A subscription; ends when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    subscriber: Subscriber,
}

impl Subscription {
    pub(crate) async fn open(
        core: &Core,
        subject: String,
        queue: Option<String>,
    ) -> Result<Self, Error> {
        let subscriber = match queue {
            Some(queue) => core.client.queue_subscribe(subject, queue).await,
            None => core.client.subscribe(subject).await,
        };
        let subscriber = subscriber.map_err(|error| Error::client("subscribe", error))?;
        core.round_trip().await;
        Ok(Self { subscriber })
    }

    /// Returns the next message; `None` when the connection was closed for good. May be
    /// dropped at any point without losing one.
    pub async fn next(&mut self) -> Option<CoreMessage> {
        let message = self.subscriber.next().await?;
        Some(CoreMessage {
            subject: message.subject.into_string(),
            reply: message.reply.map(async_nats::Subject::into_string),
            payload: message.payload,
        })
    }
}
