use std::time::{Duration, Instant};

use bus::testing::Broker;
use domain::wire::WorkKind;
use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

use crate::eventually;

const SOON: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(500);

fn zones() -> Vec<String> {
    vec!["default".to_owned()]
}

#[tokio::test]
async fn a_wish_published_twice_is_heard_once() {
    let broker = Broker::start().await;
    let work = broker.bus().await.unwrap().work();
    for _ in 0..2 {
        work.publish(WorkKind::Fix, "default", "wish", "do".into()).await.unwrap();
    }
    let mut consumer = work.consume(WorkKind::Fix, &zones(), 4);
    let job = timeout(SOON, consumer.next()).await.unwrap();
    assert_eq!((&job.payload[..], job.deliveries), (&b"do"[..], 1));
    job.ack().await;
    assert!(timeout(MOMENT, consumer.next()).await.is_err());
}

/// Goal: the leader learns what a queue still holds, and publishes only what it does not.
#[tokio::test]
async fn a_queue_says_whether_it_still_holds_a_wish() {
    let mut broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let work = bus.work();
    let fix = WorkKind::Fix;
    let place = work.publish(fix, "default", "wish", "do".into()).await.unwrap();
    assert!(work.holds(fix, place, "wish").await);
    assert!(!work.holds(fix, place, "other").await, "the place alone says nothing");
    assert!(!work.holds(fix, place + 1, "wish").await);
    assert!(!work.holds(WorkKind::Notify, place, "wish").await);
    let mut worker = work.consume(fix, &zones(), 1);
    let job = timeout(SOON, worker.next()).await.unwrap();
    assert!(work.holds(fix, place, "wish").await, "a worker has it");
    job.ack().await;
    eventually("it is gone with its acknowledgement", || async {
        if work.holds(fix, place, "wish").await { Err("held") } else { Ok(()) }
    })
    .await;
    // Within the time in which ids are remembered it is not stored again, and is not held.
    work.publish(fix, "default", "wish", "do".into()).await.unwrap();
    assert!(!work.holds(fix, place, "wish").await);
    // A broker that has forgotten all counts from 1 again.
    work.publish(fix, "default", "next", "do".into()).await.unwrap();
    let mut made = bus.work_made();
    made.mark_unchanged();
    broker.restart().await;
    timeout(SOON, made.changed()).await.unwrap().unwrap();
    let again = work.publish(fix, "default", "another", "do".into()).await.unwrap();
    assert_eq!(again, place);
    assert!(!work.holds(fix, place, "wish").await);
    assert!(work.holds(fix, place, "another").await);
}

#[tokio::test]
async fn a_worker_hears_which_span_its_work_belongs_below() {
    let broker = Broker::start().await;
    let work = broker.bus().await.unwrap().work();
    let span = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok();
    for (wish, span) in [("a", span), ("b", None)] {
        let kind = WorkKind::Fix;
        work.publish_traced(kind, "default", wish, wish.into(), span).await.unwrap();
    }
    let mut consumer = work.consume(WorkKind::Fix, &zones(), 4);
    for wanted in [span, None] {
        let job = timeout(SOON, consumer.next()).await.unwrap();
        assert_eq!(job.trace, wanted);
        job.ack().await;
    }
}

#[tokio::test]
async fn work_of_a_worker_that_vanished_goes_to_another() {
    let broker = Broker::start().await;
    let (leader, one, two) = (
        broker.bus().await.unwrap(),
        broker.connect().await.unwrap(),
        broker.connect().await.unwrap(),
    );
    leader.work().publish(WorkKind::Diagnose, "default", "wish", "do".into()).await.unwrap();
    let mut dying = one.work().consume(WorkKind::Diagnose, &zones(), 1);
    let job = timeout(SOON, dying.next()).await.unwrap();
    let taken = Instant::now();
    drop((job, dying, one));
    let mut other = two.work().consume(WorkKind::Diagnose, &zones(), 1);
    let again = timeout(SOON, other.next()).await.unwrap();
    assert_eq!((&again.payload[..], again.deliveries), (&b"do"[..], 2));
    assert!(Duration::from_secs(4) < taken.elapsed(), "{:?}", taken.elapsed());
    again.ack().await;
}

#[tokio::test]
async fn long_work_with_signs_of_life_is_not_given_to_another() {
    let broker = Broker::start().await;
    let (leader, other) = (broker.bus().await.unwrap(), broker.connect().await.unwrap());
    leader.work().publish(WorkKind::Fix, "default", "wish", "long".into()).await.unwrap();
    let mut worker = leader.work().consume(WorkKind::Fix, &zones(), 1);
    let job = timeout(SOON, worker.next()).await.unwrap();
    let alive = job.keep_alive();
    let mut idle = other.work().consume(WorkKind::Fix, &zones(), 1);
    // Longer than the broker waits for a worker without a sign of life.
    assert!(timeout(Duration::from_secs(7), idle.next()).await.is_err());
    drop(alive);
    job.ack().await;
    assert!(timeout(MOMENT, idle.next()).await.is_err());
}

