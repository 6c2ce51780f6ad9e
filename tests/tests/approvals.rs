//! Who may approve is looked at again when the plan is carried out.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use serde_json::{Value, json};
use tests::{
    eventually,
    stack::{Stack, directory, reqwest_client},
    target::Target,
};

const POLICY: &str = "policy:
  autonomy: approve
  budget: {per_target: 1000/h, per_runbook: 1000/h, fleet: 1000/h}
  soak: 500ms
";

/// Makes a token of an approver, and returns it.
fn token(stack: &Stack, name: &str) -> String {
    let (code, text) = stack.cli(&["token", "create", "--name", name, "--role", "approver"]);
    assert_eq!(code, 0, "{text}");
    let found = text.split_whitespace().find(|it| it.starts_with("sht_"));
    found.unwrap().to_owned()
}

async fn post(stack: &Stack, path: &str, token: &str, body: Value) -> (u16, Value) {
    let request = reqwest_client().post(format!("{}{path}", stack.url()));
    let answer = request.bearer_auth(token).json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn what_was_approved_with_a_token_that_was_revoked_since_is_not_carried_out() {
    let dir = directory("revoked");
    let store = Target::store(&dir, &[]);
    store.start().await;
    let config = format!(
        "targets:\n  - name: {}\n    {}\n    checks: [{{tcp: \"{}\"}}]\n{POLICY}",
        store.name,
        store.handle(),
        store.address
    );
    let stack = Stack::up(&dir, &config);
    let (ann, bob) = (token(&stack, "ann"), token(&stack, "bob"));
    assert!(store.kill());
    let incident = stack.until("database", &["awaiting_approval"]).await;
    let path = format!("/api/v1/incidents/{}", incident["id"].as_str().unwrap());
    let plan = json!({"plan_hash": incident["plan"]["hash"]});
    // The plan is approved, and may not be carried out yet.
    let (status, answer) = stack.post("/api/v1/pause", &json!({"reason": "a test"})).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = post(&stack, &format!("{path}/approve"), &ann, plan.clone()).await;
    assert_eq!(status, 200, "{answer}");

    let (code, text) = stack.cli(&["token", "revoke", "ann"]);
    assert_eq!(code, 0, "{text}");
    // The supervisor hears of it when the gateway does.
    eventually("the revocation is known", || async {
        let request = reqwest_client().get(format!("{}/api/v1/whoami", stack.url()));
        let answer = request.bearer_auth(&ann).send().await.map_err(|it| it.to_string())?;
        let status = answer.status().as_u16();
        if status == 401 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    let (status, answer) = stack.post("/api/v1/resume", &json!({})).await.unwrap();
    assert_eq!(status, 200, "{answer}");
    let asked = eventually("an approval is wanted again", || async {
        let log = stack.log();
        let asked = log.iter().filter(|it| it["decision"] == "approval_requested").nth(1);
        asked.cloned().ok_or_else(|| format!("{:?}", stack.decisions("database")))
    })
    .await;
    let why = asked["reason"].as_str().unwrap();
    assert!(why.contains("token:ann") && why.contains("was revoked"), "{why}");
    assert!(store.attempts().is_empty(), "nothing ran");

    let (status, answer) = post(&stack, &format!("{path}/approve"), &bob, plan).await;
    assert_eq!(status, 200, "{answer}");
    stack.until("database", &["resolved"]).await;
    assert_eq!(store.attempts().len(), 1);
    assert_eq!(stack.stop(), 0);
}
