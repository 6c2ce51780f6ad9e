//! What others read and try by the gateway: alerts by a real `amtool`, receivers by `selfheal`.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests panic as tests do"
)]

use std::process::Command;

use serde_json::{Value, json};
use tests::{
    eventually,
    stack::{Stack, directory},
};

/// Asks with Debian's `amtool`, as those do who have an Alertmanager.
fn amtool(stack: &Stack, words: &[&str]) -> Vec<Value> {
    let config = stack.dir().join("amtool.yml");
    let text = format!("authorization: {{credentials: {}}}\n", stack.token());
    private::write(&config, text.as_bytes()).unwrap();
    let output = Command::new("amtool")
        .arg(format!("--alertmanager.url={}", stack.url()))
        .arg(format!("--http.config.file={}", config.display()))
        .args(["--output=json", "alert", "query"])
        .args(words)
        .output();
    let output = output.unwrap_or_else(|error| {
        panic!("cannot start amtool: {error}; `.ci/partners.sh` installs it")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn names(alerts: &[Value]) -> Vec<&str> {
    let mut names: Vec<_> =
        alerts.iter().map(|it| it["labels"]["alertname"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_real_amtool_reads_incidents_as_alerts() {
    let dir = directory("amtool");
    let stack = Stack::up(&dir, "policy: {soak: 500ms}\n");
    let silence = json!({"matchers": ["alertname=Quiet"], "for": "1h"});
    let (status, answer) = stack.post("/api/v1/silences", &silence).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let alert = |name: &str, job: &str| {
        json!({
            "labels": {"alertname": name, "job": job, "severity": "critical"},
            "annotations": {"summary": format!("{job} is sick")},
            "generatorURL": "http://prometheus.example/graph",
        })
    };
    // Its answer is no JSON: as an Alertmanager says it, nothing.
    let sent = json!([alert("Down", "a.b"), alert("Full", "db"), alert("Quiet", "db")]);
    let request = tests::stack::reqwest_client().post(format!("{}/api/v2/alerts", stack.url()));
    let request = request.bearer_auth(stack.token());
    assert_eq!(request.json(&sent).send().await.unwrap().status(), 200);
    eventually("all are decided", || async {
        let all = stack.get("/api/v2/alerts").await?;
        let escalated = |it: &&Value| it["annotations"]["incident_status"] == "escalated";
        let n = all.as_array().unwrap().iter().filter(escalated).count();
        if all.as_array().unwrap().len() == 3 && n == 2 { Ok(()) } else { Err(format!("{all:#}")) }
    })
    .await;

    // Without flags it shows what nothing keeps quiet.
    assert_eq!(names(&amtool(&stack, &[])), ["Down", "Full"]);
    assert_eq!(names(&amtool(&stack, &["--silenced"])), ["Quiet"]);
    assert_eq!(names(&amtool(&stack, &["--inhibited"])), [] as [&str; 0]);
    assert_eq!(names(&amtool(&stack, &["Full"])), ["Full"]);
    assert_eq!(names(&amtool(&stack, &["job=~a\\.b"])), ["Down"]);
    assert_eq!(names(&amtool(&stack, &["severity=critical", "job!=db"])), ["Down"]);
    assert_eq!(names(&amtool(&stack, &["job=~nothing"])), [] as [&str; 0]);
    let quiet = amtool(&stack, &["--silenced"]);
    assert_eq!(quiet[0]["status"]["state"], "suppressed");
    assert_eq!(quiet[0]["status"]["silencedBy"].as_array().unwrap().len(), 1);
    let full = &amtool(&stack, &["Full"])[0];
    assert_eq!(full["generatorURL"], "http://prometheus.example/graph");
    assert_eq!(full["annotations"]["summary"], "db is sick");
    // The key of its labels is that of Prometheus, as `target` and `zone` are labels, too.
    assert_eq!(full["fingerprint"].as_str().unwrap().len(), 16);
    assert_eq!(stack.stop(), 0);
}

#[tokio::test]
async fn a_receiver_can_be_tried_by_the_command_line() {
    let dir = directory("try");
    let config = "notify:
  receivers:
    - {name: ops, log: true}
    - {name: gone, webhook: {url: 'http://127.0.0.1:9/secret'}}
";
    let stack = Stack::up(&dir, config);
    let test = |name: &str| stack.cli(&["notify", "test", name, "--gateway", stack.url()]);
    let (code, said) = test("ops");
    assert!(code == 0 && said.contains("ops was notified by log"), "{code} {said}");
    let (code, said) = test("nobody");
    assert!(code == 3 && said.contains("ops, gone"), "{code} {said}");
    let (code, said) = test("gone");
    assert!(code == 1 && said.contains("could not be notified"), "{code} {said}");
    assert!(!said.contains("/secret"), "{said}");
    let (code, said) =
        stack.cli(&["notify", "test", "ops", "--gateway", "http://selfheal.example:8080"]);
    assert!(code == 2 && said.contains("in the clear"), "{code} {said}");
    assert_eq!(stack.stop(), 0);
}
