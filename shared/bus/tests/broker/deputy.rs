//! The broker as a deputy: it sends answers to whatever subject an asker names, and asks no
//! permission for it. Each role tries every subject that it may publish to with every subject of ours
//! as the place for the answer, and nothing comes of it.

use std::{collections::BTreeMap, time::Duration};

use async_nats::{HeaderMap, jetstream};
use bus::{
    BrokerOptions, Bus, LedgerItem, Subjects,
    roles::Role,
    testing::Broker,
    topology::{BucketId, StreamId},
};
use domain::{
    id::IncidentId,
    wire::{InputKind, WorkKind},
};
use futures_util::TryStreamExt as _;
use tokio::time::timeout;

use crate::{eventually, permissions::accounts, signing::Key};

const ZONE: &str = "default";
const WAIT: Duration = Duration::from_secs(10);
const INBOX: &str = "SELFHEAL_INBOX";

/// What would do harm if somebody else's answer were stored there, or were obeyed.
fn places(names: &Subjects) -> Vec<String> {
    let ledger = names.stream(StreamId::Ledger);
    vec![
        names.ledger(),
        names.leader_key(),
        names.config_key(),
        names.config_manifest_key(),
        names.token_key("ann"),
        names.member_key("monitor-1"),
        names.key(BucketId::Snapshots, "x"),
        names.work(WorkKind::Fix, ZONE),
        names.work(WorkKind::Notify, ZONE),
        names.claim(&IncidentId::NONE, "1"),
        names.once("x"),
        names.probe(ZONE),
        names.rejected("x"),
        names.over(),
        format!("$JS.API.STREAM.PURGE.{ledger}"),
        format!("$JS.API.STREAM.DELETE.{ledger}"),
    ]
}

/// Headers by which a message could do more than be stored.
fn headers() -> Vec<HeaderMap> {
    let of = |name: &str, value: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(name, value);
        headers
    };
    vec![
        HeaderMap::new(),
        of("Nats-Rollup", "all"),
        of("Nats-Rollup", "sub"),
        of("Nats-Msg-Id", "1"),
        of("Nats-TTL", "1s"),
        of("Nats-Expected-Last-Sequence", "0"),
        of("Nats-Schedule-Target", "selfheal.ledger"),
        of("Nats-Batch-Id", "x"),
        of("Nats-Incr", "1"),
        of("KV-Operation", "PURGE"),
    ]
}

/// Makes a subject of a pattern that a role may publish to.
fn concrete(pattern: &str) -> String {
    let token = |it: &str| if it == "*" || it == ">" { "x".to_owned() } else { it.to_owned() };
    pattern.split('.').map(token).collect::<Vec<_>>().join(".")
}

async fn raw(broker: &Broker, role: Role) -> async_nats::Client {
    let name = role.as_str().to_owned();
    let inbox = format!("_INBOX_{name}");
    let options = async_nats::ConnectOptions::with_user_and_password(name.clone(), name);
    options.custom_inbox_prefix(inbox).connect(broker.url()).await.unwrap()
}

/// Publishes everything that a role may, with every place for the answer and every header.
async fn attack(broker: &Broker, role: Role, names: &Subjects) {
    let client = raw(broker, role).await;
    let may = role.permissions(names, &[ZONE.to_owned()]);
    let bodies = ["", "{}", r#"{"batch":1,"no_wait":true}"#];
    for subject in may.publish.iter().map(|it| concrete(it)) {
        for place in places(names) {
            for headers in headers() {
                for body in bodies {
                    let (subject, place) = (subject.clone(), place.clone());
                    let sent = client.publish_with_reply_and_headers(
                        subject,
                        place,
                        headers.clone(),
                        body.into(),
                    );
                    sent.await.unwrap();
                }
            }
        }
    }
    // All of it has been handled when the broker answers.
    client.flush().await.unwrap();
}

/// Returns how many messages each stream has, and the last sequence of each.
async fn stored(js: &jetstream::Context) -> BTreeMap<String, (u64, u64)> {
    let streams: Vec<_> = js.streams().try_collect().await.unwrap();
    let of = |it: &jetstream::stream::Info| (it.state.messages, it.state.last_sequence);
    streams.iter().map(|it| (it.config.name.clone(), of(it))).collect()
}

#[tokio::test]
async fn a_publisher_reaches_nothing_but_the_inbox() {
    let broker = Broker::with_config(&accounts()).await;
    let supervisor = login(&broker, Role::Supervisor, None, &[]).await;
    supervisor.ensure_topology().await.unwrap();
    let names = supervisor.subjects().clone();
    let js = jetstream::new(raw(&broker, Role::Supervisor).await);
    let before = stored(&js).await;
    attack(&broker, Role::Publisher, &names).await;
    eventually("its events are stored", || async {
        let n = stored(&js).await[INBOX].0;
        if 0 < n { Ok(()) } else { Err(n) }
    })
    .await;
    let mut after = stored(&js).await;
    after.insert(INBOX.to_owned(), before[INBOX]);
    assert_eq!(after, before);
}

async fn login(broker: &Broker, role: Role, key: Option<&Key>, trusted: &[&Key]) -> Bus {
    let name = role.as_str();
    let options = BrokerOptions {
        url: broker.url_for(name, name),
        name: format!("selfheal-{name}"),
        signing_key: key.map(|it| it.seed.clone()),
        trusted_keys: trusted.iter().map(|it| it.public.clone()).collect(),
        ..BrokerOptions::default()
    };
    bus::connect(&options).await.unwrap()
}

/// Agents have more ways: what they have the broker store somewhere is not believed there.
#[tokio::test]
async fn nothing_that_an_agent_has_stored_elsewhere_is_believed() {
    let broker = Broker::with_config(&accounts()).await;
    let own = Key::new();
    let leader = login(&broker, Role::Supervisor, Some(&own), &[]).await;
    leader.ensure_topology().await.unwrap();
    let names = leader.subjects().clone();
    let agent = login(&broker, Role::Fixer, None, &[&own]).await;
    let mut known = agent.config_store().watch();
    leader.config_store().put("mine".into(), 1).await.unwrap();
    known.wait_for(Option::is_some).await.unwrap();
    leader.ledger().append(0, "decided".into(), &[]).await.unwrap();
    let lease = leader.lead("first").await.unwrap();
    for role in [Role::Monitor, Role::Analyzer, Role::Fixer, Role::Gateway, Role::Cli] {
        attack(&broker, role, &names).await;
    }
    // The lease is renewed while somebody holds it, and stands over what was stored in its place.
    let position = leader.inbox_writer().submit(InputKind::Timer, crate::input("1")).await;
    position.unwrap();
    assert!(lease.is_held());
    let mut reader = login(&broker, Role::Supervisor, None, &[&own]).await.ledger().read(0);
    let mut counts = Vec::new();
    loop {
        match timeout(WAIT, reader.next()).await.unwrap().unwrap() {
            LedgerItem::Message(it) => counts.push(it.payload),
            LedgerItem::Foreign(_) => {}
            LedgerItem::CaughtUp => break,
        }
    }
    assert_eq!(counts, ["decided"]);
    assert_eq!(known.borrow().as_ref().unwrap().1, "mine");
    let zones = [ZONE.to_owned()];
    leader.work().publish(WorkKind::Fix, ZONE, "1", "ordered".into()).await.unwrap();
    let mut work = agent.work().consume(WorkKind::Fix, &zones, 1);
    let job = timeout(WAIT, work.next()).await.unwrap();
    assert_eq!(job.payload, "ordered");
    job.ack().await;
}
