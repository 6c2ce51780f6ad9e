use bus::{
    AppendError, BrokerOptions, LedgerItem,
    testing::{Broker, Network, Proxy},
};

use crate::eventually;

#[tokio::test]
async fn of_two_writers_that_start_from_the_same_end_exactly_one_wins() {
    let broker = Broker::start().await;
    let (one, two) = (broker.bus().await.unwrap(), broker.bus().await.unwrap());
    for round in 0..100 {
        let (one, two) = (one.ledger(), two.ledger());
        let (first, second) = tokio::join!(
            one.append(round, format!("one {round}").into(), &[]),
            two.append(round, format!("two {round}").into(), &[]),
        );
        let n_won = [&first, &second].iter().filter(|end| end.is_ok()).count();
        assert_eq!(n_won, 1, "round {round}: {first:?} {second:?}");
        let lost = first.err().or_else(|| second.err()).unwrap();
        assert!(matches!(lost, AppendError::Fenced { expected } if expected == round), "{lost:?}");
    }
    assert_eq!(one.ledger().last_seq().await.unwrap(), 100);
}

/// Goal: a lost answer is no reason to step down, and nothing is appended twice. Method: the
/// broker stores the append, its answer is lost, the connection breaks.
#[tokio::test]
async fn an_append_whose_answer_was_lost_is_recognised_as_our_own() {
    let broker = Broker::start().await;
    let direct = broker.bus().await.unwrap();
    let proxy = Proxy::before(broker.port()).await;
    let options = BrokerOptions { url: proxy.url(), ..BrokerOptions::default() };
    let bus = bus::connect(&options).await.unwrap();
    proxy.set(Network::LoseAnswers);
    let ledger = bus.ledger();
    let append = tokio::spawn(async move { ledger.append(0, "ours".into(), &[]).await });
    eventually("the append is stored", || async {
        match direct.ledger().last_seq().await.unwrap() {
            1 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    proxy.cut();
    assert_eq!(append.await.unwrap().unwrap(), 1);
    assert_eq!(direct.ledger().last_seq().await.unwrap(), 1);
}

#[tokio::test]
async fn an_append_that_never_arrived_is_fenced_when_another_took_its_place() {
    let broker = Broker::start().await;
    let direct = broker.bus().await.unwrap();
    let proxy = Proxy::before(broker.port()).await;
    let options = BrokerOptions { url: proxy.url(), ..BrokerOptions::default() };
    let bus = bus::connect(&options).await.unwrap();
    proxy.set(Network::Silent);
    let ledger = bus.ledger();
    let append = tokio::spawn(async move { ledger.append(0, "late".into(), &[]).await });
    direct.ledger().append(0, "first".into(), &[]).await.unwrap();
    proxy.cut();
    let lost = append.await.unwrap().unwrap_err();
    assert!(matches!(lost, AppendError::Fenced { expected: 0 }), "{lost:?}");
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_refused() {
    let broker = Broker::start().await;
    let ledger = broker.bus().await.unwrap().ledger();
    let most = bus::topology::LEDGER_BYTES_MAX;
    let refused = ledger.append(0, vec![b'x'; most + 1].into(), &[]).await.unwrap_err();
    assert!(matches!(refused, AppendError::TooLarge { .. }), "{refused:?}");
    assert_eq!(ledger.append(0, vec![b'x'; most].into(), &[("Epoch", "1")]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_reader_hears_all_that_is_stored_then_that_it_has_caught_up_then_what_comes() {
    let broker = Broker::start().await;
    let ledger = broker.bus().await.unwrap().ledger();
    for n in 0..10 {
        ledger.append(n, n.to_string().into(), &[]).await.unwrap();
    }
    let mut reader = ledger.read(3);
    for seq in 4..=10 {
        let LedgerItem::Message(message) = reader.next().await.unwrap() else {
            panic!("caught up before {seq}")
        };
        assert_eq!((message.seq, message.payload), (seq, (seq - 1).to_string().into()));
    }
    assert_eq!(reader.next().await.unwrap(), LedgerItem::CaughtUp);
    ledger.append(10, "new".into(), &[]).await.unwrap();
    assert!(matches!(reader.next().await.unwrap(), LedgerItem::Message(m) if m.seq == 11));
    let mut at_end = ledger.read(11);
    assert_eq!(at_end.next().await.unwrap(), LedgerItem::CaughtUp);
}
