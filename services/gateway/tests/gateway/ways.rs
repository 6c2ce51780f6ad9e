//! Each way, against what its receiver publishes about itself.

use std::process::Stdio;

use bus::testing::Broker;
use domain::wire::{Verb, WorkKind};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{
    fixture::{Gateway, PATIENCE, command},
    office::{Office, config},
    partners::{cards_judge, python, slack_judges},
    sink::{Reply, Sink},
};

const LINKS: &str = "  public_url: https://selfheal.example.org\n  link_secret: {env: LINKS}\n  slack: {signing_secret: {env: SIGNING}, approvers: [U1]}\n";

async fn gateway(broker: &Broker, sink: Option<&Sink>) -> Gateway {
    let mut command = command(&broker.url());
    if let Some(sink) = sink {
        command.env("URL", format!("{}/hook", sink.url));
    }
    command.env("TOKEN", "xoxb-secret").env("KEY", "k".repeat(32));
    command.env("LINKS", "0123456789abcdef0123").env("SIGNING", "s3cret");
    let mut gateway = Gateway::spawn(command).await;
    gateway.line("ready").await;
    gateway
}

/// A notice with everything too long.
async fn too_much(office: &Office, receiver: Value) {
    let long = "<&>\u{1F980}\"\\\n".repeat(2000);
    let work = json!({
        "work": {"incident": crate::fixture::an_incident(), "attempt": 1, "revision": 4},
        "notice": "9-ops", "title": long, "text": long, "occasion": "approval_wanted",
        "incident": {
            "status": "awaiting_approval", "severity": "critical", "target": long, "analysis": long,
            "plan": {"hash": "a".repeat(64), "summary": long, "expires_at": "2999-01-01T00:00:00Z", "plan": {"risk": "high"}},
        },
        "receiver": receiver, "measured": [long, long],
    });
    let payload = serde_json::to_vec(&work).unwrap().into();
    office.bus.work().publish(WorkKind::Notify, "default", "long", payload).await.unwrap();
}

#[tokio::test]
async fn slack_has_one_message_for_each_incident_and_the_timeline_in_its_thread() {
    let broker = Broker::start().await;
    let sink = Sink::open(|n, asked| match (n, asked.path.as_str()) {
        (1, _) => Reply::Later(429, "0"),
        (2, _) => Reply::Json(json!({"ok": false, "error": "ratelimited"})),
        _ => Reply::Json(json!({"ok": true, "channel": "C9", "ts": "17.1"})),
    })
    .await;
    let notify = format!(
        "{LINKS}  receivers: [{{name: ops, slack: {{token: {{env: TOKEN}}, channel: ops, api_url: '{}'}}}}]",
        sink.url
    );
    let office = Office::open(&broker, config(&notify)).await;
    let _gateway = gateway(&broker, Some(&sink)).await;
    let (id, plan_hash) = office.propose("db").await;
    drop(office.decided(id, "notified", 1).await);
    office.command(Verb::Approve { incident: id, plan_hash: plan_hash.clone() }).await;
    drop(office.decided(id, "notified", 2).await);
    let asked = sink.asked();
    let paths: Vec<_> = asked.iter().map(|it| it.path.as_str()).collect();
    let post = "/chat.postMessage";
    assert_eq!(paths, [post, post, post, post, "/chat.update", post]);
    assert_eq!(asked[0].headers["authorization"], "Bearer xoxb-secret");
    let (first, update, thread) = (asked[2].json(), asked[4].json(), asked[5].json());
    for message in [&first, &update] {
        slack_judges(&message["blocks"]).await;
    }
    assert_eq!(first["blocks"][3]["text"]["text"], "error rate: 0.25 /s");
    let blocks = first["blocks"].as_array().unwrap();
    let buttons = blocks.iter().find(|it| it["type"] == "actions").unwrap()["elements"].clone();
    assert_eq!(buttons[0]["value"], format!("{id} {plan_hash}"));
    assert_eq!(buttons.as_array().unwrap().len(), 2, "no link decides beside the buttons");
    assert!(!first.to_string().contains("/approve/"), "{first}");
    let plan = blocks[4]["text"]["text"].as_str().unwrap();
    assert!(plan.contains("container: \"db\"") && plan.contains("soak"), "{plan}");
    assert_eq!((&update["channel"], &update["ts"]), (&json!("C9"), &json!("17.1")));
    assert!(
        !update["blocks"].to_string().contains("selfheal_approve"),
        "nothing to press any more"
    );
    assert_eq!(thread["thread_ts"], "17.1");
    let told = thread["text"].as_str().unwrap();
    assert!(told.contains("approved") && !told.contains("diagnosed"), "only what is new: {told}");
    too_much(&office, json!({"name": "ops", "slack": {"token": {"env": "TOKEN"}, "channel": "ops", "api_url": sink.url}})).await;
    slack_judges(&sink.wait(7).await[6].json()["blocks"]).await;
}

