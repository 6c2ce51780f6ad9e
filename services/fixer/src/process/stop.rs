//! Stopping: asked first, killed if that does not help, waited for in any case.

use std::{io, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, Signal, kill_process_group, pidfd_send_signal, test_kill_process_group},
};
use tokio::time::Instant;

use super::find::{Living, members};

/// How long a killed process may take to go: the kernel frees its memory and closes its files.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// Why a process could not be stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
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
    pub(crate) const fn hint(&self) -> &'static str {
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
pub(crate) struct Stopped {
    /// Whether it had to be killed.
    pub(crate) killed: bool,
}

/// Ends processes with their groups, and returns when they are gone.
pub(crate) async fn stop(living: Vec<Living>, patience: Duration) -> Result<Stopped, Error> {
    let deadline = Instant::now() + patience;
    let groups = groups(&living);
    let mut stopped = end(living, deadline).await?;
    // What a leader leaves behind would hold its port and its files.
    for group in groups {
        if test_kill_process_group(group).is_ok() {
            let left = members(group, |_| true);
            stopped.killed |= end(left, deadline).await?.killed;
        }
    }
    Ok(stopped)
}

async fn end(living: Vec<Living>, deadline: Instant) -> Result<Stopped, Error> {
    signal(&living, Signal::TERM)?;
    let left = still_there(living, deadline).await?;
    if left.is_empty() {
        return Ok(Stopped { killed: false });
    }
    signal(&left, Signal::KILL)?;
    match still_there(left, Instant::now() + KILL_WAIT).await?.first() {
        None => Ok(Stopped { killed: true }),
        Some(it) => Err(Error::Immortal { pid: raw(it.pid), seconds: KILL_WAIT.as_secs() }),
    }
}

fn groups(living: &[Living]) -> Vec<Pid> {
    let mut groups: Vec<_> = living.iter().filter_map(|it| it.group).collect();
    groups.sort_by_key(|it| it.as_raw_nonzero());
    groups.dedup();
    groups
}

/// Signals each group once, and each process that has no group of its own.
fn signal(living: &[Living], signal: Signal) -> Result<(), Error> {
    for group in groups(living) {
        sent(group, kill_process_group(group, signal))?;
    }
    for it in living.iter().filter(|it| it.group.is_none()) {
        sent(it.pid, pidfd_send_signal(&it.fd, signal))?;
    }
    Ok(())
}

fn sent(pid: Pid, result: Result<(), Errno>) -> Result<(), Error> {
    match result {
        // Gone already is what was wanted.
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(source) => Err(Error::Signal { pid: raw(pid), source: source.into() }),
    }
}

/// Waits until all have ended or the time is over; returns those that are still there.
async fn still_there(living: Vec<Living>, deadline: Instant) -> Result<Vec<Living>, Error> {
    let first = living.first().map_or(0, |it| raw(it.pid));
    let waited = tokio::task::spawn_blocking(move || wait(living, deadline.into_std())).await;
    let waited = waited.map_err(io::Error::other).and_then(|it| it);
    waited.map_err(|source| Error::Wait { pid: first, source })
}

/// Blocks until all have ended: a descriptor of a process can be read from then on.
fn wait(mut living: Vec<Living>, deadline: std::time::Instant) -> io::Result<Vec<Living>> {
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

fn raw(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}
