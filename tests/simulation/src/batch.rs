//! Many seeds, on all processors.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{Broken, Bug, Counts, Options, Outcome, run};

/// Which seeds are run, and for how long.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The first is `like.seed`; everything else is the same for all.
    pub like: Options,
    /// Seeds at most.
    pub seeds: u64,
    /// Threads.
    pub jobs: usize,
    /// No new seed is begun after this time.
    pub budget: Option<Duration>,
    /// Ends at the first failing seed.
    pub stop_at_failure: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Seeds that were run.
    pub seeds: u64,
    /// Simulated time, in microseconds.
    pub simulated: u64,
    /// What happened in all of them.
    pub counts: Counts,
    /// Laws that were broken, by seed.
    pub broken: BTreeMap<u64, Broken>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// Returns the simulated time in hours.
    #[must_use]
    pub fn hours(&self) -> u64 {
        self.simulated / crate::clock::HOUR
    }

    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.seeds += 1;
        self.simulated += outcome.simulated;
        let (all, new) = (&mut self.counts, outcome.counts);
        all.inputs += new.inputs;
        all.decisions += new.decisions;
        all.incidents += new.incidents;
        all.fixes += new.fixes;
        all.effects += new.effects;
        all.resolved += new.resolved;
        all.escalated += new.escalated;
        if let Some(broken) = outcome.broken {
            self.broken.insert(seed, broken);
        }
    }
}

/// Runs seeds until there are enough, the time is over, or one fails if that is wanted.
/// `told` hears of every seed at once.
pub fn run_many(batch: &Batch, told: impl Fn(u64, &Outcome) + Sync) -> Report {
    let begun = Instant::now();
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let report = Mutex::new(Report::default());
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let is_over = batch.budget.is_some_and(|budget| budget <= begun.elapsed());
            if batch.seeds <= n || is_over || stop.load(Ordering::Relaxed) {
                return;
            }
            let seed = batch.like.seed + n;
            let outcome = run(&Options { seed, trace: false, ..batch.like.clone() });
            told(seed, &outcome);
            if outcome.broken.is_some() && batch.stop_at_failure {
                stop.store(true, Ordering::Relaxed);
            }
            report.lock().unwrap_or_else(PoisonError::into_inner).add(seed, outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..batch.jobs.max(1) {
            scope.spawn(work);
        }
        work();
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.took = begun.elapsed();
    report
}

/// How a deliberate mistake was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The mistake.
    pub bug: Bug,
    /// Seeds that were run, up to the one that found it; all when none did.
    pub seeds: u64,
    /// What was broken.
    pub broken: Option<Broken>,
}

/// Looks for these deliberate mistakes, each in the seeds from `like.seed` on, in order.
#[must_use]
pub fn find_bugs(like: &Options, bugs: &[Bug], seeds_max: u64, jobs: usize) -> Vec<Found> {
    let next = AtomicU64::new(0);
    let found = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let n = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
            let Some(bug) = bugs.get(n).copied() else { return };
            let mut one = Found { bug, seeds: seeds_max, broken: None };
            for n in 0..seeds_max {
                let options = Options { seed: like.seed + n, bug: Some(bug), ..like.clone() };
                if let Some(broken) = run(&options).broken {
                    one = Found { bug, seeds: n + 1, broken: Some(broken) };
                    break;
                }
            }
            found.lock().unwrap_or_else(PoisonError::into_inner).insert(bug, one);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.max(1) {
            scope.spawn(work);
        }
        work();
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.into_values().collect()
}
