//! Processes of this host: finding the one of a target, and knowing how it ended.

#[doc(hidden)]
pub mod edges;
mod ending;
mod identity;
mod oom;
mod pidfd;
mod record;
mod scan;
mod stat;
mod state;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use domain::target::{ProcessHandle, Target};
use rustix::process::Pid;

use crate::sample::RunId;

use scan::Scanner;

pub use ending::Ending;
pub use oom::OomCount;
pub use pidfd::PidFd;
pub use stat::Stat;

/// A living process of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Living {
    /// Its id.
    pub pid: Pid,
    /// Clock ticks from the host's start to its own: with the id, it names one run.
    pub start_ticks: u64,
}

impl Living {
    /// Returns the id as a number.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Returns whether this very run is still alive.
    #[must_use]
    pub fn still_runs(&self) -> bool {
        Stat::read(self.pid).is_some_and(|it| it.is_living() && it.start_ticks == self.start_ticks)
    }

    /// Returns what tells this run from the next.
    #[must_use]
    pub fn run(&self) -> RunId {
        RunId(format!("pid {} from tick {}", self.number(), self.start_ticks))
    }

    /// Returns when it was started.
    #[must_use]
    pub fn started_at(&self) -> Option<DateTime<Utc>> {
        stat::time_of_ticks(self.start_ticks)
    }
}

/// The processes of all targets, with what was seen of their last runs.
#[derive(Clone, Debug)]
pub struct Processes {
    state_dir: Arc<Path>,
    last_endings: Arc<Mutex<HashMap<String, Ending>>>,
    scanner: Arc<Scanner>,
}

impl Processes {
    /// Reads what fixers leave in `state_dir`.
    #[must_use]
    pub fn new(state_dir: PathBuf) -> Self {
        Self { state_dir: state_dir.into(), last_endings: Arc::default(), scanner: Arc::default() }
    }

    /// Returns the living process of a target: the one in its pid file, else, when
    /// `scan` is set, the one that carries its name in its environment.
    pub async fn find(&self, target: &Target, scan: bool) -> Option<Living> {
        let handle = target.process.clone()?;
        let name = target.name.clone();
        let pid_file = self.pid_file(&name, &handle);
        let (scanner, state_dir) = (Arc::clone(&self.scanner), Arc::clone(&self.state_dir));
        let found = tokio::task::spawn_blocking(move || {
            identity::of_file(&pid_file, &name, &handle)
                .or_else(|| if scan { scanner.find(&name, &state_dir) } else { None })
        });
        found.await.ok().flatten()
    }

    fn pid_file(&self, name: &str, handle: &ProcessHandle) -> PathBuf {
        let named = handle.pid_file.as_ref().map(PathBuf::from);
        named.unwrap_or_else(|| self.of_target(name, "pid"))
    }

    fn log_file(&self, name: &str, handle: &ProcessHandle) -> PathBuf {
        let named = handle.log.as_ref().map(PathBuf::from);
        named.unwrap_or_else(|| self.of_target(name, "log"))
    }

    fn of_target(&self, name: &str, ending: &str) -> PathBuf {
        self.state_dir.join(format!("{name}.{ending}"))
    }

    /// Learns how a run has ended that was watched, and remembers it.
    ///
    /// Reads a few small files; the event about the exit waits for it.
    #[must_use]
    pub fn note_ending(&self, name: &str, run: &Living, oom_before: Option<&OomCount>) -> Ending {
        let ending = Ending::of(run, &self.of_target(name, "exit.json"), oom_before);
        let mut endings = self.last_endings.lock().unwrap_or_else(PoisonError::into_inner);
        endings.insert(name.to_owned(), ending.clone());
        ending
    }

    /// Returns how the last run has ended, as far as it is known.
    fn last_ending(&self, name: &str) -> Option<Ending> {
        let recorded = Ending::recorded(&self.of_target(name, "exit.json"));
        let endings = self.last_endings.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = endings.get(name).cloned();
        drop(endings);
        match (recorded, seen) {
            (Some(recorded), Some(seen)) if recorded.pid == seen.pid => {
                Some(seen.joined(&recorded))
            }
            (Some(recorded), Some(seen)) if recorded.at < seen.at => Some(seen),
            (Some(recorded), _) => Some(recorded),
            (None, seen) => seen,
        }
    }

    /// Returns how the last run of a dead target has ended, as far as it is known.
    pub async fn how_it_ended(&self, target: &Target) -> Option<Ending> {
        let handle = target.process.clone()?;
        let (it, name) = (self.clone(), target.name.clone());
        let ending = tokio::task::spawn_blocking(move || {
            state::of_last_run(&it.pid_file(&name, &handle), it.last_ending(&name))
        });
        ending.await.ok().flatten()
    }

    /// Returns the last lines of what the target's process has printed.
    pub async fn log_tail(&self, target: &Target, n_lines: usize) -> Vec<String> {
        let Some(handle) = &target.process else { return Vec::new() };
        let path = self.log_file(&target.name, handle);
        let lines = tokio::task::spawn_blocking(move || record::last_lines(&path, n_lines));
        lines.await.unwrap_or_default()
    }

    /// Returns when the target was started lately, the newest last.
    pub async fn recent_starts(&self, target: &Target) -> Vec<DateTime<Utc>> {
        let path = self.of_target(&target.name, "starts.jsonl");
        let starts = tokio::task::spawn_blocking(move || record::recent_starts(&path));
        starts.await.unwrap_or_default()
    }

    /// Returns the state of a target's process as others see it.
    pub async fn state(&self, target: &Target) -> Option<domain::wire::ProcessState> {
        let handle = target.process.clone()?;
        let living = self.find(target, true).await;
        let (it, name) = (self.clone(), target.name.clone());
        let state = tokio::task::spawn_blocking(move || {
            let pid_file = it.pid_file(&name, &handle);
            state::of(living.as_ref(), &pid_file, it.last_ending(&name))
        });
        state.await.ok()
    }
}
