use std::time::Duration;

use async_nats::jetstream::stream::Config;
use bus::{
    BrokerOptions, InboxReader, NotAccepted,
    testing::{Broker, Network, Proxy},
    topology::StreamId,
};
use domain::wire::InputKind;
use futures_util::future::join_all;

use crate::{ids, input, outside};

const WAIT: Duration = Duration::from_secs(10);

/// Reads until `n` inputs have come.
async fn read(reader: &mut InboxReader, n: usize) -> Vec<(u64, u32, String)> {
    let mut found = Vec::new();
    while found.len() < n {
        let batch = reader.next_batch(100, WAIT).await.unwrap();
        assert!(!batch.is_empty(), "only {} of {n} inputs came", found.len());
        for message in &batch {
            found.extend((0_u32..).zip(ids(message)).map(|(idx, id)| (message.seq, idx, id)));
        }
    }
    found
}

#[tokio::test]
async fn inputs_keep_their_order_and_share_frames() {
    const N: usize = 5000;
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let writer = bus.inbox_writer();
    let submitted = (0..N).map(|n| writer.submit(InputKind::Timer, input(&n.to_string())));
    let accepted = join_all(submitted).await;
    let mut reader = bus.read_inbox(0).await.unwrap();
    let found = read(&mut reader, N).await;
    for (n, (accepted, (seq, idx, id))) in accepted.iter().zip(&found).enumerate() {
        let position = accepted.as_ref().unwrap().position;
        assert_eq!((position.seq, position.idx, n.to_string()), (*seq, *idx, id.clone()));
    }
    assert_eq!(found.len(), N);
    // One append for each would have made 5000 messages, and taken 5000 syncs.
    assert!(found.last().unwrap().0 < 100, "{:?}", found.last());
}

#[tokio::test]
async fn a_frame_is_cut_at_its_limit() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let writer = bus.inbox_writer();
    let long = "x".repeat(60 * 1024);
    let submitted = (0..40).map(|n| writer.submit(InputKind::Timer, input(&format!("{n}-{long}"))));
    let n_accepted = join_all(submitted).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(n_accepted, 40);
    let mut reader = bus.read_inbox(0).await.unwrap();
    let mut n_read = 0;
    while n_read < 40 {
        for message in reader.next_batch(100, WAIT).await.unwrap() {
            assert!(message.payload.len() <= bus::topology::FRAME_BYTES_MAX);
            let n = ids(&message).len();
            assert!(n <= 4, "{n} inputs of 60 KiB in one frame");
            n_read += n;
        }
    }
}

#[tokio::test]
async fn an_input_that_is_too_large_is_refused_before_it_is_sent() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let huge = input(&"x".repeat(bus::topology::FRAME_BYTES_MAX));
    let refused = bus.inbox_writer().submit(InputKind::Timer, huge).await;
    assert!(matches!(refused, Err(NotAccepted::TooLarge { .. })), "{refused:?}");
}

/// Goal: nothing is called accepted on the word of our own side. Method: hold what we send,
/// look that nobody has been told anything, let it go.
#[tokio::test]
async fn accepted_means_that_the_broker_has_acknowledged() {
    let broker = Broker::start().await;
    broker.bus().await.unwrap();
    let proxy = Proxy::before(broker.port()).await;
    let options = BrokerOptions { url: proxy.url(), ..BrokerOptions::default() };
    let bus = bus::connect(&options).await.unwrap();
    proxy.set(Network::Silent);
    let writer = bus.inbox_writer();
    let mut submit = std::pin::pin!(writer.submit(InputKind::Timer, input("held")));
    assert!(tokio::time::timeout(Duration::from_millis(500), &mut submit).await.is_err());
    proxy.set(Network::Open);
    assert_eq!(submit.await.unwrap().position.seq, 1);
}

#[tokio::test]
async fn an_input_whose_acknowledgement_was_lost_is_stored_once() {
    let broker = Broker::start().await;
    let direct = broker.bus().await.unwrap();
    let proxy = Proxy::before(broker.port()).await;
    let options = BrokerOptions { url: proxy.url(), ..BrokerOptions::default() };
    let bus = bus::connect(&options).await.unwrap();
    let writer = bus.inbox_writer();
    proxy.set(Network::LoseAnswers);
    let submit = tokio::spawn(async move { writer.submit(InputKind::Timer, input("once")).await });
    let mut reader = direct.read_inbox(0).await.unwrap();
    read(&mut reader, 1).await;
    proxy.cut();
    assert_eq!(submit.await.unwrap().unwrap().position.seq, 1);
    assert!(reader.next_batch(10, Duration::from_millis(500)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_full_inbox_refuses_and_takes_again_when_there_is_room() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let js = outside(&broker.url()).await;
    let name = bus.subjects().stream(StreamId::Inbox);
    let stands = js.get_stream(&name).await.unwrap().cached_info().config.clone();
    js.update_stream(Config { max_bytes: 100_000, ..stands }).await.unwrap();
    let writer = bus.inbox_writer();
    let long = "x".repeat(30_000);
    let mut last = 0;
    let refused = loop {
        match writer.submit(InputKind::Timer, input(&long)).await {
            Ok(accepted) => last = accepted.position.seq,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, NotAccepted::Full(_)), "{refused:?}");
    assert_eq!(last, 3);
    bus.forget_inbox(2).await.unwrap();
    assert_eq!(writer.submit(InputKind::Timer, input(&long)).await.unwrap().position.seq, 4);
}

#[tokio::test]
async fn without_a_broker_the_sender_hears_in_time() {
    let mut broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let writer = bus.inbox_writer().with_give_up(Duration::from_millis(300));
    writer.submit(InputKind::Timer, input("first")).await.unwrap();
    broker.kill();
    let submitted = writer.submit(InputKind::Timer, input("second"));
    let refused = tokio::time::timeout(Duration::from_secs(3), submitted).await.unwrap();
    assert!(matches!(refused, Err(NotAccepted::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn a_plain_message_of_another_client_is_read_whole() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let js = outside(&broker.url()).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("ce-id", "7");
    let subject = bus.subjects().event("disk.full");
    js.publish_with_headers(subject.clone(), headers, "{}".into()).await.unwrap().await.unwrap();
    let mut reader = bus.read_inbox(0).await.unwrap();
    let batch = reader.next_batch(10, WAIT).await.unwrap();
    assert_eq!(batch.len(), 1);
    assert_eq!((batch[0].subject.as_str(), &batch[0].payload[..]), (subject.as_str(), &b"{}"[..]));
    assert_eq!(batch[0].headers, [("ce-id".to_owned(), "7".to_owned())]);
    assert!((chrono::Utc::now() - batch[0].at).abs() < chrono::Duration::minutes(1));
}
