//! The figures of a run: what was done, what was kept, how long it stood still.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    faults::Deed,
    judge::Verdict,
    ledger::{Batch, Seen},
    load::Counts,
};

/// The figures of one run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// `single`, `cluster`, or `docker`.
    pub broker: &'static str,
    /// The seed of its chance.
    pub seed: u64,
    /// How long faults were injected.
    pub seconds: u64,
    /// How many of each breach; all zero when the run is good.
    #[serde(flatten)]
    pub breaches: BTreeMap<&'static str, usize>,
    /// From the last fault until all was quiet; null when it did not become so.
    pub settled_ms: Option<u64>,
    /// Faults by kind, with those of the targets.
    pub n_faults: BTreeMap<&'static str, usize>,
    /// Events acknowledged to clients.
    pub n_accepted: usize,
    /// Tries of clients that failed, and were made again.
    pub n_retries: usize,
    /// From the first try to the acknowledgement, the longest.
    pub longest_retry_ms: u128,
    /// Decisions.
    pub n_decisions: usize,
    /// Incidents.
    pub n_incidents: usize,
    /// Fixes begun.
    pub n_fixes: usize,
    /// Actions that the targets counted.
    pub n_actions: usize,
    /// Incidents resolved by a fix, or with their cause.
    pub n_resolved: usize,
    /// Incidents that ended without one.
    pub n_self_resolved: usize,
    /// Escalations.
    pub n_escalated: usize,
    /// The longest time without a decision.
    pub longest_stall_ms: i64,
    /// From the kill of the leading supervisor to the first decision of the next.
    pub failover_ms: Spread,
    /// The longest time without a decision during each fault, by kind.
    pub stall_ms: BTreeMap<&'static str, Spread>,
    /// Ends of processes that nobody caused.
    pub n_odd_ends: usize,
}

/// The figures of all runs of a command.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether everything was kept in all of them.
    pub good: bool,
    /// The seed of each.
    pub seed: u64,
    /// How many of each breach, in all of them.
    #[serde(flatten)]
    pub breaches: BTreeMap<&'static str, usize>,
    /// Each run.
    pub runs: Vec<Figures>,
}

impl Report {
    /// Sums up.
    #[must_use]
    pub fn of(seed: u64, runs: Vec<Figures>) -> Self {
        let mut breaches = BTreeMap::new();
        for (name, n) in runs.iter().flat_map(|it| &it.breaches) {
            *breaches.entry(*name).or_default() += n;
        }
        Self { good: runs.iter().all(Figures::is_good), seed, breaches, runs }
    }
}

/// How figures are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// How many there are.
    pub n: usize,
    /// The one in the middle.
    pub median: i64,
    /// The largest.
    pub max: i64,
}

impl Spread {
    /// Makes it of all figures.
    #[must_use]
    pub fn of(mut all: Vec<i64>) -> Self {
        all.sort_unstable();
        let middle = all.get(all.len() / 2).copied().unwrap_or_default();
        Self { n: all.len(), median: middle, max: all.last().copied().unwrap_or_default() }
    }
}

impl Figures {
    /// Returns whether everything was kept, and all became quiet in the end.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.breaches.values().all(|n| *n == 0) && self.settled_ms.is_some()
    }

    /// Takes the counts of a verdict.
    pub fn judged(&mut self, verdict: &Verdict) {
        self.breaches = verdict.lists().iter().map(|(name, list)| (*name, list.len())).collect();
    }

    /// Takes what the clients did, and what was decided.
    pub fn counted(&mut self, counts: &Counts, seen: &Seen) {
        self.n_accepted = counts.accepted.len();
        self.n_retries = counts.n_again;
        self.longest_retry_ms = counts.longest_ms;
        self.n_decisions = seen.n_facts();
        self.n_incidents = seen.count("opened");
        self.n_fixes = seen.count("fix_started");
        self.n_resolved = seen.count("resolved");
        self.n_self_resolved = seen.count("self_resolved");
        self.n_escalated = seen.count("escalated");
    }

    /// Takes the times of faults, and of the ledger while there was load.
    pub fn timed(&mut self, deeds: &[Deed], batches: &[Batch]) {
        let gaps = || batches.iter().zip(batches.iter().skip(1));
        let gap = |(a, b): (&Batch, &Batch)| (b.at - a.at).num_milliseconds();
        self.longest_stall_ms = gaps().map(gap).max().unwrap_or_default();
        let mut stalls: BTreeMap<&'static str, Vec<i64>> = BTreeMap::new();
        for deed in deeds {
            let Some(until) = deed.until else { continue };
            let during = gaps().filter(|(a, b)| deed.from < b.at && a.at < until);
            let silent = during.map(|(a, b)| (b.at - a.at.max(deed.from)).num_milliseconds());
            if let Some(longest) = silent.max() {
                stalls.entry(deed.name).or_default().push(longest);
            }
        }
        self.stall_ms = stalls.into_iter().map(|(name, all)| (name, Spread::of(all))).collect();
        let kills = deeds.iter().filter(|it| it.name == "kill_leader");
        self.failover_ms = Spread::of(kills.filter_map(|it| failover(it, batches)).collect());
    }
}

/// Returns the time from a kill to the first decision of another reign.
fn failover(kill: &Deed, batches: &[Batch]) -> Option<i64> {
    let before = batches.iter().rfind(|it| it.at <= kill.from)?;
    let next = batches.iter().find(|it| kill.from < it.at && it.epoch != before.epoch)?;
    Some((next.at - kill.from).num_milliseconds())
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(ms).unwrap()
    }

    #[test]
    fn a_failover_lasts_until_the_first_decision_of_the_next_reign() {
        let batch = |ms, epoch| Batch { at: at(ms), epoch };
        let batches = [batch(0, 1), batch(90, 1), batch(110, 1), batch(1600, 2), batch(1650, 2)];
        let deed = Deed {
            name: "kill_leader",
            whom: "supervisor-1".to_owned(),
            from: at(100),
            until: Some(at(500)),
        };
        let mut figures = Figures::default();
        figures.timed(&[deed], &batches);
        assert_eq!(figures.failover_ms, Spread { n: 1, median: 1500, max: 1500 });
        assert_eq!(figures.longest_stall_ms, 1490);
        assert_eq!(figures.stall_ms["kill_leader"].max, 1490);
    }

    #[test]
    fn a_run_is_good_when_nothing_was_broken_and_all_is_quiet() {
        let mut figures = Figures::default();
        figures.judged(&Verdict::default());
        assert!(!figures.is_good(), "not quiet");
        figures.settled_ms = Some(1);
        assert!(figures.is_good());
        figures.judged(&Verdict { lost: vec!["one".to_owned()], ..Verdict::default() });
        assert!(!figures.is_good());
        assert_eq!(figures.breaches["lost"], 1);
    }
}
