//! Events, as senders write them.

use chrono::{DateTime, Utc};
use domain::event::{self, Event};

use super::{Form, Target, Verdict, head_and_body};
use crate::seeds::{bytes, story};

pub(super) const PLAIN: Target = Target {
    name: "event_plain",
    about: "the plain form of an event, and a CloudEvent in structured mode, from a body",
    form: Form::Json,
    seeds: plain,
    run: |input| check(&[], input),
};

pub(super) const CLOUDEVENT: Target = Target {
    name: "event_cloudevent",
    about: "a CloudEvent in structured mode, by its content type",
    form: Form::Json,
    seeds: cloudevents,
    run: |input| {
        check(&[("Content-Type".to_owned(), "application/cloudevents+json".to_owned())], input)
    },
};

pub(super) const BINARY: Target = Target {
    name: "event_binary",
    about: "a CloudEvent in binary mode: headers as a JSON object on the first line, then the body",
    form: Form::Lines,
    seeds: binary,
    run: |input| {
        let (head, body) = head_and_body(input);
        let headers: std::collections::BTreeMap<String, serde_json::Value> =
            serde_json::from_str(&head).unwrap_or_default();
        let text = |value: serde_json::Value| match value.as_str() {
            Some(text) => text.to_owned(),
            None => value.to_string(),
        };
        let headers: Vec<_> = headers.into_iter().map(|(key, value)| (key, text(value))).collect();
        check(&headers, body)
    },
};

fn now() -> DateTime<Utc> {
    crate::seeds::time_of(1)
}

/// Decodes, and checks what holds for every event that was taken.
fn check(headers: &[(String, String)], body: &[u8]) -> Verdict {
    let context =
        event::Context { id: "given".to_owned(), kind: Some("given.type".to_owned()), at: now() };
    let event = match event::message(headers, body, &context) {
        Ok(event) => event,
        Err(error) => {
            assert!(!error.hint.is_empty() && !error.code.is_empty(), "{error:?}");
            let legal = |it: char| it.is_ascii_lowercase() || it == '_' || it.is_ascii_digit();
            assert!(error.code.chars().all(legal), "the code becomes a subject: {}", error.code);
            return Verdict::Refused(error.message);
        }
    };
    // It can be written and read as one of ours, and means the same.
    let written = bytes(&event);
    let back: Event = serde_json::from_slice(&written)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&written)));
    assert_eq!(back, event);
    assert_eq!(back.delivery_key(), event.delivery_key());
    // What opened the incident is decoded again from what we would send on.
    let again = event::plain(serde_json::to_value(&event).unwrap(), &context);
    let again = again.unwrap_or_else(|error| panic!("ours is refused: {error}"));
    assert_eq!((&again.id, &again.kind, &again.source), (&event.id, &event.kind, &event.source));
    assert_eq!(again.payload, event.payload);
    let latest = now() + chrono::TimeDelta::minutes(10);
    assert!(event.starts_at.is_none_or(|at| at <= latest), "{:?}", event.starts_at);
    Verdict::Taken
}

fn plain() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = [
        r#"{"type":"service_down","source":"external","payload":{"service":"database","timestamp":"2025-08-18T12:34:56Z"}}"#,
        r#"{"id":"7","type":"disk.full","source":"/mon/1","target":"db","fingerprint":"abc","status":"resolved","severity":"critical","starts_at":"2026-01-01T00:00:00Z","ends_at":"2026-01-01T00:00:00.123456789+02:00","labels":{"rack":7,"up":true},"annotations":{"a":"b"},"links":["https://example.org"],"payload":{"used":99.5,"n":18446744073709551615},"colour":"red"}"#,
        r#"{"specversion":"1.0","id":"1","source":"s","type":"a.b","data":{"x":1}}"#,
    ]
    .map(|it| it.as_bytes().to_vec())
    .into();
    for envelope in &story().inputs {
        if let domain::wire::Input::Event(event) = &envelope.input {
            seeds.push(bytes(event));
        }
    }
    seeds
}

fn cloudevents() -> Vec<Vec<u8>> {
    [
        r#"{"specversion":"1.0","id":"1","source":"/a","type":"com.example.down","subject":"db","time":"2026-01-01T00:00:00Z","datacontenttype":"application/json","severity":"warning","status":"resolved","ext":7,"flag":true,"data":{"service":"db"}}"#,
        r#"{"specversion":"1.0","id":"1","source":"/a","type":"t","data_base64":"AAEC"}"#,
        r#"{"specversion":"0.3","id":"","source":"/a","type":"a b"}"#,
    ]
    .map(|it| it.as_bytes().to_vec())
    .into()
}

fn binary() -> Vec<Vec<u8>> {
    [
        "{\"ce-specversion\":\"1.0\",\"ce-id\":\"1\",\"ce-source\":\"/a%20b\",\"ce-type\":\"a.b\",\"ce-time\":\"2026-01-01T00:00:00Z\",\"ce-subject\":\"%F0%9F%A6%80\"}\n{\"x\":1}",
        "{\"CE-SpecVersion\":\"1.0\",\"ce-id\":\"1\",\"ce-source\":\"a\",\"ce-type\":\"b\",\"ce-datacontenttype\":\"text/plain; charset=utf-8\"}\nnot json",
        "{\"content-type\":\"application/cloudevents+json\"}\n{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"a\",\"type\":\"b\"}",
        "{}\n{\"type\":\"a\"}",
    ]
    .map(|it| it.as_bytes().to_vec())
    .into()
}
