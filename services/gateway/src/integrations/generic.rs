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

/// Parts of a form that are read; no sender we know has more than one.
const PARTS_MAX: usize = 100;

/// `POST /integrations/{name}`.
pub(crate) async fn webhook(
    State(app): State<App>,
    Path(name): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Group,
) -> Result<Response, Problem> {
    let caller = Caller::of(&uri, &headers, &body, None);
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
    let (origin, body_value) = if wrapped {
        match sns::unwrap(&app, &door, &caller).await? {
            Unwrapped::Message(origin, message) => (origin, message),
            Unwrapped::Confirmed => {
                return group::accept(&app, &admission::of_integration(&name), Vec::new()).await;
            }
        }
    } else {
        let origin = admission::admit(&app, &name, &caller).await?;
        (origin, read(&headers, &body.0)?)
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
    group::accept(&app, &origin, events).await
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
pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Value, Problem> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let media = media.unwrap_or_default();
    let is = |kind: &str| media.get(..kind.len()).is_some_and(|it| it.eq_ignore_ascii_case(kind));
    // Several senders put JSON there and do not say so.
    let is_form = !body.trim_ascii_start().starts_with(b"{");
    if is_form && is("application/x-www-form-urlencoded") {
        return Ok(of_fields(admission::form(&String::from_utf8_lossy(body))));
    }
    if is_form && is("multipart/form-data") {
        return Ok(of_fields(parts(media, &String::from_utf8_lossy(body))));
    }
    match event::json(body)
        .or_else(|error| event::json(&with_escapes(body)).map_err(|_again| error))
    {
        Ok(value) => Ok(value),
        Err(error) if media.to_ascii_lowercase().contains("json") => Err(error.into()),
        Err(_not_json) => Ok(Value::String(String::from_utf8_lossy(body).into_owned())),
    }
}

/// Returns a form as an object. When all of it is one field with a JSON object, it is that
/// object: so do GitHub (`payload`) and Uptime Kuma (`data`).
fn of_fields(fields: Vec<(String, String)>) -> Value {
    if let [(_, only)] = fields.as_slice()
        && let Ok(object @ Value::Object(_)) = event::json(only.as_bytes())
    {
        return object;
    }
    let fields = fields.into_iter().map(|(key, value)| (key, Value::String(value)));
    Value::Object(Map::from_iter(fields))
}

/// Returns the fields of a form in parts (RFC 7578) with their names.
fn parts(media: &str, text: &str) -> Vec<(String, String)> {
    let boundary = media.split(';').find_map(|it| it.trim().strip_prefix("boundary="));
    let Some(boundary) = boundary.map(|it| it.trim_matches('"')) else { return Vec::new() };
    let fence = format!("--{boundary}");
    let field = |part: &str| {
        let (head, content) = part.split_once("\r\n\r\n")?;
        let named =
            |it: &str| Some(it.trim().strip_prefix("name=\"")?.split('"').next()?.to_owned());
        let name = head.split([';', '\n']).find_map(named)?;
        Some((name, content.strip_suffix("\r\n").unwrap_or(content).to_owned()))
    };
    text.split(fence.as_str()).take(PARTS_MAX).filter_map(field).collect()
}

/// Escapes line ends and the like inside of JSON texts: a sender whose body is a template puts
/// messages of several lines into it as they are.
fn with_escapes(body: &[u8]) -> Vec<u8> {
    let (mut in_text, mut is_escaped) = (false, false);
    let mut whole = Vec::with_capacity(body.len());
    for byte in body.iter().copied() {
        match byte {
            0..=0x1f if in_text => whole.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => whole.push(byte),
        }
        in_text ^= byte == b'"' && !is_escaped;
        is_escaped = in_text && byte == b'\\' && !is_escaped;
    }
    whole
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

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn reads(media: &'static str, body: &str) -> Result<Value, Problem> {
        let media = (header::CONTENT_TYPE, HeaderValue::from_static(media));
        read(&HeaderMap::from_iter([media]), body.as_bytes())
    }

    #[test]
    fn a_form_whose_only_field_is_an_object_is_that_object() {
        let form = "application/x-www-form-urlencoded";
        // As GitHub sends it, when the content type of a webhook is left as it was.
        let github = reads(form, "payload=%7B%22action%22%3A+%22created%22%7D").unwrap();
        assert_eq!(github, json!({"action": "created"}));
        let fields = reads(form, "type=PROBLEM&output=%7B%22a%22%3A+1%7D").unwrap();
        assert_eq!(fields, json!({"type": "PROBLEM", "output": "{\"a\": 1}"}));
        assert_eq!(reads(form, "output=down").unwrap(), json!({"output": "down"}));
        assert_eq!(reads(form, " {\"a\": 1}").unwrap(), json!({"a": 1}), "JSON, not a form");
    }

    #[test]
    fn a_form_in_parts_is_read() {
        // As Uptime Kuma sends it, with the preset multipart/form-data.
        let media = "multipart/form-data; boundary=--------------------------8721";
        let fence = "----------------------------8721";
        let part = |name: &str, text: &str| {
            format!("{fence}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
        };
        let kuma = part("data", "{\"monitor\":{\"id\":3}}") + &format!("{fence}--\r\n");
        assert_eq!(reads(media, &kuma).unwrap(), json!({"monitor": {"id": 3}}));
        let two = part("host", "web-1") + &part("state", "DOWN") + &format!("{fence}--\r\n");
        assert_eq!(reads(media, &two).unwrap(), json!({"host": "web-1", "state": "DOWN"}));
        assert_eq!(reads("multipart/form-data", &two).unwrap(), json!({}), "no boundary");
    }

    #[test]
    fn a_message_of_several_lines_in_a_template_does_not_lose_the_alert() {
        let body =
            "{\"phase\": \"Failed\",\n \"message\": \"one\ntwo\tthree \\\"quoted\\\" \\\\\"}";
        let read = reads("application/json", body).unwrap();
        assert_eq!(read["message"], "one\ntwo\tthree \"quoted\" \\");
        assert!(reads("application/json", "{\"phase\": }").is_err());
        assert_eq!(reads("text/plain", "{\"phase\": }").unwrap(), json!("{\"phase\": }"));
    }
}
