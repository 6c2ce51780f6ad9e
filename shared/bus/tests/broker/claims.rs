use std::time::Duration;

use bus::{
    BrokerOptions, Bus, ClaimRecord, Claimed, Held, Holding, Lost,
    testing::{Broker, Network, Proxy},
};
use chrono::{TimeDelta, Utc};
use domain::{
    id::{IncidentId, Position},
    wire::{Claim, ClaimState},
};
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::eventually;

fn claim(by: &str) -> Claim {
    let id = uuid::Uuid::new_v4().to_string();
    Claim::new(id, by.to_owned(), Utc::now(), "hash".to_owned())
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

/// Longest time of the step that is asked for.
const STEP: Duration = Duration::from_secs(1);

async fn holding(bus: &Bus) -> Holding {
    match bus.claims().hold(&IncidentId::NONE, "1", claim("ours"), STEP).await.unwrap() {
        Held::Ours(holding) => holding,
        Held::Other(record) => panic!("it is another's: {record:?}"),
    }
}

async fn seen_by_another(bus: &Bus) -> ClaimRecord {
    match bus.claims().hold(&IncidentId::NONE, "1", claim("theirs"), STEP).await.unwrap() {
        Held::Ours(_) => panic!("it was claimed before"),
        Held::Other(record) => record,
    }
}

fn soon(wait: Duration) -> Instant {
    Instant::now() + wait
}

#[tokio::test]
async fn a_claim_that_is_held_is_renewed_and_stays_one_record() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let holding = holding(&bus).await;
    let first = seen_by_another(&bus).await;
    holding.assure(STEP * 60, soon(STEP)).await.unwrap();
    let announced = seen_by_another(&bus).await;
    assert!(first.seq < announced.seq);
    assert!(60_000 < announced.claim.lease_ms.unwrap(), "what it is about to do is told");
    eventually("it is renewed by itself", || async {
        let now = seen_by_another(&bus).await;
        if announced.claim.renewal + 1 < now.claim.renewal { Ok(()) } else { Err(now) }
    })
    .await;
    let js = async_nats::jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    let stream = js.get_stream("SELFHEAL_CLAIMS").await.unwrap();
    assert_eq!(stream.cached_info().state.messages, 1);
}

#[tokio::test]
async fn a_claim_that_was_taken_over_is_lost_for_good() {
    let broker = Broker::start().await;
    let (ours, theirs) = (broker.bus().await.unwrap(), broker.connect().await.unwrap());
    let holding = holding(&ours).await;
    holding.assure(STEP, soon(STEP)).await.unwrap();
    // Renewed since it was seen: whoever saw the former record cannot take over.
    let former = seen_by_another(&theirs).await;
    holding.assure(STEP * 60, soon(STEP)).await.unwrap();
    let fence = Claim { state: ClaimState::Expired, ..claim("theirs") };
    let claims = theirs.claims();
    assert!(!claims.take_over(&IncidentId::NONE, "1", &former, &fence).await.unwrap());
    holding.assure(STEP, soon(STEP)).await.unwrap();
    eventually("the last record is replaced", || async {
        let seen = seen_by_another(&theirs).await;
        let taken = claims.take_over(&IncidentId::NONE, "1", &seen, &fence).await.unwrap();
        if taken { Ok(()) } else { Err(seen) }
    })
    .await;
    for _ in 0..2 {
        // For longer than was announced just before, so that it asks.
        let lost = holding.assure(STEP * 120, soon(STEP * 10)).await.unwrap_err();
        assert!(
            matches!(&lost, Lost::Taken(by) if by.contains("taken") || by.contains("theirs")),
            "{lost}"
        );
    }
    holding.lost().await;
    assert_eq!(seen_by_another(&ours).await.claim.state, ClaimState::Expired);
}

#[tokio::test]
async fn a_holder_that_the_broker_does_not_hear_may_not_act_and_may_again_later() {
    let broker = Broker::start().await;
    broker.bus().await.unwrap();
    let proxy = Proxy::before(broker.port()).await;
    let options = BrokerOptions { url: proxy.url(), ..BrokerOptions::default() };
    let bus = bus::connect(&options).await.unwrap();
    let holding = holding(&bus).await;
    for (n, network) in [(1, Network::Cut), (2, Network::Silent), (3, Network::LoseAnswers)] {
        // For longer than was announced before, so that it asks.
        let step = STEP * 60 * n;
        proxy.set(network);
        let lost = holding.assure(step, soon(STEP)).await.unwrap_err();
        assert!(matches!(lost, Lost::Unrenewed(_)), "{network:?}: {lost}");
        proxy.cut();
        // Nobody has taken over meanwhile.
        holding.assure(step, soon(STEP * 30)).await.unwrap();
    }
}