#[tokio::test]
async fn teams_gets_a_card_that_its_library_reads_and_that_is_not_too_long() {
    let broker = Broker::start().await;
    let sink = Sink::open(|_, _| Reply::Status(202)).await;
    let notify = format!("{LINKS}  receivers: [{{name: ops, teams: {{webhook: {{env: URL}}}}}}]");
    let office = Office::open(&broker, config(&notify)).await;
    let _gateway = gateway(&broker, Some(&sink)).await;
    let (id, _) = office.propose("db").await;
    drop(office.decided(id, "notified", 1).await);
    too_much(&office, json!({"name": "ops", "teams": {"webhook": {"env": "URL"}}})).await;
    for asked in sink.wait(2).await {
        assert!(asked.body.len() <= 28 * 1024, "{}", asked.body.len());
        let attachment = &asked.json()["attachments"][0];
        assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
        assert_eq!(attachment["content"]["version"], "1.5");
        cards_judge(&attachment["content"]).await;
        let url = attachment["content"]["actions"][0]["url"].as_str().unwrap();
        assert!(url.starts_with("https://selfheal.example.org/approve/"), "{url}");
    }
}

#[tokio::test]
async fn pagerduty_is_told_to_trigger_acknowledge_and_resolve_one_alert() {
    let broker = Broker::start().await;
    let sink =
        Sink::open(|n, _| if n == 1 { Reply::Status(500) } else { Reply::Status(202) }).await;
    let notify = format!(
        "  receivers: [{{name: ops, pagerduty: {{routing_key: {{env: KEY}}, url: '{}/v2/enqueue'}}}}]",
        sink.url
    );
    let office = Office::open(&broker, config(&notify)).await;
    let _gateway = gateway(&broker, None).await;
    let id = office.escalate("db").await;
    drop(office.decided(id, "notified", 1).await);
    office.command(Verb::Acknowledge { incident: id }).await;
    office.command(Verb::Close { incident: id, reason: "by hand".to_owned() }).await;
    drop(office.decided(id, "notified", 3).await);
    let told: Vec<_> = sink.asked().iter().map(crate::sink::Asked::json).collect();
    let actions: Vec<_> = told.iter().map(|it| it["event_action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["trigger", "trigger", "acknowledge", "resolve"]);
    for event in &told {
        assert_eq!(event["dedup_key"], json!(id));
        assert_eq!(event["routing_key"], "k".repeat(32));
    }
    let payload = &told[1]["payload"];
    assert_eq!(payload["custom_details"]["measured"], "error rate: 0.25 /s");
    assert_eq!((&payload["severity"], &payload["source"]), (&json!("error"), &json!("test")));
    assert_eq!(payload["summary"], "escalated: service_down on db");
}

#[tokio::test]
async fn a_webhook_gets_what_its_template_says_signed_with_its_secret() {
    let broker = Broker::start().await;
    let sink = Sink::open(|_, _| Reply::Status(200)).await;
    let notify = "  receivers:
    - {name: own, webhook: {url_from: {env: URL}, secret: {env: KEY}, content_type: text/plain, template: '{{ occasion }} {{ incident.target | upper }}'}}
    - {name: bad, webhook: {url_from: {env: URL}, template: '{{ no_such_thing }}'}}";
    let office = Office::open(&broker, config(notify)).await;
    let _gateway = gateway(&broker, Some(&sink)).await;
    let id = office.escalate("db").await;
    drop(office.decided(id, "notified", 2).await);
    let mut asked = sink.asked();
    asked.sort_by_key(|it| it.body.len());
    let own = &asked[0];
    assert_eq!(own.body, "escalated DB");
    assert_eq!(own.headers["content-type"], "text/plain");
    let timestamp = own.headers["x-selfheal-timestamp"].to_str().unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, "k".repeat(32).as_bytes());
    let signed = [timestamp.as_bytes(), b".", &own.body[..]].concat();
    let right: String =
        ring::hmac::sign(&key, &signed).as_ref().iter().map(|it| format!("{it:02x}")).collect();
    assert_eq!(own.headers["x-selfheal-signature"], format!("v1={right}"));
    assert_eq!(asked[1].json()["title"], "escalated: service_down on db", "as JSON");
}

#[tokio::test]
async fn a_receiver_can_be_tried_before_it_matters() {
    let broker = Broker::start().await;
    let sink = Sink::open(|_, _| Reply::Status(202)).await;
    let notify = format!(
        "  receivers:
    - {{name: ops, pagerduty: {{routing_key: {{env: KEY}}, url: '{}/v2/enqueue'}}}}
    - {{name: gone, webhook: {{url: 'http://127.0.0.1:9/secret'}}}}
    - {{name: bare, teams: {{webhook: {{env: NO_SUCH_VARIABLE}}}}}}",
        sink.url
    );
    let _office = Office::open(&broker, config(&notify)).await;
    let gateway = gateway(&broker, None).await;
    let (status, told) = gateway.send("/api/v1/receivers/ops/test", json!({})).await;
    assert_eq!((status, &told["way"]), (200, &json!("pagerduty")), "{told}");
    let actions: Vec<_> = sink.asked().iter().map(|it| it.json()["event_action"].clone()).collect();
    assert_eq!(actions, [json!("trigger"), json!("resolve")], "no alert stays");
    for (name, status, part) in [
        ("nobody", 404, "ops, gone, bare"),
        ("gone", 502, "127.0.0.1"),
        ("bare", 502, "NO_SUCH_VARIABLE"),
    ] {
        let (answered, told) =
            gateway.send(&format!("/api/v1/receivers/{name}/test"), json!({})).await;
        assert_eq!(answered, status, "{told}");
        assert!(told.to_string().contains(part) && !told.to_string().contains("/secret"), "{told}");
    }
}

/// A mail server that prints what it is sent, one JSON text a line; TLS by a certificate of
/// its own.
async fn mail_server(dir: &std::path::Path) -> (Child, u16, tokio::sync::mpsc::Receiver<Value>) {
    const PROGRAM: &str = "
import json, ssl, sys, time
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
class Handler:
    async def handle_DATA(self, server, session, envelope):
        text = envelope.content.decode()
        print(json.dumps({'to': envelope.rcpt_tos, 'text': text, 'tls': session.ssl is not None}), flush=True)
        return '250 OK'
def login(server, session, envelope, mechanism, data):
    return AuthResult(success=data.login == b'ann' and data.password == b'xoxb-secret')
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(sys.argv[1], sys.argv[2])
controller = Controller(Handler(), hostname='127.0.0.1', port=int(sys.argv[3]), server_hostname='localhost', tls_context=context,
    require_starttls=True, auth_require_tls=True, auth_required=True, authenticator=login)
controller.start()
print(json.dumps({'port': controller.port}), flush=True)
while True: time.sleep(1)
";
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut child = Command::new(python())
        .args(["-c", PROGRAM])
        .args([&cert, &key])
        .arg(port.to_string())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (tx, mut rx) = tokio::sync::mpsc::channel(10);
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            if tx.send(serde_json::from_str(&line).unwrap()).await.is_err() {
                return;
            }
        }
    });
    let begun = tokio::time::timeout(PATIENCE, rx.recv()).await.unwrap();
    assert!(begun.is_some(), "the mail server does not start");
    (child, port, rx)
}

