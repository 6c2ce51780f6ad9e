//! Events come in.

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use chrono::Utc;
use domain::{
    event::{self, Event, Origin},
    wire::{Answer, Input},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use metrics::Counter;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{access::Caller, app::App, backend, body::Whole, front, problem::Problem};

/// Events of one batch.
pub(crate) const BATCH_MAX: usize = 1000;

/// Events of one batch that wait for their answer at once.
const BATCH_IN_FLIGHT: usize = 64;

/// Longest `Idempotency-Key`.
pub(crate) const KEY_BYTES_MAX: usize = 255;

/// `POST /publish_event`: one event.
pub(crate) async fn publish_event(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Whole,
) -> Result<Response, Problem> {
    let origin = caller.require_any()?.origin();
    match decode(&headers, &body)? {
        Decoded::One(event) => {
            let event = event.sent_by(origin);
            let id = envelope_id(&event);
            one(&app, event, id).await
        }
        Decoded::Batch(_) => Err(batch_refused()),
    }
}

/// The same for a body that is known to be plain JSON; see [`crate::front`].
pub(crate) async fn publish_plain(
    app: &App,
    caller: &Caller,
    body: &Bytes,
) -> Result<Response, Problem> {
    let value = event::json(body)?;
    if value.is_array() {
        return Err(batch_refused());
    }
    let mut text = Uuid::encode_buffer();
    let id = app.ids().next().hyphenated().encode_lower(&mut text).to_owned();
    let context = event::Context { id, kind: None, at: Utc::now() };
    let event = any_structured(value, &context)?.sent_by(caller.require_any()?.origin());
    // An id of our own is unique by itself.
    let id = if event.id == context.id { context.id } else { envelope_id(&event) };
    one(app, event, id).await
}

/// Names the event wherever it goes.
pub(crate) fn envelope_id(event: &Event) -> String {
    event.delivery().to_string()
}

fn batch_refused() -> Problem {
    Problem::bad(
        "not_an_object",
        "the body is a batch, and this path takes one event",
        "send it to POST /api/v1/events",
    )
}

/// `POST /api/v1/events`: one event or a batch, plain or CloudEvents.
pub(crate) async fn events(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Whole,
) -> Result<Response, Problem> {
    let origin = caller.require_any()?.origin();
    match decode(&headers, &body)? {
        Decoded::One(event) => {
            let event = event.sent_by(origin);
            let id = envelope_id(&event);
            one(&app, event, id).await
        }
        Decoded::Batch(events) => batch(&app, &origin, events).await,
    }
}

async fn one(app: &App, event: Event, id: String) -> Result<Response, Problem> {
    let (status, told) = match submit(app, event, id).await? {
        Outcome::Answered(answer) => (StatusCode::OK, serde_json::to_vec(&answer)),
        Outcome::Accepted { event_id } => {
            (StatusCode::ACCEPTED, serde_json::to_vec(&accepted(&event_id)))
        }
    };
    told.map(|body| front::json(status, body)).map_err(|error| backend::defect(&error))
}

/// Answers once, after the broker has all of them. Those before a failing one are
/// stored; sent again with the same ids they count once.
async fn batch(app: &App, origin: &Origin, events: Vec<Event>) -> Result<Response, Problem> {
    let outcomes: Vec<Outcome> = stream::iter(events)
        .map(|event| {
            let event = event.sent_by(origin.clone());
            let id = envelope_id(&event);
            submit(app, event, id)
        })
        .buffered(BATCH_IN_FLIGHT)
        .try_collect()
        .await?;
    let all_answered = outcomes.iter().all(|it| matches!(it, Outcome::Answered(_)));
    let (code, status) =
        if all_answered { (StatusCode::OK, "done") } else { (StatusCode::ACCEPTED, "accepted") };
    let told = |outcome| match outcome {
        Outcome::Answered(answer) => json!(answer),
        Outcome::Accepted { event_id } => accepted(&event_id),
    };
    let results: Vec<Value> = outcomes.into_iter().map(told).collect();
    Ok((code, Json(json!({ "status": status, "results": results }))).into_response())
}

/// What became of one event.
#[derive(Debug)]
enum Outcome {
    /// A supervisor answered in time.
    Answered(Answer),
    /// The broker has it.
    Accepted { event_id: String },
}

async fn submit(app: &App, event: Event, id: String) -> Result<Outcome, Problem> {
    let event_id = event.id.clone();
    let answer = app.ask(Input::Event(event), id).await?;
    let meters = app.meters();
    Ok(match answer {
        Some(answer) => {
            meters.answered.increment(1);
            Outcome::Answered(answer)
        }
        None => {
            meters.accepted.increment(1);
            Outcome::Accepted { event_id }
        }
    })
}

fn accepted(event_id: &str) -> Value {
    json!({
        "status": "accepted",
        "event_id": event_id,
        "message": "The event is stored and will be handled; no supervisor answered in time.",
    })
}

/// Counts events; looked up once.
#[derive(Debug)]
pub(crate) struct Meters {
    answered: Counter,
    accepted: Counter,
}

impl Meters {
    pub(crate) fn new() -> Self {
        let counter =
            |outcome| metrics::counter!("selfheal_gateway_events_total", "outcome" => outcome);
        Self { answered: counter("answered"), accepted: counter("accepted") }
    }

    /// Counts events that were stored, and whose sender does not wait for more.
    pub(crate) fn accepted(&self, n_events: u64) {
        self.accepted.increment(n_events);
    }
}

#[derive(Debug)]
enum Decoded {
    One(Box<Event>),
    Batch(Vec<Event>),
}

fn decode(headers: &HeaderMap, body: &Whole) -> Result<Decoded, Problem> {
    let key = idempotency_key(headers)?;
    let context = |idx: Option<usize>| event::Context {
        id: match (&key, idx) {
            (Some(key), None) => key.clone(),
            (Some(key), Some(idx)) => format!("{key}/{idx}"),
            (None, _) => Uuid::now_v7().to_string(),
        },
        kind: None,
        at: Utc::now(),
    };
    let media = media_type(headers)?;
    if let Some(format) = media.strip_prefix("application/cloudevents") {
        return match format {
            "-batch+json" => many(event::json(&body.0)?, &context, event::cloudevent_structured),
            "" | "+json" => {
                let event = event::cloudevent_structured(event::json(&body.0)?, &context(None))?;
                Ok(Decoded::One(Box::new(event)))
            }
            _ => Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unknown_format",
                format!("CloudEvents in the format `{media}` cannot be read"),
                "send application/cloudevents+json or application/cloudevents-batch+json",
            )),
        };
    }
    if let Some(headers) = binary_mode(headers)? {
        let event = event::message(&headers, &body.0, &context(None))?;
        return Ok(Decoded::One(Box::new(event)));
    }
    let value = event::json(&body.0)?;
    if value.is_array() {
        return many(value, &context, any_structured);
    }
    Ok(Decoded::One(Box::new(any_structured(value, &context(None))?)))
}

