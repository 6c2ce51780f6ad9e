//! What others send, each in its own form, as far as the inbox.

use std::collections::BTreeSet;

use bus::testing::Broker;
use domain::{
    event::{Event, Severity, Status},
    wire::{AnswerStatus, Envelope, Input},
};
use serde_json::{Value, json};

use crate::fixture::{Desk, Gateway, answer, command, heard};

const TOKEN: &str = "a-token-that-is-long-enough";

fn event(envelope: &Envelope) -> &Event {
    let Input::Event(event) = &envelope.input else { panic!("another input: {envelope:?}") };
    event
}

fn sample(path: &str) -> Value {
    let path = format!("{}/tests/captured/{path}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

fn group(n: usize) -> Value {
    let alert = |idx| {
        json!({"status": "firing", "labels": {"alertname": "Down", "service": format!("s-{idx}")},
            "annotations": {}, "startsAt": "2026-01-02T03:04:05Z", "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": format!("{idx:016x}")})
    };
    let alerts: Vec<Value> = (0..n).map(alert).collect();
    json!({"version": "4", "groupKey": "g", "status": "firing", "alerts": alerts})
}

/// Gives the gateway a configuration and waits until it is in force.
async fn configure(desk: &Desk, gateway: &mut Gateway, config: &Value) {
    desk.bus.config_store().put(config.to_string().into(), 0).await.unwrap();
    gateway.line("the integrations are as configured").await;
}

#[tokio::test]
async fn a_group_of_alerts_is_stored_together_and_nobody_waits_for_a_decision() {
    let broker = Broker::start().await;
    // A desk that never answers: who waited for it would wait five seconds.
    let mut desk = Desk::open(&broker, |_| None).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let begun = std::time::Instant::now();
    let (status, told) = gateway.send("/integrations/alertmanager", group(300)).await;
    assert_eq!((status, &told), (202, &json!({"status": "accepted", "n_events": 300})));
    assert!(begun.elapsed().as_secs() < 5, "it waited for a decision");
    let inputs = desk.inputs(300).await;
    let ids: BTreeSet<_> = inputs.iter().map(|it| it.id.clone()).collect();
    assert_eq!(ids.len(), 300);
    assert!(inputs.iter().all(|it| it.reply_to.is_none()));
    let mut messages = desk.bus.read_inbox(0).await.unwrap();
    let first = messages.next_batch(100, crate::fixture::PATIENCE).await.unwrap();
    assert!(first.len() < 10, "{} messages for one group", first.len());
    // The same group again has the same ids.
    let (status, _) = gateway.send("/integrations/alertmanager", group(300)).await;
    assert_eq!(status, 202);
    let again = desk.inputs(600).await;
    let again: BTreeSet<_> = again.iter().map(|it| it.id.clone()).collect();
    assert_eq!(again, ids);
}

#[tokio::test]
async fn a_group_that_is_longer_than_one_event_may_be_is_taken_and_its_largest_alert_told_with_less()
 {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, |_| None).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let mut body = group(20);
    for alert in body["alerts"].as_array_mut().unwrap() {
        alert["annotations"] = json!({"dump": "x".repeat(100_000)});
    }
    body["alerts"][7]["annotations"]["dump"] = json!("x".repeat(1_000_000));
    body["alerts"][7]["dump"] = json!("x".repeat(400_000));
    let (status, told) = gateway.send("/integrations/alertmanager", body).await;
    assert_eq!((status, &told["n_events"]), (202, &json!(20)), "{told}");
    let inputs = desk.inputs(20).await;
    let with_less =
        inputs.iter().filter(|it| event(it).annotations.contains_key("selfheal.too_large"));
    assert_eq!(
        with_less.map(|it| event(it).labels["service"].as_str()).collect::<Vec<_>>(),
        ["s-7"]
    );
    let endless = "x".repeat(9_000_000);
    let too_long = gateway.post("/integrations/alertmanager").body(endless);
    assert_eq!(heard(too_long).await.0, 413);
}

#[tokio::test]
async fn what_real_senders_sent_is_taken_as_they_meant_it() {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, |_| None).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let (status, told) =
        gateway.send("/integrations/alertmanager", sample("alertmanager-firing.json")).await;
    assert_eq!(status, 202, "{told}");
    let (status, told) =
        gateway.send("/integrations/alertmanager", sample("alertmanager-resolved.json")).await;
    assert_eq!(status, 202, "{told}");
    let (status, told) = gateway.send("/api/v2/alerts", sample("prometheus-alerts.json")).await;
    assert_eq!((status, &told), (200, &json!("")));
    let (status, told) = gateway.send("/integrations/grafana", sample("grafana.json")).await;
    assert_eq!(status, 202, "{told}");
    let inputs = desk.inputs(5).await;
    let [fired, resolved, direct, grafana, other] = inputs.as_slice() else { panic!() };
    let (fired, resolved, direct) = (event(fired), event(resolved), event(direct));
    assert_eq!((fired.status, resolved.status), (Status::Firing, Status::Resolved));
    assert_eq!(fired.kind.as_str(), "InstanceDown");
    assert_eq!(fired.labels["job"], "database");
    assert_eq!(fired.severity, Severity::Critical);
    assert_eq!(fired.ends_at, None);
    for it in [resolved, direct] {
        assert_eq!(it.fingerprint, fired.fingerprint, "the same whichever way it comes");
        assert_eq!(it.source, fired.source);
    }
    assert!(direct.ends_at > direct.starts_at, "a lease");
    let (grafana, other) = (event(grafana), event(other));
    assert_eq!((grafana.source.as_str(), grafana.kind.as_str()), ("grafana", "High_memory_usage"));
    assert_eq!((grafana.status, other.status), (Status::Firing, Status::Resolved));
    assert_eq!(grafana.payload["values"]["B"], json!(44.23943737541908));
    assert_eq!(grafana.links.len(), 4);
}

