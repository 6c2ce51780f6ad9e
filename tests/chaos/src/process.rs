//! A process that is kept alive, as a service manager does: whoever ends is started again.

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

/// From an end that nobody caused to the next start.
const RESTART_AFTER: Duration = Duration::from_millis(500);
/// Whoever was asked to end and has not within this time is killed, and reported.
const END_WITHIN: Duration = Duration::from_secs(20);
/// Unexpected ends that are told in words.
const TOLD_MAX: usize = 20;

/// Makes the command of a process; asked at each start.
type Make = Box<dyn Fn() -> Command + Send>;

/// A process that is kept alive. Killed when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Kept(Arc<Mutex<Inner>>);

struct Inner {
    name: String,
    make: Make,
    log: PathBuf,
    child: Option<Child>,
    /// Set while somebody brings it to an end, or delays its start.
    restart_at: Option<Instant>,
    asked_to_end: Option<Instant>,
    /// What it did that nobody asked for.
    odd: Vec<String>,
    n_odd: usize,
    n_starts: usize,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Kept {
    /// Starts a process; what it prints goes to the file `log`.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(
        name: impl Into<String>,
        log: PathBuf,
        make: impl Fn() -> Command + Send + 'static,
    ) -> anyhow::Result<Self> {
        let mut inner = Inner {
            name: name.into(),
            make: Box::new(make),
            log,
            child: None,
            restart_at: None,
            asked_to_end: None,
            odd: Vec::new(),
            n_odd: 0,
            n_starts: 0,
        };
        inner.launch()?;
        Ok(Self(Arc::new(Mutex::new(inner))))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.lock().name.clone()
    }

    /// Returns its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.lock().child.as_ref().map(Child::id)
    }

    /// Returns how often it was started.
    #[must_use]
    pub fn n_starts(&self) -> usize {
        self.lock().n_starts
    }

    /// Returns what it did that nobody asked for, and how often.
    #[must_use]
    pub fn odd(&self) -> (usize, Vec<String>) {
        let inner = self.lock();
        (inner.n_odd, inner.odd.clone())
    }

    /// Kills it with SIGKILL; it starts again after `down`.
    pub fn kill(&self, down: Duration) {
        let mut inner = self.lock();
        inner.restart_at = Some(Instant::now() + down);
        inner.signal(Signal::KILL);
    }

    /// Asks it to end; it starts again `down` after that.
    pub fn terminate(&self, down: Duration) {
        let mut inner = self.lock();
        inner.restart_at = Some(Instant::now() + down);
        inner.asked_to_end = Some(Instant::now());
        inner.signal(Signal::TERM);
    }

    /// Stops it in the middle of what it does.
    pub fn freeze(&self) {
        self.lock().signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.lock().signal(Signal::CONT);
    }

    /// Looks after it: starts it if it has ended. To be called every now and then.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn look(&self) -> anyhow::Result<()> {
        self.lock().look()
    }

    /// Ends it for good.
    pub fn end(&self) {
        let mut inner = self.lock();
        inner.restart_at = Some(Instant::now() + Duration::from_secs(3600));
        inner.signal(Signal::KILL);
        if let Some(mut child) = inner.child.take() {
            let _gone = child.wait();
        }
    }
}

impl Inner {
    fn launch(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = (self.make)();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", self.name))?;
        self.child = Some(child);
        self.restart_at = None;
        self.asked_to_end = None;
        self.n_starts += 1;
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            // It may have ended this instant: then there is nobody to tell.
            let _gone = kill_process(Pid::from_child(child), signal);
        }
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
        if let Some(status) = ended {
            self.child = None;
            if self.restart_at.is_none() {
                self.note(format!("{} ended by itself: {status}", self.name));
                self.restart_at = Some(Instant::now() + RESTART_AFTER);
            } else if self.asked_to_end.is_some() && !status.success() {
                self.note(format!("{} was asked to end and did so with {status}", self.name));
            }
        }
        if self.asked_to_end.is_some_and(|at| END_WITHIN < at.elapsed()) && self.child.is_some() {
            self.note(format!("{} was asked to end and did not", self.name));
            self.asked_to_end = None;
            self.signal(Signal::KILL);
        }
        if self.child.is_none() && self.restart_at.is_none_or(|at| at <= Instant::now()) {
            self.launch()?;
        }
        Ok(())
    }

    fn note(&mut self, what: String) {
        self.n_odd += 1;
        if self.odd.len() < TOLD_MAX {
            self.odd.push(what);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}
