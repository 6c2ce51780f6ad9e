//! Messages as senders really send them, through their doors: accepted, and understood.
//!
//! Their structure is that of the senders' sources and documentation; values are ours. What the
//! ready mappings make of theirs is tested where they are (`domain::mapping`).

use bus::testing::Broker;
use domain::{
    event::{Event, Severity as S, Status as T},
    mapping::presets,
    wire::{Envelope, Input},
};
use serde_json::{Value, json};

use crate::fixture::{Desk, Gateway, command, heard};

fn event(envelope: &Envelope) -> &Event {
    let Input::Event(event) = &envelope.input else { panic!("another input: {envelope:?}") };
    event
}

fn text(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What one alert means: type, target, its sender's key, status, severity.
type Meaning = (&'static str, Option<&'static str>, &'static str, T, S);

const ALERTMANAGER: &str = "/integrations/alertmanager";
const GRAFANA: &str = "/integrations/grafana";
const ENQUEUE: &str = "/v2/enqueue";

/// Each message, where it goes, what is answered, and what it means.
#[rustfmt::skip]
const TABLE: [(&str, &str, u16, &[Meaning]); 15] = [
    (ALERTMANAGER, "alertmanager-034", 202, &[
        ("DiskFull", Some("10.0.0.1:9100"), "6ed5b5b1a6d9a0c1", T::Firing, S::Warning),
        ("DiskFull", Some("10.0.0.2:9100"), "a27c9d1e2f3b4c5d", T::Resolved, S::Warning),
    ]),
    (ALERTMANAGER, "alertmanager-v3", 202, &[("failedConnect", Some("router"), "e7479b1ab9eb3e05", T::Firing, S::Critical)]),
    (GRAFANA, "grafana-test", 202, &[("TestAlert", Some("Grafana"), "57c6d9296de2ad39", T::Firing, S::Error)]),
    (GRAFANA, "grafana-no-data", 202, &[("DatasourceNoData", None, "2a1b3c4d5e6f7081", T::Firing, S::Error)]),
    (GRAFANA, "grafana-no-data-over", 202, &[("DatasourceNoData", None, "2a1b3c4d5e6f7081", T::Resolved, S::Error)]),
    (GRAFANA, "grafana-12", 202, &[("High_latency", Some("checkout"), "c6eadffa33fcdf37", T::Firing, S::Critical)]),
    (GRAFANA, "grafana-8-alerting", 202, &[("Battery_voltage", Some("power"), "rule/58", T::Firing, S::Warning)]),
    (GRAFANA, "grafana-8-ok", 202, &[("Battery_voltage", Some("power"), "rule/58", T::Resolved, S::Warning)]),
    ("/api/v2/alerts", "vmalert", 200, &[("TooManyErrors", Some("checkout"), "a2f9947102fd19c7", T::Firing, S::Error)]),
    ("/api/v2/alerts", "amtool", 200, &[("ByHand", Some("db-1"), "7c496ede00dbcbcd", T::Firing, S::Error)]),
    (ENQUEUE, "pagerduty-trigger", 202, &[("disk", Some("mysql"), "disk/db-1", T::Firing, S::Critical)]),
    (ENQUEUE, "pagerduty-acknowledge", 202, &[("alert", None, "disk/db-1", T::Acknowledged, S::Error)]),
    (ENQUEUE, "pagerduty-resolve", 202, &[("alert", None, "disk/db-1", T::Resolved, S::Error)]),
    (ENQUEUE, "pagerduty-alertmanager", 202, &[("alert", Some("Alertmanager"), "5f1d8b3a0c6e4f2b9a7d5f1d8b3a0c6e4f2b9a7d5f1d8b3a0c6e4f2b9a7d0001", T::Firing, S::Error)]),
    ("/v2/change/enqueue", "pagerduty-change", 202, &[("change", Some("acme-build-pipeline-tool-default-i-9999"), "", T::Change, S::Info)]),
];

#[tokio::test]
async fn what_senders_send_is_taken_as_they_mean_it() {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, |_| None).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let mut n_seen = 0;
    for (path, file, status, meanings) in TABLE {
        let body = text(&format!("tests/captured/{file}.json"));
        let request = gateway.post(path).header("content-type", "application/json").body(body);
        let (answered, told) = heard(request).await;
        assert_eq!(answered, status, "{file}: {told}");
        let inputs = desk.inputs(n_seen + meanings.len()).await;
        let seen: Vec<_> = inputs.iter().skip(n_seen).map(event).collect();
        let meant: Vec<_> = seen
            .iter()
            .map(|it| {
                let key = it.fingerprint.as_deref().unwrap_or_default();
                (it.kind.as_str(), it.target.as_deref(), key, it.status, it.severity)
            })
            .collect();
        assert_eq!(meant, meanings.to_vec(), "{file}");
        for it in seen {
            // They are of the second of January 2026, but for those that say nothing.
            let told = it.starts_at.map(|it| it.format("%F").to_string());
            let is_old = ["grafana-8", "amtool", "pagerduty-a", "pagerduty-r"];
            let is_told = !is_old.iter().any(|old| file.starts_with(old));
            assert_eq!(told.as_deref() == Some("2026-01-02"), is_told, "{file}: {told:?}");
        }
        n_seen += meanings.len();
    }
    assert_eq!(desk.seen.borrow().len(), n_seen, "nothing else came of it");
}

/// Returns the messages of the ready mappings: mapping, name of the file, text.
fn of_mappings() -> Vec<(&'static str, String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/domain/tests/integrations");
    let files = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap());
    let names = files.map(|it| it.file_name().into_string().unwrap());
    let found = names.filter_map(|file| {
        let (mapping, _) = presets().find(|(name, _)| file.starts_with(name))?;
        let text = std::fs::read_to_string(format!("{folder}/{file}")).unwrap();
        Some((mapping, file, text))
    });
    found.collect()
}