#[tokio::test]
async fn clients_of_an_alertmanager_find_what_they_ask_for() {
    let broker = Broker::start().await;
    let _desk = Desk::open(&broker, |_| None).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let (status, told) = heard(gateway.get("/api/v2/status")).await;
    assert_eq!((status, &told["cluster"]["status"]), (200, &json!("disabled")));
    assert!(told["versionInfo"]["version"].is_string() && told["uptime"].is_string());
    for path in ["/-/healthy", "/-/ready"] {
        assert_eq!(heard(gateway.get(path)).await, (200, json!("OK")));
    }
    assert_eq!(gateway.send("/api/v2/alerts", json!([])).await.0, 200);
    assert_eq!(gateway.send("/api/v2/alerts", json!({})).await.0, 400);
    let (_, index) = heard(gateway.get("/")).await;
    assert!(index["routes"]["POST /api/v2/alerts"].is_string(), "{index}");
}

#[tokio::test]
async fn a_client_of_pagerduty_hears_what_pagerduty_says() {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, |_| None).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let key = "r".repeat(32);
    let trigger = |dedup: Option<&str>| {
        json!({"routing_key": key, "event_action": "trigger", "dedup_key": dedup,
            "payload": {"summary": "it is down", "source": "web-1", "severity": "warning"}})
    };
    let (status, told) = gateway.send("/v2/enqueue", trigger(Some("d-1"))).await;
    let success = json!({"status": "success", "message": "Event processed", "dedup_key": "d-1"});
    assert_eq!((status, told), (202, success));
    let (_, one) = gateway.send("/v2/enqueue", trigger(None)).await;
    let (_, two) = gateway.send("/v2/enqueue", trigger(None)).await;
    assert_ne!(one["dedup_key"], two["dedup_key"], "without a key it is always new");
    for action in ["acknowledge", "resolve"] {
        let body = json!({"routing_key": key, "event_action": action, "dedup_key": "d-1"});
        assert_eq!(gateway.send("/v2/enqueue", body).await.0, 202);
    }
    let body =
        json!({"routing_key": key, "payload": {"summary": "build 7 is out", "source": "ci"}});
    let (status, told) = gateway.send("/v2/change/enqueue", body).await;
    let success = json!({"status": "success", "message": "Change event processed"});
    assert_eq!((status, told), (202, success));
    let (status, told) = gateway.send("/v2/enqueue", json!({"routing_key": " "})).await;
    assert_eq!((status, &told["status"]), (400, &json!("invalid event")));
    assert_eq!(told["errors"].as_array().unwrap().len(), 2, "{told}");
    let bad = gateway.post("/v2/enqueue").body("{").header("content-type", "application/json");
    let (status, told) = heard(bad).await;
    assert_eq!((status, told["errors"].is_array()), (400, true), "{told}");
    let inputs = desk.inputs(6).await;
    let seen: Vec<_> = inputs.iter().map(|it| event(it).status).collect();
    let (firing, over) = (Status::Firing, Status::Resolved);
    assert_eq!(seen, [firing, firing, firing, Status::Acknowledged, over, Status::Change]);
    assert!(inputs.iter().all(|it| !serde_json::to_string(it).unwrap().contains(&key)));
    assert_eq!(event(&inputs[3]).fingerprint, event(&inputs[0]).fingerprint);
}

