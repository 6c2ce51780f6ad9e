//! Events come in.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::Utc;
use domain::{
    event::{self, Event},
    id::sha256_hex,
    wire::Input,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{app::App, body::Whole, problem::Problem};

/// Events of one batch.
const BATCH_MAX: usize = 1000;

/// Events of one batch that wait for their answer at once.
const BATCH_IN_FLIGHT: usize = 64;

/// Longest `Idempotency-Key`.
const KEY_BYTES_MAX: usize = 255;

/// `POST /publish_event`: one event.
pub(crate) async fn publish_event(
    State(app): State<App>,
    headers: HeaderMap,
    body: Whole,
) -> Result<Response, Problem> {
    match decode(&headers, &body)? {
        Decoded::One(event) => one(&app, *event).await,
        Decoded::Batch(_) => Err(Problem::bad(
            "not_an_object",
            "the body is a batch, and this path takes one event",
            "send it to POST /api/v1/events",
        )),
    }
}

/// `POST /api/v1/events`: one event or a batch, plain or CloudEvents.
pub(crate) async fn events(
    State(app): State<App>,
    headers: HeaderMap,
    body: Whole,
) -> Result<Response, Problem> {
    match decode(&headers, &body)? {
        Decoded::One(event) => one(&app, *event).await,
        Decoded::Batch(events) => batch(&app, events).await,
    }
}

async fn one(app: &App, event: Event) -> Result<Response, Problem> {
    let (answered, body) = submit(app, event).await?;
    let status = if answered { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(body)).into_response())
}

/// Answers once, after the broker has all of them. Those before a failing one are
/// stored; sent again with the same ids they count once.
async fn batch(app: &App, events: Vec<Event>) -> Result<Response, Problem> {
    let answers: Vec<(bool, Value)> = stream::iter(events)
        .map(|event| submit(app, event))
        .buffered(BATCH_IN_FLIGHT)
        .try_collect()
        .await?;
    let all_answered = answers.iter().all(|(answered, _)| *answered);
    let (code, status) =
        if all_answered { (StatusCode::OK, "done") } else { (StatusCode::ACCEPTED, "accepted") };
    let results: Vec<Value> = answers.into_iter().map(|(_, body)| body).collect();
    Ok((code, Json(json!({ "status": status, "results": results }))).into_response())
}

/// Returns whether a supervisor answered in time, and what to tell the sender.
async fn submit(app: &App, event: Event) -> Result<(bool, Value), Problem> {
    let event_id = event.id.clone();
    // Sender and id together name an event; the hash keeps the broker's header short and plain.
    let id = sha256_hex(event.delivery_key().as_bytes());
    let answer = app.ask(Input::Event(event), id).await?;
    let outcome = if answer.is_some() { "answered" } else { "accepted" };
    metrics::counter!("selfheal_gateway_events_total", "outcome" => outcome).increment(1);
    Ok(match answer {
        Some(answer) => (true, json!(answer)),
        None => (
            false,
            json!({
                "status": "accepted",
                "event_id": event_id,
                "message": "The event is stored and will be handled; no supervisor answered in time.",
            }),
        ),
    })
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
        found.push((name.as_str().to_owned(), value.to_owned()));
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
