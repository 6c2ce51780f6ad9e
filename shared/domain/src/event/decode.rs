//! From the forms that come in to [`Event`]: plain, CloudEvents 1.0 in its modes.
//!
//! Source of the CloudEvents rules: the specification 1.0.2, its JSON format and its
//! HTTP and NATS bindings.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use super::{Event, EventType, Severity, Status, lenient::TARGET_KEYS};

/// Deepest nesting of a body that is read.
pub const DEPTH_MAX: usize = 64;
/// Longest text of `id`, `source` and the like, in bytes.
pub(super) const TEXT_MAX: usize = 1024;
/// A time that lies further ahead is taken for a wrong clock and cut to the time of receipt.
const FUTURE_MAX: TimeDelta = TimeDelta::minutes(10);
/// A time that lies further back is kept, and noted as an annotation.
const PAST_MAX: TimeDelta = TimeDelta::days(7);

/// Attributes that are texts by the specification, and those extensions that we read as such.
const ATTRIBUTES: [&str; 10] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "status",
    "severity",
];

/// What a decoder cannot know from the body alone.
#[derive(Clone, Debug)]
pub struct Context {
    /// Id of the event, if the body has none.
    pub id: String,
    /// Type of the event, if the body has none (from the subject).
    pub kind: Option<String>,
    /// Time of receipt.
    pub at: DateTime<Utc>,
}

/// Why a message is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DecodeError {
    /// Short name, part of the rejected message's subject.
    pub code: &'static str,
    /// What is wrong, and where.
    pub message: String,
    /// What to do.
    pub hint: &'static str,
}

impl DecodeError {
    fn field(field: &str, why: &str) -> Self {
        Self {
            code: "invalid_field",
            message: format!("field `{field}` {why}"),
            hint: "send {\"type\": \"service_down\", \"source\": \"...\", \"payload\": {...}}",
        }
    }
}

/// Reads a body as JSON.
///
/// # Errors
///
/// When it is no UTF-8, no JSON, or nested more than [`DEPTH_MAX`] deep.
pub fn json(body: &[u8]) -> Result<Value, DecodeError> {
    const HINT: &str = "send one JSON object, encoded as UTF-8";
    let text = std::str::from_utf8(body).map_err(|error| DecodeError {
        code: "invalid_utf8",
        message: format!("the body is not valid UTF-8 at byte {}", error.valid_up_to()),
        hint: HINT,
    })?;
    // Some clients of Windows put a byte order mark in front (RFC 8259, section 8.1).
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if depth(text) > DEPTH_MAX {
        return Err(DecodeError {
            code: "too_deep",
            message: format!("the body is nested more than {DEPTH_MAX} levels deep"),
            hint: "flatten the payload, or send it as text",
        });
    }
    serde_json::from_str(text).map_err(|error| DecodeError {
        code: "invalid_json",
        message: format!("the body is not valid JSON: {error}"),
        hint: HINT,
    })
}

/// Returns the deepest nesting of brackets outside of strings.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Reads a message of an external publisher from its headers and body: a CloudEvent,
/// structured or binary (NATS binding), or the plain form.
///
/// # Errors
///
/// [`DecodeError`] when it is none of them.
pub fn message(
    headers: &[(String, String)],
    body: &[u8],
    context: &Context,
) -> Result<Event, DecodeError> {
    let find = |name: &str| {
        let found = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    };
    let content_type = find("content-type").unwrap_or_default().to_ascii_lowercase();
    if content_type.starts_with("application/cloudevents") {
        return cloudevent_structured(json(body)?, context);
    }
    if find("ce-specversion").is_some() {
        let mut attributes = BTreeMap::new();
        for (key, value) in headers {
            let key = key.to_ascii_lowercase();
            if let Some(name) = key.strip_prefix("ce-") {
                attributes.insert(name.to_owned(), percent_decoded(name, value)?);
            }
        }
        return cloudevent_binary(attributes, body, context);
    }
    let value = json(body)?;
    // A structured CloudEvent whose sender forgot the content type is still one.
    if value.get("specversion").is_some() {
        return cloudevent_structured(value, context);
    }
    plain(value, context)
}

