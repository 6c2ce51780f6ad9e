//! A gateway that dies at any moment makes nobody hear a thing twice, nor never.

use bus::testing::Broker;
use domain::wire::Verb;
use serde_json::json;
use tokio::process::Command;

use crate::{
    fixture::{Gateway, command},
    office::{Office, config},
    sink::{Reply, Sink},
};

fn with(command: &mut Command, sink: &Sink) {
    command.env("HOOK_URL", format!("{}/hook", sink.url)).env("TOKEN", "xoxb-1").env("KEY", "k");
}

async fn gateway(broker: &Broker, sink: &Sink) -> Gateway {
    let mut command = command(&broker.url());
    with(&mut command, sink);
    let mut gateway = Gateway::spawn(command).await;
    gateway.line("ready").await;
    gateway
}

const HOOK: &str = "  receivers: [{name: ops, webhook: {url_from: {env: HOOK_URL}}}]";

/// Goal: `kill -9` between the decision and the send.
#[tokio::test]
async fn a_gateway_that_is_killed_before_it_sends_leaves_the_notice_to_the_next_one() {
    let broker = Broker::start().await;
    let sink = Sink::open(|_, _| Reply::Status(200)).await;
    let office = Office::open(&broker, config(HOOK)).await;
    let mut first = gateway(&broker, &sink).await;
    first.child.kill().await.unwrap();
    let id = office.escalate("db").await;
    drop(office.decided(id, "escalated", 1).await);
    assert!(sink.asked().is_empty());
    let _second = gateway(&broker, &sink).await;
    drop(office.decided(id, "notified", 1).await);
    office.command(Verb::Acknowledge { incident: id }).await;
    drop(office.decided(id, "notified", 2).await);
    let told: Vec<_> = sink.asked().iter().map(|it| it.json()["occasion"].clone()).collect();
    assert_eq!(told, [json!("escalated"), json!("acknowledged")]);
}

/// Goal: `kill -9` between the send and the report, to a receiver that knows no repetition.
#[tokio::test]
async fn a_gateway_that_is_killed_before_it_reports_makes_nobody_hear_twice() {
    let broker = Broker::start().await;
    // It has the first notice, and does not say so in time.
    let sink = Sink::open(|n, _| if n == 1 { Reply::Silence } else { Reply::Status(200) }).await;
    let office = Office::open(&broker, config(HOOK)).await;
    let mut first = gateway(&broker, &sink).await;
    let id = office.escalate("db").await;
    assert_eq!(sink.wait(1).await[0].json()["occasion"], "escalated");
    first.child.kill().await.unwrap();
    let _second = gateway(&broker, &sink).await;
    let told = office.decided(id, "notified", 1).await;
    assert!(told.reason.contains("may have arrived"), "{}", told.reason);
    office.command(Verb::Acknowledge { incident: id }).await;
    drop(office.decided(id, "notified", 2).await);
    let told: Vec<_> = sink.asked().iter().map(|it| it.json()["occasion"].clone()).collect();
    assert_eq!(told, [json!("escalated"), json!("acknowledged")]);
}

/// Goal: the same, for a receiver that knows the notice by its key.
#[tokio::test]
async fn pagerduty_is_told_again_under_the_same_key_when_nobody_knows() {
    let broker = Broker::start().await;
    let sink = Sink::open(|n, _| if n == 1 { Reply::Silence } else { Reply::Status(202) }).await;
    let notify = format!(
        "  receivers: [{{name: pager, pagerduty: {{routing_key: {{env: KEY}}, url: '{}/v2/enqueue'}}}}]",
        sink.url
    );
    let office = Office::open(&broker, config(&notify)).await;
    let mut first = gateway(&broker, &sink).await;
    let id = office.escalate("db").await;
    sink.wait(1).await;
    first.child.kill().await.unwrap();
    let _second = gateway(&broker, &sink).await;
    drop(office.decided(id, "notified", 1).await);
    office.command(Verb::Close { incident: id, reason: String::new() }).await;
    drop(office.decided(id, "notified", 2).await);
    let told: Vec<_> = sink.asked().iter().map(|it| it.json()["event_action"].clone()).collect();
    assert_eq!(told, [json!("trigger"), json!("trigger"), json!("resolve")]);
    assert!(sink.asked().iter().all(|it| it.json()["dedup_key"] == json!(id)));
}

/// Goal: the same, for Slack, where a message is found by its metadata.
#[tokio::test]
async fn a_message_in_slack_whose_gateway_was_killed_is_found_and_not_posted_again() {
    let broker = Broker::start().await;
    let sink = Sink::open(|n, asked| {
        let posted = json!({"channel": "C1", "ts": "17.1", "ok": true});
        match asked.path.as_str() {
            "/chat.postMessage" if n == 1 => Reply::Silence,
            "/conversations.history" | "/conversations.replies" => Reply::Json(json!({
                "ok": true,
                "messages": [{"ts": "16.0"}, {"ts": "17.1", "metadata": LAST.lock().unwrap().clone()}],
            })),
            _ => Reply::Json(posted),
        }
    })
    .await;
    let notify = format!(
        "  receivers: [{{name: chat, slack: {{token: {{env: TOKEN}}, channel: C1, api_url: '{}'}}}}]",
        sink.url
    );
    let office = Office::open(&broker, config(&notify)).await;
    let mut first = gateway(&broker, &sink).await;
    let id = office.escalate("db").await;
    let posted = sink.wait(1).await[0].json();
    *LAST.lock().unwrap() = posted["metadata"].clone();
    first.child.kill().await.unwrap();
    let _second = gateway(&broker, &sink).await;
    let told = office.decided(id, "notified", 1).await;
    assert!(told.reason.contains("17.1"), "{}", told.reason);
    let paths: Vec<_> = sink.asked().into_iter().map(|it| it.path).collect();
    let expected = [
        "/chat.postMessage",
        "/conversations.history",
        "/conversations.replies",
        "/chat.postMessage",
    ];
    assert_eq!(paths, expected, "the last one is the thread");
    assert_eq!(sink.asked()[3].json()["thread_ts"], "17.1");
}

/// The metadata of the message that was posted before the kill.
static LAST: std::sync::Mutex<serde_json::Value> = std::sync::Mutex::new(serde_json::Value::Null);