#[tokio::test]
async fn a_ready_mapping_needs_no_configuration_and_one_of_ones_own_is_used_at_once() {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, |_| None).await;
    let mut gateway = Gateway::start(&broker, &[]).await;
    let own = json!({"integrations": [{"name": "own", "mapping": {"each": "body.list",
        "type": "{{ item.what }}", "target": "{{ query.target }}"}}]});
    configure(&desk, &mut gateway, &own).await;
    let kuma = json!({"heartbeat": {"status": 0, "time": "2026-01-02 03:04:05.678"},
        "monitor": {"id": 7, "name": "shop"}, "msg": "[shop] down"});
    let (status, told) = gateway.send("/integrations/uptime-kuma", kuma).await;
    assert_eq!((status, &told["n_events"]), (202, &json!(1)), "{told}");
    let body = json!({"list": [{"what": "too slow"}, {"what": "too hot"}]});
    let (status, told) = gateway.send("/integrations/own?target=db", body).await;
    assert_eq!((status, &told["n_events"]), (202, &json!(2)), "{told}");
    let form = gateway
        .post("/integrations/nagios")
        .header("content-type", "application/x-www-form-urlencoded")
        .body("type=PROBLEM&host=web-1&service=HTTP&state=CRITICAL&output=it+is+%22down%22&time=1767322800");
    assert_eq!(heard(form).await.0, 202);
    let (status, told) = gateway.send("/integrations/nobody", json!({})).await;
    assert_eq!((status, &told["error"]["code"]), (404, &json!("unknown_integration")));
    let inputs = desk.inputs(4).await;
    let kinds: Vec<_> = inputs.iter().map(|it| event(it).kind.as_str().to_owned()).collect();
    assert_eq!(kinds, ["service_down", "too_slow", "too_hot", "HTTP"]);
    assert_eq!(event(&inputs[1]).target.as_deref(), Some("db"));
    assert_ne!(event(&inputs[1]).id, event(&inputs[2]).id);
    assert_eq!(event(&inputs[3]).annotations["summary"], "it is \"down\"");
}

#[tokio::test]
async fn a_door_opens_to_its_own_secret_or_a_token_and_to_nothing_else() {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, |_| answer(AnswerStatus::Done)).await;
    let mut with_token = command(&broker.url());
    with_token.env("SELFHEAL_API_TOKEN", TOKEN).env("HOOK_SECRET", "s3cret-of-the-hook");
    let mut gateway = Gateway::spawn(with_token).await;
    gateway.line("ready").await;
    let secret = json!({"env": "HOOK_SECRET"});
    let config = json!({"integrations": [
        {"name": "alertmanager", "secret": {"bearer": secret}},
        {"name": "grafana", "secret": {"hmac": {"secret": secret}}},
        {"name": "gatus", "secret": {"header": {"name": "x-key", "value": {"env": "NOT_SET"}}}},
    ]});
    configure(&desk, &mut gateway, &config).await;
    let post = |path: &str| gateway.post(path).json(&group(1));
    let bearer = |secret: &str| format!("Bearer {secret}");
    for path in ["/integrations/alertmanager", "/integrations/grafana", "/integrations/zabbix"] {
        assert_eq!(heard(post(path)).await.0, 401, "{path}");
        let wrong = post(path).header("authorization", bearer("wrong"));
        assert_eq!(heard(wrong).await.0, 401, "{path}");
        let token = post(path).header("authorization", bearer(TOKEN));
        assert_eq!(heard(token).await.0, 202, "{path}");
    }
    let own = post("/integrations/alertmanager");
    let own = own.header("authorization", bearer("s3cret-of-the-hook"));
    assert_eq!(heard(own).await.0, 202);
    let elsewhere = gateway.get("/api/v1/incidents");
    let elsewhere = elsewhere.header("authorization", bearer("s3cret-of-the-hook"));
    assert_eq!(heard(elsewhere).await.0, 401, "it opens this door and no other");
    let direct = gateway.post("/api/v2/alerts").json(&json!([]));
    assert_eq!(heard(direct).await.0, 401);
    // A secret that is not there is our mistake: a sender of alerts comes again after a 503.
    assert_eq!(heard(post("/integrations/gatus")).await.0, 503);
    let forged = post("/integrations/grafana");
    let forged = forged.header("x-grafana-alerting-signature", "0".repeat(64));
    let (status, told) = heard(forged).await;
    assert_eq!((status, &told["error"]["code"]), (401, &json!("secret_wrong")));
    assert_eq!(desk.inputs(4).await.len(), 4);
}