/// Reads the plain form, the body of `POST /publish_event`.
///
/// # Errors
///
/// [`DecodeError`] that names the field.
pub fn plain(value: Value, context: &Context) -> Result<Event, DecodeError> {
    let mut fields = object(value)?;
    let kind = match text(&mut fields, "type")? {
        Some(kind) => kind,
        None => context.kind.clone().ok_or_else(|| DecodeError {
            code: "missing_type",
            message: "field `type` is missing".to_owned(),
            hint: "name the type of the event, such as \"type\": \"service_down\"",
        })?,
    };
    let id = text(&mut fields, "id")?.filter(|id| !id.is_empty());
    let source = text(&mut fields, "source")?.filter(|it| !it.is_empty());
    let mut event = Event::new(
        id.unwrap_or_else(|| context.id.clone()),
        event_type(&kind)?,
        source.unwrap_or_else(|| "external".to_owned()),
    );
    event.target = text(&mut fields, "target")?;
    event.fingerprint = text(&mut fields, "fingerprint")?;
    event.labels = texts(&mut fields, "labels")?;
    event.annotations = texts(&mut fields, "annotations")?;
    event.links = links(&mut fields)?;
    if let Some(status) = text(&mut fields, "status")? {
        event.status = status_of(&status)?;
    }
    if let Some(severity) = text(&mut fields, "severity")? {
        event.severity = severity_of(&severity)?;
    }
    event.starts_at = time(&mut fields, "starts_at")?;
    event.ends_at = time(&mut fields, "ends_at")?;
    event.payload = fields.remove("payload").unwrap_or(Value::Null);
    event.extra = fields.into_iter().collect();
    Ok(finish(event, context))
}

/// Reads a CloudEvent in structured mode.
///
/// # Errors
///
/// [`DecodeError`] that names the attribute.
pub fn cloudevent_structured(value: Value, context: &Context) -> Result<Event, DecodeError> {
    let mut fields = object(value)?;
    let data = fields.remove("data");
    let base64 = fields.remove("data_base64").filter(|it| !it.is_null());
    if base64.as_ref().is_some_and(|it| !it.is_string()) {
        return Err(DecodeError::field("data_base64", "must be a text"));
    }
    if data.is_some() && base64.is_some() {
        return Err(DecodeError::field("data_base64", "stands beside `data`; send one of them"));
    }
    let mut attributes = BTreeMap::new();
    for (name, value) in fields {
        let value = match value {
            Value::Null => continue,
            Value::String(text) => text,
            Value::Bool(_) | Value::Number(_) if ATTRIBUTES.contains(&name.as_str()) => {
                return Err(DecodeError::field(&name, "must be a text"));
            }
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Array(_) | Value::Object(_) => {
                return Err(DecodeError::field(&name, "must be a text, a number or a boolean"));
            }
        };
        attributes.insert(name, value);
    }
    let payload = data.or_else(|| base64.map(|it| unpacked(it, &attributes)));
    cloudevent(attributes, payload.unwrap_or(Value::Null), context)
}

/// Returns what Base64 stands for, if it is JSON by its content type: clients write it so that
/// have bytes. Anything else stays as it came.
fn unpacked(base64: Value, attributes: &BTreeMap<String, String>) -> Value {
    let bytes = || {
        let says_json = attributes.get("datacontenttype").is_some_and(|it| is_json(it));
        let text = base64.as_str().filter(|_| says_json)?;
        json(&STANDARD.decode(text).ok()?).ok()
    };
    bytes().unwrap_or(base64)
}

/// Returns whether this content type says JSON.
fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media.ends_with("/json") || media.ends_with("+json")
}

/// Reads a CloudEvent in binary mode from its attributes, without their `ce-`, and its body.
///
/// # Errors
///
/// [`DecodeError`] that names the attribute.
pub fn cloudevent_binary(
    attributes: BTreeMap<String, String>,
    body: &[u8],
    context: &Context,
) -> Result<Event, DecodeError> {
    let payload = match attributes.get("datacontenttype") {
        _ if body.is_empty() => Value::Null,
        Some(content_type) if is_json(content_type) => json(body)?,
        Some(_other) => opaque(body),
        // Nobody says what it is.
        None => json(body).unwrap_or_else(|_no_json| opaque(body)),
    };
    cloudevent(attributes, payload, context)
}

