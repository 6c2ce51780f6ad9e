//! A role that may not, cannot: each route tried with each role, and with what is no token.

use std::path::Path;

use bus::{PutToken, testing::Broker};
use chrono::{TimeDelta, Utc};
use domain::{
    access::{Revoked, Role, TokenRecord, token_hash},
    wire::{AnswerStatus, Input},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::fixture::{Desk, Gateway, an_incident, answer, command, eventually, heard};

pub(crate) const ADMIN: &str = "a-token-that-is-long-enough";

pub(crate) fn record(name: &str, role: Role, text: &str) -> TokenRecord {
    TokenRecord {
        name: name.to_owned(),
        role,
        hash: token_hash(text),
        created_at: Utc::now(),
        created_by: "ann".to_owned(),
        expires_at: None,
        rate: None,
        scope: None,
        revoked: None,
    }
}

pub(crate) async fn put(desk: &Desk, record: &TokenRecord, expected: u64) {
    let put = desk.bus.token_store().put(record, expected).await.unwrap();
    assert_eq!(put, PutToken::Stored);
}

/// A gateway that asks for a token, and a desk that answers all.
pub(crate) async fn guarded(broker: &Broker) -> (Gateway, Desk) {
    let desk = Desk::open(broker, |envelope| {
        let is_command = matches!(envelope.input, Input::Command(_));
        answer(if is_command { AnswerStatus::Done } else { AnswerStatus::IncidentOpened })
    })
    .await;
    let mut with_token = command(&broker.url());
    with_token.env("SELFHEAL_API_TOKEN", ADMIN);
    let mut gateway = Gateway::spawn(with_token).await;
    gateway.line("ready").await;
    (gateway, desk)
}

/// Waits until the gateway lets this token in, and returns what it says of its holder.
pub(crate) async fn known(gateway: &Gateway, token: &str) -> Value {
    eventually("the token is known", async || {
        let (status, told) = heard(gateway.get("/api/v1/whoami").bearer_auth(token)).await;
        if status == 200 { Ok(told) } else { Err(told) }
    })
    .await
}

/// What a route asks for that no token stands for.
const SIGNATURE: &str = "a signature";

/// Returns method, path and need of each route, as docs/security.md has them; a test of the
/// library compares that with the table of the code.
fn routes() -> Vec<(Method, String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once("\n## Routes\n").unwrap();
    let rows = section.split("\n## ").next().unwrap().lines();
    let rows = rows.filter_map(|it| it.strip_prefix("| `")?.split_once("` | "));
    rows.filter_map(|(route, rest)| {
        let (method, path) = route.split_once(' ')?;
        let is_signed = path.starts_with("/approve/") || path.starts_with("/integrations/slack/");
        let need = match rest.split(" |").next()? {
            "its own secret" if is_signed => SIGNATURE,
            // No door has a secret here: then it is for those who may publish.
            "its own secret" => "publisher",
            need => need,
        };
        let path = path.replace("{id}", &an_incident().to_string()).replace("{name}", "any");
        Some((method.parse().ok()?, path, need.to_owned()))
    })
    .collect()
}

fn body(path: &str) -> (&'static str, String) {
    match path {
        "/publish_event" | "/api/v1/events" => {
            ("application/json", json!({"type": "a"}).to_string())
        }
        "/api/v1/silences" => {
            ("application/json", json!({"matchers": ["target=a"], "for": "1h"}).to_string())
        }
        "/integrations/alertmanager" | "/integrations/grafana" => {
            ("application/json", json!({"alerts": []}).to_string())
        }
        "/api/v2/alerts" => ("application/json", "[]".to_owned()),
        "/v2/enqueue" | "/v2/change/enqueue" => {
            let payload = json!({"summary": "a", "source": "b", "severity": "error"});
            let key = "a".repeat(32);
            let event = json!({"routing_key": key, "event_action": "trigger", "payload": payload});
            ("application/json", event.to_string())
        }
        "/api/v1/config" => ("application/yaml", "targets: []".to_owned()),
        _ => ("application/json", "{}".to_owned()),
    }
}

async fn tried(
    gateway: &Gateway,
    method: &Method,
    path: &str,
    token: Option<&str>,
) -> (u16, Value) {
    let url = format!("{}{path}", gateway.url);
    let mut request = gateway.http.request(method.clone(), url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if *method == Method::POST {
        let (kind, text) = body(path);
        request = request.header("content-type", kind).body(text);
    }
    if path != "/api/v1/stream" {
        return heard(request).await;
    }
    // It does not end by itself when it begins.
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, if status == 200 { Value::Null } else { answer.json().await.unwrap() })
}

/// No receiver is configured, and to hear so one must be let in.
fn is_let_in(status: u16, told: &Value) -> bool {
    status < 300 || told["error"]["code"] == "no_such_receiver"
}

#[tokio::test]
async fn each_route_is_for_those_of_its_role_and_above_and_for_nobody_else() {
    let broker = Broker::start().await;
    let (gateway, desk) = guarded(&broker).await;
    let token = |role: Role| format!("sht_{role}");
    for role in Role::ALL {
        put(&desk, &record(role.as_str(), role, &token(role)), 0).await;
    }
    for (name, ends, is_revoked) in [("expired", -1, false), ("revoked", 1, true)] {
        let mut ended = record(name, Role::Admin, &format!("sht_{name}"));
        ended.expires_at = Some(Utc::now() + TimeDelta::hours(ends));
        ended.revoked = is_revoked.then(|| Revoked { at: Utc::now(), by: "ann".to_owned() });
        put(&desk, &ended, 0).await;
    }
    put(&desk, &record("last", Role::Viewer, "sht_last"), 0).await;
    known(&gateway, "sht_last").await;
    let config = json!({
        "integrations": [{"name": "any", "mapping": {"type": "a"}}],
        "notify": {"receivers": [{"name": "any", "log": true}]},
    });
    desk.bus.config_store().put(config.to_string().into(), 0).await.unwrap();
    eventually("the configuration is known", async || {
        let told = tried(&gateway, &Method::GET, "/", Some("eyJhbGciOiJub25lIn0.e30.")).await;
        if told.0 == 401 { Ok(()) } else { Err(told) }
    })
    .await;
    assert!(20 < routes().len());
    for (method, path, need) in &routes() {
        let at = format!("{method} {path}");
        let is_open = need == "nobody asks";
        if need == SIGNATURE {
            for token in [None, Some("wrong"), Some(ADMIN)] {
                let (status, told) = tried(&gateway, method, path, token).await;
                assert!((400..500).contains(&status), "{at}: {status} {told}");
            }
            continue;
        }
        let no_tokens = [
            (None, "token_missing"),
            (Some("wrong"), "token_wrong"),
            (Some(""), "token_missing"),
            (Some("sht_"), "token_wrong"),
            (Some("sht_expired"), "token_expired"),
            (Some("sht_revoked"), "token_revoked"),
            (Some("eyJhbGciOiJub25lIn0.e30."), "token_wrong"),
        ];
        for (token, code) in no_tokens {
            let (status, told) = tried(&gateway, method, path, token).await;
            if is_open {
                assert_eq!(status, 200, "{at} {token:?}");
            } else {
                assert_eq!((status, &told["error"]["code"]), (401, &json!(code)), "{at} {token:?}");
            }
        }
        for role in Role::ALL {
            let (status, told) = tried(&gateway, method, path, Some(&token(role))).await;
            let least = Role::ALL.into_iter().find(|it| it.as_str() == need);
            if least.is_none_or(|least| role.covers(least)) {
                assert!(is_let_in(status, &told), "{at} by {role}: {status} {told}");
            } else {
                assert_eq!(
                    (status, &told["error"]["code"]),
                    (403, &json!("role_too_low")),
                    "{at} by {role}"
                );
                let message = told["error"]["message"].as_str().unwrap();
                assert!(message.contains(need) && message.contains(role.as_str()), "{message}");
            }
        }
        // The token of the flags may all of it.
        let (status, told) = tried(&gateway, method, path, Some(ADMIN)).await;
        assert!(is_let_in(status, &told), "{at}: {status} {told}");
    }
}

#[tokio::test]
async fn what_is_in_no_table_is_found_by_nobody_and_told_to_nobody_who_is_not_known() {
    let broker = Broker::start().await;
    let (gateway, _desk) = guarded(&broker).await;
    let incident = format!("/api/v1/incidents/{}", an_incident());
    for (method, path, status) in [
        (Method::POST, format!("{incident}/explode"), 404),
        (Method::POST, format!("{incident}/%61pprove"), 404),
        (Method::POST, format!("{incident}/approve/"), 404),
        (Method::POST, format!("{incident}//approve"), 404),
        (Method::DELETE, incident.clone(), 405),
        (Method::PUT, "/publish_event".to_owned(), 405),
        (Method::OPTIONS, "/api/v1/status".to_owned(), 405),
        (Method::GET, "/api/v1/pause".to_owned(), 405),
        (Method::GET, "/nothing".to_owned(), 404),
        (Method::POST, "//publish_event".to_owned(), 404),
    ] {
        assert_eq!(tried(&gateway, &method, &path, None).await.0, 401, "{method} {path}");
        assert_eq!(tried(&gateway, &method, &path, Some(ADMIN)).await.0, status, "{method} {path}");
    }
    let head = gateway.http.head(format!("{}/api/v1/status", gateway.url));
    assert_eq!(head.send().await.unwrap().status(), 401, "HEAD is a GET");
}

#[tokio::test]
async fn the_ledger_hears_who_it_was_and_a_body_cannot_name_another() {
    let broker = Broker::start().await;
    let (mut gateway, mut desk) = guarded(&broker).await;
    put(&desk, &record("ci", Role::Approver, "sht_ci"), 0).await;
    assert_eq!(known(&gateway, "sht_ci").await["name"], "token:ci");
    let path = format!("/api/v1/incidents/{}/approve", an_incident());
    let bodies = [
        (json!({}), "token:ci"),
        (json!({"by": "alice"}), "token:ci (alice)"),
        (json!({"by": "api-token"}), "token:ci (api-token)"),
        (json!({"by": "x) token:root (y\n"}), "token:ci (x token:root y)"),
    ];
    for (idx, (body, by)) in bodies.iter().enumerate() {
        let request = gateway.post(&path).bearer_auth("sht_ci").json(body);
        assert_eq!(heard(request).await.0, 200);
        let Input::Command(command) = desk.inputs(idx + 1).await[idx].input.clone() else {
            panic!("no command")
        };
        assert_eq!(command.by, *by);
    }
    let line = gateway.line("a change was asked for").await;
    assert_eq!(
        (&line["by"], &line["route"], &line["id"], &line["status"]),
        (
            &json!("token:ci"),
            &json!("/api/v1/incidents/{id}/approve"),
            &json!(an_incident().to_string()),
            &json!(200)
        )
    );
    let request = gateway.post("/api/v1/config").bearer_auth(ADMIN).body("targets: [");
    let (status, told) = heard(request).await;
    assert_eq!((status, &told["error"]["code"]), (400, &json!("invalid_config")), "{told}");
}
