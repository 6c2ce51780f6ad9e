//! The faults: what is done to whom, drawn by chance, and always taken back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;

use crate::{chance::Chance, proxy::Mode, world::World};

mod breaking;
mod kinds;

pub use breaking::break_targets;
pub use kinds::Fault;

/// Faults at one time.
const AT_ONCE_MAX: usize = 3;
/// From one fault to the next.
const PAUSE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(4000));

/// What was done, and when.
#[derive(Clone, Debug, Default)]
pub struct Deeds(Arc<Mutex<Vec<Deed>>>);

/// One fault that was done.
#[derive(Clone, Debug)]
pub struct Deed {
    /// Its name, such as `kill_leader`.
    pub name: &'static str,
    /// To whom.
    pub whom: String,
    /// When it began.
    pub from: DateTime<Utc>,
    /// When it was taken back.
    pub until: Option<DateTime<Utc>>,
}

impl Deeds {
    /// Notes the beginning of a fault; returns its number.
    pub fn begin(&self, name: &'static str, whom: String) -> usize {
        let mut deeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        deeds.push(Deed { name, whom, from: Utc::now(), until: None });
        deeds.len() - 1
    }

    /// Notes that it was taken back.
    pub fn end(&self, n: usize) {
        let mut deeds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(deed) = deeds.get_mut(n) {
            deed.until = Some(Utc::now());
        }
    }

    /// Returns all of them.
    #[must_use]
    pub fn all(&self) -> Vec<Deed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts them by name.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for deed in self.all() {
            *counts.entry(deed.name).or_default() += 1;
        }
        counts
    }
}

/// Does faults until `stop`, then waits until all are taken back.
///
/// # Errors
///
/// When one cannot be done or taken back.
pub async fn inject(
    world: Arc<World>,
    mut chance: Chance,
    deeds: Deeds,
    stop: CancellationToken,
    tell: impl Fn(&str),
) -> anyhow::Result<()> {
    let all = Fault::all(&world);
    let mut under_way: FuturesUnordered<BoxFuture<'_, anyhow::Result<BTreeSet<String>>>> =
        FuturesUnordered::new();
    let mut busy: BTreeSet<String> = BTreeSet::new();
    while !stop.is_cancelled() {
        let pause = tokio::time::sleep(chance.between(PAUSE.0, PAUSE.1));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                () = stop.cancelled() => break,
                Some(ended) = under_way.next(), if !under_way.is_empty() => {
                    for name in ended? {
                        busy.remove(&name);
                    }
                }
            }
        }
        if stop.is_cancelled() || AT_ONCE_MAX <= under_way.len() {
            continue;
        }
        let Some(fault) = chance.pick(&all).cloned() else { continue };
        let Some(victims) = fault.victims(&world).await else { continue };
        if victims.iter().any(|it| busy.contains(it)) {
            continue;
        }
        let span = fault.span(&mut chance);
        let mode = draw_mode(&mut chance);
        let whom: Vec<_> = victims.iter().cloned().collect();
        tell(&format!("{} {} for {} ms", fault.name(), whom.join(" "), span.as_millis()));
        busy.extend(victims.iter().cloned());
        let (world, deeds) = (Arc::clone(&world), deeds.clone());
        under_way.push(Box::pin(async move {
            let n = deeds.begin(fault.name(), whom.join(" "));
            fault.run(&world, &victims, span, mode).await?;
            deeds.end(n);
            Ok(victims)
        }));
    }
    while let Some(ended) = under_way.next().await {
        drop(ended?);
    }
    Ok(())
}

/// Returns how a network is broken.
fn draw_mode(chance: &mut Chance) -> Mode {
    match chance.below(3) {
        0 => Mode::Hold,
        1 => Mode::Cut,
        _ => Mode::Delay(chance.between(Duration::from_millis(20), Duration::from_millis(400))),
    }
}
