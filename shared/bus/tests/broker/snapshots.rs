use bus::{
    Bus, Error, SnapshotReader,
    testing::{Broker, Network, Proxy},
};
use bytes::Bytes;

use crate::outside;

/// Several parts and a rest.
fn content(seed: u8) -> Vec<u8> {
    (0..700_001_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1] ^ seed).collect()
}

async fn write(bus: &Bus, seq: u64, content: &[u8]) {
    let mut writer = bus.snapshots().create(seq);
    for line in content.chunks(1001) {
        writer.write(line).await.unwrap();
    }
    let size = writer.finish().await.unwrap();
    assert_eq!(size, u64::try_from(content.len()).unwrap());
}

async fn rest(mut reader: SnapshotReader) -> Result<Vec<u8>, Error> {
    let mut whole = Vec::new();
    while let Some(part) = reader.next().await? {
        whole.extend_from_slice(&part);
    }
    Ok(whole)
}

#[tokio::test]
async fn a_snapshot_is_read_as_it_was_written_and_only_the_newest_are_kept() {
    let mut broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let snapshots = bus.snapshots();
    assert_eq!(snapshots.newest_first().await.unwrap(), [0_u64; 0]);
    for seq in [9, 10, 1_000_000_000_000] {
        write(&bus, seq, &content(u8::try_from(seq % 251).unwrap())).await;
    }
    assert_eq!(snapshots.newest_first().await.unwrap(), [1_000_000_000_000, 10, 9]);
    snapshots.keep_newest(2).await.unwrap();
    broker.restart().await;
    assert_eq!(snapshots.newest_first().await.unwrap(), [1_000_000_000_000, 10]);
    let whole = rest(snapshots.read(10).await.unwrap()).await.unwrap();
    assert!(whole == content(10), "{} bytes", whole.len());
    let none = snapshots.read(9).await.unwrap_err();
    assert!(matches!(none, Error::Unreadable { .. }), "{none:?}");
    // An empty one has no parts at all.
    write(&bus, 11, &[]).await;
    assert!(rest(snapshots.read(11).await.unwrap()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_snapshot_that_was_not_finished_is_not_seen() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let mut writer = bus.snapshots().create(5);
    writer.write(&content(1)).await.unwrap();
    drop(writer);
    assert_eq!(bus.snapshots().newest_first().await.unwrap(), [0_u64; 0]);
    // What is under way is not swept away with what is old.
    bus.snapshots().keep_newest(1).await.unwrap();
    let js = outside(&broker.url()).await;
    let name = "OBJ_selfheal_snapshots";
    assert_ne!(js.get_stream(name).await.unwrap().cached_info().state.messages, 0);
    // Parts of a writer that died long ago are.
    let old = js.publish("$O.selfheal_snapshots.C.1000-dead", Bytes::from("x")).await.unwrap();
    let before = old.await.unwrap().sequence;
    bus.snapshots().keep_newest(1).await.unwrap();
    assert!(js.get_stream(name).await.unwrap().get_raw_message(before).await.is_err());
}

#[tokio::test]
async fn a_second_snapshot_of_the_same_place_takes_the_place_of_the_first() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    write(&bus, 7, &content(1)).await;
    write(&bus, 7, &content(2)).await;
    assert_eq!(bus.snapshots().newest_first().await.unwrap(), [7]);
    let whole = rest(bus.snapshots().read(7).await.unwrap()).await.unwrap();
    assert!(whole == content(2));
    let js = outside(&broker.url()).await;
    let stream = js.get_stream("OBJ_selfheal_snapshots").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 7, "six parts and a record");
}

#[tokio::test]
async fn a_snapshot_whose_part_was_lost_or_changed_is_refused() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    write(&bus, 1, &content(1)).await;
    let js = outside(&broker.url()).await;
    let stream = js.get_stream("OBJ_selfheal_snapshots").await.unwrap();
    let third = stream.get_raw_message(3).await.unwrap();
    stream.delete_message(3).await.unwrap();
    let lost = rest(bus.snapshots().read(1).await.unwrap()).await.unwrap_err();
    assert!(matches!(lost, Error::Unreadable { .. }), "{lost:?}");
    // As many parts as there must be, but not in their order.
    js.publish(third.subject, third.payload).await.unwrap().await.unwrap();
    let changed = rest(bus.snapshots().read(1).await.unwrap()).await.unwrap_err();
    assert!(matches!(changed, Error::Unreadable { .. }), "{changed:?}");
}

#[tokio::test]
async fn a_snapshot_is_written_once_although_answers_are_lost() {
    let broker = Broker::start().await;
    broker.bus().await.unwrap();
    let proxy = Proxy::before(broker.port()).await;
    let options = bus::BrokerOptions { url: proxy.url(), ..bus::BrokerOptions::default() };
    let bus = bus::connect(&options).await.unwrap();
    let mut writer = bus.snapshots().create(3);
    let text = content(3);
    let (first, second) = text.split_at(300_000);
    writer.write(first).await.unwrap();
    proxy.set(Network::LoseAnswers);
    let mut more = Box::pin(writer.write(second));
    let waits = tokio::time::timeout(std::time::Duration::from_millis(300), &mut more).await;
    assert!(waits.is_err(), "nobody has acknowledged it");
    proxy.cut();
    more.await.unwrap();
    writer.finish().await.unwrap();
    let whole = rest(bus.snapshots().read(3).await.unwrap()).await.unwrap();
    assert!(whole == text);
}