/// Returns what is no JSON: as a text, and as Base64 when it is none.
fn opaque(body: &[u8]) -> Value {
    let text = std::str::from_utf8(body).map(str::to_owned);
    Value::String(text.unwrap_or_else(|_binary| STANDARD.encode(body)))
}

fn cloudevent(
    mut attributes: BTreeMap<String, String>,
    payload: Value,
    context: &Context,
) -> Result<Event, DecodeError> {
    match attributes.remove("specversion").as_deref() {
        Some("1.0") => {}
        Some(_) => return Err(DecodeError::field("specversion", "must be \"1.0\"")),
        None => return Err(DecodeError::field("specversion", "is missing")),
    }
    let mut required = |name: &str| {
        let value = attributes.remove(name).filter(|it| !it.is_empty());
        value.ok_or_else(|| DecodeError::field(name, "is missing"))
    };
    let (id, source, kind) = (required("id")?, required("source")?, required("type")?);
    short("id", &id)?;
    short("source", &source)?;
    // The specification allows any text as a type; what ours may not have is replaced.
    let event_type = EventType::from_name(&kind);
    let is_changed = event_type.as_str() != kind;
    let mut event = Event::new(id, event_type, source);
    event.target = attributes.remove("subject");
    event.starts_at = match attributes.remove("time") {
        Some(time) => {
            Some(read_time(&time).ok_or_else(|| DecodeError::field("time", "must be RFC 3339"))?)
        }
        None => None,
    };
    attributes.remove("datacontenttype");
    if let Some(severity) = attributes.remove("severity") {
        event.severity = severity_of(&severity)?;
    }
    if let Some(status) = attributes.remove("status") {
        event.status = status_of(&status)?;
    }
    // What is left are extensions: they identify, so they are labels.
    event.labels = attributes;
    if is_changed {
        event.labels.insert("type".to_owned(), kind);
    }
    event.payload = payload;
    Ok(finish(event, context))
}

/// Takes from the payload what the envelope left open, and cuts impossible times.
fn finish(mut event: Event, context: &Context) -> Event {
    let in_payload = |key: &str| event.payload.get(key).and_then(Value::as_str);
    let in_labels = |key: &str| event.labels.get(key).map(String::as_str);
    if event.target.is_none() {
        let found = TARGET_KEYS.iter().find_map(|key| in_payload(key).or_else(|| in_labels(key)));
        // What is longer than a target's name may be is none.
        let legal = |it: &&str| !it.is_empty() && it.len() <= TEXT_MAX;
        event.target = found.filter(legal).map(str::to_owned);
    }
    if event.starts_at.is_none() {
        event.starts_at = in_payload("timestamp").and_then(read_time);
    }
    if event.status == Status::Firing && in_payload("status") == Some("resolved") {
        event.status = Status::Resolved;
    }
    event.cut_times(context.at);
    event.make_visible();
    event
}

impl Event {
    /// Takes a begin that lies in the future, by more than clocks differ, as the time of
    /// receipt, and notes it, and one that lies long ago.
    pub fn cut_times(&mut self, at: DateTime<Utc>) {
        let Some(starts_at) = self.starts_at else { return };
        if at + FUTURE_MAX < starts_at {
            note(self, &format!("{starts_at} lies in the future; taken as now"));
            self.starts_at = Some(at);
        } else if starts_at < at - PAST_MAX {
            note(self, &format!("{starts_at} lies more than 7 days in the past"));
        }
    }
}

fn note(event: &mut Event, text: &str) {
    event.annotations.insert("selfheal.starts_at".to_owned(), text.to_owned());
}

fn object(value: Value) -> Result<Map<String, Value>, DecodeError> {
    match value {
        Value::Object(fields) => Ok(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(DecodeError {
                code: "not_an_object",
                message: "the body is not a JSON object".to_owned(),
                hint: "send one JSON object, such as {\"type\": \"service_down\"}",
            })
        }
    }
}

