//! Who is let in.

use bus::testing::Broker;
use domain::wire::AnswerStatus;
use serde_json::json;

use crate::fixture::{Desk, Gateway, answer, command, heard};

const TOKEN: &str = "a-token-that-is-long-enough";

#[tokio::test]
async fn with_a_token_all_but_the_probes_ask_for_it() {
    let broker = Broker::start().await;
    let _desk = Desk::open(&broker, |_| answer(AnswerStatus::IncidentOpened)).await;
    let mut with_token = command(&broker.url());
    with_token.env("SELFHEAL_API_TOKEN", TOKEN);
    let mut gateway = Gateway::spawn(with_token).await;
    gateway.line("ready").await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(gateway.get(path).send().await.unwrap().status(), 200, "{path}");
    }
    for path in ["/", "/api/v1/incidents", "/api/v1/status", "/api/v1/stream", "/nothing"] {
        let answer = gateway.get(path).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{path}");
        assert!(answer.headers().contains_key("www-authenticate"));
    }
    let event = json!({"type": "a"});
    for header in ["", TOKEN, "Basic abc", "Bearer wrong", "Bearer "] {
        let request = gateway.post("/publish_event").header("authorization", header);
        let (status, told) = heard(request.json(&event)).await;
        assert_eq!(status, 401, "{header}");
        assert!(told["error"]["hint"].as_str().unwrap().contains("Bearer"), "{told}");
        assert!(!told.to_string().contains(TOKEN), "the token is told to nobody");
    }
    for scheme in ["Bearer", "bearer"] {
        let request = gateway.post("/publish_event");
        let request = request.header("authorization", format!("{scheme} {TOKEN}"));
        assert_eq!(heard(request.json(&event)).await.0, 200, "{scheme}");
    }
    // Who has the token may come by any name.
    let request = gateway.post("/publish_event").header("host", "gateway.example");
    assert_eq!(heard(request.bearer_auth(TOKEN).json(&event)).await.0, 200);
}

#[tokio::test]
async fn without_a_token_other_names_and_other_sites_are_refused() {
    let broker = Broker::start().await;
    let _desk = Desk::open(&broker, |_| answer(AnswerStatus::IncidentOpened)).await;
    let gateway = Gateway::start(&broker, &[]).await;
    for (name, value) in [
        ("host", "rebound.example"),
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let request = gateway.post("/publish_event").header(name, value);
        let (status, told) = heard(request.json(&json!({"type": "a"}))).await;
        assert_eq!(status, 403, "{name}: {value}: {told}");
    }
    assert_eq!(gateway.send("/publish_event", json!({"type": "a"})).await.0, 200);
}

#[tokio::test]
async fn without_a_token_it_refuses_to_listen_for_others() {
    let broker = Broker::start().await;
    let mut open = command(&broker.url());
    let output = open.args(["--listen", "0.0.0.0:0"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("SELFHEAL_API_TOKEN"), "{said}");
    assert!(said.contains("openssl rand -hex 32"), "{said}");
}