#[tokio::test]
async fn mail_goes_over_tls_after_a_login_and_is_one_thread_for_each_incident() {
    let broker = Broker::start().await;
    let dir = tempfile::tempdir().unwrap();
    let (_server, port, mut mails) = mail_server(dir.path()).await;
    let notify = format!(
        "{LINKS}  receivers: [{{name: ops, email: {{server: localhost, port: {port}, ca_file: {}, from: 'Self-Heal <heal@example.org>', to: [a@example.org, b@example.org], username: ann, password: {{env: TOKEN}}}}}}]",
        dir.path().join("cert.pem").display()
    );
    let office = Office::open(&broker, config(&notify)).await;
    let _gateway = gateway(&broker, None).await;
    let (id, plan_hash) = office.propose("db").await;
    let first = tokio::time::timeout(PATIENCE, mails.recv()).await.unwrap().unwrap();
    office.command(Verb::Approve { incident: id, plan_hash }).await;
    let second = tokio::time::timeout(PATIENCE, mails.recv()).await.unwrap().unwrap();
    assert_eq!((&first["tls"], &first["to"][1]), (&json!(true), &json!("b@example.org")));
    let header = |mail: &Value, name: &str| {
        let text = mail["text"].as_str().unwrap().replace("\r\n ", " ");
        let found =
            text.lines().find_map(|it| it.strip_prefix(&format!("{name}: ")).map(str::to_owned));
        found.unwrap_or_default()
    };
    let named = header(&first, "Message-ID");
    assert!(named.contains(&id.to_string()) && named.ends_with("@example.org>"), "{named}");
    assert_eq!(header(&first, "In-Reply-To"), "");
    assert_eq!(
        (header(&second, "In-Reply-To"), header(&second, "References")),
        (named.clone(), named)
    );
    assert!(header(&first, "Subject").contains("approval required: service_down on db"));
    let text = first["text"].as_str().unwrap().replace("=\r\n", "");
    assert!(text.contains("https://selfheal.example.org/approve/"), "{text}");
}