type Decoder = fn(Value, &event::Context) -> Result<Event, event::DecodeError>;

/// Reads the plain form, or a CloudEvent whose sender forgot the content type.
fn any_structured(value: Value, context: &event::Context) -> Result<Event, event::DecodeError> {
    if value.get("specversion").is_some() {
        event::cloudevent_structured(value, context)
    } else {
        event::plain(value, context)
    }
}

/// Reads a batch: all of it, or nothing.
fn many(
    value: Value,
    context: &impl Fn(Option<usize>) -> event::Context,
    decoder: Decoder,
) -> Result<Decoded, Problem> {
    let Value::Array(list) = value else {
        return Err(Problem::bad(
            "not_a_list",
            "a batch is a JSON list of events",
            "send [{...}, {...}]",
        ));
    };
    if BATCH_MAX < list.len() {
        return Err(Problem::bad(
            "batch_too_long",
            format!("the batch has {} events; {BATCH_MAX} are taken at once", list.len()),
            "send several batches",
        ));
    }
    let decoded = list.into_iter().enumerate().map(|(idx, value)| {
        decoder(value, &context(Some(idx))).map_err(|error| Problem::from(error).at(idx))
    });
    decoded.collect::<Result<Vec<_>, _>>().map(Decoded::Batch)
}

/// Returns the attributes of a CloudEvent in binary mode, in the form of the NATS
/// binding, if this is one: HTTP alone has no `ce-datacontenttype`.
fn binary_mode(headers: &HeaderMap) -> Result<Option<Vec<(String, String)>>, Problem> {
    let mut found = Vec::new();
    for (name, value) in headers {
        if !name.as_str().starts_with("ce-") || name == "ce-datacontenttype" {
            continue;
        }
        let value = std::str::from_utf8(value.as_bytes()).map_err(|error| {
            Problem::bad(
                "invalid_header",
                format!("header `{name}` is not UTF-8: {error}"),
                "percent-encode it",
            )
        })?;
        found.push((name.as_str().to_owned(), unquoted(value)));
    }
    if found.is_empty() {
        return Ok(None);
    }
    if !found.iter().any(|(name, _)| name == "ce-specversion") {
        return Err(Problem::bad(
            "invalid_field",
            "header `ce-specversion` is missing, but others of a CloudEvent are there",
            "send ce-specversion: 1.0, ce-id, ce-source and ce-type",
        ));
    }
    if let Some(content_type) = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()) {
        found.push(("ce-datacontenttype".to_owned(), content_type.replace('%', "%25")));
    }
    Ok(Some(found))
}

/// Returns a header's value without the quotes that older versions of the specification allow
/// around it (RFC 9110, section 5.6.4).
fn unquoted(value: &str) -> String {
    let inner = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    let Some(inner) = inner else { return value.to_owned() };
    let mut whole = String::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(it) = rest.next() {
        whole.extend(if it == '\\' { rest.next() } else { Some(it) });
    }
    whole
}

fn media_type(headers: &HeaderMap) -> Result<String, Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(String::new()) };
    let text = value.to_str().map_err(|error| {
        Problem::bad(
            "invalid_header",
            format!("header `content-type`: {error}"),
            "send application/json",
        )
    })?;
    let (media, parameters) = text.split_once(';').unwrap_or((text, ""));
    let charset = parameters.split(';').find_map(|it| {
        let (name, value) = it.trim().split_once('=')?;
        name.eq_ignore_ascii_case("charset").then(|| value.trim_matches('"').to_ascii_lowercase())
    });
    match charset.as_deref() {
        None | Some("utf-8" | "utf8" | "us-ascii") => Ok(media.trim().to_ascii_lowercase()),
        Some(other) => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unknown_charset",
            format!("text in `{other}` cannot be read"),
            "send UTF-8",
        )),
    }
}

/// Returns the sender's key for "this very request", if it sends one.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim().trim_matches('"');
    let legal = !text.is_empty()
        && text.len() <= KEY_BYTES_MAX
        && text.bytes().all(|b| b.is_ascii_graphic());
    if !legal {
        return Err(Problem::bad(
            "invalid_header",
            format!(
                "header `idempotency-key` must be 1 to {KEY_BYTES_MAX} visible ASCII characters"
            ),
            "send a UUID",
        ));
    }
    Ok(Some(text.to_owned()))
}