fn event_type(text: &str) -> Result<EventType, DecodeError> {
    text.parse::<EventType>().map_err(|error| DecodeError {
        code: "invalid_type",
        message: format!("field `type`: {error}"),
        hint: "the type becomes part of a subject, so spaces, `*`, `>` and empty parts are not allowed",
    })
}

fn short(field: &str, text: &str) -> Result<(), DecodeError> {
    if TEXT_MAX < text.len() {
        return Err(DecodeError::field(field, "is longer than 1024 bytes"));
    }
    Ok(())
}

fn text(fields: &mut Map<String, Value>, field: &str) -> Result<Option<String>, DecodeError> {
    match fields.remove(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            short(field, &text)?;
            Ok(Some(text))
        }
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Err(DecodeError::field(field, "must be a text"))
        }
    }
}

fn texts(
    fields: &mut Map<String, Value>,
    field: &str,
) -> Result<BTreeMap<String, String>, DecodeError> {
    let Some(value) = fields.remove(field).filter(|it| !it.is_null()) else {
        return Ok(BTreeMap::new());
    };
    let wrong = || DecodeError::field(field, "must be an object of texts");
    let Value::Object(pairs) = value else { return Err(wrong()) };
    pairs
        .into_iter()
        .map(|(key, value)| match value {
            Value::String(text) => Ok((key, text)),
            Value::Number(_) | Value::Bool(_) => Ok((key, value.to_string())),
            Value::Null | Value::Array(_) | Value::Object(_) => Err(wrong()),
        })
        .collect()
}

fn links(fields: &mut Map<String, Value>) -> Result<Vec<String>, DecodeError> {
    let wrong = || DecodeError::field("links", "must be a list of texts");
    match fields.remove("links") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(list)) => {
            list.into_iter().map(|it| it.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        Some(_) => Err(wrong()),
    }
}

fn time(
    fields: &mut Map<String, Value>,
    field: &str,
) -> Result<Option<DateTime<Utc>>, DecodeError> {
    let Some(text) = text(fields, field)? else { return Ok(None) };
    read_time(&text)
        .map(Some)
        .ok_or_else(|| DecodeError::field(field, "must be a time such as 2025-08-18T12:34:56Z"))
}

/// Reads RFC 3339, and the form without a colon in the offset that some senders use.
pub(super) fn read_time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"))
        .ok()
        .map(|time| time.to_utc())
}

fn status_of(text: &str) -> Result<Status, DecodeError> {
    match text {
        "firing" => Ok(Status::Firing),
        "resolved" => Ok(Status::Resolved),
        "acknowledged" => Ok(Status::Acknowledged),
        "change" => Ok(Status::Change),
        _ => Err(DecodeError::field(
            "status",
            "must be \"firing\", \"resolved\", \"acknowledged\" or \"change\"",
        )),
    }
}

fn severity_of(text: &str) -> Result<Severity, DecodeError> {
    match text {
        "info" => Ok(Severity::Info),
        "warning" => Ok(Severity::Warning),
        "error" => Ok(Severity::Error),
        "critical" => Ok(Severity::Critical),
        _ => Err(DecodeError::field(
            "severity",
            "must be \"info\", \"warning\", \"error\" or \"critical\"",
        )),
    }
}

