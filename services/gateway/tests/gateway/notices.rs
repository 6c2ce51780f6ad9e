//! Notices: sent, tried again, reported.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use axum::{Router, extract::State, http::StatusCode, routing::post};
use bus::testing::Broker;
use domain::wire::{Input, NoticeReport, NotifyWork, WorkKind};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::fixture::{Desk, Gateway, PATIENCE, an_incident};

#[derive(Clone)]
struct Receiver {
    n_requests: Arc<AtomicU32>,
    n_failures: u32,
    bodies: mpsc::Sender<Value>,
}

async fn receive(State(to): State<Receiver>, body: axum::Json<Value>) -> StatusCode {
    if to.n_requests.fetch_add(1, Ordering::SeqCst) < to.n_failures {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    to.bodies.send(body.0).await.unwrap();
    StatusCode::OK
}

/// A webhook that fails so often before it takes anything.
async fn webhook(n_failures: u32) -> (String, mpsc::Receiver<Value>) {
    let (bodies, taken) = mpsc::channel(10);
    let receiver = Receiver { n_requests: Arc::default(), n_failures, bodies };
    let router = Router::new().route("/hook/secret", post(receive)).with_state(receiver);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook/secret", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, taken)
}

async fn publish(desk: &Desk, to: Value) {
    let work: NotifyWork = serde_json::from_value(json!({
        "work": {"incident": an_incident(), "attempt": 1, "revision": 4},
        "notice": "escalated-4",
        "title": "database cannot be healed",
        "text": "3 attempts failed",
        "incident": {"id": an_incident()},
        "to": to,
    }))
    .unwrap();
    let id = work.work.wish_id(WorkKind::Notify);
    let payload = serde_json::to_vec(&work).unwrap().into();
    desk.bus.work().publish(WorkKind::Notify, "default", &id, payload).await.unwrap();
}

async fn report(desk: &mut Desk) -> NoticeReport {
    let inputs = desk.inputs(1).await;
    let Input::Notice(report) = &inputs[0].input else { panic!("another input: {inputs:?}") };
    report.clone()
}

#[tokio::test]
async fn a_webhook_that_fails_at_first_gets_its_notice_and_the_report_says_so() {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, |_| None).await;
    let _gateway = Gateway::start(&broker, &[]).await;
    let (url, mut taken) = webhook(2).await;
    publish(&desk, json!([{"webhook": url}, {"log": true}])).await;
    let body = tokio::time::timeout(PATIENCE, taken.recv()).await.unwrap().unwrap();
    assert_eq!(body["title"], "database cannot be healed");
    assert!(body["text"].as_str().unwrap().contains("3 attempts failed"), "{body}");
    let report = report(&mut desk).await;
    assert_eq!(report.notice, "escalated-4");
    let sent = report.outcome.unwrap();
    assert!(sent.contains("webhook") && sent.contains("log: written"), "{sent}");
}

#[tokio::test]
async fn a_notice_that_nobody_takes_is_reported_without_the_secret_of_its_url() {
    let broker = Broker::start().await;
    let mut desk = Desk::open(&broker, |_| None).await;
    let _gateway = Gateway::start(&broker, &[]).await;
    publish(&desk, json!([{"webhook": "http://127.0.0.1:9/hook/secret"}])).await;
    let reason = report(&mut desk).await.outcome.unwrap_err();
    assert!(reason.contains("127.0.0.1") && reason.contains("attempt 4 of 4"), "{reason}");
    assert!(!reason.contains("secret"), "{reason}");
}
