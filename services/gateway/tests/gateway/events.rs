//! Events: what is answered, and what each mistake is told.

use bus::testing::Broker;
use domain::{
    event::Event,
    wire::{AnswerStatus, Envelope, Input},
};
use serde_json::{Value, json};

use crate::fixture::{Desk, Gateway, an_incident, answer, heard};

fn opened(_: &Envelope) -> Option<domain::wire::Answer> {
    answer(AnswerStatus::IncidentOpened)
}

fn event(envelope: &Envelope) -> &Event {
    let Input::Event(event) = &envelope.input else { panic!("another input: {envelope:?}") };
    event
}

#[tokio::test]
async fn the_documented_event_is_answered_with_its_incident() {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, opened).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let body = json!({"type": "service_down", "source": "external",
        "payload": {"service": "database", "timestamp": "2025-08-18T12:34:56Z"}});
    let (status, told) = gateway.send("/publish_event", body).await;
    assert_eq!(status, 200, "{told}");
    assert_eq!(told["status"], "incident_opened");
    assert_eq!(told["incident_id"], an_incident().to_string());
    assert_eq!(told["message"], "Incident logged and under analysis.");
    let inputs = desk.inputs(1).await;
    let event = event(&inputs[0]);
    assert_eq!(event.target.as_deref(), Some("database"));
    assert_eq!(told.as_object().map(serde_json::Map::len), Some(3), "as documented: {told}");
    // An old time is kept, and noted.
    assert!(event.annotations["selfheal.starts_at"].contains("past"), "{:?}", event.annotations);
}

#[tokio::test]
async fn without_an_answer_in_time_the_event_is_accepted_and_stored() {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, |_| None).await;
    let gateway = Gateway::start(&broker, &["--answer-timeout", "200ms"]).await;
    let (status, told) = gateway.send("/publish_event", json!({"type": "a", "id": "mine"})).await;
    assert_eq!(
        (status, &told["status"], &told["event_id"]),
        (202, &json!("accepted"), &json!("mine"))
    );
    assert_eq!(event(&desk.inputs(1).await[0]).id, "mine");
}

#[tokio::test]
async fn a_repeated_request_is_one_event_by_its_id_or_its_key() {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, opened).await;
    let gateway = Gateway::start(&broker, &[]).await;
    for _ in 0..2 {
        gateway.send("/publish_event", json!({"type": "a", "id": "1", "source": "s"})).await;
    }
    for _ in 0..2 {
        let request = gateway.post("/publish_event").header("idempotency-key", "k-1");
        heard(request.json(&json!({"type": "a"}))).await;
    }
    gateway.send("/publish_event", json!({"type": "a", "id": "1", "source": "other"})).await;
    let inputs = desk.inputs(5).await;
    let ids: Vec<_> = inputs.iter().map(|envelope| envelope.id.as_str()).collect();
    assert_eq!(ids[0], ids[1], "the same id of the same source");
    assert_eq!(ids[2], ids[3], "the same key");
    assert_eq!(event(&inputs[2]).id, "k-1");
    assert_ne!(ids[0], ids[4], "the same id of another source is another event");
}

/// What is sent: content type, body; and what is heard: status, code, a part of the message.
const MISTAKES: [(&str, &[u8], u16, &str, &str); 20] = [
    ("application/json", b"{\"type\": ", 400, "invalid_json", "line 1 column"),
    ("application/json", b"", 400, "invalid_json", ""),
    ("application/json", b"\"text\"", 400, "not_an_object", "object"),
    ("application/json", b"[]x", 400, "invalid_json", ""),
    ("application/json", b"{}", 400, "missing_type", "`type`"),
    ("application/json", b"{\"type\": null}", 400, "missing_type", "`type`"),
    ("application/json", b"{\"type\": 5}", 400, "invalid_field", "`type`"),
    ("application/json", b"{\"type\": \"a b\"}", 400, "invalid_type", "a b"),
    ("application/json", b"{\"type\": \"a.*\"}", 400, "invalid_type", "a.*"),
    ("application/json", b"{\"type\": \"a.>\"}", 400, "invalid_type", "a.>"),
    ("application/json", b"{\"type\": \"a..b\"}", 400, "invalid_type", "a..b"),
    ("application/json", b"{\"type\": \"\"}", 400, "invalid_type", "`type`"),
    ("application/json", b"{\"type\": \"a\xff\"}", 400, "invalid_utf8", "byte"),
    ("application/json", b"{\"type\": \"a\", \"source\": {}}", 400, "invalid_field", "`source`"),
    (
        "application/json",
        b"{\"type\": \"a\", \"severity\": \"bad\"}",
        400,
        "invalid_field",
        "`severity`",
    ),
    (
        "application/json",
        b"{\"type\": \"a\", \"starts_at\": \"noon\"}",
        400,
        "invalid_field",
        "`starts_at`",
    ),
    ("application/json; charset=latin1", b"{\"type\": \"a\"}", 415, "unknown_charset", "latin1"),
    ("application/cloudevents+avro", b"x", 415, "unknown_format", "avro"),
    ("application/cloudevents+json", b"{\"specversion\": \"1.0\"}", 400, "invalid_field", "`id`"),
    ("application/cloudevents-batch+json", b"{}", 400, "not_a_list", "list"),
];

