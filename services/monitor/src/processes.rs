//! Processes of this host: the one of a target, and how it ended.

#[doc(hidden)]
pub mod edges;
mod record;
mod state;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use chrono::{DateTime, Utc};
use domain::target::{ProcessHandle, Target};
use host::process::{
    Configured, Files, Found, KnownBy, Running, Scanner, Search, ThisHost, adopt, doubt,
    find::{find, find_recorded},
    stat,
};

pub use host::process::{Ending, OomCount, PidFd, Run};

use crate::{allow::AllowList, sample::RunId};

/// Returns what tells a run from the next.
#[must_use]
pub fn run_id(run: &Run) -> RunId {
    RunId(run.to_string())
}

/// The processes of all targets, with what was seen of their last runs.
#[derive(Clone, Debug)]
pub struct Processes {
    state_dir: Arc<Path>,
    last_endings: Arc<Mutex<HashMap<String, Ending>>>,
    scanner: Arc<Scanner>,
    /// What is known of all targets, once there is a configuration.
    configured: Arc<RwLock<Option<Arc<Configured>>>>,
    /// Runs that were adopted, by target: each is reported once.
    adopted: Arc<Mutex<HashMap<String, Adopted>>>,
    /// Which logs may be read.
    allow: Arc<AllowList>,
    /// Whether it was told that adoptions cannot be recorded.
    cannot_record: Arc<AtomicBool>,
}

/// A process that nobody has recorded.
#[derive(Clone, Copy, Debug)]
struct Adopted {
    run: Run,
    /// When it was last seen alive, in ticks of the host.
    seen_at: u64,
}

impl Processes {
    /// Reads what fixers leave in `state_dir`.
    #[must_use]
    pub fn new(state_dir: PathBuf) -> Self {
        Self {
            state_dir: state_dir.into(),
            last_endings: Arc::default(),
            scanner: Arc::default(),
            configured: Arc::default(),
            adopted: Arc::default(),
            allow: Arc::default(),
            cannot_record: Arc::default(),
        }
    }

    /// Takes the local list, which says which logs may be read.
    #[must_use]
    pub(crate) fn limited(self, allow: Arc<AllowList>) -> Self {
        Self { allow, ..self }
    }

    /// Takes the targets of a new configuration.
    pub fn configure(&self, configured: Configured) {
        *self.configured.write().unwrap_or_else(PoisonError::into_inner) = Some(configured.into());
    }

    /// Returns the living process of a target: the one that was recorded or that its pid file
    /// names, else, when `scan` is set, one that is found among all processes.
    pub async fn find(&self, target: &Target, scan: bool) -> Option<Run> {
        if scan {
            return self.look(target).await?.main();
        }
        let running = self.asked(target, |search, _| find_recorded(search)).await??;
        Some(running.main)
    }

