use async_nats::jetstream::{
    consumer::{AckPolicy, pull},
    stream::{Config, RetentionPolicy, StorageType},
};
use bus::{Error, Sizing, testing::Broker, topology::StreamId};
use domain::wire::WorkKind;
use futures_util::StreamExt as _;

use crate::outside;

#[tokio::test]
async fn making_everything_again_changes_nothing() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let js = outside(&broker.url()).await;
    let name = bus.subjects().stream(StreamId::Inbox);
    let before = js.get_stream(&name).await.unwrap().cached_info().clone();
    let mut made = bus.work_made();
    made.mark_unchanged();
    bus.ensure_topology().await.unwrap();
    let after = js.get_stream(&name).await.unwrap().cached_info().clone();
    assert_eq!((before.created, &before.config), (after.created, &after.config));
    assert!(!made.has_changed().unwrap());
    let log = std::fs::read_to_string(broker.dir().join("log")).unwrap();
    assert!(!log.contains("[ERR]"), "{log}");
}

#[tokio::test]
async fn a_stream_of_an_older_build_is_upgraded_and_keeps_what_the_operator_chose() {
    let broker = Broker::start().await;
    let bus = broker.connect().await.unwrap();
    let js = outside(&broker.url()).await;
    let name = bus.subjects().stream(StreamId::Inbox);
    let older = Config {
        name: name.clone(),
        subjects: vec![bus.subjects().full("event.>")],
        max_bytes: 3 << 30,
        ..Config::default()
    };
    js.create_stream(older).await.unwrap();
    js.publish(bus.subjects().event("a"), "kept".into()).await.unwrap().await.unwrap();
    bus.ensure_topology().await.unwrap();
    let now = js.get_stream(&name).await.unwrap().cached_info().clone();
    assert_eq!(now.config.subjects.len(), StreamId::Inbox.spec().subjects.len());
    assert_eq!(now.config.max_bytes, 3 << 30);
    assert_eq!(now.state.messages, 1);
}

#[tokio::test]
async fn what_an_operator_chose_by_a_flag_is_applied_to_what_stands_also_when_it_is_less() {
    let broker = Broker::start().await;
    broker.bus().await.unwrap();
    let bus = broker.connect().await.unwrap();
    let chosen = Sizing {
        inbox_bytes_max: Some(5 << 20),
        ledger_bytes_max: Some(2 << 30),
        ..Sizing::default()
    };
    bus.size_streams(chosen);
    bus.ensure_topology().await.unwrap();
    let bytes_max = async |id| bus.stream_state(id).await.unwrap().bytes_max;
    assert_eq!(bytes_max(StreamId::Inbox).await, Some(5 << 20));
    assert_eq!(bytes_max(StreamId::Ledger).await, Some(2 << 30));
    // Who chooses nothing takes nothing back.
    broker.bus().await.unwrap();
    assert_eq!(bytes_max(StreamId::Ledger).await, Some(2 << 30));
}

#[tokio::test]
async fn copies_that_were_chosen_and_cannot_be_made_are_told_with_a_hint() {
    let broker = Broker::start().await;
    let bus = broker.connect().await.unwrap();
    bus.size_streams(Sizing { replicas: Some(3), ..Sizing::default() });
    let error = bus.ensure_topology().await.unwrap_err();
    assert!(error.hint().unwrap().contains("--replicas"), "{error:?}");
}

#[tokio::test]
async fn a_stream_that_cannot_be_upgraded_is_refused_with_a_hint() {
    let broker = Broker::start().await;
    let bus = broker.connect().await.unwrap();
    let js = outside(&broker.url()).await;
    let foreign = Config {
        name: bus.subjects().stream(StreamId::Work(WorkKind::Fix)),
        subjects: vec!["something.else".to_owned()],
        storage: StorageType::File,
        ..Config::default()
    };
    js.create_stream(foreign).await.unwrap();
    let error = bus.ensure_topology().await.unwrap_err();
    assert!(matches!(error, Error::Incompatible { .. }), "{error}");
    assert!(error.hint().unwrap().contains("--prefix"));
}