#[tokio::test]
async fn every_mistake_is_told_with_its_place_and_a_hint_and_nothing_is_stored() {
    let broker = Broker::start().await;
    let desk = Desk::open(&broker, opened).await;
    let gateway = Gateway::start(&broker, &[]).await;
    for (media, body, status, code, part) in MISTAKES {
        let request = gateway.post("/api/v1/events").header("content-type", media).body(body);
        let (heard_status, told) = heard(request).await;
        let shown = String::from_utf8_lossy(body);
        assert_eq!(
            (heard_status, &told["error"]["code"]),
            (status, &json!(code)),
            "{shown}: {told}"
        );
        assert!(told["error"]["message"].as_str().unwrap().contains(part), "{shown}: {told}");
        assert!(!told["error"]["hint"].as_str().unwrap().is_empty(), "{shown}: {told}");
    }
    let deep = format!("{{\"type\": \"a\", \"payload\": {}{}}}", "[".repeat(64), "]".repeat(64));
    let (status, told) = heard(gateway.post("/publish_event").body(deep)).await;
    assert_eq!((status, &told["error"]["code"]), (400, &json!("too_deep")));
    let (status, told) = gateway.send("/publish_event", json!([{"type": "a"}])).await;
    assert_eq!((status, &told["error"]["code"]), (400, &json!("not_an_object")));
    assert_eq!(desk.seen.borrow().len(), 0);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_told_the_limit() {
    let broker = Broker::start().await;
    let desk = Desk::open(&broker, opened).await;
    let gateway = Gateway::start(&broker, &[]).await;
    for (n_bytes, code) in [
        (300_000, "event_too_large"),
        (10_000_000, "body_too_large"),
        (40_000_000, "body_too_large"),
    ] {
        let body = json!({"type": "a", "payload": "x".repeat(n_bytes)}).to_string();
        let sent = gateway.post("/publish_event").body(body).send().await;
        // Of 40 MB we do not read the end: the sender may find the connection closed.
        let Ok(answer) = sent else {
            assert_eq!(n_bytes, 40_000_000, "{sent:?}");
            continue;
        };
        assert_eq!(answer.status(), 413, "{n_bytes}");
        let told: Value = answer.json().await.unwrap();
        assert_eq!(told["error"]["code"], code, "{told}");
        assert!(told["error"]["message"].as_str().unwrap().contains("bytes"), "{told}");
    }
    assert_eq!(desk.seen.borrow().len(), 0);
    let (status, _) = gateway.send("/publish_event", json!({"type": "a"})).await;
    assert_eq!(status, 200, "it goes on as before");
}

#[tokio::test]
async fn a_time_far_ahead_is_taken_as_now_and_noted() {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, opened).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let body = json!({"type": "a", "starts_at": "2999-01-01T00:00:00Z"});
    assert_eq!(gateway.send("/publish_event", body).await.0, 200);
    let inputs = desk.inputs(1).await;
    let event = event(&inputs[0]);
    assert!(event.starts_at.unwrap() <= chrono::Utc::now());
    assert!(event.annotations["selfheal.starts_at"].contains("future"));
}

#[tokio::test]
async fn cloudevents_come_in_all_three_modes() {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, opened).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let one = |id: &str| {
        json!({"specversion": "1.0", "id": id, "source": "/mon", "type": "disk.full",
            "subject": "db", "data": {"used": 99}})
    };
    let structured =
        gateway.post("/api/v1/events").header("content-type", "application/cloudevents+json");
    let (status, told) = heard(structured.body(one("1").to_string())).await;
    assert_eq!((status, &told["status"]), (200, &json!("incident_opened")), "{told}");
    let binary = gateway
        .post("/api/v1/events")
        .header("content-type", "application/json")
        .header("ce-specversion", "1.0")
        .header("ce-id", "2")
        .header("ce-source", "/mon")
        .header("ce-type", "disk.full")
        .header("ce-subject", "db");
    let (status, told) = heard(binary.body("{\"used\": 99}")).await;
    assert_eq!(status, 200, "{told}");
    let batch = |list: Value| {
        let request = gateway.post("/api/v1/events");
        request.header("content-type", "application/cloudevents-batch+json").body(list.to_string())
    };
    let (status, told) = heard(batch(json!([one("3"), one("4")]))).await;
    assert_eq!((status, told["results"].as_array().unwrap().len()), (200, 2), "{told}");
    let (status, told) = heard(batch(json!([]))).await;
    assert_eq!((status, &told["results"]), (200, &json!([])));

    // All of a batch, or nothing.
    let (status, told) = heard(batch(json!([one("5"), {"specversion": "1.0"}]))).await;
    assert_eq!(status, 400);
    assert!(
        told["error"]["message"].as_str().unwrap().starts_with("event 1 of the batch"),
        "{told}"
    );

    let (status, told) =
        heard(gateway.post("/api/v1/events").header("ce-id", "6").body("{}")).await;
    assert_eq!(status, 400);
    assert!(told["error"]["message"].as_str().unwrap().contains("ce-specversion"), "{told}");

    let mut inputs = desk.inputs(4).await;
    inputs.sort_by_key(|envelope| event(envelope).id.clone());
    let ids: Vec<_> = inputs.iter().map(|envelope| event(envelope).id.as_str()).collect();
    assert_eq!(ids, ["1", "2", "3", "4"]);
    for envelope in &inputs {
        assert_eq!(event(envelope).target.as_deref(), Some("db"));
        assert_eq!(event(envelope).payload, json!({"used": 99}));
    }
}

