//! The bus against a real broker, which is killed at will.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must fail; clippy.toml allows it in test functions alone"
)]

mod ask;
mod claims;
mod config;
mod connect;
mod deputy;
mod inbox;
mod lease;
mod ledger;
mod members;
mod outage;
mod permissions;
mod secure;
mod signing;
mod snapshots;
mod tokens;
mod topology;
mod work;

use std::time::{Duration, Instant};

use bus::{Bus, InboxMessage};
use domain::{
    id::IncidentId,
    wire::{Envelope, Input, TimerFired},
};

/// How long a condition may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a condition; tells what it last saw when it never comes.
async fn eventually<T, S: std::fmt::Debug, F>(what: &str, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, S>>,
{
    let start = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if PATIENCE < start.elapsed() => {
                panic!("never came: {what}; last seen: {seen:?}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// An input that tells its sender and number.
fn input(id: &str) -> Envelope {
    let timer = TimerFired::of(IncidentId::NONE, chrono::Utc::now());
    Envelope::new(id, Input::Timer(timer))
}

/// Returns the ids of the inputs of a frame, in order.
fn ids(message: &InboxMessage) -> Vec<String> {
    let frame: Vec<Envelope> = serde_json::from_slice(&message.payload).unwrap();
    frame.into_iter().map(|envelope| envelope.id).collect()
}

/// Another client, to look at the broker from outside.
async fn outside(url: &str) -> async_nats::jetstream::Context {
    async_nats::jetstream::new(async_nats::connect(url).await.unwrap())
}

/// Waits until the bus has a connection again.
async fn connected(bus: &Bus) {
    let mut connection = bus.connection();
    tokio::time::timeout(PATIENCE, connection.wait_for(|connected| *connected))
        .await
        .expect("no connection in time")
        .unwrap();
}