#[tokio::test]
async fn every_message_for_a_ready_mapping_is_accepted_also_one_that_is_no_alert() {
    let broker = Broker::start().await;
    let desk = Desk::open(&broker, |_| None).await;
    let gateway = Gateway::start(&broker, &[]).await;
    gateway_knows(&desk, &gateway).await;
    let messages = of_mappings();
    assert!(50 < messages.len(), "only {}: is the test blind?", messages.len());
    let mut n_none = 0;
    for (mapping, file, text) in messages {
        let kind = file.trim_start_matches("github-").trim_end_matches(".json").replace('-', "_");
        let request = gateway.post(&format!("/integrations/{mapping}"));
        let request = request.header("x-github-event", kind).header("x-github-delivery", &file);
        let (status, told) =
            heard(request.header("content-type", "application/json").body(text)).await;
        assert_eq!(status, 202, "{file}: {told}");
        n_none += usize::from(told["n_events"] == 0);
    }
    assert_eq!(n_none, 11, "tests, pings and the like");
}

/// Gives the gateway an empty configuration and waits until it is in force.
async fn gateway_knows(desk: &Desk, gateway: &Gateway) {
    let none = json!({"integrations": []});
    desk.bus.config_store().put(none.to_string().into(), 0).await.unwrap();
    crate::fixture::eventually("the ready mappings are served", async || {
        let (status, told) = gateway.send("/integrations/github", json!({})).await;
        if status == 202 { Ok(()) } else { Err(told) }
    })
    .await;
}

