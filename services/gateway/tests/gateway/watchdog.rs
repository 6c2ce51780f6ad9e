//! The dead-man's switch: calls come while somebody decides, and end when nobody does.

use axum::{Router, extract::State, routing::get};
use bus::testing::Broker;
use serde_json::json;
use tokio::sync::watch;

use crate::fixture::{Desk, Gateway, PATIENCE};

/// An outside system that counts the calls.
async fn outside() -> (String, watch::Receiver<u64>) {
    let (calls, counted) = watch::channel(0);
    let heard = async |State(calls): State<watch::Sender<u64>>| calls.send_modify(|n| *n += 1);
    let router = Router::new().route("/ping/secret", get(heard)).with_state(calls);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/ping/secret", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, counted)
}

async fn counted(gateway: &Gateway, outcome: &str) -> u64 {
    let text = gateway.get("/metrics").send().await.unwrap().text().await.unwrap();
    let name = format!("selfheal_gateway_watchdog_total{{outcome=\"{outcome}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |n| n.parse().unwrap())
}

async fn until_counted(gateway: &Gateway, outcome: &str, n: u64) {
    let enough = async { while counted(gateway, outcome).await < n {} };
    tokio::time::timeout(PATIENCE, enough).await.unwrap_or_else(|_| panic!("{outcome} < {n}"));
}

#[tokio::test]
async fn an_outside_system_is_called_while_somebody_decides_and_not_a_moment_longer() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let desk = Desk::open(&broker, |_| None).await;
    let (url, mut calls) = outside().await;
    let gateway = Gateway::start(&broker, &[]).await;
    let config = json!({"watchdog": {"url": url, "every": "50ms"}});
    bus.config_store().put(config.to_string().into(), 0).await.unwrap();
    let come = tokio::time::timeout(PATIENCE, calls.wait_for(|n| 3 <= *n)).await;
    drop(come.expect("calls come").unwrap());

    drop(desk);
    until_counted(&gateway, "unproven", 1).await;
    let until_then = *calls.borrow();
    until_counted(&gateway, "unproven", 3).await;
    assert_eq!(*calls.borrow(), until_then, "nobody decides, and nobody says otherwise");

    let _back = Desk::open(&broker, |_| None).await;
    let come = tokio::time::timeout(PATIENCE, calls.wait_for(|n| until_then < *n)).await;
    drop(come.expect("calls come again").unwrap());
}
