//! Every other sender, by the mapping of its integration.

use std::collections::BTreeMap;

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::Response,
};
use chrono::Utc;
use domain::{
    config::Wrapping,
    event::{self, Event},
    mapping::Message,
};
use serde_json::{Map, Value};

use crate::{
    admission::{self, Caller},
    app::App,
    body::Group,
    doors::Door,
    events::idempotency_key,
    group,
    problem::Problem,
    sns::{self, Unwrapped},
};

/// When a sender may try again while this gateway does not know its configuration yet.
const RETRY_AFTER_S: u16 = 2;

/// `POST /integrations/{name}`.
pub(crate) async fn webhook(
    State(app): State<App>,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Group,
) -> Result<Response, Problem> {
    let caller = Caller { uri: &uri, headers: &headers, body: &body.0, routing_key: None };
    let Ok(door) = app.doors().door(&name) else {
        let message = "the configuration is not known here yet";
        return Err(Problem::later("starting", message, "send it again", RETRY_AFTER_S));
    };
    let Some(door) = door else {
        admission::admit(&app, &name, &caller).await?;
        return Err(unknown(&name));
    };
    let Some(mapper) = &door.mapper else {
        admission::admit(&app, &name, &caller).await?;
        return Err(unknown(&name));
    };
    let wrapped = mapper.mapping().envelope == Some(Wrapping::Sns);
    let body_value = if wrapped {
        match sns::unwrap(&app, &door, &caller).await? {
            Unwrapped::Message(message) => message,
            Unwrapped::Confirmed => return group::accept(&app, Vec::new()).await,
        }
    } else {
        admission::admit(&app, &name, &caller).await?;
        read(&headers, &body.0)?
    };
    let seen_headers = seen_headers(&door, &headers);
    let query = seen_query(&door, &uri);
    let message =
        Message { body: &body_value, headers: &seen_headers, query: &query, at: Utc::now() };
    let mut events = mapper.events(&message);
    let key = idempotency_key(&headers)?;
    for (idx, event) in events.iter_mut().enumerate() {
        name_it(&app, event, key.as_deref(), idx);
    }
    group::fit(&mut events, body.0.len());
    group::accept(&app, events).await
}

/// An event that has no id of its sender's gets that of the request, or one of ours: the same
/// content may come again when the same trouble has come again.
fn name_it(app: &App, event: &mut Event, key: Option<&str>, idx: usize) {
    if !event.id.is_empty() {
        return;
    }
    event.id = match key {
        Some(key) if idx == 0 => key.to_owned(),
        Some(key) => format!("{key}/{idx}"),
        None => app.ids().next().to_string(),
    };
}

fn unknown(name: &str) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown_integration",
        format!("there is no integration `{}`", event::short_text(name, 64)),
        "add it to `integrations` in the configuration, or use a ready one: docs/integrations.md",
    )
}

/// Reads a body: JSON, a form, or a text.
fn read(headers: &HeaderMap, body: &[u8]) -> Result<Value, Problem> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let media = media.unwrap_or_default().to_ascii_lowercase();
    if media.starts_with("application/x-www-form-urlencoded") {
        let text = String::from_utf8_lossy(body);
        // Several senders put JSON there and do not say so.
        if !text.trim_start().starts_with('{') {
            let pairs = admission::form(&text);
            let pairs = pairs.into_iter().map(|(key, value)| (key, Value::String(value)));
            return Ok(Value::Object(Map::from_iter(pairs)));
        }
    }
    match event::json(body) {
        Ok(value) => Ok(value),
        Err(error) if media.contains("json") => Err(error.into()),
        Err(_not_json) => Ok(Value::String(String::from_utf8_lossy(body).into_owned())),
    }
}

fn seen_headers(door: &Door, headers: &HeaderMap) -> BTreeMap<String, String> {
    let lock = door.integration.secret.as_ref();
    let seen = headers.iter().filter(|(name, _)| !admission::is_secret_header(lock, name.as_str()));
    let text =
        |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    seen.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

fn seen_query(door: &Door, uri: &Uri) -> BTreeMap<String, String> {
    let secret = door.integration.secret.as_ref().and_then(|it| it.query.as_ref());
    let pairs = admission::form(uri.query().unwrap_or_default()).into_iter();
    pairs.filter(|(name, _)| secret.is_none_or(|it| it.name != *name)).collect()
}