/// Goal: claims take no room for long once their incident is over. Method: two attempts of one
/// incident, one of which is still held, and one of another incident.
#[tokio::test]
async fn claims_of_an_incident_that_is_over_leave_and_cannot_be_renewed() {
    let broker = Broker::start().await;
    let (ours, leader) = (broker.bus().await.unwrap(), broker.connect().await.unwrap());
    let over = IncidentId::NONE;
    let other = IncidentId::derive(Utc::now(), Position::new(1, 0), "other");
    let holding = holding(&ours).await;
    let won = ours.claims().claim(&over, "2-undo", &claim("fixer")).await.unwrap();
    assert_eq!(won, Claimed::Won);
    assert_eq!(ours.claims().claim(&other, "1", &claim("fixer")).await.unwrap(), Claimed::Won);
    assert_eq!(leader.claims().end(&over, &claim("leader")).await.unwrap(), 2);
    let lost = holding.assure(STEP * 120, soon(STEP * 10)).await.unwrap_err();
    assert!(matches!(lost, Lost::Taken(_)), "{lost}");
    // An order that comes again meanwhile is not begun.
    assert_eq!(seen_by_another(&ours).await.claim.state, ClaimState::Expired);
    let js = async_nats::jetstream::new(async_nats::connect(broker.url()).await.unwrap());
    let stream = js.get_stream("SELFHEAL_CLAIMS").await.unwrap();
    for (incident, attempt, leaves) in
        [(over, "1", true), (over, "2-undo", true), (other, "1", false)]
    {
        let subject = ours.subjects().claim(&incident, attempt);
        let record = stream.get_last_raw_message_by_subject(&subject).await.unwrap();
        assert_eq!(record.headers.get("Nats-TTL").is_some(), leaves, "{subject}");
    }
    assert_eq!(leader.claims().end(&other, &claim("leader")).await.unwrap(), 1);
    let unknown = IncidentId::derive(Utc::now(), Position::new(2, 0), "never fixed");
    assert_eq!(leader.claims().end(&unknown, &claim("leader")).await.unwrap(), 0);
}

#[tokio::test]
async fn of_a_claim_and_a_recall_exactly_one_is_first() {
    let broker = Broker::start().await;
    let (fixer, leader) = (broker.bus().await.unwrap(), broker.connect().await.unwrap());
    let (mut n_recalled, mut n_held) = (0, 0);
    for attempt in 0..20 {
        let attempt = attempt.to_string();
        let (claims, leads) = (fixer.claims(), leader.claims());
        let hold = claims.hold(&IncidentId::NONE, &attempt, claim("fixer"), STEP);
        let recall = leads.recall(&IncidentId::NONE, &attempt, claim("leader"));
        let (held, recalled) = tokio::join!(hold, recall);
        match (held.unwrap(), recalled.unwrap()) {
            (Held::Ours(_), Some(first)) => {
                assert_eq!(first.claim.by, "fixer");
                n_held += 1;
            }
            (Held::Other(record), None) => {
                assert_eq!(record.claim.state, ClaimState::Recalled);
                // Asked again, as by the next leader.
                let again = leads.recall(&IncidentId::NONE, &attempt, claim("next")).await;
                assert_eq!(again.unwrap(), None);
                n_recalled += 1;
            }
            both => panic!("both or neither: {both:?}"),
        }
    }
    assert_eq!(n_recalled + n_held, 20);
}

#[tokio::test]
async fn the_broker_tells_its_time() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let before = Utc::now();
    let clock = bus.clock().await.unwrap();
    let (earliest, latest) = (clock.earliest(), clock.latest());
    let after = Utc::now();
    // The same host, and so the same clock.
    let slack = TimeDelta::milliseconds(50);
    assert!(before - slack <= latest && earliest <= after + slack, "{before} {earliest} {latest}");
    assert!(earliest <= latest);
}
