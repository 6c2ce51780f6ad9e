//! Other systems publish straight to the broker, with a client of their own.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use async_nats::HeaderMap;
use serde_json::{Value, json};
use tests::{
    eventually,
    stack::{Stack, directory},
};

const CONFIG: &str = "
targets:
  - name: database
    checks: [{tcp: \"127.0.0.1:9\", every: 1h}]
policy: {autonomy: observe}
";

async fn client(stack: &Stack) -> async_nats::Client {
    stack.nats("publisher").await.unwrap()
}

async fn incident_of(stack: &Stack, kind: &str) -> Value {
    eventually(&format!("an incident of type {kind} is there"), || async {
        let found = stack.incidents(&format!("type={kind}")).await?;
        found.into_iter().next().ok_or_else(|| "none".to_owned())
    })
    .await
}

#[tokio::test]
async fn plain_and_cloudevents_messages_of_other_clients_open_incidents() {
    let stack = Stack::up(&directory("publish"), CONFIG);
    let client = client(&stack).await;
    let publish = async |subject: &str, headers: &[(&str, &str)], body: String| {
        let mut map = HeaderMap::new();
        for (key, value) in headers {
            map.insert(*key, *value);
        }
        client.publish_with_headers(subject.to_owned(), map, body.into()).await.unwrap();
        client.flush().await.unwrap();
    };

    let plain = json!({"type": "disk.full", "source": "nagios", "payload": {"host": "database"}});
    publish("selfheal.event.disk.full", &[], plain.to_string()).await;
    assert_eq!(incident_of(&stack, "disk.full").await["target"], "database");

    let structured = json!({"specversion": "1.0", "id": "1", "source": "/probe", "type": "latency_high",
        "subject": "database", "data": {"p99_ms": 900}});
    let headers = [("Content-Type", "application/cloudevents+json")];
    publish("selfheal.event.latency_high", &headers, structured.to_string()).await;
    assert_eq!(incident_of(&stack, "latency_high").await["target"], "database");

    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "2"),
        ("ce-source", "/probe"),
        ("ce-type", "queue_backlog"),
        ("ce-subject", "database"),
    ];
    publish("selfheal.event.queue_backlog", &headers, json!({"depth": 7}).to_string()).await;
    assert_eq!(incident_of(&stack, "queue_backlog").await["source"], "/probe");
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_with_its_reason_and_stops_nothing() {
    let stack = Stack::up(&directory("garbage"), CONFIG);
    let client = client(&stack).await;
    let ours = stack.nats("gateway").await.unwrap();
    let garbage: [(&async_nats::Client, &str, Vec<u8>); 6] = [
        (&client, "selfheal.event.a", b"{".to_vec()),
        (&client, "selfheal.event.a", b"\xff\xfe".to_vec()),
        (&client, "selfheal.event.a", b"{\"type\": []}".to_vec()),
        (&client, "selfheal.event.a", "[".repeat(10_000).into_bytes()),
        (&ours, "selfheal.frame.event", b"not an array".to_vec()),
        (&ours, "selfheal.frame.command", b"{\"by\": \"me\", \"verb\": \"dance\"}".to_vec()),
    ];
    for (client, subject, body) in garbage {
        client.publish(subject, body.into()).await.unwrap();
    }
    ours.flush().await.unwrap();
    let good = json!({"type": "after_the_garbage", "payload": {"service": "database"}});
    client.publish("selfheal.event.after_the_garbage", good.to_string().into()).await.unwrap();
    client.flush().await.unwrap();
    incident_of(&stack, "after_the_garbage").await;

    let context = async_nats::jetstream::new(stack.nats("supervisor").await.unwrap());
    eventually("all six are kept", || async {
        let mut stream =
            context.get_stream("SELFHEAL_REJECTED").await.map_err(|it| it.to_string())?;
        let info = stream.info().await.map_err(|it| it.to_string())?;
        if info.state.messages == 6 { Ok(()) } else { Err(info.state.messages.to_string()) }
    })
    .await;
    let status = stack.get("/api/v1/status").await.unwrap();
    assert_eq!(status["system"]["n_rejected"], 6, "{status:#}");
    // What our own processes seem to say and nobody understands is told to people.
    incident_of(&stack, "selfheal.input_not_understood").await;
}
