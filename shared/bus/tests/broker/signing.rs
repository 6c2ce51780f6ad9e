//! What nobody trusted has written does not count, and stops nobody.

use std::{path::PathBuf, time::Duration};

use bus::{
    BrokerOptions, Bus, Error, LedgerItem, PutToken, Unbelieved, new_key,
    testing::Broker,
    topology::{BucketId, StreamId},
};
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
        private::write(&path, seed.as_bytes()).unwrap();
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
    let name = leader.subjects().stream(StreamId::Ledger);
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
        let stream = first.subjects().bucket_stream(BucketId::Lease);
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
    let stream = leader.subjects().stream(StreamId::Work(WorkKind::Fix));
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

/// Stores a message once more, with the headers that tell who wrote it.
async fn store_again(broker: &Broker, stream: &str, seq: u64) {
    let js = async_nats::jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    let found = js.get_stream(stream).await.unwrap().get_raw_message(seq).await.unwrap();
    let mut headers = async_nats::HeaderMap::new();
    for (name, values) in found.headers.iter() {
        if name.to_string().starts_with("Selfheal-") {
            values.iter().for_each(|it| headers.append(name.to_string(), it.as_str()));
        }
    }
    let again = js.publish_with_headers(found.subject, headers, found.payload);
    again.await.unwrap().await.unwrap();
}

/// A message of another ledger, signed for the very same place, does not follow this one.
#[tokio::test]
async fn a_message_names_the_one_before_it() {
    let (broker, other) = (Broker::start().await, Broker::start().await);
    let own = Key::new();
    let leader = login(&broker, Some(&own), &[]).await;
    leader.ensure_topology().await.unwrap();
    let elsewhere = login(&other, Some(&own), &[]).await;
    elsewhere.ensure_topology().await.unwrap();
    for (bus, first) in [(&leader, "one"), (&elsewhere, "another")] {
        bus.ledger().append(0, first.into(), &[]).await.unwrap();
    }
    elsewhere.ledger().append(1, "two".into(), &[]).await.unwrap();
    let name = leader.subjects().stream(StreamId::Ledger);
    let from = async_nats::jetstream::new(async_nats::connect(other.url()).await.unwrap());
    let two = from.get_stream(&name).await.unwrap().get_raw_message(2).await.unwrap();
    let js = async_nats::jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    let mut headers = async_nats::HeaderMap::new();
    for (name, values) in two.headers.iter() {
        if name.to_string().starts_with("Selfheal-") {
            values.iter().for_each(|it| headers.append(name.to_string(), it.as_str()));
        }
    }
    let put = js.publish_with_headers(leader.subjects().ledger(), headers, two.payload);
    put.await.unwrap().await.unwrap();
    leader.ledger().append(2, "three".into(), &[]).await.unwrap();
    // One that is new to the ledger sees it, too.
    let fresh = login(&broker, Some(&own), &[]).await;
    for bus in [&leader, &fresh] {
        let (mut reader, mut cut) = (bus.ledger().read(0), Vec::new());
        while let LedgerItem::Message(it) = timeout(WAIT, reader.next()).await.unwrap().unwrap() {
            cut.push(it.is_cut_off);
        }
        assert_eq!(cut[..2], [false, true]);
    }
}

/// Whoever is no supervisor does not end a leader by what he puts behind its last message.
#[tokio::test]
async fn what_stands_in_the_place_of_an_append_is_told_and_may_be_passed_over() {
    let broker = Broker::start().await;
    let (own, other) = (Key::new(), Key::new());
    let leader = login(&broker, Some(&own), &[&other]).await;
    leader.ensure_topology().await.unwrap();
    let ledger = leader.ledger();
    ledger.append(0, "one".into(), &[]).await.unwrap();
    assert_eq!(ledger.foreign_behind(1).await.unwrap(), None);
    let js = async_nats::jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    for junk in ["{}", "junk"] {
        let put = js.publish(leader.subjects().ledger(), junk.into());
        put.await.unwrap().await.unwrap();
    }
    assert!(ledger.append(1, "two".into(), &[]).await.is_err());
    let foreign = ledger.foreign_behind(1).await.unwrap().unwrap();
    let told: Vec<_> = foreign.iter().map(|it| (it.seq, it.why.clone())).collect();
    assert_eq!(told, [(2, Unbelieved::Unsigned), (3, Unbelieved::Unsigned)]);
    assert_eq!(ledger.append(3, "two".into(), &[]).await.unwrap(), 4);
    let standby = login(&broker, Some(&other), &[&own]).await;
    standby.ledger().append(4, "three".into(), &[]).await.unwrap();
    assert_eq!(ledger.foreign_behind(4).await.unwrap(), None, "another supervisor has written");
    let mut reader = standby.ledger().read(0);
    for _ in 0..5 {
        match timeout(WAIT, reader.next()).await.unwrap().unwrap() {
            LedgerItem::Message(it) => assert!(!it.is_cut_off, "{it:?}"),
            LedgerItem::Foreign(_) | LedgerItem::CaughtUp => {}
        }
    }
}

