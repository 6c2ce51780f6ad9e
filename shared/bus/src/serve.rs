//! Questions and answers without storage.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_nats::{Client, HeaderMap, Message, Subscriber, client::Request};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::{Error, core::Core};

/// Requests that one endpoint works on at one time; further ones wait in the client.
const UNDER_WAY_MAX: usize = 64;

/// Headers of an answer that is an error, as all NATS micro services use them.
const ERROR_TEXT: &str = "Nats-Service-Error";
const ERROR_CODE: &str = "Nats-Service-Error-Code";

/// A request as its handler gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Where it was asked; tells a wildcard's endpoint what.
    pub subject: String,
    /// Its headers, by their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// What was asked.
    pub payload: Bytes,
}

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ServeError {
    /// Its number, as in HTTP.
    pub code: u16,
    /// What was wrong, for people.
    pub message: String,
}

impl Served {
    pub(crate) fn of(message: &Message) -> Self {
        let headers = message.headers.iter().flat_map(HeaderMap::iter);
        let headers = headers.filter_map(|(name, values)| {
            let name: &str = name.as_ref();
            Some((name.to_ascii_lowercase(), values.first()?.as_str().to_owned()))
        });
        Self {
            subject: message.subject.to_string(),
            headers: headers.collect(),
            payload: message.payload.clone(),
        }
    }
}

impl ServeError {
    /// Makes an error with this number and text.
    #[must_use]
    pub fn new(code: u16, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Answers requests until it is dropped.
#[derive(Debug)]
pub struct Server {
    _task: AbortOnDropHandle<()>,
}

impl Server {
    pub(crate) const fn of(task: AbortOnDropHandle<()>) -> Self {
        Self { _task: task }
    }
}

pub(crate) async fn serve<H, F>(
    core: &Core,
    subject: String,
    queue: &str,
    handler: H,
) -> Result<Server, Error>
where
    H: Fn(Served) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Bytes, ServeError>> + Send + 'static,
{
    let subscriber = core.client.queue_subscribe(subject, queue.to_owned()).await;
    let subscriber = subscriber.map_err(|error| Error::client("subscribe", error))?;
    core.round_trip().await;
    let task = tokio::spawn(answer_all(core.client.clone(), subscriber, Arc::new(handler)));
    Ok(Server { _task: AbortOnDropHandle::new(task) })
}

async fn answer_all<H, F>(client: Client, mut requests: Subscriber, handler: Arc<H>)
where
    H: Fn(Served) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Bytes, ServeError>> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    // Aborts its tasks when this one is dropped.
    let mut under_way = JoinSet::new();
    while let Some(message) = requests.next().await {
        while let Some(done) = under_way.try_join_next() {
            if let Err(error) = done {
                debug!(%error, "a request was not answered");
            }
        }
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let (client, handler) = (client.clone(), Arc::clone(&handler));
        under_way.spawn(async move {
            answer_one(&client, message, &*handler).await;
            drop(slot);
        });
    }
}

async fn answer_one<H, F>(client: &Client, mut message: Message, handler: &H)
where
    H: Fn(Served) -> F,
    F: Future<Output = Result<Bytes, ServeError>>,
{
    let Some(reply) = message.reply.take() else {
        debug!(subject = %message.subject, "a request names no place for the answer");
        return;
    };
    let sent = match handler(Served::of(&message)).await {
        Ok(answer) if answer.len() <= client.max_payload() => client.publish(reply, answer).await,
        Ok(answer) => {
            let text = format!("the answer of {} bytes is too large", answer.len());
            refuse(client, reply, &ServeError::new(413, text)).await
        }
        Err(error) => refuse(client, reply, &error).await,
    };
    if let Err(error) = sent {
        debug!(%error, "an answer could not be sent");
    }
}

async fn refuse(
    client: &Client,
    reply: async_nats::Subject,
    error: &ServeError,
) -> Result<(), async_nats::PublishError> {
    let mut headers = HeaderMap::new();
    let line: String =
        error.message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    headers.insert(ERROR_TEXT, line);
    headers.insert(ERROR_CODE, error.code.to_string());
    client.publish_with_headers(reply, headers, Bytes::new()).await
}

/// Asks, and waits for one answer; see [`crate::Bus::request`].
pub(crate) async fn request(
    core: &Core,
    subject: String,
    payload: Bytes,
    timeout: Duration,
) -> Result<Bytes, Error> {
    let request = Request::new().payload(payload).timeout(Some(timeout));
    let answer = core.client.send_request(subject.clone(), request).await;
    let answer = answer.map_err(|error| match error.kind() {
        async_nats::RequestErrorKind::TimedOut => {
            Error::NoAnswer { subject: subject.clone(), timeout }
        }
        async_nats::RequestErrorKind::NoResponders => {
            Error::NoResponder { subject: subject.clone() }
        }
        async_nats::RequestErrorKind::InvalidSubject
        | async_nats::RequestErrorKind::MaxPayloadExceeded
        | async_nats::RequestErrorKind::Other => Error::client("ask", error),
    })?;
    let header =
        |name: &str| answer.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned());
    match header(ERROR_TEXT) {
        Some(message) => {
            let code = header(ERROR_CODE).and_then(|code| code.parse().ok()).unwrap_or(500);
            Err(Error::Refused { subject, code, message })
        }
        None => Ok(answer.payload),
    }
}
