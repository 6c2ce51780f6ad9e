//! What is read: incidents, the status, the stream, the index.

use bus::testing::Broker;
use domain::wire::AnswerStatus;
use serde_json::{Value, json};

use crate::fixture::{Desk, Gateway, PATIENCE, an_incident, answer, heard};

#[tokio::test]
async fn incidents_are_asked_of_a_supervisor_with_the_filter() {
    let broker = Broker::start().await;
    let _desk = Desk::open(&broker, |_| None).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let path = "/api/v1/incidents?status=open,fixing&target=db&limit=7&q=exit%20code";
    let (status, told) = heard(gateway.get(path)).await;
    assert_eq!(status, 200, "{told}");
    let asked = &told["asked"];
    assert_eq!(asked["status"], json!(["open", "fixing"]));
    assert_eq!(
        (&asked["target"], &asked["limit"], &asked["q"]),
        (&json!("db"), &json!(7), &json!("exit code"))
    );
    let (status, told) = heard(gateway.get("/api/v1/incidents?colour=red")).await;
    assert_eq!((status, &told["error"]["code"]), (400, &json!("invalid_query")));
    let (status, told) = heard(gateway.get(&format!("/api/v1/incidents/{}", an_incident()))).await;
    assert_eq!((status, &told["plan"]["hash"]), (200, &json!("abc")));
    let unknown = "/api/v1/incidents/01990000-0000-7000-8000-000000000001";
    assert_eq!(heard(gateway.get(unknown)).await.0, 404);
}

#[tokio::test]
async fn without_a_supervisor_reads_are_a_503_and_the_status_says_so() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let gateway = Gateway::start(&broker, &[]).await;
    let answer = gateway.get("/api/v1/incidents").send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    let (status, told) = heard(gateway.get("/api/v1/status")).await;
    assert_eq!((status, &told["status"]), (200, &json!("no supervisor answers")));
    assert_eq!(told["broker"]["connected"], true);
    drop(bus);
}

#[tokio::test]
async fn the_status_shows_the_system_and_its_agents() {
    let broker = Broker::start().await;
    let _desk = Desk::open(&broker, |_| None).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let told = loop {
        let (_, told) = heard(gateway.get("/api/v1/status")).await;
        if told["agents"].as_array().is_some_and(|agents| !agents.is_empty()) {
            break told;
        }
    };
    assert_eq!((&told["status"], &told["system"]["n_targets"]), (&json!("ok"), &json!(2)));
    assert_eq!(told["agents"][0]["kind"], "gateway");
}

#[tokio::test]
async fn the_stream_passes_decisions_on_with_their_number() {
    let broker = Broker::start().await;
    let desk = Desk::open(&broker, |_| answer(AnswerStatus::Done)).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let path = format!("/api/v1/stream?incident={}", an_incident());
    let mut stream = gateway.get(&path).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    let mut read_until = async |part: &str| {
        while !text.contains(part) {
            let chunk = tokio::time::timeout(PATIENCE, stream.chunk()).await;
            let chunk = chunk.unwrap_or_else(|_| panic!("no `{part}` in {text}")).unwrap().unwrap();
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        text.clone()
    };
    read_until("event: hello").await;
    let tell = async |incident: &str, message: Value| {
        let subject = format!("selfheal.live.{incident}");
        desk.bus.publish_core(subject, message.to_string().into()).await.unwrap();
    };
    tell("other", json!({"seq": 6, "decision": "not ours"})).await;
    tell(
        &an_incident().to_string(),
        json!({"seq": 7, "decision": "opened", "reason": "two\nlines"}),
    )
    .await;
    tell(&an_incident().to_string(), json!({"step": "restart"})).await;
    let text = read_until("restart").await;
    assert!(text.contains("event: decision\nid: 7\n"), "{text}");
    assert!(text.contains("event: progress\n"), "{text}");
    assert!(!text.contains("not ours"), "{text}");
}

#[tokio::test]
async fn the_stream_is_followed_anew_for_each_who_comes_when_nobody_is_left() {
    let broker = Broker::start().await;
    let desk = Desk::open(&broker, |_| None).await;
    let gateway = Gateway::start(&broker, &[]).await;
    for n in 0..3 {
        let mut stream = gateway.get("/api/v1/stream").send().await.unwrap();
        let message = json!({"seq": n, "decision": "opened"}).to_string();
        desk.bus.publish_core("selfheal.live.any".to_owned(), message.into()).await.unwrap();
        let mut text = String::new();
        while !text.contains(&format!("id: {n}\n")) {
            let chunk = tokio::time::timeout(PATIENCE, stream.chunk()).await;
            let chunk = chunk.unwrap_or_else(|_| panic!("{n} is not in {text}")).unwrap().unwrap();
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test]
async fn everything_else_is_a_404_that_says_where_to_look() {
    let broker = Broker::start().await;
    let _desk = Desk::open(&broker, |_| None).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let (status, told) = heard(gateway.get("/nothing")).await;
    assert_eq!((status, &told["error"]["code"]), (404, &json!("unknown_path")));
    let (status, told) = heard(gateway.get("/publish_event")).await;
    assert_eq!((status, &told["error"]["code"]), (405, &json!("wrong_method")));
    let (status, told) = heard(gateway.get("/")).await;
    assert_eq!(status, 200);
    assert!(told["routes"]["POST /publish_event"].is_string(), "{told}");
}

#[tokio::test]
async fn every_answer_has_a_request_id_and_keeps_the_senders() {
    let broker = Broker::start().await;
    let _desk = Desk::open(&broker, |_| answer(AnswerStatus::IncidentOpened)).await;
    let gateway = Gateway::start(&broker, &[]).await;
    let answer = gateway.get("/healthz").send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"].len(), 36);
    let answer = gateway.get("/nothing").header("x-request-id", "mine-7").send().await.unwrap();
    assert_eq!(answer.headers()["x-request-id"], "mine-7");
    let event = gateway.post("/publish_event").json(&json!({"type": "a"}));
    let answer = event.header("x-request-id", "mine-8").send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-request-id"]),
        (200, &"mine-8".parse().unwrap())
    );
    let metrics = gateway.get("/metrics").send().await.unwrap().text().await.unwrap();
    let counted =
        "selfheal_gateway_requests_total{route=\"/healthz\",method=\"GET\",status=\"200\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    let counted = "selfheal_gateway_requests_total{route=\"/publish_event\",method=\"POST\",status=\"200\"} 1";
    assert!(metrics.contains(counted), "{metrics}");
    assert!(metrics.contains("selfheal_gateway_events_total{outcome=\"answered\"} 1"), "{metrics}");
    assert!(metrics.contains("selfheal_ready 1"), "{metrics}");
}
