//! Reads, answered by any supervisor from its folded state.

use bus::{Bus, ServeError, Served, Server, topology::LEDGER_BYTES_MAX};
use bytes::Bytes;
use chrono::Utc;
use domain::{
    desk::Desk,
    view::{AlertsFrom, Filter, Query},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

use tokio::sync::{Semaphore, watch};

use crate::state::{Shared, Stored};

/// Queue of all supervisors: one of them answers.
const QUEUE: &str = "supervisor";
/// What only the one that leads answers: who it is.
const LEADER: &str = "leader";
/// Questions that look at the state at one time.
pub(crate) const READERS_MAX: usize = 2;
/// How long an answer waits until what it tells is stored.
const STORED_WAIT: Duration = Duration::from_secs(1);
/// How long to wait for the one that leads to say so.
const LEADER_WAIT: Duration = Duration::from_millis(300);

/// What the shell knows besides the state.
#[derive(Clone, Debug)]
pub(crate) struct About {
    /// Who we are.
    pub(crate) member_id: String,
    /// The broker, to ask who leads when we do not.
    pub(crate) bus: Bus,
    /// Sequence of the newest inbox message that we have heard of.
    pub(crate) inbox_last: watch::Receiver<u64>,
    /// How far what is decided is stored.
    pub(crate) stored: watch::Receiver<Stored>,
    /// Those who may read the state at one time.
    pub(crate) readers: Arc<Semaphore>,
}

/// Begins to answer all questions.
///
/// # Errors
///
/// When the subjects cannot be subscribed to.
pub(crate) async fn serve(
    bus: &Bus,
    state: &Shared,
    about: &About,
) -> Result<Vec<Server>, bus::Error> {
    let mut servers = Vec::new();
    for what in Query::SUBJECTS {
        let (state, about) = (state.clone(), about.clone());
        let handler = move |served: Served| {
            let (state, about) = (state.clone(), about.clone());
            async move { answer(what, &served.payload, &state, &about).await }
        };
        servers.push(bus.serve(bus.subjects().query(what), QUEUE, handler).await?);
    }
    Ok(servers)
}

async fn answer(
    what: &str,
    payload: &Bytes,
    state: &Shared,
    about: &About,
) -> Result<Bytes, ServeError> {
    match what {
        "status" => status(state, about).await,
        "incidents" => {
            let filter = match query(what, payload)? {
                Some(Query::Incidents(filter)) => filter,
                Some(
                    Query::Incident { .. }
                    | Query::Status
                    | Query::Silences
                    | Query::Alerts(_)
                    | Query::Config,
                )
                | None => Filter::default(),
            };
            json(&read(state, about, |desk| desk.page(&filter)).await)
        }
        "incident" => match query(what, payload)? {
            Some(Query::Incident { id }) => json(&read(state, about, |desk| desk.detail(id)).await),
            _ => Err(ServeError::new(400, "the query names no incident: send {\"id\": \"...\"}")),
        },
        "alerts" => {
            let from = match query(what, payload)? {
                Some(Query::Alerts(from)) => from,
                Some(
                    Query::Incident { .. }
                    | Query::Incidents(_)
                    | Query::Status
                    | Query::Silences
                    | Query::Config,
                )
                | None => AlertsFrom::default(),
            };
            // What is silenced now is so by the clock: nothing is decided with it.
            json(&read(state, about, |desk| desk.alerts(&from, Utc::now())).await)
        }
        "silences" => json(&read(state, about, Desk::silences).await),
        "config" => {
            let text = json(&read(state, about, |desk| desk.config().clone()).await)?;
            if LEDGER_BYTES_MAX < text.len() {
                let why = "the configuration is larger than one message: read it from the bucket";
                return Err(ServeError::new(413, why));
            }
            Ok(text)
        }
        _ => Err(ServeError::new(404, format!("there is no query {what}"))),
    }
}

/// Reads the desk, and waits until what was read is stored: a leader decides ahead of the
/// ledger, and what is decided and not stored may never have happened.
async fn read<T>(state: &Shared, about: &About, look: impl Fn(&Desk) -> T) -> T {
    // Long lists of many readers at once would keep the leader from deciding.
    let _slot = about.readers.acquire().await;
    let mut stored = about.stored.clone();
    loop {
        let n_resets = stored.borrow_and_update().n_resets;
        let (seen, n_decisions) = {
            let state = state.read().await;
            let desk = state.core.desk();
            (look(desk), desk.n_decisions())
        };
        let storing =
            stored.wait_for(|it| it.n_resets != n_resets || n_decisions <= it.n_decisions);
        match tokio::time::timeout(STORED_WAIT, storing).await {
            Ok(Ok(now)) if now.n_resets != n_resets => {}
            // The broker is away or full: then people need to see what there is.
            Ok(_) | Err(_) => return seen,
        }
    }
}

async fn status(state: &Shared, about: &About) -> Result<Bytes, ServeError> {
    let mut view = read(state, about, Desk::system).await;
    let leading = {
        let state = state.read().await;
        view.log_lag = u64::try_from(state.log.n_waiting()).unwrap_or(u64::MAX);
        view.n_rejected = state.core.n_rejected();
        view.ledger_foreign.clone_from(&state.foreign);
        state.leading
    };
    view.answered_by.clone_from(&about.member_id);
    view.inbox_lag = about.inbox_last.borrow().saturating_sub(view.position.seq);
    view.leader = if leading { Some(about.member_id.clone()) } else { leader(&about.bus).await };
    json(&view)
}

/// Asks who leads; `None` when nobody says so in time.
async fn leader(bus: &Bus) -> Option<String> {
    let subject = bus.subjects().query(LEADER);
    let answer = bus.request(subject, Bytes::new(), LEADER_WAIT).await.ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// Begins to say that we lead, until the result is dropped.
///
/// # Errors
///
/// When the subject cannot be subscribed to.
pub(crate) async fn serve_leader(bus: &Bus, member_id: &str) -> Result<Server, bus::Error> {
    let member_id = Bytes::from(member_id.to_owned());
    let handler = move |_: Served| {
        let member_id = member_id.clone();
        async move { Ok(member_id) }
    };
    bus.serve(bus.subjects().query(LEADER), QUEUE, handler).await
}

/// Reads a query with or without the field `what`, which the subject says already.
fn query(what: &str, payload: &[u8]) -> Result<Option<Query>, ServeError> {
    if payload.is_empty() {
        return Ok(None);
    }
    let mut value: Value = parsed(payload)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("what".to_owned(), Value::from(what));
    }
    serde_json::from_value(value)
        .map(Some)
        .map_err(|error| ServeError::new(400, format!("not a query for {what}: {error}")))
}

fn parsed<T: DeserializeOwned>(payload: &[u8]) -> Result<T, ServeError> {
    serde_json::from_slice(payload)
        .map_err(|error| ServeError::new(400, format!("the query is not JSON: {error}")))
}

fn json<T: Serialize>(value: &T) -> Result<Bytes, ServeError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| ServeError::new(500, format!("cannot write the answer: {error}")))
}
