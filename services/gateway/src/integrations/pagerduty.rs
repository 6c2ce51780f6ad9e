//! Events API v2 of PagerDuty: a client works when only its URL is changed.
//!
//! Source: the reference of the Events API v2 at developer.pagerduty.com. Requests and answers are
//! as there; clients retry 429 and 5xx, and show the list `errors` of a 400 to people.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use domain::{
    event::{self, Event, EventType, Origin, Severity, Status, short_text, time_of},
    id::sha256_hex,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    admission::{self, Caller},
    app::App,
    body::Group,
    group,
    problem::Problem,
};

/// Longest routing key. PagerDuty's own have 32 characters, but those of its examples have not,
/// and here a key is what the configuration says it is.
const KEY_CHARS_MAX: usize = 255;
/// Longest `dedup_key`.
const DEDUP_CHARS_MAX: usize = 255;
/// Longest text that is kept of a summary; PagerDuty cuts it there.
const SUMMARY_CHARS_MAX: usize = 1024;
/// Details that become labels.
const LABELS_MAX: usize = 64;
/// Longest label.
const LABEL_CHARS_MAX: usize = 512;
/// Digits of the routing key's hash in the source: the key itself is a secret.
const HASH_CHARS: usize = 8;

/// The answer to an event that was taken.
#[derive(Debug, Serialize)]
struct Processed {
    status: &'static str,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dedup_key: Option<String>,
}

/// The answer to one that is wrong.
#[derive(Debug, Serialize)]
struct Invalid {
    status: &'static str,
    message: &'static str,
    errors: Vec<String>,
}

/// `POST /v2/enqueue`.
pub(crate) async fn enqueue(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
    body: Group,
) -> Result<Response, Problem> {
    let fields = match fields(&body) {
        Ok(fields) => fields,
        Err(why) => return Ok(invalid(vec![why])),
    };
    let origin = admit(&app, &uri, &headers, &body, &fields).await?;
    let errors = mistakes(&fields);
    if !errors.is_empty() {
        return Ok(invalid(errors));
    }
    let id = app.ids().next();
    let given = text(&fields, "dedup_key").map(str::to_owned);
    let dedup_key = given.unwrap_or_else(|| id.simple().to_string());
    let mut events = vec![alert(fields, &id.to_string(), &dedup_key, Utc::now())];
    group::fit(&mut events, body.0.len());
    group::store(&app, &origin, events).await?;
    Ok(processed("Event processed", Some(dedup_key)))
}

/// `POST /v2/change/enqueue`.
pub(crate) async fn change(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
    body: Group,
) -> Result<Response, Problem> {
    let fields = match fields(&body) {
        Ok(fields) => fields,
        Err(why) => return Ok(invalid(vec![why])),
    };
    let origin = admit(&app, &uri, &headers, &body, &fields).await?;
    let mut errors = key_mistakes(&fields);
    let payload = fields.get("payload").and_then(Value::as_object);
    match payload {
        None => errors.push("'payload' is missing or blank".to_owned()),
        Some(payload) if text(payload, "summary").is_none() => {
            errors.push("'payload.summary' is missing or blank".to_owned());
        }
        Some(_) => {}
    }
    if !errors.is_empty() {
        return Ok(invalid(errors));
    }
    let id = app.ids().next().to_string();
    let mut event = common(fields, &id, "change", Utc::now());
    event.status = Status::Change;
    event.severity = Severity::Info;
    let mut events = vec![event];
    group::fit(&mut events, body.0.len());
    group::store(&app, &origin, events).await?;
    Ok(processed("Change event processed", None))
}

fn processed(message: &'static str, dedup_key: Option<String>) -> Response {
    let told = Processed { status: "success", message, dedup_key };
    (StatusCode::ACCEPTED, Json(told)).into_response()
}

fn invalid(errors: Vec<String>) -> Response {
    let told = Invalid { status: "invalid event", message: "Event object is invalid", errors };
    (StatusCode::BAD_REQUEST, Json(told)).into_response()
}

/// Reads an event, or says what is wrong with it.
fn fields(body: &Group) -> Result<Map<String, Value>, String> {
    match event::json(&body.0) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("the event is not a JSON object".to_owned()),
        Err(error) => Err(error.message),
    }
}

async fn admit(
    app: &App,
    uri: &Uri,
    headers: &HeaderMap,
    body: &Group,
    fields: &Map<String, Value>,
) -> Result<Origin, Problem> {
    let routing_key = text(fields, "routing_key");
    admission::admit(app, "pagerduty", &Caller::of(uri, headers, body, routing_key)).await
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields.get(name)?.as_str().filter(|it| !it.trim().is_empty())
}