    /// Looks for a target's process by all that is known; `None` without a process handle.
    pub async fn look(&self, target: &Target) -> Option<Found> {
        let it = self.clone();
        let look = move |search: Search<'_>, scanner: &Scanner| {
            let found = find(search, || scanner.scan());
            it.without_leftovers(search.files.target(), found)
        };
        self.asked(target, look).await
    }

    /// Writes down what was adopted, or may be the target, so that it stays known as such when the
    /// target's command or name changes.
    fn record(&self, search: Search<'_>, files: &Files, answer: &impl Adopts) {
        let adopted = answer.running().map_or(Ok(()), |it| adopt::record(search, files, it));
        let noted = answer.found().map_or(Ok(()), |it| doubt::note(search, files, it));
        let Err(error) = adopted.and(noted) else { return };
        if !self.cannot_record.swap(true, Ordering::Relaxed) {
            let error = service::Chain(&error);
            tracing::warn!(%error, target.name = files.target(), "it cannot be recorded which process is the target: it may not be known any more when the target's command or name changes");
        }
    }

    /// Returns whether a run is alive, and notes when: what was there beside an adopted one is no
    /// successor of it.
    pub(crate) fn look_alive(&self, target: &str, run: &Run) -> bool {
        // Before the look: we may be held up behind it, and it may end meanwhile.
        let now = stat::ticks_now();
        if !run.is_alive() {
            return false;
        }
        let mut adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(it) = adopted.get_mut(target).filter(|it| it.run == *run) {
            it.seen_at = now;
        }
        true
    }

    /// A process of the target's command that was there while another one was its main process
    /// is what that one has left behind.
    fn without_leftovers(&self, target: &str, found: Found) -> Found {
        let Found::Running(Running { main, by: KnownBy::Command, .. }) = &found else {
            return found;
        };
        let adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        let former = adopted.get(target).filter(|it| it.run != *main && !it.run.is_alive());
        let Some(former) = former.filter(|it| main.start_ticks <= it.seen_at) else {
            return found;
        };
        let (pid, of) = (main.pid, former.run.pid);
        let reason = format!(
            "process {pid} has the target's command and was there while process {of} was its main process, which has ended; end it, or name the target's `pid_file`"
        );
        Found::Unclear { processes: vec![*main], reason }
    }

    async fn asked<T>(
        &self,
        target: &Target,
        ask: impl FnOnce(Search<'_>, &Scanner) -> T + Send + 'static,
    ) -> Option<T>
    where
        T: Adopts + Send + 'static,
    {
        let handle = target.process.clone()?;
        let files = self.files(&target.name, &handle)?;
        let (scanner, it) = (Arc::clone(&self.scanner), self.clone());
        let checks = target.checks.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let configured = it.configured.read().unwrap_or_else(PoisonError::into_inner).clone();
            let configured = configured.as_deref();
            let (host, files) = (&ThisHost, &files);
            let search = Search { host, files, handle: &handle, checks: &checks, configured };
            let asked_at = stat::ticks_now();
            let answer = ask(search, &scanner);
            if let Some(running) = answer.running() {
                it.report_adoption(files.target(), running, asked_at);
            }
            it.record(search, files, &answer);
            answer
        });
        answer.await.ok()
    }

    fn report_adoption(&self, target: &str, running: &Running, seen_at: u64) {
        let how = running.by.adoption();
        if how.is_none() && running.by != KnownBy::Adoption {
            return;
        }
        let mut adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Adopted { run: running.main, seen_at };
        let former = adopted.insert(target.to_owned(), now);
        if let Some(how) = how
            && former.is_none_or(|it| it.run != running.main)
        {
            let pid = running.main.pid;
            tracing::info!(target.name = target, pid, how, "a running process is adopted");
        }
    }

    fn files(&self, name: &str, handle: &ProcessHandle) -> Option<Files> {
        // A name that cannot be part of a file name has no files, and no fixer starts it.
        Files::new(&self.state_dir, name, handle).ok()
    }

    fn of_target(&self, name: &str, ending: &str) -> PathBuf {
        self.state_dir.join(format!("{name}.{ending}"))
    }

    /// Learns how a run has ended that was watched, and remembers it.
    ///
    /// Reads a few small files; the event about the exit waits for it.
    #[must_use]
    pub fn note_ending(&self, name: &str, run: &Run, oom_before: Option<&OomCount>) -> Ending {
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
        let files = self.files(&target.name, &handle)?;
        let (it, name) = (self.clone(), target.name.clone());
        let ending =
            tokio::task::spawn_blocking(move || state::of_last_run(&files, it.last_ending(&name)));
        ending.await.ok().flatten()
    }

    /// Returns the last lines of what the target's process has printed; `None` when that may not
    /// be read here.
    pub async fn log_tail(&self, target: &Target, n_lines: usize) -> Option<Vec<String>> {
        let files = target.process.as_ref().and_then(|it| self.files(&target.name, it));
        let Some(files) = files else { return Some(Vec::new()) };
        let it = self.clone();
        let lines = tokio::task::spawn_blocking(move || {
            let path = it.allow.readable(files.log_path(), &it.state_dir)?;
            Some(record::last_lines(&path, n_lines))
        });
        lines.await.unwrap_or_default()
    }

    /// Says which log of a target may not be read here. Looks at the file system.
    pub(crate) fn unreadable_log(&self, target: &Target) -> Option<PathBuf> {
        let files = self.files(&target.name, target.process.as_ref()?)?;
        let log = files.log_path();
        self.allow.readable(log, &self.state_dir).is_none().then(|| log.to_path_buf())
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
        let files = self.files(&target.name, &handle)?;
        let living = self.find(target, true).await;
        let (it, name) = (self.clone(), target.name.clone());
        let state = tokio::task::spawn_blocking(move || {
            state::of(living.as_ref(), &files, it.last_ending(&name))
        });
        state.await.ok()
    }
}

/// What may have found a target that runs.
trait Adopts {
    fn running(&self) -> Option<&Running>;
    /// What was found, if it was looked at all processes.
    fn found(&self) -> Option<&Found>;
}

impl Adopts for Found {
    fn running(&self) -> Option<&Running> {
        match self {
            Self::Running(running) => Some(running),
            Self::Unclear { .. } | Self::NotRunning { .. } => None,
        }
    }

    fn found(&self) -> Option<&Found> {
        Some(self)
    }
}

impl Adopts for Option<Running> {
    fn running(&self) -> Option<&Running> {
        self.as_ref()
    }

    fn found(&self) -> Option<&Found> {
        None
    }
}
