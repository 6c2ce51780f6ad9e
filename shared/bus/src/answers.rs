//! Answers to inputs: stored first, answered when decided.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use domain::wire::{Envelope, Input};
use serde::de::DeserializeOwned;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::{Accepted, Error, InboxWriter, Subscription, core::Core};

/// What became of an input that was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked<A> {
    /// It was decided.
    Answer(A),
    /// It is stored and will be decided; nobody answered in time.
    Accepted(Accepted),
}

/// Those who wait, by the last part of the subject that they named.
type Waiting = HashMap<u64, oneshot::Sender<Bytes>>;

type Awaited = Arc<Mutex<Waiting>>;

/// Listens on one subject for all answers to this process.
#[derive(Debug)]
pub(crate) struct Answers {
    /// Of this process alone, so that a number behind it names one question.
    prefix: String,
    n_asked: AtomicU64,
    awaited: Awaited,
    _dispatcher: AbortOnDropHandle<()>,
}

/// Forgets an awaited answer when nobody waits any more.
struct Await<'a> {
    awaited: &'a Awaited,
    token: u64,
}

impl Drop for Await<'_> {
    fn drop(&mut self) {
        lock(self.awaited).remove(&self.token);
    }
}

fn lock(awaited: &Awaited) -> std::sync::MutexGuard<'_, Waiting> {
    awaited.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Answers {
    pub(crate) async fn listen(core: &Core) -> Result<Self, Error> {
        let prefix = core.client.new_inbox();
        let subscription = Subscription::open(core, format!("{prefix}.*"), None).await?;
        let awaited = Awaited::default();
        let task = tokio::spawn(dispatch(subscription, Arc::clone(&awaited)));
        Ok(Self {
            prefix,
            n_asked: AtomicU64::new(0),
            awaited,
            _dispatcher: AbortOnDropHandle::new(task),
        })
    }

    pub(crate) async fn ask<A: DeserializeOwned>(
        &self,
        writer: &InboxWriter,
        input: Input,
        id: String,
        timeout: Duration,
    ) -> Result<Asked<A>, Error> {
        let deadline = Instant::now() + timeout;
        let token = self.n_asked.fetch_add(1, Ordering::Relaxed);
        let (tx, answer) = oneshot::channel();
        lock(&self.awaited).insert(token, tx);
        let _await = Await { awaited: &self.awaited, token };
        let kind = input.kind();
        let envelope = Envelope {
            reply_to: Some(format!("{}.{token}", self.prefix)),
            ..Envelope::new(id, input)
        };
        let accepted = writer.submit(kind, envelope).await.map_err(Error::NotAccepted)?;
        let Ok(Ok(answer)) = timeout_at(deadline, answer).await else {
            return Ok(Asked::Accepted(accepted));
        };
        serde_json::from_slice(&answer).map(Asked::Answer).or_else(|error| {
            // The input is safe, whatever the answer was meant to say.
            debug!(%error, "an answer cannot be read");
            Ok(Asked::Accepted(accepted))
        })
    }
}

async fn dispatch(mut subscription: Subscription, awaited: Awaited) {
    while let Some(message) = subscription.next().await {
        let token = message.subject.rsplit('.').next().and_then(|token| token.parse().ok());
        let waiting = token.and_then(|token: u64| lock(&awaited).remove(&token));
        let Some(waiting) = waiting else {
            debug!(subject = message.subject, "an answer came that nobody waits for");
            continue;
        };
        if waiting.send(message.payload).is_err() {
            debug!("the one who waited for the answer is gone");
        }
    }
}