fn key_mistakes(fields: &Map<String, Value>) -> Vec<String> {
    match text(fields, "routing_key") {
        None => vec!["'routing_key' is missing or blank".to_owned()],
        Some(key) if KEY_CHARS_MAX < key.chars().count() => vec![format!(
            "Length of 'routing_key' is incorrect (should be at most {KEY_CHARS_MAX} characters)"
        )],
        Some(_) => Vec::new(),
    }
}

/// Returns what is wrong with an alert, in PagerDuty's words.
fn mistakes(fields: &Map<String, Value>) -> Vec<String> {
    let mut errors = key_mistakes(fields);
    let mut wrong = |error: &str| errors.push(error.to_owned());
    let action = text(fields, "event_action");
    match action {
        None => wrong("'event_action' is missing or blank"),
        Some("trigger" | "acknowledge" | "resolve") => {}
        Some(_) => wrong(
            "'event_action' is invalid (must be one of the following: 'trigger', 'acknowledge' or 'resolve')",
        ),
    }
    if text(fields, "dedup_key").is_some_and(|it| DEDUP_CHARS_MAX < it.chars().count()) {
        wrong("Length of 'dedup_key' is incorrect (should be at most 255 characters)");
    }
    if matches!(action, Some("acknowledge" | "resolve")) && text(fields, "dedup_key").is_none() {
        wrong("'dedup_key' is missing or blank");
    }
    if action == Some("trigger") {
        match fields.get("payload").and_then(Value::as_object) {
            None => wrong("'payload' is missing or blank"),
            Some(payload) => {
                for name in ["summary", "source", "severity"] {
                    if text(payload, name).is_none() {
                        wrong(&format!("'payload.{name}' is missing or blank"));
                    }
                }
                let known = ["critical", "warning", "error", "info"];
                if text(payload, "severity").is_some_and(|it| !known.contains(&it)) {
                    wrong(
                        "'payload.severity' is invalid (must be one of the following: 'critical', 'warning', 'error' or 'info')",
                    );
                }
            }
        }
    }
    errors
}

/// Makes the event of an alert that has no mistakes.
fn alert(fields: Map<String, Value>, id: &str, dedup_key: &str, now: DateTime<Utc>) -> Event {
    let status = match text(&fields, "event_action") {
        Some("acknowledge") => Status::Acknowledged,
        Some("resolve") => Status::Resolved,
        Some(_) | None => Status::Firing,
    };
    let mut event = common(fields, id, "alert", now);
    event.status = status;
    event.fingerprint = Some(dedup_key.to_owned());
    event
}

/// Makes what alerts and changes have in common.
fn common(mut fields: Map<String, Value>, id: &str, kind: &str, now: DateTime<Utc>) -> Event {
    // The key is a secret, and is told nowhere.
    let key = fields.remove("routing_key");
    let hash = sha256_hex(key.as_ref().and_then(Value::as_str).unwrap_or_default().as_bytes());
    let source = format!("pagerduty/{}", hash.get(..HASH_CHARS).unwrap_or_default());
    let payload = fields.get("payload").and_then(Value::as_object).cloned().unwrap_or_default();
    let kind = text(&payload, "class").unwrap_or(kind);
    let mut event = Event::new(id, EventType::from_name(kind), source);
    event.severity = text(&payload, "severity").and_then(Severity::from_word).unwrap_or_default();
    event.starts_at = text(&payload, "timestamp").and_then(time_of);
    if let Some(details) = payload.get("custom_details").and_then(Value::as_object) {
        for (name, value) in details.iter().take(LABELS_MAX) {
            let text = match value {
                Value::String(text) => short_text(text, LABEL_CHARS_MAX),
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => continue,
            };
            event.labels.insert(name.clone(), text);
        }
    }
    for name in ["component", "group", "class", "source"] {
        if let Some(value) = text(&payload, name) {
            event.labels.insert(name.to_owned(), short_text(value, LABEL_CHARS_MAX));
        }
    }
    let named = text(&payload, "component").or_else(|| text(&payload, "source"));
    event.target = named.map(|it| short_text(it, LABEL_CHARS_MAX));
    if let Some(host) = text(&payload, "source") {
        event.labels.entry("host".to_owned()).or_insert_with(|| short_text(host, LABEL_CHARS_MAX));
    }
    if let Some(summary) = text(&payload, "summary") {
        let summary = short_text(summary, SUMMARY_CHARS_MAX);
        event.annotations.insert("summary".to_owned(), summary);
    }
    if let Some(client) = text(&fields, "client") {
        event.annotations.insert("client".to_owned(), short_text(client, LABEL_CHARS_MAX));
    }
    event.links = links(&fields);
    event.payload = Value::Object(fields);
    event.cut_times(now);
    event.make_visible();
    event
}

