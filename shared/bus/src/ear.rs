//! Telling something, and hearing whether anybody listens.
//!
//! A broker answers a message that has a reply subject and no subscriber with the status 503.
//! It handles what comes over one connection in order: when a second message, sent to
//! ourselves, comes back without that answer before it, somebody has subscribed.

use std::time::Duration;

use async_nats::{StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use crate::{Error, core::Core};

/// How long the message to ourselves may take. Without it we assume that somebody listens.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long everything is told without asking, after a message to ourselves did not come: we
/// may not be permitted to hear it, and each try would hold up what is told.
const DEAF_FOR: Duration = Duration::from_secs(60);

/// Tells something, and hears whether anybody listens.
#[derive(Debug)]
pub struct Ear {
    core: Core,
    prefix: String,
    echoes: Subscriber,
    n_told: u64,
    deaf_until: Option<Instant>,
}

impl Ear {
    pub(crate) async fn open(core: &Core) -> Result<Self, Error> {
        let prefix = core.client.new_inbox();
        let echoes = core.client.subscribe(format!("{prefix}.*")).await;
        let echoes = echoes.map_err(|error| Error::client("subscribe", error))?;
        Ok(Self { core: core.clone(), prefix, echoes, n_told: 0, deaf_until: None })
    }

    /// Publishes a message, and returns whether anybody listens on its subject, be it by a
    /// wildcard: whoever had subscribed before counts. In doubt somebody does.
    ///
    /// # Errors
    ///
    /// [`Error::Client`] when the connection is closed or the payload too large.
    pub async fn tell(&mut self, subject: String, payload: Bytes) -> Result<bool, Error> {
        let client = &self.core.client;
        let failed = |error| Error::client("publish", error);
        if self.deaf_until.is_some_and(|until| Instant::now() < until) {
            client.publish(subject, payload).await.map_err(failed)?;
            return Ok(true);
        }
        self.n_told += 1;
        let echo = format!("{}.{}", self.prefix, self.n_told);
        client.publish_with_reply(subject, echo.clone(), payload).await.map_err(failed)?;
        client.publish(echo.clone(), Bytes::new()).await.map_err(failed)?;
        let deadline = Instant::now() + PATIENCE;
        let mut is_heard = true;
        loop {
            match timeout_at(deadline, self.echoes.next()).await {
                // Of an earlier message, which took too long.
                Ok(Some(message)) if *message.subject != *echo => {}
                Ok(Some(message)) if message.status == Some(StatusCode::NO_RESPONDERS) => {
                    is_heard = false;
                }
                // What a subscriber replied, though nobody asked; the echo is still to come.
                Ok(Some(message)) if !message.payload.is_empty() => {}
                Ok(Some(_)) => {
                    self.deaf_until = None;
                    return Ok(is_heard);
                }
                Ok(None) | Err(_) => {
                    debug!("nothing tells whether anybody listens, so all is told");
                    self.deaf_until = Some(Instant::now() + DEAF_FOR);
                    return Ok(true);
                }
            }
        }
    }
}
