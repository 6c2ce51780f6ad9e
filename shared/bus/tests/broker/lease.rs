use std::time::{Duration, Instant};

use bus::{
    AppendError, BrokerOptions,
    testing::{Broker, Network, Proxy},
    topology::LEASE_SILENCE,
};
use tokio::time::timeout;

/// A silence of one second, and what a busy machine adds.
const WITHIN: Duration = Duration::from_millis(6500);

#[tokio::test]
async fn another_node_takes_over_when_a_leader_is_silent() {
    let broker = Broker::start().await;
    let (one, two) = (broker.bus().await.unwrap(), broker.bus().await.unwrap());
    let first = one.lead("node-1").await.unwrap();
    let epoch = first.epoch();
    let mut coming =
        tokio::spawn(async move { two.lead("node-2").await.map(|lease| (lease, two)) });
    // While the leader lives, nobody else leads.
    assert!(timeout(LEASE_SILENCE * 3, &mut coming).await.is_err());
    assert!(first.is_held());
    drop((first, one));
    let (second, _two) = timeout(WITHIN, coming).await.unwrap().unwrap().unwrap();
    assert!(epoch < second.epoch());
}

/// Goal: a broker that stood still for all is no reason to depose anybody, also when it hears
/// the one who waits before it hears the leader again. Method: the networks of both are silent,
/// and that of the one who waits comes back first.
#[tokio::test]
async fn a_broker_that_stands_still_deposes_nobody() {
    let broker = Broker::start().await;
    broker.bus().await.unwrap();
    let (near, far) = (Proxy::before(broker.port()).await, Proxy::before(broker.port()).await);
    let through = |proxy: &Proxy| BrokerOptions { url: proxy.url(), ..BrokerOptions::default() };
    let one = bus::connect(&through(&near)).await.unwrap();
    let two = bus::connect(&through(&far)).await.unwrap();
    let first = one.lead("node-1").await.unwrap();
    let mut coming = tokio::spawn(async move { two.lead("node-2").await.map(drop) });
    assert!(timeout(LEASE_SILENCE, &mut coming).await.is_err());
    for _ in 0..3 {
        near.set(Network::Silent);
        far.set(Network::Silent);
        assert!(timeout(LEASE_SILENCE * 3 / 2, &mut coming).await.is_err());
        far.set(Network::Open);
        assert!(timeout(LEASE_SILENCE / 4, &mut coming).await.is_err());
        near.set(Network::Open);
        assert!(timeout(LEASE_SILENCE / 2, &mut coming).await.is_err());
    }
    assert!(timeout(LEASE_SILENCE * 2, &mut coming).await.is_err());
    assert!(first.is_held());
}

/// Goal: the watch may break without a leader being taken for dead. Method: what the broker
/// says to the one who waits is lost for a while, and then its connection is cut.
#[tokio::test]
async fn a_standby_that_hears_nothing_deposes_nobody() {
    let broker = Broker::start().await;
    let one = broker.bus().await.unwrap();
    let proxy = Proxy::before(broker.port()).await;
    let options = BrokerOptions { url: proxy.url(), ..BrokerOptions::default() };
    let two = bus::connect(&options).await.unwrap();
    let first = one.lead("node-1").await.unwrap();
    let mut coming = tokio::spawn(async move { two.lead("node-2").await.map(drop) });
    assert!(timeout(LEASE_SILENCE, &mut coming).await.is_err());
    proxy.set(Network::LoseAnswers);
    assert!(timeout(LEASE_SILENCE * 2, &mut coming).await.is_err());
    proxy.cut();
    assert!(timeout(LEASE_SILENCE * 2, &mut coming).await.is_err());
    assert!(first.is_held());
}

#[tokio::test]
async fn the_same_node_takes_over_at_once_and_the_former_holder_hears_of_it() {
    let broker = Broker::start().await;
    let (one, two) = (broker.bus().await.unwrap(), broker.bus().await.unwrap());
    let first = one.lead("node-1").await.unwrap();
    let start = Instant::now();
    let second = two.lead("node-1").await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(first.epoch() < second.epoch());
    timeout(Duration::from_secs(5), first.lost()).await.unwrap();
    assert!(!first.is_held() && second.is_held());
}

