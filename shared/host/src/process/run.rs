//! One run of a process: a number and a start time, which no other run has.

use std::{fmt, time::SystemTime};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::{proc, stat, stat::Stat};

/// One run of a process. Ids are used again; an id with its start time is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub pid: i32,
    /// Clock ticks from the host's start to its own.
    pub start_ticks: u64,
}

impl Run {
    /// Returns the living process with this id, if it is one that a target can be: no
    /// thread of another, and no process of a container.
    #[must_use]
    pub fn of(pid: Pid) -> Option<Self> {
        Self::of_any(pid).filter(|_| proc::is_process_of_this_namespace(pid))
    }

    /// Returns the living process or thread with this id, also one of a container.
    #[must_use]
    pub(super) fn of_any(pid: Pid) -> Option<Self> {
        let stat = Stat::of_living(pid)?;
        Some(Self { pid: pid.as_raw_nonzero().get(), start_ticks: stat.start_ticks })
    }

    /// Returns the id for the kernel.
    #[must_use]
    pub fn id(&self) -> Option<Pid> {
        Pid::from_raw(self.pid)
    }

    /// Returns whether this very run is still alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.stat().is_some()
    }

    /// Returns its state while it is alive.
    #[must_use]
    pub fn stat(&self) -> Option<Stat> {
        Stat::of_living(self.id()?).filter(|it| it.start_ticks == self.start_ticks)
    }

    /// Returns when it was started, by the wall clock of now.
    #[must_use]
    pub fn started_at(&self) -> SystemTime {
        stat::time_of_ticks(self.start_ticks)
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} from tick {}", self.pid, self.start_ticks)
    }
}
