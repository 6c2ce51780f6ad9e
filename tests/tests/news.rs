//! What is told live in a storm: all of it to those who watch all, and what is about a known
//! incident to those who watch that one alone.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::{collections::BTreeSet, time::Duration};

use bus::{Bus, Subscription, testing::Broker};
use domain::{
    event::{Event, EventType},
    view::LogLine,
    wire::{Answer, Input},
};
use futures_util::future::join_all;
use tests::{
    stack::directory,
    supervisor::{Supervisor, leader, log, publish},
};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Events at once: many frames, and far more lines in a batch than are told without asking
/// whether anybody listens.
const N_EVENTS: u32 = 600;

/// Publishes many events at once. Every third belongs to the incident that is open already.
async fn storm(bus: &Bus) {
    let one = async |n: u32| {
        let kind = if n.is_multiple_of(3) { "trouble_first".to_owned() } else { format!("t_{n}") };
        let event = Event::new(format!("storm-{n}"), kind.parse::<EventType>().unwrap(), "test");
        let (writer, id) = (bus.inbox_writer(), event.id.clone());
        bus.ask::<Answer>(&writer, Input::Event(event), id, PATIENCE).await.unwrap();
    };
    join_all((0..N_EVENTS).map(one)).await;
}

/// Reads lines until one satisfies `is_last`.
async fn read(live: &mut Subscription, mut is_last: impl FnMut(&LogLine) -> bool) {
    let reading = async {
        loop {
            let message = live.next().await.unwrap();
            if is_last(&serde_json::from_slice(&message.payload).unwrap()) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
}

#[tokio::test]
async fn every_line_of_a_storm_is_told_to_those_who_watch() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let dir = directory("news");
    let _supervisor = Supervisor::start(&broker, &dir);
    leader(&bus).await;
    let mut all = bus.subscribe(bus.subjects().live_all(), None).await.unwrap();
    publish(&bus, "first").await;
    storm(&bus).await;
    let wanted: BTreeSet<u64> = log(&dir).iter().map(|it| it.seq).collect();
    let mut told = BTreeSet::new();
    read(&mut all, |line| {
        told.insert(line.seq);
        told.is_superset(&wanted)
    })
    .await;
}

#[tokio::test]
async fn who_watches_one_incident_hears_of_it_in_a_storm() {
    let broker = Broker::start().await;
    let bus = broker.bus().await.unwrap();
    let dir = directory("news");
    let _supervisor = Supervisor::start(&broker, &dir);
    leader(&bus).await;
    let first = publish(&bus, "first").await.incident_id.unwrap();
    let mut alone = bus.subscribe(bus.subjects().live(&first), None).await.unwrap();
    storm(&bus).await;
    let about = log(&dir).into_iter().filter(|it| it.incident_id == first);
    let repeats: BTreeSet<u64> =
        about.filter(|it| it.decision == "repeated").map(|it| it.seq).collect();
    assert!(!repeats.is_empty());
    let mut told = BTreeSet::new();
    read(&mut alone, |line| {
        told.insert(line.seq);
        told.is_superset(&repeats)
    })
    .await;
}
