//! A steady load for long, while memory and file descriptors of every process are watched.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{clients::Http, world::World};

mod growth;

pub use growth::{Growth, Sample, growth};

/// Events after which everything that is bounded by count is full: the deliveries that a
/// desk remembers (200,000) and the incidents that are over and still shown (10,000, a third
/// of the events); and half as many more, in which each supervisor has made or taken up a
/// snapshot of a full desk, which needs room once.
pub const N_EVENTS_WARM: u64 = 300_000;
/// Clients that share the load.
const N_CLIENTS: u64 = 32;
/// How often processes are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// Tries of one event, after which it counts as an error.
const TRIES_MAX: usize = 5;
/// Wait between two tries.
const AGAIN: Duration = Duration::from_millis(500);
/// What memory may grow after the warm-up.
const GROWTH_MAX_PERCENT: f64 = 5.0;

/// What a soak found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Whether memory and descriptors are flat after the warm-up, and nothing failed.
    pub good: bool,
    /// Length in seconds.
    pub seconds: u64,
    /// Events a second that were wanted.
    pub rate: f64,
    /// Events a second that were accepted.
    pub rate_done: f64,
    /// Events that were accepted.
    pub n_events: u64,
    /// Events that were not, after several tries.
    pub n_errors: u64,
    /// Tries that failed and were made again.
    pub n_retries: u64,
    /// From sending an event to its answer, in milliseconds.
    pub p50_ms: f64,
    /// The same, of the slowest hundredth.
    pub p99_ms: f64,
    /// When everything that is bounded by count was full; null when it did not come to that.
    pub warm_after_s: Option<u64>,
    /// Ends of processes that nobody caused.
    pub n_odd_ends: usize,
    /// Each process.
    pub processes: Vec<Growth>,
}

#[derive(Debug, Default)]
struct Counts {
    n_events: AtomicU64,
    n_errors: AtomicU64,
    n_retries: AtomicU64,
    micros: Mutex<Vec<u32>>,
}

/// Runs.
///
/// # Errors
///
/// When something could not be run at all.
pub async fn soak(
    world: Arc<World>,
    span: Duration,
    rate: f64,
    tell: fn(&str),
) -> anyhow::Result<Figures> {
    let counts = Arc::new(Counts::default());
    let stop = CancellationToken::new();
    let period = Duration::from_secs_f64(f64::from(u32::try_from(N_CLIENTS)?) / rate.max(0.1));
    let clients: Vec<_> = (0..N_CLIENTS)
        .map(|n| {
            let load = publish(n, world.http.clone(), period, Arc::clone(&counts), stop.clone());
            tokio::spawn(load)
        })
        .collect();
    let (samples, warm_after) = watch(&world, span, &counts, tell).await;
    stop.cancel();
    for client in clients {
        client.await?;
    }
    Ok(figures(&world, span, rate, &counts, &samples, warm_after))
}

/// Samples all processes until the time is over; returns the samples, and when it was warm.
async fn watch(
    world: &World,
    span: Duration,
    counts: &Counts,
    tell: fn(&str),
) -> (Vec<(String, Vec<Sample>)>, Option<u64>) {
    let start = Instant::now();
    let mut all: Vec<(String, Vec<Sample>)> =
        world.kept().map(|it| (it.name(), Vec::new())).collect();
    let mut warm_after = None;
    let mut ticks = tokio::time::interval(EVERY);
    while start.elapsed() < span {
        ticks.tick().await;
        let at = start.elapsed().as_secs();
        let n_events = counts.n_events.load(Ordering::Relaxed);
        if warm_after.is_none() && N_EVENTS_WARM <= n_events {
            warm_after = Some(at);
            tell(&format!("warm after {at} s and {n_events} events"));
        }
        for ((_, samples), kept) in all.iter_mut().zip(world.kept()) {
            samples.extend(kept.pid().and_then(|pid| Sample::of(at, pid)));
        }
        if at.is_multiple_of(60) {
            let sizes: Vec<_> = all
                .iter()
                .filter(|(name, _)| !name.starts_with("box"))
                .filter_map(|(name, it)| Some(format!("{name} {} MiB", it.last()?.rss_kib / 1024)))
                .collect();
            tell(&format!("{at} s, {n_events} events; {}", sizes.join(", ")));
        }
    }
    (all, warm_after)
}

fn figures(
    world: &World,
    span: Duration,
    rate: f64,
    counts: &Counts,
    samples: &[(String, Vec<Sample>)],
    warm_after: Option<u64>,
) -> Figures {
    let mut micros = counts.micros.lock().unwrap_or_else(PoisonError::into_inner);
    micros.sort_unstable();
    let quantile = |part: usize| {
        let value = micros.get(micros.len() * part / 100).copied().unwrap_or_default();
        f64::from(value) / 1000.0
    };
    // Without a warm-up nothing is proven; the second half is shown all the same.
    let from = warm_after.unwrap_or(span.as_secs() / 2);
    let processes: Vec<_> = samples.iter().map(|(name, it)| growth(name, it, from)).collect();
    let n_events = counts.n_events.load(Ordering::Relaxed);
    let n_errors = counts.n_errors.load(Ordering::Relaxed);
    let n_odd_ends = world.kept().map(|it| it.odd().0).sum();
    // The broker is not ours: it is shown, and its caches are its own affair.
    let ours = processes.iter().filter(|it| !it.name.starts_with("node"));
    let is_flat = |it: &Growth| it.percent <= GROWTH_MAX_PERCENT && !it.descriptors_leak;
    let flat = ours.into_iter().all(is_flat);
    Figures {
        good: flat && warm_after.is_some() && n_errors == 0 && n_odd_ends == 0,
        seconds: span.as_secs(),
        rate,
        rate_done: f64::from(u32::try_from(n_events).unwrap_or(u32::MAX)) / span.as_secs_f64(),
        n_events,
        n_errors,
        n_retries: counts.n_retries.load(Ordering::Relaxed),
        p50_ms: quantile(50),
        p99_ms: quantile(99),
        warm_after_s: warm_after,
        n_odd_ends,
        processes,
    }
}

/// One client: something begins, is reported again, and is over.
async fn publish(
    client: u64,
    http: Http,
    period: Duration,
    counts: Arc<Counts>,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(period);
    let mut n = 0;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let target = format!("thing-{client}-{}", n / 3);
        let status = if n % 3 == 2 { "resolved" } else { "firing" };
        let event = json!({"id": format!("{client}-{n}"), "source": "soak", "type": "soak_event",
            "target": target, "status": status, "payload": {"n": n, "text": "as long as usual"}});
        send(client, &http, &event, &counts).await;
        n += 1;
    }
}

async fn send(client: u64, http: &Http, event: &Value, counts: &Counts) {
    let first = usize::try_from(client).unwrap_or_default();
    for n_try in 0..TRIES_MAX {
        let begun = Instant::now();
        let answer = http.post(first + n_try, "/publish_event", event).await;
        if answer.is_ok_and(|it| it.status == 200) {
            counts.n_events.fetch_add(1, Ordering::Relaxed);
            let micros = u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX);
            return counts.micros.lock().unwrap_or_else(PoisonError::into_inner).push(micros);
        }
        counts.n_retries.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(AGAIN).await;
    }
    counts.n_errors.fetch_add(1, Ordering::Relaxed);
}