#[tokio::test]
async fn where_no_token_is_asked_for_a_secret_still_is() {
    let broker = Broker::start().await;
    let desk = Desk::open(&broker, |_| None).await;
    let mut local = command(&broker.url());
    local.env("HOOK_SECRET", "s3cret-of-the-hook");
    let mut gateway = Gateway::spawn(local).await;
    gateway.line("ready").await;
    let secret = json!({"hmac": {"secret": {"env": "HOOK_SECRET"}}});
    let config = json!({"integrations": [{"name": "grafana", "secret": secret}]});
    configure(&desk, &mut gateway, &config).await;
    assert_eq!(gateway.send("/integrations/grafana", group(1)).await.0, 401);
    let body = group(1).to_string();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"s3cret-of-the-hook");
    let tag = ring::hmac::sign(&key, body.as_bytes());
    let tag: String = tag.as_ref().iter().map(|it| format!("{it:02x}")).collect();
    let signed = gateway.post("/integrations/grafana").body(body);
    assert_eq!(heard(signed.header("X-Grafana-Alerting-Signature", tag)).await.0, 202);
    assert_eq!(gateway.send("/integrations/alertmanager", group(1)).await.0, 202);
}

#[tokio::test]
async fn a_forged_message_of_sns_is_refused_before_anything_is_fetched() {
    let broker = Broker::start().await;
    let desk = Desk::open(&broker, |_| None).await;
    let mut gateway = Gateway::start(&broker, &[]).await;
    let topic = "arn:aws:sns:eu-west-1:123456789012:alarms";
    let config = json!({"integrations": [{"name": "cloudwatch", "topics": [topic]}]});
    configure(&desk, &mut gateway, &config).await;
    let message = json!({"Type": "Notification", "TopicArn": topic, "MessageId": "1",
        "Message": "{}", "Timestamp": "2026-01-02T03:04:05.000Z", "SignatureVersion": "1",
        "Signature": "AAAA", "SigningCertURL": format!("{}/x.pem", gateway.url)});
    let (status, told) = gateway.send("/integrations/cloudwatch", message).await;
    assert_eq!((status, &told["error"]["code"]), (403, &json!("signature_wrong")), "{told}");
    let confirm = json!({"Type": "SubscriptionConfirmation", "TopicArn": topic,
        "SubscribeURL": format!("{}/api/v1/pause", gateway.url)});
    assert_eq!(gateway.send("/integrations/cloudwatch", confirm).await.0, 403);
    assert_eq!(desk.seen.borrow().len(), 0);
}

#[tokio::test]
async fn a_broker_that_is_gone_makes_senders_come_again() {
    let mut broker = Broker::start().await;
    let _desk = Desk::open(&broker, |_| None).await;
    let gateway = Gateway::start(&broker, &["--answer-timeout", "1s"]).await;
    broker.kill();
    let pagerduty = json!({"routing_key": "r".repeat(32), "event_action": "trigger",
        "payload": {"summary": "a", "source": "b", "severity": "info"}});
    for (path, body) in [
        ("/integrations/alertmanager", group(2)),
        ("/integrations/grafana", group(2)),
        ("/api/v2/alerts", json!([{"labels": {"alertname": "a"}}])),
        ("/v2/enqueue", pagerduty),
    ] {
        let answer = gateway.post(path).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 503, "{path}: every 4xx would drop the alert");
        assert!(answer.headers().contains_key("retry-after"), "{path}");
    }
}
