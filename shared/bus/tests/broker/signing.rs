//! What nobody trusted has written does not count, and stops nobody.

use std::{path::PathBuf, time::Duration};

use bus::{BrokerOptions, Bus, LedgerItem, Unbelieved, new_key, testing::Broker};
use domain::wire::WorkKind;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::eventually;

const WAIT: Duration = Duration::from_secs(10);

/// A key in a file, and its public key.
pub(crate) struct Key {
    _dir: TempDir,
    pub(crate) seed: PathBuf,
    pub(crate) public: String,
}

impl Key {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let (seed, public) = new_key().unwrap();
        let path = dir.path().join("signing.key");
        std::fs::write(&path, seed).unwrap();
        Self { _dir: dir, seed: path, public }
    }
}

async fn login(broker: &Broker, own: Option<&Key>, trusted: &[&Key]) -> Bus {
    let options = BrokerOptions {
        url: broker.url().clone(),
        name: "selfheal-supervisor".to_owned(),
        signing_key: own.map(|it| it.seed.clone()),
        trusted_keys: trusted.iter().map(|it| it.public.clone()).collect(),
        ..BrokerOptions::default()
    };
    bus::connect(&options).await.unwrap()
}

/// Reads all that the ledger holds: what counts, and why the rest does not.
async fn read(bus: &Bus) -> (Vec<String>, Vec<Unbelieved>) {
    let mut reader = bus.ledger().read(0);
    let (mut counts, mut foreign) = (Vec::new(), Vec::new());
    loop {
        match timeout(WAIT, reader.next()).await.unwrap().unwrap() {
            LedgerItem::Message(it) => counts.push(String::from_utf8(it.payload.to_vec()).unwrap()),
            LedgerItem::Foreign(it) => foreign.push(it.why),
            LedgerItem::CaughtUp => return (counts, foreign),
        }
    }
}

#[tokio::test]
async fn only_what_a_trusted_key_has_signed_for_its_place_counts() {
    let broker = Broker::start().await;
    let (own, other, stranger) = (Key::new(), Key::new(), Key::new());
    let leader = login(&broker, Some(&own), &[&other]).await;
    leader.ensure_topology().await.unwrap();
    let standby = login(&broker, Some(&other), &[&own]).await;
    let unsigned = login(&broker, None, &[]).await;
    let forger = login(&broker, Some(&stranger), &[]).await;
    assert_eq!(leader.ledger().append(0, "one".into(), &[]).await.unwrap(), 1);
    assert_eq!(unsigned.ledger().append(1, "evil".into(), &[]).await.unwrap(), 2);
    assert_eq!(forger.ledger().append(2, "worse".into(), &[]).await.unwrap(), 3);
    assert_eq!(standby.ledger().append(3, "two".into(), &[]).await.unwrap(), 4);
    // Stored once more, with its own header, it stands in another place.
    let name = leader.subjects().stream(bus::topology::StreamId::Ledger);
    let client = async_nats::connect(broker.url()).await.unwrap();
    let js = async_nats::jetstream::new(client);
    let first = js.get_stream(&name).await.unwrap().get_raw_message(1).await.unwrap();
    let mut headers = async_nats::HeaderMap::new();
    for (name, values) in first.headers.iter() {
        // What it once expected to stand behind is no part of what it says.
        if name.to_string().starts_with("Selfheal-") {
            values.iter().for_each(|it| headers.append(name.to_string(), it.as_str()));
        }
    }
    let again = js.publish_with_headers(leader.subjects().ledger(), headers, first.payload);
    again.await.unwrap().await.unwrap();
    js.publish(leader.subjects().ledger(), "{}".into()).await.unwrap().await.unwrap();
    let (counts, foreign) = read(&leader).await;
    assert_eq!(counts, ["one", "two"]);
    let [unsigned_one, strangers, replayed, junk] = &foreign[..] else { panic!("{foreign:?}") };
    assert_eq!(unsigned_one, &Unbelieved::Unsigned);
    assert_eq!(strangers, &Unbelieved::Stranger(stranger.public.clone()));
    assert_eq!(replayed, &Unbelieved::Invalid);
    assert_eq!(junk, &Unbelieved::Unsigned);
    assert_eq!(read(&standby).await, (counts, foreign));
    // Without keys, what supervisors write counts, and the junk does not.
    let (counts, foreign) = read(&unsigned).await;
    assert_eq!((counts.len(), &foreign[..]), (5, &[Unbelieved::NoAppend][..]));
}

