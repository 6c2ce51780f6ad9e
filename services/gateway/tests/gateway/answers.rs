//! People answer: buttons of Slack, and approval links.

use bus::testing::Broker;
use chrono::Utc;
use domain::{id::IncidentId, view::Status};
use serde_json::json;

use crate::{
    fixture::{Gateway, command},
    office::{Office, config},
    sink::{Reply, Sink},
};

const SIGNING: &str = "8f742231b10e8888abcd99yyyzzz85a5";

async fn open(sink: &Sink) -> (Broker, Office, Gateway) {
    let broker = Broker::start().await;
    let notify = format!(
        "  public_url: http://ops.example.org
  link_secret: {{env: LINKS}}
  slack: {{signing_secret: {{env: SIGNING}}, approvers: [U1]}}
  receivers:
    - {{name: hook, webhook: {{url: '{0}/hook'}}}}
    - {{name: chat, slack: {{token: {{env: TOKEN}}, channel: C1, api_url: '{0}'}}}}",
        sink.url
    );
    let office = Office::open(&broker, config(&notify)).await;
    let mut command = command(&broker.url());
    command.env("LINKS", "0123456789abcdef").env("SIGNING", SIGNING).env("TOKEN", "xoxb");
    command.env("SELFHEAL_API_TOKEN", "a long enough token");
    let mut gateway = Gateway::spawn(command).await;
    gateway.line("ready").await;
    (broker, office, gateway)
}

async fn sink() -> Sink {
    Sink::open(|_, _| Reply::Json(json!({"ok": true, "channel": "C1", "ts": "1.1"}))).await
}

fn signed(at: i64, body: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SIGNING.as_bytes());
    let tag = ring::hmac::sign(&key, format!("v0:{at}:{body}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|it| format!("{it:02x}")).collect();
    format!("v0={hex}")
}

fn pressed(user: &str, button: &str, id: IncidentId, hash: &str, to: &str) -> String {
    let payload = json!({
        "type": "block_actions",
        "user": {"id": user, "username": "ann"},
        "actions": [{"action_id": button, "value": format!("{id} {hash}"), "type": "button"}],
        "response_url": format!("{to}/response"),
    });
    form_urlencoded::Serializer::new(String::new())
        .append_pair("payload", &payload.to_string())
        .finish()
}

async fn slack(gateway: &Gateway, at: i64, signature: &str, body: &str) -> u16 {
    let request = gateway
        .post("/integrations/slack/actions")
        .header("x-slack-request-timestamp", at.to_string())
        .header("x-slack-signature", signature)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.to_owned());
    request.send().await.unwrap().status().as_u16()
}

fn reasons(office: &Office, id: IncidentId) -> String {
    let steps = office.detail(id).timeline.into_iter();
    steps.map(|it| format!("{}: {}\n", it.decision, it.reason)).collect()
}

#[tokio::test]
async fn a_button_counts_when_slack_has_signed_it_just_now_once_and_for_an_approver() {
    let sink = sink().await;
    let (_broker, office, gateway) = open(&sink).await;
    let (id, hash) = office.propose("db").await;
    let now = Utc::now().timestamp();
    let body = pressed("U1", "selfheal_approve", id, &hash, &sink.url);
    let wrong = signed(now, &body.replace("U1", "U2"));
    assert_eq!(slack(&gateway, now, &wrong, &body).await, 401, "a signature of something else");
    assert_eq!(slack(&gateway, now, "v0=zz", &body).await, 401);
    let old = now - 301;
    assert_eq!(slack(&gateway, old, &signed(old, &body), &body).await, 401, "too old");
    let early = now + 400;
    assert_eq!(slack(&gateway, early, &signed(early, &body), &body).await, 401, "from the future");
    let unsigned = gateway.post("/integrations/slack/actions").body(body.clone()).send().await;
    assert_eq!(unsigned.unwrap().status().as_u16(), 401);
    let stranger = pressed("U2", "selfheal_approve", id, &hash, &sink.url);
    assert_eq!(slack(&gateway, now, &signed(now, &stranger), &stranger).await, 200);
    assert_eq!(office.detail(id).view.status, Status::AwaitingApproval, "{}", reasons(&office, id));

    assert_eq!(slack(&gateway, now, &signed(now, &body), &body).await, 200);
    let approved = office.decided(id, "approved", 1).await;
    assert!(approved.reason.contains("slack:U1 (ann)"), "{}", approved.reason);
    assert_eq!(slack(&gateway, now, &signed(now, &body), &body).await, 401, "a replay");
    let said: Vec<_> = sink.asked().into_iter().filter(|it| it.path == "/response").collect();
    assert_eq!(said.len(), 2);
    assert!(said[0].json()["text"].as_str().unwrap().contains("U2"), "{:?}", said[0].json());
    assert_eq!(said[1].json()["text"], "Approved.");
    assert_eq!(said[1].json()["response_type"], "ephemeral");

    let (id, hash) = office.propose("api").await;
    let body = pressed("U1", "selfheal_reject", id, &hash, "http://127.0.0.1:9");
    assert_eq!(slack(&gateway, now, &signed(now, &body), &body).await, 200);
    let why = office.decided(id, "escalated", 1).await.reason;
    assert!(why.contains("slack:U1 (ann) rejected"), "{why}");
}