#[tokio::test]
async fn forms_and_texts_are_taken_where_their_sender_has_no_json() {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, |_| None).await;
    let mut with_secret = command(&broker.url());
    with_secret.env("HOOK_SECRET", "s3cret-of-the-hook");
    let mut gateway = Gateway::spawn(with_secret).await;
    gateway.line("ready").await;
    let hmac = json!({"secret": {"env": "HOOK_SECRET"}, "header": "X-Hub-Signature-256", "prefix": "sha256="});
    let config = json!({"integrations": [{"name": "github", "secret": {"hmac": hmac}}]});
    desk.bus.config_store().put(config.to_string().into(), 0).await.unwrap();
    gateway.line("the integrations are as configured").await;

    // GitHub, with the content type that it proposes; what is signed is the form.
    let message = text("../../shared/domain/tests/integrations/github-deployment.json");
    let mut form = form_urlencoded::Serializer::new(String::new());
    let body = form.append_pair("payload", &message).finish();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"s3cret-of-the-hook");
    let tag = ring::hmac::sign(&key, body.as_bytes());
    let tag: String = tag.as_ref().iter().map(|it| format!("{it:02x}")).collect();
    let github = gateway
        .post("/integrations/github")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-github-event", "deployment")
        .header("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")
        .header("x-hub-signature-256", format!("sha256={tag}"));
    let (status, told) = heard(github.body(body)).await;
    assert_eq!((status, &told["n_events"]), (202, &json!(1)), "{told}");

    // Uptime Kuma, with the preset multipart/form-data.
    let message = text("../../shared/domain/tests/integrations/uptime-kuma-down.json");
    let fence = "----------------------------872156";
    let body = format!(
        "--{fence}\r\nContent-Disposition: form-data; name=\"data\"\r\n\r\n{message}\r\n--{fence}--\r\n"
    );
    let kuma = gateway.post("/integrations/uptime-kuma");
    let kuma = kuma.header("content-type", format!("multipart/form-data; boundary={fence}"));
    let (status, told) = heard(kuma.body(body)).await;
    assert_eq!((status, &told["n_events"]), (202, &json!(1)), "{told}");

    // SNS with raw message delivery: an alarm, and a text that somebody published by hand.
    let alarm = text("../../shared/domain/tests/integrations/cloudwatch-alarm.json");
    for (body, n_events) in [(alarm.as_str(), 1), ("If you can read this, it works.", 0)] {
        let raw = gateway.post("/integrations/cloudwatch");
        let raw = raw.header("content-type", "text/plain; charset=UTF-8");
        let raw = raw.header("x-amz-sns-rawdelivery", "true").body(body.to_owned());
        let (status, told) = heard(raw).await;
        assert_eq!((status, &told["n_events"]), (202, &json!(n_events)), "{told}");
    }

    // Argo CD, whose template puts a message of several lines into JSON as it is.
    let body = "{\"app\": \"guestbook\", \"phase\": \"Failed\", \"message\": \"one\ntwo\", \"revision\": \"<no value>\"}";
    let argo = gateway.post("/integrations/argocd").header("content-type", "application/json");
    assert_eq!(heard(argo.body(body)).await.0, 202);

    let inputs = desk.inputs(4).await;
    let kinds: Vec<_> = inputs.iter().map(|it| event(it).kind.as_str()).collect();
    assert_eq!(kinds, ["deployment", "service_down", "High_CPU", "deployment"]);
    assert_eq!(event(&inputs[3]).annotations["message"], "one\ntwo");
}

#[tokio::test]
async fn cloudevents_of_any_type_and_data_are_taken() {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, |_| None).await;
    let gateway = Gateway::start(&broker, &["--answer-timeout", "50ms"]).await;
    let binary = |kind: &str| {
        let request = gateway.post("/api/v1/events").header("ce-specversion", "1.0");
        let request = request.header("ce-id", "1").header("ce-source", format!("/{kind}"));
        request.header("ce-type", "com.example.some event")
    };
    let sent: [(&str, reqwest::RequestBuilder, Value); 4] = [
        (
            "percent",
            binary("percent")
                .header("ce-subject", "Euro%20%E2%82%AC%20%F0%9F%98%80")
                .header("content-type", "text/xml")
                .body("<a/>"),
            json!("<a/>"),
        ),
        (
            "quoted",
            binary("quoted")
                .header("ce-subject", "\"a \\\"b\\\"\"")
                .header("content-type", "application/json")
                .body("1.5"),
            json!(1.5),
        ),
        ("untyped", binary("untyped").body("just text"), json!("just text")),
        (
            "bytes",
            binary("bytes")
                .header("content-type", "application/octet-stream")
                .body(vec![0xff, 0, 1]),
            json!("/wAB"),
        ),
    ];
    for (idx, (name, request, payload)) in sent.into_iter().enumerate() {
        let (status, told) = heard(request).await;
        assert_eq!(status, 202, "{name}: {told}");
        let inputs = desk.inputs(idx + 1).await;
        let seen = event(&inputs[idx]);
        assert_eq!(seen.source, format!("/{name}"));
        assert_eq!(seen.payload, payload, "{name}");
        assert_eq!(
            (seen.kind.as_str(), seen.labels["type"].as_str()),
            ("com.example.some_event", "com.example.some event")
        );
        let subject = match name {
            "percent" => Some("Euro € 😀"),
            "quoted" => Some("a \"b\""),
            _ => None,
        };
        assert_eq!(seen.target.as_deref(), subject, "{name}");
    }
}