/// Undoes the percent-encoding of a header value, exactly once.
fn percent_decoded(name: &str, value: &str) -> Result<String, DecodeError> {
    let wrong = || DecodeError::field(name, "is not percent-encoded UTF-8");
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|it| char::from(it).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(wrong()) };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_overflow| wrong())?);
    }
    String::from_utf8(bytes).map_err(|_invalid| wrong())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn context() -> Context {
        let at = DateTime::parse_from_rfc3339("2026-01-02T03:04:05Z").unwrap().to_utc();
        Context { id: "fallback".to_owned(), kind: None, at }
    }

    #[test]
    fn what_is_too_long_for_a_target_in_the_payload_is_none() {
        for (n, is_target) in [(TEXT_MAX, true), (TEXT_MAX + 1, false)] {
            let body = json!({"type": "a", "payload": {"service": "x".repeat(n)}});
            assert_eq!(plain(body, &context()).unwrap().target.is_some(), is_target, "{n}");
        }
    }

    #[test]
    fn the_documented_example_is_read() {
        let body = json!({"type": "service_down", "source": "external",
            "payload": {"service": "database", "timestamp": "2025-12-31T12:34:56Z"}});
        let event = plain(body, &context()).unwrap();
        assert_eq!(event.kind.as_str(), "service_down");
        assert_eq!(event.target.as_deref(), Some("database"));
        assert_eq!(event.id, "fallback");
        assert_eq!(event.starts_at.unwrap().to_rfc3339(), "2025-12-31T12:34:56+00:00");
        assert_eq!(event.fingerprint(None), "service_down@database");
    }

    #[test]
    fn bad_fields_are_named() {
        for (body, code, named) in [
            (json!([]), "not_an_object", "object"),
            (json!({}), "missing_type", "type"),
            (json!({"type": 5}), "invalid_field", "type"),
            (json!({"type": "a b"}), "invalid_type", "a b"),
            (json!({"type": ""}), "invalid_type", "type"),
            (json!({"type": "a..b"}), "invalid_type", "a..b"),
            (json!({"type": "a.*"}), "invalid_type", "a.*"),
            (json!({"type": "a".repeat(129)}), "invalid_type", "aaa"),
            (json!({"type": "a", "source": {}}), "invalid_field", "source"),
            (json!({"type": "a", "labels": [1]}), "invalid_field", "labels"),
            (json!({"type": "a", "labels": {"a": []}}), "invalid_field", "labels"),
            (json!({"type": "a", "status": "up"}), "invalid_field", "status"),
            (json!({"type": "a", "severity": "bad"}), "invalid_field", "severity"),
            (json!({"type": "a", "starts_at": "noon"}), "invalid_field", "starts_at"),
            (json!({"type": "a", "id": "x".repeat(1025)}), "invalid_field", "id"),
        ] {
            let error = plain(body.clone(), &context()).unwrap_err();
            assert_eq!(error.code, code, "{body}");
            assert!(error.message.contains(named), "{error} for {body}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused_and_says_why() {
        assert_eq!(json(b"{\"a\": \xff}").unwrap_err().code, "invalid_utf8");
        assert_eq!(json(b"{\"a\": ").unwrap_err().code, "invalid_json");
        let deep = "[".repeat(65) + &"]".repeat(65);
        assert_eq!(json(deep.as_bytes()).unwrap_err().code, "too_deep");
        let wide = format!("{{\"a\": \"{}\"}}", "[".repeat(1000));
        assert!(json(wide.as_bytes()).is_ok(), "brackets in texts do not count");
        assert_eq!(json("\u{feff}{\"a\": 1}".as_bytes()).unwrap(), json!({"a": 1}));
    }

    #[test]
    fn unknown_fields_are_kept() {
        let event = plain(json!({"type": "a", "colour": "red"}), &context()).unwrap();
        assert_eq!(event.extra.get("colour"), Some(&json!("red")));
    }

    #[test]
    fn times_of_wrong_clocks_are_cut_and_noted() {
        let body = json!({"type": "a", "starts_at": "2999-01-01T00:00:00Z"});
        let event = plain(body, &context()).unwrap();
        assert_eq!(event.starts_at, Some(context().at));
        assert!(event.annotations["selfheal.starts_at"].contains("future"));
        let body = json!({"type": "a", "starts_at": "1999-01-01T00:00:00+0000"});
        let event = plain(body, &context()).unwrap();
        assert!(event.annotations["selfheal.starts_at"].contains("past"));
    }

    fn header(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn cloudevents_are_read_in_both_modes_of_nats() {
        let structured = json!({"specversion": "1.0", "id": "1", "source": "/mon", "type": "disk.full",
            "subject": "db", "time": "2026-01-02T03:00:00Z", "rack": "7", "gone": null,
            "data": {"used": 99}});
        let headers = [header("content-TYPE", "application/CloudEvents+json; charset=utf-8")];
        let event = message(&headers, structured.to_string().as_bytes(), &context()).unwrap();
        assert_eq!(event.target.as_deref(), Some("db"));
        assert_eq!(event.labels, BTreeMap::from([("rack".to_owned(), "7".to_owned())]));

        let headers = [
            header("ce-specversion", "1.0"),
            header("CE-Id", "1"),
            header("ce-source", "/mon"),
            header("ce-type", "disk.full"),
            header("ce-subject", "db"),
            header("ce-time", "2026-01-02T03:00:00Z"),
            header("ce-rack", "%37"),
            header("ce-datacontenttype", "application/json"),
        ];
        let binary = message(&headers, br#"{"used": 99}"#, &context()).unwrap();
        assert_eq!(binary, event);
    }

    #[test]
    fn the_type_of_a_cloudevent_is_any_text() {
        for (kind, ours, label) in [
            ("com.example.down", "com.example.down", None),
            ("urn:example:disk full", "urn_example_disk_full", Some("urn:example:disk full")),
            ("ungültig.*", "ung_ltig", Some("ungültig.*")),
        ] {
            let body = json!({"specversion": "1.0", "id": "1", "source": "s", "type": kind});
            let event = cloudevent_structured(body, &context()).unwrap();
            assert_eq!(event.kind.as_str(), ours);
            assert_eq!(event.labels.get("type").map(String::as_str), label, "{kind}");
        }
    }

    #[test]
    fn data_of_every_kind_is_kept() {
        let structured = |media: Option<&str>, base64: &str| {
            let mut body = json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t",
                "data_base64": base64});
            body["datacontenttype"] = json!(media);
            cloudevent_structured(body, &context()).unwrap()
        };
        let (object, packed) = (json!({"service": "db"}), "eyJzZXJ2aWNlIjoiZGIifQ==");
        let event = structured(Some("application/vnd.x+json; charset=utf-8"), packed);
        assert_eq!((&event.payload, event.target.as_deref()), (&object, Some("db")));
        assert_eq!(structured(None, packed).payload, json!(packed), "no type is inferred");
        assert_eq!(structured(Some("application/json"), "%%").payload, json!("%%"));
        let binary = |media: Option<&str>, body: &[u8]| {
            let fields = [("specversion", "1.0"), ("id", "1"), ("source", "s"), ("type", "t")];
            let media = media.map(|it| ("datacontenttype", it));
            let fields = fields.into_iter().chain(media);
            let fields = fields.map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
            cloudevent_binary(fields, body, &context()).map(|it| it.payload)
        };
        let xml = "<much wow=\"xml\"/>";
        assert_eq!(binary(Some("text/xml"), xml.as_bytes()).unwrap(), json!(xml));
        assert_eq!(binary(None, xml.as_bytes()).unwrap(), json!(xml));
        assert_eq!(binary(None, br#"{"service":"db"}"#).unwrap(), object);
        assert_eq!(binary(None, &[0xff, 0, 1]).unwrap(), json!("/wAB"));
        assert_eq!(
            binary(Some("application/json"), xml.as_bytes()).unwrap_err().code,
            "invalid_json"
        );
    }

    #[test]
    fn header_values_are_decoded_exactly_once() {
        assert_eq!(percent_decoded("a", "Euro%20%E2%82%ac%2525").unwrap(), "Euro €%25");
        for wrong in ["%", "%4", "%zz", "%ff"] {
            assert!(percent_decoded("a", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn incomplete_cloudevents_name_the_attribute() {
        for (body, named) in [
            (json!({"specversion": "0.3", "id": "1", "source": "s", "type": "t"}), "specversion"),
            (json!({"specversion": "1.0", "source": "s", "type": "t"}), "`id`"),
            (json!({"specversion": "1.0", "id": "1", "type": "t"}), "`source`"),
            (json!({"specversion": "1.0", "id": "1", "source": "s"}), "`type`"),
            (
                json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": 1, "data_base64": ""}),
                "data_base64",
            ),
            (json!({"specversion": "1.0", "id": 1, "source": "s", "type": "t"}), "`id`"),
            (
                json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data_base64": 1}),
                "data_base64",
            ),
        ] {
            let error = cloudevent_structured(body, &context()).unwrap_err();
            assert!(error.message.contains(named), "{error}");
        }
    }
}