async fn link(sink: &Sink, n: usize) -> String {
    let asked = loop {
        let hooks: Vec<_> = sink.asked().into_iter().filter(|it| it.path == "/hook").collect();
        if let Some(asked) = hooks.into_iter().nth(n) {
            break asked;
        }
        drop(sink.wait(sink.asked().len() + 1).await);
    };
    let url = asked.json()["approve_url"].as_str().unwrap().to_owned();
    url.strip_prefix("http://ops.example.org").unwrap().to_owned()
}

#[tokio::test]
async fn an_approval_link_shows_the_plan_and_counts_once() {
    let sink = sink().await;
    let (_broker, office, gateway) = open(&sink).await;
    let (id, hash) = office.propose("db").await;
    let path = link(&sink, 0).await;
    for _ in 0..2 {
        let shown = gateway.get(&path).header("host", "ops.example.org").send().await.unwrap();
        assert_eq!(shown.status(), 200);
        let policy = shown.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert_eq!(shown.headers()["referrer-policy"], "no-referrer");
        let page = shown.text().await.unwrap();
        for part in [
            &hash,
            "docker.restart",
            "Restart &lt;it&gt;",
            "exit code 137",
            "medium",
            "exited (137)",
            "docker: true",
        ] {
            assert!(page.contains(part), "`{part}` is not on the page: {page}");
        }
        assert!(!page.contains("<script") && !page.contains("src="), "{page}");
    }
    assert_eq!(office.detail(id).view.status, Status::AwaitingApproval, "looking changes nothing");

    let cut = &path[..path.len() - 2];
    assert_eq!(gateway.get(cut).send().await.unwrap().status(), 403);
    let decide = async |path: &str, form: &'static str| {
        let answer = gateway.post(path).body(form).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(decide(cut, "decision=approve").await.0, 403);
    assert_eq!(decide(&path, "decision=perhaps").await.0, 400);
    let (status, page) = decide(&path, "decision=approve&name=Ann+%3Cb%3E").await;
    assert_eq!((status, page.contains("Approved.")), (200, true), "{page}");
    let approved = office.decided(id, "approved", 1).await.reason;
    assert!(approved.contains("link:hook (Ann <b>)"), "{approved}");
    let (status, page) = decide(&path, "decision=reject").await;
    assert_eq!(status, 409, "{page}");
    assert_eq!(gateway.get(&path).send().await.unwrap().status(), 409);
    let all = gateway.get("/api/v1/incidents").send().await.unwrap().status();
    assert_eq!(all, 401, "the rest asks for the token");
}

#[tokio::test]
async fn a_link_that_says_no_calls_a_person_with_the_reason() {
    let sink = sink().await;
    let (_broker, office, gateway) = open(&sink).await;
    let (id, _) = office.propose("db").await;
    let path = link(&sink, 0).await;
    let form = "decision=reject&name=Ann&reason=not+during+the+sale";
    assert_eq!(gateway.post(&path).body(form).send().await.unwrap().status(), 200);
    let why = office.decided(id, "escalated", 1).await.reason;
    assert!(why.contains("link:hook (Ann)") && why.contains("not during the sale"), "{why}");
    // The same plan waits again, and needs another yes.
    office.propose_again(id).await;
    let answer = gateway.post(&path).body("decision=approve&name=Ann").send().await.unwrap();
    assert_eq!(answer.status(), 409);
    let page = answer.text().await.unwrap();
    assert!(page.contains("was used before"), "{page}");
    assert_eq!(office.detail(id).view.status, Status::AwaitingApproval);
    let next = link(&sink, 2).await;
    assert_eq!(gateway.post(&next).body("decision=approve").send().await.unwrap().status(), 200);
}