#[tokio::test]
async fn a_lease_that_is_given_back_is_taken_at_once() {
    let broker = Broker::start().await;
    let (one, two) = (broker.bus().await.unwrap(), broker.bus().await.unwrap());
    let first = one.lead("node-1").await.unwrap();
    let mut coming =
        tokio::spawn(async move { two.lead("node-2").await.map(|lease| (lease, two)) });
    // So that it watches the key: before that, it would find it free by looking.
    assert!(timeout(Duration::from_millis(500), &mut coming).await.is_err());
    let start = Instant::now();
    first.release().await;
    let (second, _two) = coming.await.unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(second.is_held());
}

#[tokio::test]
async fn a_leader_that_does_not_know_that_another_leads_is_refused_by_the_ledger() {
    let broker = Broker::start().await;
    let (one, two) = (broker.bus().await.unwrap(), broker.bus().await.unwrap());
    let _first = one.lead("node-1").await.unwrap();
    let end = one.ledger().append(0, "by the first".into(), &[]).await.unwrap();
    let _second = two.lead("node-1").await.unwrap();
    two.ledger().append(end, "by the second".into(), &[]).await.unwrap();
    let refused = one.ledger().append(end, "by the first".into(), &[]).await.unwrap_err();
    assert!(matches!(refused, AppendError::Fenced { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_leader_keeps_the_lease_through_a_restart_of_the_broker() {
    let mut broker = Broker::start().await;
    let (one, two) = (broker.bus().await.unwrap(), broker.bus().await.unwrap());
    let first = one.lead("node-1").await.unwrap();
    let mut coming =
        tokio::spawn(async move { two.lead("node-2").await.map(|lease| (lease, two)) });
    broker.restart().await;
    // One of the two leads: the first, or, if it was quicker at the new broker, the second.
    match timeout(WITHIN, &mut coming).await {
        Ok(second) => {
            timeout(WITHIN, first.lost()).await.unwrap();
            assert!(second.unwrap().unwrap().0.is_held());
        }
        Err(_) => {
            assert!(first.is_held());
            drop((first, one));
            let (second, _two) = timeout(WITHIN, coming).await.unwrap().unwrap().unwrap();
            assert!(second.is_held());
        }
    }
}

/// Goal: supervisors can be upgraded one after the other. Method: a leader of an older version, which
/// has its lease in the bucket of the members, renews it for a while.
#[tokio::test]
async fn a_leader_of_an_older_version_leads_as_long_as_it_renews_its_lease() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let js = async_nats::jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    let renewal = tokio::spawn(async move {
        for n in 0_u64.. {
            let held = format!("{{\"node\":\"old\",\"id\":\"x\",\"epoch\":1,\"n\":{n}}}");
            js.publish("$KV.selfheal_members.leader", held.into()).await.unwrap().await.unwrap();
            tokio::time::sleep(LEASE_SILENCE / 4).await;
        }
    });
    tokio::time::sleep(LEASE_SILENCE / 4).await;
    let mut coming = tokio::spawn(async move { bus.lead("new").await.map(|it| (it, bus)) });
    assert!(timeout(LEASE_SILENCE * 3, &mut coming).await.is_err());
    renewal.abort();
    let (lease, _bus) = timeout(WITHIN, coming).await.unwrap().unwrap().unwrap();
    assert!(lease.is_held());
}

/// One message with that header would empty a bucket, whoever may write any key of it.
#[tokio::test]
async fn no_message_empties_a_bucket() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let lease = bus.lead("node").await.unwrap();
    let names = bus.subjects();
    let js = async_nats::jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    for key in [names.member_key("m"), names.leader_key(), names.config_key(), names.token_key("t")]
    {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Rollup", "all");
        let put = js.publish_with_headers(key.clone(), headers, "{}".into()).await.unwrap();
        assert!(put.await.is_err(), "{key}");
    }
    assert!(lease.is_held());
}