/// The examples of the specification 1.0.2, its JSON format and its HTTP binding.
#[tokio::test]
async fn the_examples_of_the_cloudevents_specification_are_taken() {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, opened).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let post = |media: &'static str, body: String| {
        gateway.post("/api/v1/events").header("content-type", media).body(body)
    };
    let example = json!({"specversion": "1.0", "type": "com.github.pull_request.opened",
        "source": "https://github.com/cloudevents/spec/pull", "subject": "123",
        "id": "A234-1234-1234", "time": "2018-04-05T17:31:00Z", "comexampleextension1": "value",
        "comexampleothervalue": 5, "datacontenttype": "text/xml", "data": "<much wow=\"xml\"/>"});
    let base64 = json!({"specversion": "1.0", "type": "com.example.someevent",
        "source": "/mycontext", "subject": null, "id": "C234-1234-1234",
        "time": "2018-04-05T17:31:00Z", "comexampleextension1": "value", "comexampleothervalue": 5,
        "datacontenttype": "application/vnd.apache.thrift.binary", "data_base64": "AQIDBA=="});
    let batch = json!([{"specversion": "1.0", "type": "com.example.someevent",
        "source": "/mycontext/4", "id": "B234-1234-1234", "time": "2018-04-05T17:31:00Z",
        "data": "<much wow=\"xml\"/>"}, {"specversion": "1.0", "type": "com.example.someotherevent",
        "source": "/mycontext/9", "id": "C234-1234-1234", "data": {"appinfoA": "abc"}}]);
    let binary = gateway
        .post("/api/v1/events")
        .header("ce-specversion", "1.0")
        .header("ce-type", "com.example.someevent")
        .header("ce-time", "2018-04-05T03:56:24Z")
        .header("ce-id", "1234-1234-1234")
        .header("ce-source", "/mycontext/subcontext")
        .header("content-type", "application/json; charset=utf-8")
        .body("{\"a\": 1}");
    for (name, request) in [
        ("structured", post("application/cloudevents+json; charset=utf-8", example.to_string())),
        ("base64", post("application/cloudevents+json", base64.to_string())),
        ("batch", post("application/cloudevents-batch+json; charset=utf-8", batch.to_string())),
        ("binary", binary),
    ] {
        let (status, told) = heard(request).await;
        assert_eq!(status, 200, "{name}: {told}");
    }
    let inputs = desk.inputs(5).await;
    let first = event(&inputs[0]);
    assert_eq!(first.target.as_deref(), Some("123"));
    assert_eq!(first.labels["comexampleothervalue"], "5");
    assert_eq!(first.payload, json!("<much wow=\"xml\"/>"));
    assert_eq!(event(&inputs[1]).payload, json!("AQIDBA=="));
    let last = inputs.iter().map(event).find(|it| it.id == "1234-1234-1234").unwrap();
    assert_eq!((last.source.as_str(), &last.payload), ("/mycontext/subcontext", &json!({"a": 1})));
}

#[tokio::test]
async fn a_broker_that_is_gone_is_an_honest_503() {
    let mut broker = Broker::start().await;
    let desk = Desk::open(&broker, opened).await;
    let gateway = Gateway::start(&broker, &["--answer-timeout", "1s"]).await;
    broker.kill();
    let answer =
        gateway.post("/publish_event").json(&json!({"type": "a", "id": "1"})).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    let told: Value = answer.json().await.unwrap();
    assert_eq!(told["error"]["code"], "broker_unavailable", "{told}");
    assert_eq!(gateway.get("/readyz").send().await.unwrap().status(), 503);
    assert_eq!(gateway.get("/healthz").send().await.unwrap().status(), 200);
    broker.restart().await;
    drop(desk);
    let _desk = Desk::open(&broker, opened).await;
    let (status, told) = loop {
        let (status, told) = gateway.send("/publish_event", json!({"type": "a", "id": "1"})).await;
        if status != 503 && status != 202 {
            break (status, told);
        }
    };
    assert_eq!((status, &told["status"]), (200, &json!("incident_opened")));
}
