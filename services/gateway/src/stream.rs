//! Server-sent events: every decision, and the progress of work.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Query as UrlQuery, State, rejection::QueryRejection},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use bus::Bus;
use bytes::Bytes;
use domain::id::IncidentId;
use futures_util::{Stream, StreamExt as _, stream};
use serde::Deserialize;
use serde_json::{Value, json};
use service::{BoxError, Chain};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{app::App, incidents, problem::Problem};

/// Messages that a slow reader may be behind; then it is told how many it missed.
const BEHIND_MAX: usize = 1024;

/// Readers at once: each is an open connection.
const READERS_MAX: usize = 256;

/// Proxies close connections that are silent for a minute or less.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// How long to wait before subscribing again after a failure.
const RESUBSCRIBE_AFTER: Duration = Duration::from_secs(1);

/// One subscription, and everybody who reads it.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    sender: broadcast::Sender<Arc<Message>>,
    places: Arc<Semaphore>,
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
}

impl Message {
    fn new(subject: &str, payload: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(payload).ok()?;
        let incident = subject.rsplit('.').next().unwrap_or_default().to_owned();
        Some(Self {
            incident,
            seq: value.get("seq").and_then(Value::as_u64),
            data: value.to_string(),
        })
    }

    fn event(&self) -> Event {
        match self.seq {
            Some(seq) => Event::default().event("decision").id(seq.to_string()).data(&self.data),
            None => Event::default().event("progress").data(&self.data),
        }
    }
}

impl Live {
    pub(crate) fn new() -> Self {
        let (sender, _) = broadcast::channel(BEHIND_MAX);
        Self { sender, places: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    /// Passes on what comes, until `stop`.
    pub(crate) async fn follow(self, bus: Bus, stop: CancellationToken) -> Result<(), BoxError> {
        let all = bus.subjects().live_all();
        while !stop.is_cancelled() {
            let mut subscription = match bus.subscribe(all.clone(), None).await {
                Ok(subscription) => subscription,
                Err(error) => {
                    warn!(error = %Chain(&error), "cannot follow the live subjects, trying again");
                    let wait = tokio::time::sleep(RESUBSCRIBE_AFTER);
                    let _stopped = stop.run_until_cancelled(wait).await.is_none();
                    continue;
                }
            };
            while let Some(Some(message)) = stop.run_until_cancelled(subscription.next()).await {
                self.pass_on(&message.subject, &message.payload);
            }
        }
        Ok(())
    }

    fn pass_on(&self, subject: &str, payload: &Bytes) {
        // Without readers nothing needs to be parsed.
        if self.sender.receiver_count() == 0 {
            return;
        }
        match Message::new(subject, payload) {
            Some(message) => {
                let _readers = self.sender.send(Arc::new(message)).unwrap_or(0);
            }
            None => debug!(subject, "a live message is not JSON"),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    incident: Option<String>,
}

/// `GET /api/v1/stream`, all or one incident.
pub(crate) async fn stream(
    State(app): State<App>,
    which: Result<UrlQuery<Which>, QueryRejection>,
) -> Result<Response, Problem> {
    let UrlQuery(which) = which.map_err(|error| {
        Problem::bad(
            "invalid_query",
            format!("the query cannot be read: {error}"),
            "use incident=<id>, or nothing",
        )
    })?;
    let only = which.incident.as_deref().map(incidents::id).transpose()?;
    let live = app.live();
    let Ok(place) = Arc::clone(&live.places).try_acquire_owned() else {
        return Err(Problem::later(
            "too_many_readers",
            format!("{READERS_MAX} readers follow the stream already"),
            "close one, or read GET /api/v1/incidents now and then",
            10,
        ));
    };
    let receiver = live.sender.subscribe();
    let hello = json!({ "message": "following", "incident": only }).to_string();
    let first = stream::iter([Ok(Event::default().event("hello").data(hello))]);
    let events = first.chain(events(receiver, only, place));
    let events = events.take_until(app.stop().clone().cancelled_owned());
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE_EVERY);
    let headers = [("cache-control", "no-cache"), ("x-accel-buffering", "no")];
    Ok((headers, Sse::new(events).keep_alive(keep_alive)).into_response())
}

fn events(
    receiver: broadcast::Receiver<Arc<Message>>,
    only: Option<IncidentId>,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let only = only.map(|id| id.to_string());
    // The place is given back when the reader goes and the stream is dropped.
    stream::unfold((receiver, only, place), |(mut receiver, only, place)| async move {
        let event = loop {
            match receiver.recv().await {
                Ok(message) if only.as_ref().is_none_or(|only| *only == message.incident) => {
                    break message.event();
                }
                Ok(_other) => {}
                Err(broadcast::error::RecvError::Lagged(n_missed)) => {
                    let data = json!({ "n_missed": n_missed }).to_string();
                    break Event::default().event("missed").data(data);
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        };
        Some((Ok(event), (receiver, only, place)))
    })
}
