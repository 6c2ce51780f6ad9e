//! The bus against the broker's container image, as compose and Kubernetes run it.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::time::Duration;

use bus::{BrokerOptions, Bus};
use testcontainers::core::{IntoContainerPort as _, WaitFor};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, GenericImage, ImageExt as _};

const IMAGE: (&str, &str) = ("nats", "2.15.1-alpine");
const PORT: u16 = 4222;

async fn start(args: &[&str]) -> (ContainerAsync<GenericImage>, String) {
    let container = GenericImage::new(IMAGE.0, IMAGE.1)
        .with_exposed_port(PORT.tcp())
        .with_wait_for(WaitFor::message_on_stderr("Server is ready"))
        .with_cmd(args.iter().copied())
        .start()
        .await
        .unwrap();
    let port = container.get_host_port_ipv4(PORT).await.unwrap();
    (container, format!("nats://127.0.0.1:{port}"))
}

fn options(url: &str) -> BrokerOptions {
    BrokerOptions {
        url: url.to_owned(),
        name: "selfheal-test".to_owned(),
        ..BrokerOptions::default()
    }
}

async fn connect(url: &str) -> Bus {
    let options = options(url);
    let connecting = bus::connect(&options);
    tokio::time::timeout(Duration::from_secs(20), connecting).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_container_takes_the_whole_topology_and_keeps_the_ledger() {
    let (_container, url) = start(&["--jetstream"]).await;
    let bus = connect(&url).await;
    bus.ensure_topology().await.unwrap();
    let ledger = bus.ledger();
    let last = ledger.last_seq().await.unwrap();
    let next = ledger.append(last, bytes_of("one"), &[]).await.unwrap();
    assert_eq!(next, last + 1);
    // A second writer that starts from the same end is refused.
    ledger.append(last, bytes_of("two"), &[]).await.unwrap_err();
    assert_eq!(ledger.last_seq().await.unwrap(), next);
}

#[tokio::test]
async fn a_container_without_jetstream_is_refused_with_a_hint() {
    let (_container, url) = start(&["--port", "4222"]).await;
    let options = options(&url);
    let connecting = bus::connect(&options);
    let refused = tokio::time::timeout(Duration::from_secs(20), connecting).await.unwrap();
    assert!(matches!(refused, Err(bus::Error::JetStreamOff { .. })), "{refused:?}");
}

fn bytes_of(text: &'static str) -> bytes::Bytes {
    bytes::Bytes::from_static(text.as_bytes())
}