#[tokio::test]
async fn a_former_configuration_that_is_stored_once_more_is_passed_over() {
    let broker = Broker::start().await;
    let own = Key::new();
    let leader = login(&broker, Some(&own), &[]).await;
    leader.ensure_topology().await.unwrap();
    let agent = login(&broker, None, &[&own]).await;
    let mut known = agent.config_store().watch();
    let store = leader.config_store();
    let former = store.put("former".into(), 7).await.unwrap().unwrap();
    let active = store.put("active".into(), 7).await.unwrap().unwrap();
    assert!(store.is_last(active).await.unwrap());
    known.wait_for(|it| it.as_ref().is_some_and(|it| it.1 == "active")).await.unwrap();
    let stream = leader.subjects().bucket_stream(BucketId::Config);
    store_again(&broker, &stream, former).await;
    assert!(!store.is_last(active).await.unwrap(), "the leader sees that it must put it again");
    // What no supervisor has written keeps no later leader from writing.
    let forger = login(&broker, Some(&Key::new()), &[]).await;
    forger.config_store().put("forged".into(), u64::MAX).await.unwrap();
    assert!(store.put("next".into(), 8).await.unwrap().is_some());
    let next = known.wait_for(|it| it.as_ref().is_some_and(|it| it.1 != "active")).await.unwrap();
    assert_eq!(next.as_ref().unwrap().1, "next");
    assert_eq!(agent.config_store().signer(WAIT).await, Some(own.public.clone()));
}

#[tokio::test]
async fn only_a_token_with_the_signature_of_a_trusted_key_counts() {
    let broker = Broker::start().await;
    let (own, stranger) = (Key::new(), Key::new());
    let cli = login(&broker, Some(&own), &[]).await;
    cli.ensure_topology().await.unwrap();
    let gateway = login(&broker, None, &[&own]).await;
    let forger = login(&broker, Some(&stranger), &[]).await;
    let ann = crate::tokens::record("ann");
    assert_eq!(forger.token_store().put(&ann, 0).await.unwrap(), PutToken::Stored);
    assert!(gateway.token_store().list(WAIT).await.unwrap().is_empty());
    // What is forged keeps nobody from making a token of that name.
    assert_eq!(cli.token_store().put(&ann, 0).await.unwrap(), PutToken::Stored);
    let known = gateway.token_store().watch();
    let shown = |mark: bool| {
        let known = known.clone();
        move || {
            let known = known.borrow().clone();
            let is_so = known
                .as_ref()
                .and_then(|it| it.get("ann"))
                .is_some_and(|(_, it)| it.revoked.is_some() == mark);
            async move { if is_so { Ok(()) } else { Err(known) } }
        }
    };
    eventually("the token is known", shown(false)).await;
    let js = async_nats::jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    let key = cli.subjects().token_key("ann");
    js.publish(key, "{\"stream\":\"SELFHEAL_INBOX\"}".into()).await.unwrap().await.unwrap();
    let (place, stored) = cli.token_store().list(WAIT).await.unwrap().remove("ann").unwrap();
    let revoked = domain::access::Revoked { at: chrono::Utc::now(), by: "bob".to_owned() };
    let revoked = domain::access::TokenRecord { revoked: Some(revoked), ..stored };
    assert_eq!(cli.token_store().put(&revoked, place).await.unwrap(), PutToken::Stored);
    eventually("the token is revoked", shown(true)).await;
    // A record from before the revocation brings nothing back.
    let stream = cli.subjects().bucket_stream(BucketId::Tokens);
    store_again(&broker, &stream, 2).await;
    let bob = crate::tokens::record("bob");
    assert_eq!(cli.token_store().put(&bob, 0).await.unwrap(), PutToken::Stored);
    eventually("what follows is known, too", || async {
        let known = known.borrow().clone();
        if known.as_ref().is_some_and(|it| it.contains_key("bob")) { Ok(()) } else { Err(known) }
    })
    .await;
    eventually("the token is still revoked", shown(true)).await;
}

#[tokio::test]
async fn a_snapshot_that_no_supervisor_has_written_stands_for_nothing() {
    let broker = Broker::start().await;
    let (own, stranger) = (Key::new(), Key::new());
    let leader = login(&broker, Some(&own), &[]).await;
    leader.ensure_topology().await.unwrap();
    let forger = login(&broker, Some(&stranger), &[]).await;
    for (bus, seq) in [(&leader, 5), (&forger, 9)] {
        let mut writer = bus.snapshots().create(seq);
        writer.write(b"state").await.unwrap();
        writer.finish().await.unwrap();
    }
    assert_eq!(leader.snapshots().newest_first().await.unwrap(), [5]);
    assert!(leader.snapshots().read(5).await.is_ok());
    let forged = leader.snapshots().read(9).await.unwrap_err();
    assert!(matches!(forged, Error::NotBelieved { .. }), "{forged:?}");
}