#[tokio::test]
async fn no_more_is_taken_than_there_are_slots_and_the_rest_is_for_others() {
    let broker = Broker::start().await;
    let (leader, other) = (broker.bus().await.unwrap(), broker.connect().await.unwrap());
    let mut worker = leader.work().consume(WorkKind::Verify, &zones(), 2);
    for n in 0..4 {
        let wish = n.to_string();
        leader
            .work()
            .publish(WorkKind::Verify, "default", &wish, wish.clone().into())
            .await
            .unwrap();
    }
    let first = timeout(SOON, worker.next()).await.unwrap();
    let _second = timeout(SOON, worker.next()).await.unwrap();
    assert!(timeout(MOMENT, worker.next()).await.is_err());
    let mut helper = other.work().consume(WorkKind::Verify, &zones(), 2);
    let third = timeout(SOON, helper.next()).await.unwrap();
    let fourth = timeout(SOON, helper.next()).await.unwrap();
    assert_eq!((&third.payload[..], &fourth.payload[..]), (&b"2"[..], &b"3"[..]));
    // All slots are taken but the one that is given back.
    first.ack().await;
    leader.work().publish(WorkKind::Verify, "default", "4", "4".into()).await.unwrap();
    let next = timeout(SOON, worker.next()).await.unwrap();
    assert_eq!(&next.payload[..], b"4");
}

#[tokio::test]
async fn each_zone_has_its_own_work() {
    let broker = Broker::start().await;
    let work = broker.bus().await.unwrap().work();
    let both = ["north".to_owned(), "rack.7".to_owned()];
    let mut worker = work.consume(WorkKind::Fix, &both, 1);
    let mut south = work.consume(WorkKind::Fix, &["south".to_owned()], 1);
    for zone in &both {
        work.publish(WorkKind::Fix, zone, zone, zone.clone().into()).await.unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..2 {
        let job = timeout(SOON, worker.next()).await.unwrap();
        seen.push(String::from_utf8(job.payload.to_vec()).unwrap());
        job.ack().await;
    }
    seen.sort();
    assert_eq!(seen, both);
    assert!(timeout(MOMENT, south.next()).await.is_err());
}

#[tokio::test]
async fn work_given_back_comes_again_after_its_delay() {
    let broker = Broker::start().await;
    let work = broker.bus().await.unwrap().work();
    work.publish(WorkKind::Notify, "default", "wish", "do".into()).await.unwrap();
    let mut worker = work.consume(WorkKind::Notify, &zones(), 1);
    let job = timeout(SOON, worker.next()).await.unwrap();
    let given_back = Instant::now();
    job.nak(Duration::from_secs(1)).await;
    let again = timeout(SOON, worker.next()).await.unwrap();
    assert_eq!(again.deliveries, 2);
    assert!(Duration::from_millis(900) < given_back.elapsed());
}

/// Goal: people who are to be told do not keep a fix waiting. Method: far more notices are wanted
/// than anybody sends.
#[tokio::test]
async fn no_number_of_notices_takes_the_room_of_fixes() {
    let broker = Broker::start().await;
    let work = broker.bus().await.unwrap().work();
    let most = bus::topology::StreamId::Work(WorkKind::Notify).spec().of_subject_max.unwrap();
    let notices = stream::iter(0..most + 100).map(|n| {
        let work = work.clone();
        async move {
            let wish = n.to_string();
            work.publish(WorkKind::Notify, "default", &wish, wish.clone().into()).await
        }
    });
    let taken: Vec<_> = notices.buffer_unordered(256).collect().await;
    let n_refused = taken.iter().filter(|it| it.is_err()).count();
    assert_eq!(n_refused, 100, "{:?}", taken.iter().find(|it| it.is_err()));
    work.publish(WorkKind::Fix, "default", "fix", "fix".into()).await.unwrap();
    let mut fixer = work.consume(WorkKind::Fix, &zones(), 1);
    assert_eq!(&timeout(SOON, fixer.next()).await.unwrap().payload[..], b"fix");
    // And the first who is told makes room for another.
    let mut gateway = work.consume(WorkKind::Notify, &zones(), 1);
    timeout(SOON, gateway.next()).await.unwrap().ack().await;
    eventually("there is room again", || async {
        work.publish(WorkKind::Notify, "default", "late", "late".into()).await
    })
    .await;
}
