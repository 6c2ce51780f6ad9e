use std::time::{Duration, Instant};

use bus::{Bus, testing::Broker};
use chrono::Utc;
use domain::wire::Member;
use tokio::time::timeout;

use crate::connected;

fn member(id: &str) -> Member {
    Member {
        id: id.to_owned(),
        kind: "monitor".to_owned(),
        zones: vec!["default".to_owned()],
        version: "0.1.0".to_owned(),
        host: "here".to_owned(),
        pid: 1,
        started_at: Utc::now(),
        pulse: None,
    }
}

/// Waits until exactly these live.
async fn living(bus: &Bus, ids: &[&str]) {
    let mut watch = bus.members().watch();
    let seen = timeout(
        Duration::from_secs(10),
        watch.wait_for(|living| living.keys().map(String::as_str).eq(ids.iter().copied())),
    )
    .await;
    assert!(seen.is_ok(), "never: {ids:?}");
}

#[tokio::test]
async fn a_member_that_is_killed_is_gone_within_seconds_and_one_that_leaves_at_once() {
    let broker = Broker::start().await;
    let (watcher, one, two) = (
        broker.bus().await.unwrap(),
        broker.connect().await.unwrap(),
        broker.connect().await.unwrap(),
    );
    one.members().join(member("one")).await.unwrap();
    two.members().join(member("two")).await.unwrap();
    living(&watcher, &["one", "two"]).await;
    let left = Instant::now();
    two.members().leave().await.unwrap();
    living(&watcher, &["one"]).await;
    assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
    let killed = Instant::now();
    drop(one);
    living(&watcher, &[]).await;
    assert!(killed.elapsed() < Duration::from_millis(5000), "{:?}", killed.elapsed());
}

#[tokio::test]
async fn members_live_on_through_a_restart_of_the_broker() {
    let mut broker = Broker::start().await;
    let (watcher, one) = (broker.bus().await.unwrap(), broker.connect().await.unwrap());
    one.members().join(member("one")).await.unwrap();
    living(&watcher, &["one"]).await;
    let mut watch = watcher.members().watch();
    watch.mark_unchanged();
    broker.kill();
    // Longer than a life: a broker that is away has killed nobody.
    assert!(timeout(Duration::from_secs(4), watch.changed()).await.is_err(), "{watch:?}");
    broker.restart().await;
    connected(&watcher).await;
    assert!(timeout(Duration::from_secs(4), watch.changed()).await.is_err(), "{watch:?}");
    drop(one);
    living(&watcher, &[]).await;
}

#[tokio::test]
async fn the_configuration_is_followed_by_revision_also_through_a_restart() {
    let mut broker = Broker::start().await;
    let (supervisor, hand) = (broker.bus().await.unwrap(), broker.connect().await.unwrap());
    let mut watch = hand.config_store().watch();
    assert_eq!(*watch.borrow(), None);
    let first = supervisor.config_store().put("first".into(), 1).await.unwrap().unwrap();
    let found = watch.wait_for(Option::is_some).await.unwrap().clone();
    assert_eq!(found, Some((first, "first".into())));
    broker.restart().await;
    connected(&supervisor).await;
    let second = supervisor.config_store().put("second".into(), 1).await.unwrap().unwrap();
    assert!(first < second);
    let wanted = Some((second, "second".into()));
    timeout(Duration::from_secs(10), watch.wait_for(|now| *now == wanted)).await.unwrap().unwrap();
}
