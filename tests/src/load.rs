//! Clients that send events while everything else is killed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bus::Bus;
use domain::{
    event::{Event, EventType},
    wire::{Envelope, Input, InputKind},
};
use tokio::task::JoinSet;

/// From one event of a client to its next.
const PAUSE: Duration = Duration::from_millis(40);
/// A client that was not heard for so long has lost its event.
const TRIES_FOR: Duration = Duration::from_secs(90);

/// Clients at work. Each sends one event after the other, again and again under the same id
/// until it is accepted.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    n_accepted: Arc<AtomicUsize>,
    clients: JoinSet<Sent>,
}

/// What the clients have sent.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Types of the accepted events; each is of a type of its own, so each opens an incident.
    pub types: Vec<String>,
    /// Tries that failed and were made again.
    pub n_again: usize,
    /// From the first try to the acceptance, the longest.
    pub longest: Duration,
}

impl Sent {
    /// Adds what other clients have sent.
    pub fn add(&mut self, other: Self) {
        self.types.extend(other.types);
        self.n_again += other.n_again;
        self.longest = self.longest.max(other.longest);
    }
}

/// One way to send an event: says why it was not accepted.
pub type Send = Arc<
    dyn Fn(Event) -> futures_util::future::BoxFuture<'static, Result<(), String>>
        + std::marker::Send
        + Sync,
>;

impl Load {
    /// Starts so many clients that publish straight to the broker.
    #[must_use]
    pub fn by_bus(bus: &Bus, n_clients: usize) -> Self {
        let bus = bus.clone();
        let send: Send = Arc::new(move |event: Event| {
            let writer = bus.inbox_writer();
            Box::pin(async move {
                let envelope = Envelope::new(event.id.clone(), Input::Event(event));
                let accepted = writer.submit(InputKind::Event, envelope).await;
                accepted.map(drop).map_err(|error| error.to_string())
            })
        });
        Self::start("bus", &vec![send; n_clients])
    }

    /// Starts so many clients that post to these gateways in turns: whoever gets an error,
    /// or no answer, asks the next one.
    ///
    /// # Panics
    ///
    /// When a gateway says that the fault is the client's: another try does not cure that.
    #[must_use]
    pub fn by_http(gateways: &[String], n_clients: usize) -> Self {
        let client = crate::stack::reqwest_client();
        let ways = (0..n_clients).map(|first| {
            let (client, gateways) = (client.clone(), gateways.to_vec());
            let turn = AtomicUsize::new(first);
            let send: Send = Arc::new(move |event: Event| {
                let n = turn.fetch_add(1, Ordering::Relaxed) % gateways.len().max(1);
                let url = format!("{}/publish_event", gateways.get(n).map_or("", String::as_str));
                let client = client.clone();
                Box::pin(async move {
                    let body = serde_json::json!({"type": event.kind, "source": "test"});
                    let request = client.post(url).header("idempotency-key", &event.id);
                    let answer = request.json(&body).send().await;
                    let status = answer.map_err(|error| error.to_string())?.status();
                    assert!(!status.is_client_error(), "{status} is not cured by another try");
                    if status.is_success() { Ok(()) } else { Err(status.to_string()) }
                })
            });
            send
        });
        Self::start("http", &ways.collect::<Vec<_>>())
    }

    fn start(way: &'static str, ways: &[Send]) -> Self {
        let (stop, n_accepted) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let mut clients = JoinSet::new();
        for (idx, send) in ways.iter().enumerate() {
            clients.spawn(work(
                format!("{way}_{idx}"),
                Arc::clone(send),
                Arc::clone(&stop),
                Arc::clone(&n_accepted),
            ));
        }
        Self { stop, n_accepted, clients }
    }

    /// Returns the number of events that were accepted so far.
    #[must_use]
    pub fn n_accepted(&self) -> usize {
        self.n_accepted.load(Ordering::Relaxed)
    }

    /// Waits until so many more are accepted.
    ///
    /// # Panics
    ///
    /// When that does not happen in time.
    pub async fn goes_on(&self, n_more: usize) {
        let wanted = self.n_accepted() + n_more;
        crate::eventually("events are accepted", || async {
            let now = self.n_accepted();
            if wanted <= now { Ok(()) } else { Err(format!("{now} of {wanted}")) }
        })
        .await;
    }

    /// Ends the clients when their last events are accepted, and tells what they have sent.
    ///
    /// # Panics
    ///
    /// When an event was never accepted.
    #[expect(clippy::unwrap_used, reason = "a client that fails is a test that fails")]
    pub async fn stop(mut self) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        let mut sent = Sent::default();
        while let Some(one) = self.clients.join_next().await {
            sent.add(one.unwrap());
        }
        sent
    }
}

#[expect(clippy::unwrap_used, reason = "the type is legal")]
async fn work(
    client: String,
    send: Send,
    stop: Arc<AtomicBool>,
    n_accepted: Arc<AtomicUsize>,
) -> Sent {
    let mut sent = Sent::default();
    let mut ticks = tokio::time::interval(PAUSE);
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        ticks.tick().await;
        let name = format!("load_{client}_{n}");
        let event = Event::new(name.clone(), name.parse::<EventType>().unwrap(), "test");
        let start = Instant::now();
        while let Err(why) = send(event.clone()).await {
            assert!(start.elapsed() < TRIES_FOR, "{name} was never accepted: {why}");
            sent.n_again += 1;
            ticks.tick().await;
        }
        sent.longest = sent.longest.max(start.elapsed());
        sent.types.push(name);
        n_accepted.fetch_add(1, Ordering::Relaxed);
    }
    sent
}
