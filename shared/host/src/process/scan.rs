//! All processes looked through at once, for whoever asks.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::process::Pid;

use super::{MARK_RUN, MARK_STATE, MARK_TARGET, Run, Stat, proc};

/// A scan that began at most so long before a question answers it too: when many targets are
/// dead, or one is asked for in several ways, they share one. What it found is looked at again.
const AGE_MIN: Duration = Duration::from_millis(20);

/// The same on a host with many processes, or a busy one: a scan may be this many times as old
/// as it took, so that all of them together never take more than a tenth of a processor.
const AGE_FACTOR: u32 = 10;

/// No scan answers when it is older: somebody may have started the target since.
const AGE_MAX: Duration = Duration::from_millis(500);

/// Longest command that is compared.
const ARGUMENTS_MAX: usize = 256;

/// A process that was alive at the time of the scan.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which run.
    pub run: Run,
    /// Its parent.
    pub parent: i32,
    /// Its group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// The target whose name it carries in its environment.
    pub target: Option<String>,
    /// The state directory that it carries.
    pub state_dir: Option<String>,
    /// The mark of the run that has started it.
    pub mark: Option<String>,
    /// Whether it shows an environment: some programs write their title over it.
    pub has_environment: bool,
    /// Its arguments, or the title that it has given itself.
    pub arguments: Vec<String>,
}

impl Entry {
    fn read(pid: Pid) -> Option<Self> {
        // Threads of the kernel are half of all on a small host, and none is a target.
        let stat = Stat::of_living(pid).filter(|it| !it.is_kernel)?;
        let run = Run { pid: pid.as_raw_nonzero().get(), start_ticks: stat.start_ticks };
        let environment = proc::environment(pid);
        let mut arguments = proc::arguments(pid);
        arguments.truncate(ARGUMENTS_MAX);
        Some(Self {
            run,
            parent: stat.parent,
            group: stat.group,
            session: stat.session,
            target: proc::variable_in(&environment, MARK_TARGET),
            state_dir: proc::variable_in(&environment, MARK_STATE),
            mark: proc::variable_in(&environment, MARK_RUN),
            has_environment: environment.contains(&b'='),
            arguments,
        })
    }

    /// Returns whether it leads its group: whatever was started by itself does.
    #[must_use]
    pub const fn leads(&self) -> bool {
        self.group == self.run.pid
    }
}

/// Looks through all processes, for whoever asks.
#[derive(Debug, Default)]
pub struct Scanner(Mutex<Option<Scan>>);

#[derive(Clone, Debug)]
struct Scan {
    begun: Instant,
    age_max: Duration,
    found: Arc<[Entry]>,
}

impl Scanner {
    /// Returns all living processes, as of this moment or [`AGE_MAX`] before at most. Those who
    /// ask at the same time wait for one scan.
    #[must_use]
    pub fn scan(&self) -> Arc<[Entry]> {
        self.answer(Instant::now(), scan)
    }

    fn answer(&self, asked: Instant, scan: impl FnOnce() -> Vec<Entry>) -> Arc<[Entry]> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What counts is the age at the question, not after the wait for the lock: on a busy
        // host a scan takes longer than it may be old, and each who waits would scan anew.
        let is_young = |it: &&Scan| asked.saturating_duration_since(it.begun) <= it.age_max;
        if let Some(young) = last.as_ref().filter(is_young) {
            return Arc::clone(&young.found);
        }
        let begun = Instant::now();
        let found: Arc<[Entry]> = scan().into();
        let age_max = begun.elapsed().saturating_mul(AGE_FACTOR).clamp(AGE_MIN, AGE_MAX);
        *last = Some(Scan { begun, age_max, found: Arc::clone(&found) });
        found
    }
}

/// Returns all living processes of this moment.
#[must_use]
pub fn scan() -> Vec<Entry> {
    proc::all().into_iter().filter_map(Entry::read).collect()
}

/// Returns the processes of a list that descend from one of these.
#[must_use]
pub fn descendants(entries: &[Entry], of: &[i32]) -> Vec<Entry> {
    let mut known: Vec<i32> = of.to_vec();
    let mut found = Vec::new();
    // Each round adds a generation; the list is finite.
    loop {
        let next: Vec<&Entry> = entries
            .iter()
            .filter(|it| known.contains(&it.parent) && !known.contains(&it.run.pid))
            .collect();
        if next.is_empty() {
            return found;
        }
        known.extend(next.iter().map(|it| it.run.pid));
        found.extend(next.into_iter().cloned());
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Takes so long that nobody who asks after it may share it.
    fn slow_scan() -> Vec<Entry> {
        let begun = Instant::now();
        while begun.elapsed() <= AGE_MAX * 2 {
            std::thread::yield_now();
        }
        Vec::new()
    }

    #[test]
    fn all_who_ask_while_a_slow_scan_goes_on_share_it() {
        let (scanner, n_scans) = (Scanner::default(), Cell::new(0));
        let ask = |asked: Instant, scan: fn() -> Vec<Entry>| {
            scanner.answer(asked, || {
                n_scans.set(n_scans.get() + 1);
                scan()
            });
        };
        let asked = Instant::now();
        for _ in 0..100 {
            ask(asked, slow_scan);
        }
        assert_eq!(n_scans.get(), 1, "what was asked before it began was asked again");
        ask(Instant::now(), Vec::new);
        assert_eq!(n_scans.get(), 2, "it was too old");
    }
}