fn links(fields: &Map<String, Value>) -> Vec<String> {
    let listed = |name: &str, of: &str| -> Vec<String> {
        let all = fields.get(name).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(|it| it.get(of)?.as_str().map(str::to_owned)).collect()
    };
    let client = text(fields, "client_url").map(str::to_owned);
    listed("links", "href").into_iter().chain(client).chain(listed("images", "src")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(fields) = value else { panic!("no object: {value}") };
        fields
    }

    /// The example of the reference.
    fn example() -> Map<String, Value> {
        object(json!({
            "payload": {"summary": "DISK at 99% on machine prod-datapipe03.example.com",
                "timestamp": "2015-07-17T08:42:58.315+0000", "severity": "critical",
                "source": "prod-datapipe03.example.com", "component": "mysql",
                "group": "prod-datapipe", "class": "disk",
                "custom_details": {"free space": "1%", "ping time": "1500ms", "load avg": 0.75}},
            "routing_key": "samplekeyhere", "dedup_key": "samplekeyhere",
            "images": [{"src": "https://www.pagerduty.com/logo.png", "href": "https://example.com/", "alt": "logo"}],
            "links": [{"href": "https://example.com/", "text": "Link text"}],
            "event_action": "trigger", "client": "Sample Monitoring Service",
            "client_url": "https://monitoring.example.com"}))
    }

    #[test]
    fn the_example_of_the_reference_is_read_and_its_key_told_nowhere() {
        assert_eq!(mistakes(&example()), Vec::<String>::new());
        let event = alert(example(), "1", "samplekeyhere", Utc::now());
        assert_eq!(event.kind.as_str(), "disk");
        assert_eq!(event.target.as_deref(), Some("mysql"));
        assert_eq!(event.fingerprint.as_deref(), Some("samplekeyhere"));
        assert_eq!((event.severity, event.status), (Severity::Critical, Status::Firing));
        assert_eq!(event.starts_at.unwrap().timestamp(), 1_437_122_578);
        assert_eq!(event.labels["free space"], "1%");
        assert_eq!(event.labels["host"], "prod-datapipe03.example.com");
        assert_eq!(event.links[0], "https://example.com/");
        assert!(event.source.starts_with("pagerduty/") && event.source.len() == 18);
        let mut other = example();
        other.insert("routing_key".to_owned(), json!("b".repeat(32)));
        let whole = serde_json::to_string(&alert(other.clone(), "1", "k", Utc::now())).unwrap();
        assert!(!whole.contains("bbbb"), "{whole}");
        assert_ne!(alert(other, "1", "k", Utc::now()).source, event.source);
    }

    #[test]
    fn mistakes_are_told_in_the_words_of_pagerduty() {
        let with = |pointer: &str, value: Value| {
            let mut event = Value::Object(example());
            *event.pointer_mut(pointer).unwrap() = value;
            mistakes(&object(event))
        };
        for (pointer, value, told) in [
            ("/routing_key", json!(null), "'routing_key' is missing or blank"),
            (
                "/routing_key",
                json!("x".repeat(256)),
                "Length of 'routing_key' is incorrect (should be at most 255 characters)",
            ),
            ("/event_action", json!(""), "'event_action' is missing or blank"),
            ("/payload", json!(null), "'payload' is missing or blank"),
            ("/payload/summary", json!(" "), "'payload.summary' is missing or blank"),
            ("/payload/source", json!(7), "'payload.source' is missing or blank"),
            (
                "/dedup_key",
                json!("x".repeat(256)),
                "Length of 'dedup_key' is incorrect (should be at most 255 characters)",
            ),
        ] {
            assert_eq!(with(pointer, value), [told], "{pointer}");
        }
        assert!(
            with("/event_action", json!("explode"))[0].starts_with("'event_action' is invalid")
        );
        assert!(
            with("/payload/severity", json!("bad"))[0].starts_with("'payload.severity' is invalid")
        );
        let bare = |action: &str| {
            let fields = json!({"routing_key": "r".repeat(32), "event_action": action});
            mistakes(&object(fields))
        };
        assert_eq!(bare("resolve"), ["'dedup_key' is missing or blank"]);
        assert_eq!(bare("acknowledge"), ["'dedup_key' is missing or blank"]);
        assert_eq!(bare("trigger"), ["'payload' is missing or blank"]);
    }
}
