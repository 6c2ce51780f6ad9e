//! Server-sent events: every decision, and the progress of work.

use std::{
    convert::Infallible,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Extension,
    extract::{Query as UrlQuery, State, rejection::QueryRejection},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use bus::{Bus, Subscription};
use bytes::Bytes;
use domain::{id::IncidentId, redact::Redactor};
use futures_util::{Stream, StreamExt as _, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use service::{BoxError, Chain};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{access::Caller, app::App, incidents, problem::Problem, seen};

/// Messages that a slow reader may be behind; then it is told how many it missed.
const BEHIND_MAX: usize = 1024;

/// Readers at once: each is an open connection.
const READERS_MAX: usize = 256;

/// Proxies close connections that are silent for a minute or less.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// How long to wait before subscribing again after a failure.
const RESUBSCRIBE_AFTER: Duration = Duration::from_secs(1);

/// How long a reader waits for the subscription; without a broker it follows from then on
/// when there is one.
const SUBSCRIBE_WAIT: Duration = Duration::from_secs(2);

/// One subscription, and everybody who reads it. There is none while nobody reads: every
/// decision would be sent here only to be thrown away.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    sender: broadcast::Sender<Arc<Message>>,
    places: Arc<Semaphore>,
    n_readers: watch::Sender<usize>,
    is_subscribed: watch::Sender<bool>,
}

/// One who reads, until it is dropped.
#[derive(Debug)]
struct Reader {
    messages: broadcast::Receiver<Arc<Message>>,
    n_readers: watch::Sender<usize>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.n_readers.send_modify(|n| *n = n.saturating_sub(1));
    }
}

/// One message of the live subjects.
#[derive(Debug)]
struct Message {
    /// The incident, as the subject's last part has it.
    incident: String,
    /// Number of the decision, if it is one.
    seq: Option<u64>,
    /// JSON on one line.
    data: String,
    /// The same as all but admins may see it, made when the first of them reads it.
    shown: OnceLock<String>,
}

impl Message {
    fn new(subject: &str, payload: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(payload).ok()?;
        let incident = subject.rsplit('.').next().unwrap_or_default().to_owned();
        Some(Self {
            incident,
            seq: value.get("seq").and_then(Value::as_u64),
            data: value.to_string(),
            shown: OnceLock::new(),
        })
    }

    /// Returns what a reader is sent; with a redactor, what all but admins may see.
    fn event(&self, redactor: Option<&Redactor>) -> Event {
        let data = match redactor {
            Some(redactor) => self.shown.get_or_init(|| seen::live(redactor, &self.data)),
            None => &self.data,
        };
        match self.seq {
            Some(seq) => Event::default().event("decision").id(seq.to_string()).data(data),
            None => Event::default().event("progress").data(data),
        }
    }
}

impl Live {
    pub(crate) fn new() -> Self {
        let (sender, _) = broadcast::channel(BEHIND_MAX);
        Self {
            sender,
            places: Arc::new(Semaphore::new(READERS_MAX)),
            n_readers: watch::Sender::new(0),
            is_subscribed: watch::Sender::new(false),
        }
    }