/// Goal: an upgrade loses no work. Method: the one queue of older versions holds a piece that a
/// worker has, and one that nobody has.
#[tokio::test]
async fn the_one_work_queue_of_older_versions_is_emptied_and_removed() {
    let broker = Broker::start().await;
    let bus = broker.connect().await.unwrap();
    let js = outside(&broker.url()).await;
    let names = bus.subjects().clone();
    let former = names.former_work();
    let config = Config {
        name: former.clone(),
        subjects: vec![names.full("work.*.*")],
        storage: StorageType::Memory,
        retention: RetentionPolicy::WorkQueue,
        max_bytes: 64 << 20,
        ..Config::default()
    };
    let stream = js.create_stream(config).await.unwrap();
    let queue = pull::Config {
        durable_name: Some("fix-default".to_owned()),
        filter_subject: names.work(WorkKind::Fix, "default"),
        ack_policy: AckPolicy::Explicit,
        ..pull::Config::default()
    };
    let queue = stream.create_consumer(queue).await.unwrap();
    for kind in [WorkKind::Fix, WorkKind::Notify] {
        js.publish(names.work(kind, "default"), "do".into()).await.unwrap().await.unwrap();
    }
    let mut jobs = queue.fetch().max_messages(1).messages().await.unwrap();
    let job = jobs.next().await.unwrap().unwrap();

    bus.ensure_topology().await.unwrap();
    let left = || async { js.get_stream(&former).await.map(|it| it.cached_info().state.messages) };
    assert_eq!(left().await.unwrap(), 2, "what a worker has taken is not taken from it");
    bus.work().publish(WorkKind::Fix, "default", "wish", "do".into()).await.unwrap();
    assert_eq!(left().await.unwrap(), 2, "new work goes to the new queue");
    job.double_ack().await.unwrap();
    assert_eq!(left().await.unwrap(), 1);
    // In production its age ends the other one.
    js.get_stream(&former).await.unwrap().purge().await.unwrap();
    bus.ensure_topology().await.unwrap();
    assert!(left().await.is_err(), "it is removed when it is empty");
}

#[tokio::test]
async fn an_account_with_too_little_room_is_told_with_a_hint() {
    let small = "accounts { A { jetstream { max_mem: 10MB, max_file: 100MB }, users: [{user: a, password: a}] } }";
    let broker = Broker::with_config(small).await;
    let options =
        bus::BrokerOptions { url: broker.url_for("a", "a"), ..bus::BrokerOptions::default() };
    let bus = bus::connect(&options).await.unwrap();
    let error = bus.ensure_topology().await.unwrap_err();
    assert!(matches!(error, Error::Topology { .. }), "{error}");
    assert!(error.hint().unwrap().contains("too little room"), "{error:?}");
}

#[tokio::test]
async fn two_installations_share_one_account() {
    let broker = Broker::start().await;
    let ours = broker.bus().await.unwrap();
    let options = bus::BrokerOptions {
        url: broker.url(),
        prefix: "acme".to_owned(),
        ..bus::BrokerOptions::default()
    };
    let theirs = bus::connect(&options).await.unwrap();
    theirs.ensure_topology().await.unwrap();
    theirs.ledger().append(0, "theirs".into(), &[]).await.unwrap();
    assert_eq!(ours.ledger().last_seq().await.unwrap(), 0);
    assert_eq!(theirs.ledger().last_seq().await.unwrap(), 1);
}

#[tokio::test]
async fn hands_wait_until_a_supervisor_has_made_everything() {
    let broker = Broker::start().await;
    let hand = broker.connect().await.unwrap();
    let waiting = tokio::spawn(async move { hand.wait_for_topology().await });
    let supervisor = broker.connect().await.unwrap();
    assert!(!waiting.is_finished());
    supervisor.ensure_topology().await.unwrap();
    waiting.await.unwrap().unwrap();
}
