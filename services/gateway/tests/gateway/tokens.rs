//! Tokens in time: made, revoked, expired, while the broker is away, and used too often.

use std::time::{Duration, Instant};

use bus::testing::Broker;
use chrono::{TimeDelta, Utc};
use domain::access::{Revoked, Role};
use serde_json::{Value, json};

use crate::{
    fixture::{Desk, Gateway, PATIENCE, command, eventually, heard},
    roles::{ADMIN, guarded, known, put, record},
};

async fn revoke(desk: &Desk, name: &str) {
    let tokens = desk.bus.token_store().list(PATIENCE).await.unwrap();
    let (seq, mut record) = tokens[name].clone();
    record.revoked = Some(Revoked { at: Utc::now(), by: "ann".to_owned() });
    put(desk, &record, seq).await;
}

async fn code(gateway: &Gateway, token: &str) -> (u16, Value) {
    let (status, told) = heard(gateway.get("/api/v1/whoami").bearer_auth(token)).await;
    (status, told["error"]["code"].clone())
}

#[tokio::test]
async fn a_revocation_counts_within_a_second_and_ends_the_streams_of_its_holder() {
    let broker = Broker::start().await;
    let (mut gateway, desk) = guarded(&broker).await;
    for name in ["gone", "kept"] {
        put(&desk, &record(name, Role::Viewer, &format!("sht_{name}")), 0).await;
        known(&gateway, &format!("sht_{name}")).await;
    }
    let stream = async |token: &str| {
        let mut stream = gateway.get("/api/v1/stream").bearer_auth(token).send().await.unwrap();
        assert!(stream.chunk().await.unwrap().is_some(), "hello");
        stream
    };
    let (mut gone, mut kept) = (stream("sht_gone").await, stream("sht_kept").await);
    revoke(&desk, "gone").await;
    let begun = Instant::now();
    let revoked = (401, json!("token_revoked"));
    eventually("it is refused", async || {
        let told = code(&gateway, "sht_gone").await;
        if told == revoked { Ok(()) } else { Err(told) }
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let end = tokio::time::timeout(PATIENCE, gone.chunk()).await.expect("the stream ends");
    assert!(end.unwrap().is_none());
    let more = tokio::time::timeout(Duration::from_millis(100), kept.chunk()).await;
    assert!(more.is_err(), "the other one goes on: {more:?}");
    let line = gateway.line_with("a caller was not let in", "reason", "token_revoked").await;
    assert_eq!(line["route"], "/api/v1/whoami");
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    let metrics = heard(gateway.get("/metrics")).await.1;
    let counted = "selfheal_gateway_refused_total{reason=\"token_revoked\"}";
    assert!(metrics.as_str().unwrap().contains(counted), "{metrics}");
}

#[tokio::test]
async fn a_token_ends_at_its_time_and_its_stream_with_it() {
    let broker = Broker::start().await;
    let (gateway, desk) = guarded(&broker).await;
    let mut short = record("short", Role::Viewer, "sht_short");
    short.expires_at = Some(Utc::now() + TimeDelta::seconds(3));
    put(&desk, &short, 0).await;
    let told = known(&gateway, "sht_short").await;
    assert!(told["expires_at"].is_string(), "{told}");
    let mut stream = gateway.get("/api/v1/stream").bearer_auth("sht_short").send().await.unwrap();
    assert!(stream.chunk().await.unwrap().is_some(), "hello");
    let end = tokio::time::timeout(PATIENCE, stream.chunk()).await.expect("the stream ends");
    assert!(end.unwrap().is_none());
    assert_eq!(code(&gateway, "sht_short").await, (401, json!("token_expired")));
}

#[tokio::test]
async fn while_the_broker_is_away_the_tokens_that_were_known_last_count() {
    let mut broker = Broker::start().await;
    let (gateway, desk) = guarded(&broker).await;
    put(&desk, &record("gone", Role::Viewer, "sht_gone"), 0).await;
    put(&desk, &record("kept", Role::Publisher, "sht_kept"), 0).await;
    known(&gateway, "sht_kept").await;
    revoke(&desk, "gone").await;
    eventually("it is refused", async || {
        let told = code(&gateway, "sht_gone").await;
        if told.0 == 401 { Ok(()) } else { Err(told) }
    })
    .await;
    broker.kill();
    eventually("the gateway knows that the broker is away", async || {
        let (status, told) = heard(gateway.get("/readyz")).await;
        if status == 503 { Ok(()) } else { Err(told) }
    })
    .await;
    assert_eq!(code(&gateway, "sht_kept").await, (200, Value::Null));
    assert_eq!(code(&gateway, "sht_gone").await.0, 401);
    assert_eq!(code(&gateway, "sht_other").await, (401, json!("token_wrong")));
    assert_eq!(code(&gateway, ADMIN).await.0, 200);
}

#[tokio::test]
async fn before_the_tokens_are_known_nobody_is_sent_away_for_good() {
    let broker = Broker::start().await;
    let mut waiting = command(&broker.url());
    waiting.args(["--require-token", "--listen", "0.0.0.0:0"]);
    let mut gateway = Gateway::spawn(waiting).await;
    gateway.url = gateway.url.replace("0.0.0.0", "127.0.0.1");
    assert_eq!(code(&gateway, "sht_any").await, (503, json!("access_not_known")));
    assert_eq!(code(&gateway, "any").await, (401, json!("token_wrong")));
    let bus = broker.bus().await.unwrap();
    let stored = bus.token_store().put(&record("any", Role::Viewer, "sht_any"), 0).await;
    assert!(stored.is_ok());
    assert_eq!(known(&gateway, "sht_any").await["role"], "viewer");
}

#[tokio::test]
async fn who_comes_too_often_is_told_when_to_come_again_and_events_never_hear_429() {
    let broker = Broker::start().await;
    let (gateway, desk) = guarded(&broker).await;
    put(&desk, &record("all", Role::Operator, "sht_all"), 0).await;
    let mut own = record("own", Role::Operator, "sht_own");
    own.rate = Some("2/h".parse().unwrap());
    put(&desk, &own, 0).await;
    known(&gateway, "sht_own").await;
    let ask = async |token: &str, path: &str| {
        let request = match path {
            "/api/v1/status" => gateway.get(path),
            _ => gateway.post(path).json(&json!({"type": "a"})),
        };
        let answer = request.bearer_auth(token).send().await.unwrap();
        let wait = answer.headers().get("retry-after").cloned();
        (answer.status().as_u16(), wait.is_some())
    };
    assert_eq!(ask("sht_own", "/api/v1/status").await, (200, false), "one was used to be known");
    assert_eq!(ask("sht_own", "/api/v1/status").await, (429, true));
    for path in ["/publish_event", "/api/v1/events"] {
        assert_eq!(ask("sht_own", path).await, (200, false), "{path}");
    }
    assert_eq!(ask("sht_own", "/publish_event").await, (503, true));
    assert_eq!(ask("sht_own", "/api/v1/events").await, (503, true));
    assert_eq!(ask("sht_all", "/api/v1/status").await, (200, false), "no limit for all yet");

    let config = json!({"access": {"rate": {"events": "1/h"}}}).to_string();
    desk.bus.config_store().put(config.into(), 0).await.unwrap();
    eventually("the limit for all counts", async || {
        let told = ask("sht_all", "/publish_event").await;
        if told == (503, true) { Ok(()) } else { Err(told) }
    })
    .await;
    assert_eq!(ask("sht_all", "/api/v1/status").await, (200, false), "other requests have none");
    assert_eq!(ask(ADMIN, "/publish_event").await, (200, false), "each has his own");
}

#[tokio::test]
async fn where_no_token_is_asked_for_one_that_is_sent_counts() {
    let broker = Broker::start().await;
    let desk = Desk::open(&broker, |_| None).await;
    let gateway = Gateway::start(&broker, &[]).await;
    put(&desk, &record("ro", Role::Viewer, "sht_ro"), 0).await;
    assert_eq!(known(&gateway, "sht_ro").await["name"], "token:ro");
    let (status, told) = heard(gateway.get("/api/v1/whoami")).await;
    assert_eq!((status, &told["name"], &told["role"]), (200, &json!("local"), &json!("admin")));
    assert_eq!(code(&gateway, "sht_other").await.0, 401);
    assert_eq!(heard(gateway.post("/api/v1/pause").bearer_auth("sht_ro")).await.0, 403);
    // Who has a token is no page of another site.
    let named = gateway.get("/api/v1/whoami").header("host", "gateway.example");
    assert_eq!(heard(named.bearer_auth("sht_ro")).await.0, 200);
}