    /// Takes a place; what is told from now on is read. None when there are too many readers.
    async fn read(&self) -> Option<Reader> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let reader = Reader {
            messages: self.sender.subscribe(),
            n_readers: self.n_readers.clone(),
            _place: place,
        };
        self.n_readers.send_modify(|n| *n += 1);
        let mut is_subscribed = self.is_subscribed.subscribe();
        let subscribed = is_subscribed.wait_for(|is_subscribed| *is_subscribed);
        if tokio::time::timeout(SUBSCRIBE_WAIT, subscribed).await.is_err() {
            debug!("a reader waits for the broker");
        }
        Some(reader)
    }

    /// Passes on what comes while somebody reads, until `stop`.
    pub(crate) async fn follow(self, bus: Bus, stop: CancellationToken) -> Result<(), BoxError> {
        let all = bus.subjects().live_all();
        let mut readers = self.n_readers.subscribe();
        while stop.run_until_cancelled(readers.wait_for(|n| 0 < *n)).await.is_some() {
            match bus.subscribe(all.clone(), None).await {
                Ok(subscription) => {
                    self.is_subscribed.send_replace(true);
                    self.pass_all_on(subscription, &mut readers, &stop).await;
                    self.is_subscribed.send_replace(false);
                }
                Err(error) => {
                    warn!(error = %Chain(&error), "cannot follow the live subjects, trying again");
                    let wait = tokio::time::sleep(RESUBSCRIBE_AFTER);
                    let _stopped = stop.run_until_cancelled(wait).await.is_none();
                }
            }
        }
        Ok(())
    }

    /// Ends when nobody reads any more, when the subscription ends, and at `stop`.
    async fn pass_all_on(
        &self,
        mut subscription: Subscription,
        readers: &mut watch::Receiver<usize>,
        stop: &CancellationToken,
    ) {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = gone(readers) => if self.leave() { return },
                message = subscription.next() => match message {
                    Some(message) => self.pass_on(&message.subject, &message.payload),
                    None => return,
                },
            }
        }
    }

    /// Says that nothing is followed any more, unless somebody has come meanwhile: whoever
    /// counts himself in later sees it, and waits for the next subscription.
    fn leave(&self) -> bool {
        let mut leaves = false;
        self.n_readers.send_if_modified(|n| {
            leaves = *n == 0;
            if leaves {
                self.is_subscribed.send_replace(false);
            }
            false
        });
        leaves
    }

    fn pass_on(&self, subject: &str, payload: &Bytes) {
        match Message::new(subject, payload) {
            Some(message) => {
                let _readers = self.sender.send(Arc::new(message)).unwrap_or(0);
            }
            None => debug!(subject, "a live message is not JSON"),
        }
    }
}

/// Waits until nobody reads. The guard of the count must not be held by who changes it.
async fn gone(readers: &mut watch::Receiver<usize>) {
    drop(readers.wait_for(|n| *n == 0).await);
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    incident: Option<String>,
}

/// `GET /api/v1/stream`, all or one incident.
pub(crate) async fn stream(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    which: Result<UrlQuery<Which>, QueryRejection>,
) -> Result<Response, Problem> {
    let UrlQuery(which) = which.map_err(|error| {
        Problem::bad(
            "invalid_query",
            format!("the query cannot be read: {error}"),
            "use incident=<id>, or nothing",
        )
    })?;
    let principal = Arc::clone(caller.require_any()?);
    let only = which.incident.as_deref().map(incidents::id).transpose()?;
    let live = app.live();
    let Some(reader) = live.read().await else {
        return Err(Problem::later(
            "too_many_readers",
            format!("{READERS_MAX} readers follow the stream already"),
            "close one, or read GET /api/v1/incidents now and then",
            10,
        ));
    };
    let hello = json!({ "message": "following", "incident": only }).to_string();
    let first = stream::iter([Ok(Event::default().event("hello").data(hello))]);
    let app_of_reader = seen::reader(&principal).map(|_| app.clone());
    let events = first.chain(events(reader, only, app_of_reader));
    let events = events.take_until(app.stop().clone().cancelled_owned());
    // A token that is revoked, or ends, counts no more, also for what it has opened.
    let access = app.access().clone();
    let events = events.take_until(async move { access.ended(&principal).await });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE_EVERY);
    let headers = [("cache-control", "no-cache"), ("x-accel-buffering", "no")];
    Ok((headers, Sse::new(events).keep_alive(keep_alive)).into_response())
}

fn events(
    reader: Reader,
    only: Option<IncidentId>,
    redacting: Option<App>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let only = only.map(|id| id.to_string());
    // The place is given back when the reader goes and the stream is dropped.
    stream::unfold((reader, only, redacting), |(mut reader, only, redacting)| async move {
        let event = loop {
            match reader.messages.recv().await {
                Ok(message) if only.as_ref().is_none_or(|only| *only == message.incident) => {
                    let redactor = redacting.as_ref().map(App::redactor);
                    break message.event(redactor.as_deref());
                }
                Ok(_other) => {}
                Err(broadcast::error::RecvError::Lagged(n_missed)) => {
                    let data = json!({ "n_missed": n_missed }).to_string();
                    break Event::default().event("missed").data(data);
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        };
        Some((Ok(event), (reader, only, redacting)))
    })
}
