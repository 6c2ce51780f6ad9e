//! A configuration holds a credential in every kind and place, and nobody but an admin sees one of
//! them: not by the API, the stream or a notice, nor in a log line or a metric.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests panic as tests do"
)]

use std::{fs, path::Path, process::Command};

use bus::testing::Broker;
use serde_json::{Value, json};
use tests::{
    agents::Agent,
    eventually,
    stack::{binary, directory},
};
use tokio::sync::watch;

const CONFIG: &str = include_str!("../../shared/domain/src/redact/planted.yaml");
const ADMIN: &str = "the token of the admin";
const KINDS: [&str; 5] = ["supervisor", "gateway", "monitor", "analyzer", "fixer"];

fn assert_clean(place: &str, text: &str) {
    let lower = text.to_lowercase();
    let at = lower.find("hunter");
    let around = at.map(|at| {
        let (from, to) = (at.saturating_sub(200), (at + 40).min(lower.len()));
        String::from_utf8_lossy(lower.as_bytes().get(from..to).unwrap_or_default()).into_owned()
    });
    assert!(around.is_none(), "{place} shows a credential: …{}", around.unwrap_or_default());
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(dir: &Path, url: &str, listen: &str, health: &[u16]) -> Vec<Agent> {
    let (file, token) = (dir.join("selfheal.yaml"), dir.join("api-token"));
    fs::write(&file, CONFIG).unwrap();
    private::write(&token, ADMIN.as_bytes()).unwrap();
    let (file, token) = (file.display().to_string(), token.display().to_string());
    let agent = |(kind, port): (&'static str, &u16)| {
        let health_at = format!("127.0.0.1:{port}");
        let mut more = vec!["--health-listen", &health_at];
        match kind {
            "supervisor" => more.extend(["--config", &file, "--data-dir", "data"]),
            "gateway" => more.extend(["--listen", listen, "--api-token-file", &token]),
            _ => {}
        }
        Agent::start(kind, &dir.join(kind), url, &more)
    };
    KINDS.into_iter().zip(health).map(agent).collect()
}

fn create_token(url: &str, dir: &Path, role: &str) -> String {
    let mut command = Command::new(binary("selfheal"));
    command.args(["token", "create", "--name", role, "--role", role]);
    let output = command.env("SELFHEAL_NATS_URL", url).current_dir(dir).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.split_whitespace().find(|it| it.starts_with("sht_")).unwrap().to_owned()
}

async fn get(url: &str, token: &str) -> (u16, String) {
    let request = reqwest::Client::new().get(url).bearer_auth(token);
    let Ok(answer) = request.send().await else { return (0, String::new()) };
    (answer.status().as_u16(), answer.text().await.unwrap_or_default())
}

/// Follows the stream, and keeps what it says.
async fn follow(url: &str, token: &str) -> watch::Receiver<String> {
    let request = reqwest::Client::new().get(format!("{url}/api/v1/stream")).bearer_auth(token);
    let mut answer = request.send().await.unwrap();
    let (tx, rx) = watch::channel(String::new());
    tokio::spawn(async move {
        while let Ok(Some(part)) = answer.chunk().await {
            tx.send_modify(|text| text.push_str(&String::from_utf8_lossy(&part)));
        }
    });
    rx
}

/// Reads everything that may be read with a token.
async fn read_all(url: &str, token: &str) -> String {
    let mut all = String::new();
    for path in ["status", "incidents", "silences", "whoami"] {
        let (status, text) = get(&format!("{url}/api/v1/{path}"), token).await;
        assert_eq!(status, 200, "{path}: {text}");
        all.push_str(&text);
    }
    let (_, listed) = get(&format!("{url}/api/v1/incidents"), token).await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    for incident in listed["incidents"].as_array().unwrap() {
        let id = incident["id"].as_str().unwrap();
        all.push_str(&get(&format!("{url}/api/v1/incidents/{id}"), token).await.1);
    }
    all.push_str(&get(&format!("{url}/api/v2/alerts"), token).await.1);
    all
}

#[tokio::test]
async fn planted_credentials_are_seen_by_nobody_but_admins() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let dir = directory("planted");
    let broker = Broker::start().await;
    let listen = format!("127.0.0.1:{}", free_port());
    let (url, health) = (format!("http://{listen}"), KINDS.map(|_| free_port()));
    let agents = start(&dir, &broker.url(), &listen, &health);
    eventually("the gateway is ready", || async {
        let (status, text) = get(&format!("http://127.0.0.1:{}/readyz", health[1]), "").await;
        if status == 200 { Ok(()) } else { Err(text) }
    })
    .await;
    let (viewer, approver) = (
        create_token(&broker.url(), &dir, "viewer"),
        create_token(&broker.url(), &dir, "approver"),
    );
    eventually("the tokens are known", || async {
        let known = get(&format!("{url}/api/v1/whoami"), &approver).await;
        if known.0 == 200 { Ok(()) } else { Err(known) }
    })
    .await;
    let streams = [follow(&url, &viewer).await, follow(&url, &approver).await];
    let text = format!("{CONFIG}\n# changed\n").replace("n=1", "n=2");
    let client = reqwest::Client::new();
    let given = client.post(format!("{url}/api/v1/config")).bearer_auth(ADMIN).body(text);
    assert_eq!(given.send().await.unwrap().status().as_u16(), 200);
    let event = json!({"type": "service_down", "target": "store", "source": "test",
        "payload": {"password": "hunter-of-a-sender", "text": "api_key=hunter-of-a-sender"}});
    let sent = client.post(format!("{url}/api/v1/events")).bearer_auth(ADMIN).json(&event);
    assert!(sent.send().await.unwrap().status().is_success());
    eventually("a plan waits, and is told", || async {
        let (_, text) = get(&format!("{url}/api/v1/incidents"), &viewer).await;
        let log = fs::read_to_string(dir.join("gateway/gateway.log")).unwrap_or_default();
        let is_told = text.contains("awaiting_approval") && log.contains("approval required");
        if is_told { Ok(()) } else { Err(text) }
    })
    .await;
    for (role, token) in [("viewer", &viewer), ("approver", &approver)] {
        let seen = read_all(&url, token).await;
        assert!(seen.contains("[redacted]"), "is the test blind? {seen}");
        assert_clean(role, &seen);
    }
    assert!(read_all(&url, ADMIN).await.contains("hunter"), "an admin sees the plan whole");
    for mut stream in streams {
        let is_configured = |text: &String| text.contains("\"decision\":\"configured\"");
        let text = stream.wait_for(is_configured).await.unwrap().clone();
        assert_clean("the stream", &text);
    }
    for port in health {
        let (_, text) = get(&format!("http://127.0.0.1:{port}/metrics"), "").await;
        assert_clean("a metric", &text);
    }
    drop(agents);
    for kind in KINDS {
        let log = fs::read_to_string(dir.join(kind).join(format!("{kind}.log"))).unwrap();
        assert!(!log.is_empty());
        assert_clean(&format!("the log of the {kind}"), &log);
    }
    drop(fs::remove_dir_all(&dir));
}