/// An acknowledgement that was led to the key of the lease neither deposes the leader nor keeps
/// its successor away.
#[tokio::test]
async fn a_foreign_message_in_place_of_the_lease_is_written_over() {
    let broker = Broker::start().await;
    let (own, other) = (Key::new(), Key::new());
    let first = login(&broker, Some(&own), &[&other]).await;
    first.ensure_topology().await.unwrap();
    let lease = first.lead("first").await.unwrap();
    let key = first.subjects().leader_key();
    let js = async_nats::jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    let stored = || async {
        let stream = first.subjects().bucket_stream(bus::topology::BucketId::Members);
        let stream = js.get_stream(stream).await.unwrap();
        stream.get_last_raw_message_by_subject(&key).await.unwrap().payload
    };
    for junk in [
        "{\"stream\":\"SELFHEAL_INBOX\",\"seq\":7}",
        "",
        "{\"node\":\"x\",\"id\":\"y\",\"epoch\":9999999999999}",
    ] {
        js.publish(key.clone(), junk.into()).await.unwrap().await.unwrap();
        eventually("the leader says again that it leads", || async {
            let stands = stored().await;
            if stands.windows(5).any(|it| it == b"first") { Ok(()) } else { Err(stands) }
        })
        .await;
        assert!(lease.is_held(), "{junk}");
    }
    // The leader is gone without a word, and junk is no sign of its life.
    drop((lease, first));
    let second = login(&broker, Some(&other), &[&own]).await;
    let spam = {
        let (js, key) = (js.clone(), key.clone());
        tokio::spawn(async move {
            while let Ok(stored) = js.publish(key.clone(), "{}".into()).await {
                // Whether it was taken is no matter.
                drop(stored.await);
                tokio::task::yield_now().await;
            }
        })
    };
    let lease = timeout(WAIT, second.lead("second")).await;
    spam.abort();
    drop(lease.expect("nobody took over").unwrap());
}

#[tokio::test]
async fn a_configuration_that_no_supervisor_has_written_is_passed_over() {
    let broker = Broker::start().await;
    let (own, stranger) = (Key::new(), Key::new());
    let leader = login(&broker, Some(&own), &[]).await;
    leader.ensure_topology().await.unwrap();
    let agent = login(&broker, None, &[&own]).await;
    let mut known = agent.config_store().watch();
    leader.config_store().put("mine".into(), 1).await.unwrap();
    known.wait_for(Option::is_some).await.unwrap();
    let forger = login(&broker, Some(&stranger), &[]).await;
    forger.config_store().put("forged".into(), 5).await.unwrap();
    let js = async_nats::jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    let junk = js.publish(leader.subjects().config_key(), "{}".into());
    junk.await.unwrap().await.unwrap();
    leader.config_store().put("mine too".into(), 6).await.unwrap();
    let last = known.wait_for(|it| it.as_ref().is_some_and(|it| it.1 != "mine")).await.unwrap();
    assert_eq!(last.as_ref().unwrap().1, "mine too");
}

#[tokio::test]
async fn work_that_no_supervisor_has_ordered_is_not_done() {
    let broker = Broker::start().await;
    let (own, stranger) = (Key::new(), Key::new());
    let leader = login(&broker, Some(&own), &[]).await;
    leader.ensure_topology().await.unwrap();
    let forger = login(&broker, Some(&stranger), &[]).await;
    let unsigned = login(&broker, None, &[]).await;
    for (bus, text) in [(&forger, "forged"), (&unsigned, "unsigned"), (&leader, "ordered")] {
        bus.work().publish(WorkKind::Fix, "default", text, text.into()).await.unwrap();
    }
    // An order for another kind of work is none for this one.
    let stream = leader.subjects().stream(bus::topology::StreamId::Work(WorkKind::Fix));
    let js = async_nats::jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    let ordered = js.get_stream(&stream).await.unwrap().get_raw_message(3).await.unwrap();
    let mut headers = async_nats::HeaderMap::new();
    let signature = ordered.headers.get("Selfheal-Signature").unwrap();
    headers.insert("Selfheal-Signature", signature.as_str());
    let verify = leader.subjects().work(WorkKind::Verify, "default");
    let led = js.publish_with_headers(verify, headers, ordered.payload);
    led.await.unwrap().await.unwrap();
    let fixer = login(&broker, None, &[&own]).await;
    let zones = ["default".to_owned()];
    let mut work = fixer.work().consume(WorkKind::Fix, &zones, 1);
    let job = timeout(WAIT, work.next()).await.unwrap();
    assert_eq!(job.payload, "ordered");
    job.ack().await;
    let mut other = fixer.work().consume(WorkKind::Verify, &zones, 1);
    leader.work().publish(WorkKind::Verify, "default", "v", "verify".into()).await.unwrap();
    let job = timeout(WAIT, other.next()).await.unwrap();
    assert_eq!(job.payload, "verify");
    job.ack().await;
    eventually("what was forged is out of the queue", || async {
        let mut stream = js.get_stream(&stream).await.unwrap();
        let n = stream.info().await.unwrap().state.messages;
        if n == 0 { Ok(()) } else { Err(n) }
    })
    .await;
}
