use bus::{
    BrokerOptions, Claimed,
    testing::{Broker, Network, Proxy},
};
use chrono::Utc;
use domain::{id::IncidentId, wire::Claim};
use futures_util::future::join_all;

use crate::eventually;

fn claim(by: &str) -> Claim {
    Claim {
        id: uuid::Uuid::new_v4().to_string(),
        by: by.to_owned(),
        at: Utc::now(),
        plan_hash: "hash".to_owned(),
    }
}

#[tokio::test]
async fn of_all_who_claim_an_attempt_exactly_one_wins_and_all_others_learn_who() {
    let broker = Broker::start().await;
    broker.bus().await.unwrap();
    let fixers = join_all((0..8).map(|_| broker.connect())).await;
    for attempt in 0..20 {
        let attempt = attempt.to_string();
        let claimed = fixers.iter().enumerate().map(|(n, bus)| {
            let (claims, attempt) = (bus.as_ref().unwrap().claims(), attempt.clone());
            async move {
                let ours = claim(&n.to_string());
                (ours.clone(), claims.claim(&IncidentId::NONE, &attempt, &ours).await.unwrap())
            }
        });
        let ends = join_all(claimed).await;
        let winners: Vec<_> = ends.iter().filter(|(_, end)| *end == Claimed::Won).collect();
        assert_eq!(winners.len(), 1, "{ends:?}");
        for (_, end) in &ends {
            assert!(matches!(end, Claimed::Won) || *end == Claimed::Lost(winners[0].0.clone()));
        }
    }
}

#[tokio::test]
async fn the_same_claim_again_is_won_again_and_another_is_not() {
    let broker = Broker::start().await;
    let claims = broker.bus().await.unwrap().claims();
    let (ours, theirs) = (claim("ours"), claim("theirs"));
    assert_eq!(claims.find(&IncidentId::NONE, "1").await.unwrap(), None);
    assert_eq!(claims.claim(&IncidentId::NONE, "1", &ours).await.unwrap(), Claimed::Won);
    assert_eq!(claims.claim(&IncidentId::NONE, "1", &ours).await.unwrap(), Claimed::Won);
    let lost = claims.claim(&IncidentId::NONE, "1", &theirs).await.unwrap();
    assert_eq!(lost, Claimed::Lost(ours.clone()));
    assert_eq!(claims.claim(&IncidentId::NONE, "1-undo", &theirs).await.unwrap(), Claimed::Won);
    assert_eq!(claims.find(&IncidentId::NONE, "1").await.unwrap(), Some(ours));
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_recognised_as_our_own() {
    let broker = Broker::start().await;
    let direct = broker.bus().await.unwrap();
    let proxy = Proxy::before(broker.port()).await;
    let options = BrokerOptions { url: proxy.url(), ..BrokerOptions::default() };
    let bus = bus::connect(&options).await.unwrap();
    proxy.set(Network::LoseAnswers);
    let (claims, ours) = (bus.claims(), claim("ours"));
    let claiming = tokio::spawn(async move { claims.claim(&IncidentId::NONE, "1", &ours).await });
    eventually("the claim is stored", || async {
        direct.claims().find(&IncidentId::NONE, "1").await.unwrap().ok_or("nothing")
    })
    .await;
    proxy.cut();
    assert_eq!(claiming.await.unwrap().unwrap(), Claimed::Won);
}

/// Goal: however many notices there are, an attempt can be claimed. Method: their room is made
/// small, and more of them are claimed than it holds.
#[tokio::test]
async fn no_number_of_notices_takes_the_room_of_attempts() {
    const ROOM: i64 = 16 * 1024;
    const NOTICES: u32 = 200;
    let broker = Broker::start().await;
    let claims = broker.bus().await.unwrap().claims();
    let js = async_nats::jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    let config = |stream: &async_nats::jetstream::stream::Info| stream.config.clone();
    let once = config(js.get_stream("SELFHEAL_ONCE").await.unwrap().cached_info());
    js.update_stream(async_nats::jetstream::stream::Config { max_bytes: ROOM, ..once })
        .await
        .unwrap();
    for n in 0..NOTICES {
        let claimed = claims.claim_once(&n.to_string(), &claim("gateway")).await.unwrap();
        assert_eq!(claimed, Claimed::Won, "{n}");
    }
    let last = (NOTICES - 1).to_string();
    assert!(matches!(claims.claim_once(&last, &claim("another")).await.unwrap(), Claimed::Lost(_)));
    let kept = js.get_stream("SELFHEAL_ONCE").await.unwrap().cached_info().state.messages;
    assert!(kept < u64::from(NOTICES), "{kept} are kept: their room was never full");
    let attempt = claims.claim(&IncidentId::NONE, "1", &claim("fixer")).await.unwrap();
    assert_eq!(attempt, Claimed::Won);
}
