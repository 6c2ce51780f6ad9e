//! The forms that come in, as schemas. The decoders are written by hand, and so are these; that
//! both say the same is shown by a test below and by one that makes bodies from the schemas.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::EventType;

/// The plain form of an event; read by [`super::plain`].
#[derive(Clone, Copy, Debug)]
pub struct Plain;

/// A CloudEvent in structured mode; read by [`super::cloudevent_structured`].
///
/// Source: CloudEvents 1.0.2, JSON format.
#[derive(Clone, Copy, Debug)]
pub struct Cloud;

/// Longest text of a field.
const TEXT_MAX: usize = super::decode::TEXT_MAX;

/// A time without a colon in the offset, as some senders write it.
fn time_without_colon() -> String {
    let day = "(0[1-9]|1[0-9]|2[0-8]";
    let date = format!("(02-{day})|(0[469]|11)-{day}|29|30)|(0[13578]|1[02])-{day}|29|30|31))");
    let hour = "([01][0-9]|2[0-3])";
    format!(
        r"^[0-9]{{4}}-{date}T{hour}:[0-5][0-9]:[0-5][0-9](\.[0-9]{{1,9}})?[+-]{hour}[0-5][0-9]$"
    )
}

fn time(about: &str) -> Value {
    json!({
        "description": about,
        "anyOf": [
            {"type": "string", "format": "date-time", "maxLength": TEXT_MAX},
            {"type": "string", "pattern": time_without_colon()},
            {"type": "null"},
        ],
    })
}

fn text(about: &str) -> Value {
    json!({"description": about, "type": ["string", "null"], "maxLength": TEXT_MAX})
}

fn texts(about: &str) -> Value {
    json!({
        "description": about,
        "type": ["object", "null"],
        "additionalProperties": {"type": ["string", "number", "boolean"]},
    })
}

fn word(about: &str, words: &[&str]) -> Value {
    let words: Vec<_> = words.iter().map(|it| json!(it)).chain([Value::Null]).collect();
    json!({"description": about, "enum": words})
}

fn severity() -> Value {
    let about = "How bad the sender says it is; `error` when absent.";
    word(about, &["info", "warning", "error", "critical"])
}

fn status() -> Value {
    word("Whether the alert is firing or resolved; `firing` when absent.", &["firing", "resolved"])
}

impl JsonSchema for Plain {
    fn schema_name() -> Cow<'static, str> {
        "PlainEvent".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut kind = EventType::json_schema(generator);
        kind.insert("description".to_owned(), "Type of the event.".into());
        json_schema!({
            "description": "An observation in the plain form. Fields that are not named here are kept.",
            "type": "object",
            "required": ["type"],
            "properties": {
                "type": kind,
                "source": text("Who observed it; `external` when absent."),
                "id": text("The sender's own; with `source` it identifies a repeated delivery. Made up when absent."),
                "target": text("The target it is about. When absent it is looked for in `target`, `service`, `container`, `host`, `instance` and `component` of the payload, then of the labels."),
                "status": status(),
                "severity": severity(),
                "fingerprint": text("The sender's own deduplication key; type and target when absent."),
                "labels": texts("Identifying texts."),
                "annotations": texts("Explaining texts."),
                "links": {
                    "description": "Where to read more.",
                    "type": ["array", "null"],
                    "items": {"type": "string"},
                },
                "starts_at": time("Since when, by the sender's clock."),
                "ends_at": time("Until when, by the sender's clock."),
                "payload": {"description": "The sender's own data, of any form; its `timestamp` is `starts_at` when that is absent."},
                // A body that has it is a CloudEvent.
                "specversion": false,
            },
            "examples": [{
                "type": "service_down",
                "source": "external",
                "payload": {"service": "database", "timestamp": "2025-08-18T12:34:56Z"},
            }],
        })
    }
}

impl JsonSchema for Cloud {
    fn schema_name() -> Cow<'static, str> {
        "CloudEvent".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        let kind = json!({
            "description": "Type of the event. What a type of ours may not have becomes `_`; then the label `type` has it as it came.",
            "type": "string",
            "minLength": 1,
        });
        let name = |about: &str| json!({"description": about, "type": "string", "minLength": 1, "maxLength": TEXT_MAX});
        let text = |about: &str| json!({"description": about, "type": ["string", "null"]});
        json_schema!({
            "description": "A CloudEvent 1.0 in the JSON format. Extensions become labels.",
            "type": "object",
            "required": ["specversion", "id", "source", "type"],
            "properties": {
                "specversion": {"const": "1.0"},
                "id": name("With `source` it identifies a repeated delivery."),
                "source": name("Who observed it."),
                "type": kind,
                "subject": text("The target it is about."),
                "time": time("Since when, by the sender's clock."),
                "datacontenttype": text("What `data` is."),
                "dataschema": text("What `data` looks like."),
                "status": status(),
                "severity": severity(),
                "data": {"description": "The sender's own data, of any form."},
                "data_base64": {
                    "description": "The same as text of Base64; never beside `data`.",
                    "type": ["string", "null"],
                },
            },
            "if": {"required": ["data"]},
            "then": {"properties": {"data_base64": {"type": "null"}}},
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
            "examples": [{
                "specversion": "1.0",
                "id": "1",
                "source": "/uptime",
                "type": "service_down",
                "subject": "shop",
                "data": {"note": "structured"},
            }],
        })
    }
}