#[tokio::test]
async fn a_server_whose_certificate_nobody_knows_gets_no_mail_and_no_password() {
    let broker = Broker::start().await;
    let dir = tempfile::tempdir().unwrap();
    let (_server, port, mut mails) = mail_server(dir.path()).await;
    let notify = format!(
        "  receivers: [{{name: ops, email: {{server: localhost, port: {port}, from: heal@example.org, to: [a@example.org], username: ann, password: {{env: TOKEN}}}}}}]"
    );
    let office = Office::open(&broker, config(&notify)).await;
    let _gateway = gateway(&broker, None).await;
    let id = office.escalate("db").await;
    let told = office.decided(id, "notified", 1).await;
    assert!(told.reason.contains("could not notify ops, will retry"), "{}", told.reason);
    assert!(!told.reason.contains("xoxb"), "{}", told.reason);
    assert!(mails.try_recv().is_err());
}

#[tokio::test]
async fn a_real_alertmanager_shows_the_incident_until_it_is_over() {
    let broker = Broker::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("am.yml");
    std::fs::write(&file, "route: {receiver: none}\nreceivers: [{name: none}]\n").unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let _alertmanager = Command::new("prometheus-alertmanager")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--cluster.listen-address=")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("prometheus-alertmanager is missing: run `.ci/partners.sh`");
    let notify = format!("  receivers: [{{name: am, alertmanager: {{url: '{url}'}}}}]");
    let office = Office::open(&broker, config(&notify)).await;
    let gateway = gateway(&broker, None).await;
    let alerts = async || {
        let asked = gateway.http.get(format!("{url}/api/v2/alerts")).send().await;
        match asked {
            Ok(answer) => answer.json::<Value>().await.unwrap(),
            Err(_) => json!([]),
        }
    };
    let until = async |n: usize| {
        let looking = async {
            loop {
                let now = alerts().await;
                if now.as_array().unwrap().len() == n {
                    return now;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.unwrap()
    };
    while gateway.http.get(format!("{url}/-/ready")).send().await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let id = office.escalate("db").await;
    let shown = until(1).await;
    let labels = &shown[0]["labels"];
    assert_eq!((&labels["alertname"], &labels["target"]), (&json!("service_down"), &json!("db")));
    assert_eq!(labels["incident"], json!(id));
    assert_eq!(shown[0]["status"]["state"], "active");
    drop(office.decided(id, "notified", 1).await);
    office.command(Verb::Close { incident: id, reason: "by hand".to_owned() }).await;
    until(0).await;
}
