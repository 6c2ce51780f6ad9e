//! Stopping: asked first, killed if that does not help, waited for in any case.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal,
        test_kill_process_group,
    },
};
use tokio::time::Instant;

use super::{Run, Running, find, scan};

/// How long a killed process may take to go: the kernel frees its memory and closes its files.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// Why a process could not be stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be signalled.
    #[error("cannot signal process {pid}")]
    Signal {
        /// The process.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It could not be waited for.
    #[error("cannot wait for process {pid}")]
    Wait {
        /// The process.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not go.
    #[error("process {pid} is still there {seconds} s after SIGKILL")]
    Immortal {
        /// The process.
        pid: i32,
        /// How long it was waited for.
        seconds: u64,
    },
}

impl Error {
    /// Returns what the reader can do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Signal { .. } => "run the fixer as the user of the process, or as root",
            Self::Wait { .. } => "see the limits of the fixer (`ulimit -n`)",
            Self::Immortal { .. } => {
                "it waits in the kernel, most often for a disk or a network file system; see `cat /proc/<pid>/stack`"
            }
        }
    }
}

/// How a stop went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Whether it had to be killed.
    pub killed: bool,
}

/// A living process that is held by a descriptor, which stands for this process, whoever
/// gets its number later.
#[derive(Debug)]
pub struct Held {
    run: Run,
    /// Its group, when that is the target's alone.
    group: Option<Pid>,
    fd: OwnedFd,
}

impl Held {
    /// Takes hold of a run; `None` when it is over. `group` is signalled with it.
    #[must_use]
    pub fn of(run: Run, group: Option<Pid>) -> Option<Self> {
        let fd = pidfd_open(run.id()?, PidfdFlags::empty()).ok()?;
        // Only now is it certain whose descriptor it is.
        run.is_alive().then_some(Self { run, group, fd })
    }

    /// Returns which run it is.
    #[must_use]
    pub const fn run(&self) -> Run {
        self.run
    }
}

/// Takes hold of a target that runs, and of its recorded starter.
#[must_use]
pub fn hold(running: &Running) -> Vec<Held> {
    let starter = running.starter.as_ref();
    let heads = [Some(&running.main), starter].into_iter().flatten();
    heads.filter_map(|it| Held::of(*it, find::own_group(it, starter))).collect()
}

/// Takes hold of what belongs to a target.
#[must_use]
pub fn hold_each(runs: &[Run]) -> Vec<Held> {
    runs.iter().filter_map(|it| Held::of(*it, None)).collect()
}

/// Ends processes with their groups, then the `rest`, and returns when all are gone.
///
/// # Errors
///
/// When one cannot be ended.
pub async fn stop(heads: Vec<Held>, rest: Vec<Held>, patience: Duration) -> Result<Stopped, Error> {
    let deadline = Instant::now() + patience;
    let groups = groups(&heads);
    let mut stopped = end(heads, deadline).await?;
    // What a leader leaves behind would hold its port and its files.
    let mut left = rest;
    for group in groups {
        if test_kill_process_group(group).is_ok() {
            left.extend(members(group));
        }
    }
    left.retain(|it| it.run.is_alive());
    if !left.is_empty() {
        stopped.killed |= end(left, deadline).await?.killed;
    }
    Ok(stopped)
}

/// Takes hold of the living members of a group.
fn members(group: Pid) -> Vec<Held> {
    let number = group.as_raw_nonzero().get();
    let in_group = scan::scan().into_iter().filter(|it| it.group == number);
    in_group.filter_map(|it| Held::of(it.run, None)).collect()
}

async fn end(living: Vec<Held>, deadline: Instant) -> Result<Stopped, Error> {
    signal(&living, Signal::TERM)?;
    let left = still_there(living, deadline).await?;
    if left.is_empty() {
        return Ok(Stopped { killed: false });
    }
    signal(&left, Signal::KILL)?;
    match still_there(left, Instant::now() + KILL_WAIT).await?.first() {
        None => Ok(Stopped { killed: true }),
        Some(it) => Err(Error::Immortal { pid: it.run.pid, seconds: KILL_WAIT.as_secs() }),
    }
}

fn groups(living: &[Held]) -> Vec<Pid> {
    let mut groups: Vec<_> = living.iter().filter_map(|it| it.group).collect();
    groups.sort_by_key(|it| it.as_raw_nonzero());
    groups.dedup();
    groups
}

/// Signals each group once, and each process that has no group of its own.
fn signal(living: &[Held], signal: Signal) -> Result<(), Error> {
    for group in groups(living) {
        sent(Some(group), kill_process_group(group, signal))?;
    }
    for it in living.iter().filter(|it| it.group.is_none()) {
        sent(it.run.id(), pidfd_send_signal(&it.fd, signal))?;
    }
    Ok(())
}

fn sent(pid: Option<Pid>, result: Result<(), Errno>) -> Result<(), Error> {
    match result {
        // Gone already is what was wanted.
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(source) => {
            let pid = pid.map_or(0, |it| it.as_raw_nonzero().get());
            Err(Error::Signal { pid, source: source.into() })
        }
    }
}

/// Waits until all have ended or the time is over; returns those that are still there.
async fn still_there(living: Vec<Held>, deadline: Instant) -> Result<Vec<Held>, Error> {
    let first = living.first().map_or(0, |it| it.run.pid);
    let waited = tokio::task::spawn_blocking(move || wait(living, deadline.into_std())).await;
    let waited = waited.map_err(io::Error::other).and_then(|it| it);
    waited.map_err(|source| Error::Wait { pid: first, source })
}

/// Blocks until all have ended: a descriptor of a process can be read from then on.
fn wait(mut living: Vec<Held>, deadline: std::time::Instant) -> io::Result<Vec<Held>> {
    while !living.is_empty() {
        let mut fds: Vec<_> = living.iter().map(|it| PollFd::new(&it.fd, PollFlags::IN)).collect();
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        // A time that the kernel cannot count is one that never ends.
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ended =
            fds.iter().map(|it| !it.revents().is_empty()).collect::<Vec<_>>().into_iter();
        living.retain(|_| !ended.next().unwrap_or(false));
        if left.is_zero() {
            break;
        }
    }
    Ok(living)
}
