//! How a process ended.

use std::{fs, path::Path};

use chrono::{DateTime, Utc};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use super::{OomCount, Run, Stat, oom, stat};

/// SIGKILL, by which the kernel ends a process for want of memory.
const SIGKILL: i32 = 9;

/// How a run ended. What is not known is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The process.
    pub pid: i32,
    /// Its exit code, when it ended by itself.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// Whether the kernel killed it for want of memory.
    #[serde(default)]
    pub oom_killed: Option<bool>,
    /// When.
    pub at: DateTime<Utc>,
}

impl Ending {
    /// Finds out how a run has ended: from the zombie, or from what its parent wrote.
    #[must_use]
    pub fn of(run: &Run, record: &Path, oom_before: Option<&OomCount>) -> Self {
        let unknown =
            Self { pid: run.pid, exit_code: None, signal: None, oom_killed: None, at: Utc::now() };
        let left = Self::of_zombie(run);
        let recorded = || Self::recorded(record).filter(|it| it.pid == run.pid);
        let mut ending = left.or_else(recorded).unwrap_or(unknown);
        if ending.oom_killed.is_none() {
            ending.oom_killed = match (ending.signal, ending.exit_code) {
                (Some(SIGKILL), _) | (None, None) => oom_before.and_then(OomCount::has_grown),
                (Some(_), _) | (None, Some(_)) => Some(false),
            };
        }
        ending
    }

    fn of_zombie(run: &Run) -> Option<Self> {
        let pid = run.id()?;
        let is_it = Stat::read(pid).is_some_and(|stat| stat.start_ticks == run.start_ticks);
        if is_it { Self::of_dead(pid) } else { None }
    }

    /// Reads the exit status of a process that has ended but was not yet reaped.
    #[must_use]
    pub fn of_dead(pid: Pid) -> Option<Self> {
        let stat = Stat::read(pid).filter(|stat| !stat.is_living())?;
        stat::may_see_exit(pid).then(|| {
            let (exit_code, signal) = of_wait_status(stat.wait_status);
            let pid = pid.as_raw_nonzero().get();
            Self { pid, exit_code, signal, oom_killed: None, at: Utc::now() }
        })
    }

    /// Reads what the parent wrote when its child had ended.
    #[must_use]
    pub fn recorded(record: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(record).ok()?).ok()
    }

    /// Adds what another account of the same end knows.
    #[must_use]
    pub fn joined(self, other: &Self) -> Self {
        let is_told = self.exit_code.is_some() || self.signal.is_some();
        let (exit_code, signal) =
            if is_told { (self.exit_code, self.signal) } else { (other.exit_code, other.signal) };
        Self { exit_code, signal, oom_killed: self.oom_killed.or(other.oom_killed), ..self }
    }

    /// Looks for the kernel's own words where nothing else has told.
    #[must_use]
    pub fn with_kernel_log(mut self) -> Self {
        let may_be_oom = match (self.signal, self.exit_code) {
            (Some(signal), _) => signal == SIGKILL,
            (None, code) => code.is_none(),
        };
        if self.oom_killed.is_none() && may_be_oom {
            self.oom_killed = oom::in_kernel_log(self.pid);
        }
        self
    }

    /// Tells it in words.
    #[must_use]
    pub fn words(&self) -> String {
        let pid = self.pid;
        let oom =
            if self.oom_killed == Some(true) { " by the kernel, for want of memory" } else { "" };
        match (self.exit_code, self.signal) {
            (_, Some(signal)) => format!("process {pid} was killed by signal {signal}{oom}"),
            (Some(code), None) => format!("process {pid} exited with code {code}"),
            (None, None) => format!("process {pid} ended"),
        }
    }
}

/// Splits a status in the form of `wait` into exit code and signal.
const fn of_wait_status(status: i32) -> (Option<i32>, Option<i32>) {
    let signal = status & 0x7f;
    if signal == 0 { (Some((status >> 8) & 0xff), None) } else { (None, Some(signal)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_is_an_exit_code_or_a_signal() {
        assert_eq!(of_wait_status(0), (Some(0), None));
        assert_eq!(of_wait_status(0x300), (Some(3), None));
        assert_eq!(of_wait_status(9), (None, Some(9)));
        assert_eq!(of_wait_status(0x8b), (None, Some(11)), "with a core dump");
    }

    #[test]
    fn what_the_parent_wrote_completes_what_was_seen() {
        let seen: Ending =
            serde_json::from_str(r#"{"pid":7,"oom_killed":false,"at":"2026-01-01T00:00:00Z"}"#)
                .unwrap();
        let wrote: Ending = serde_json::from_str(
            r#"{"pid":7,"exit_code":null,"signal":9,"at":"2026-01-01T00:00:01Z"}"#,
        )
        .unwrap();
        let joined = seen.joined(&wrote);
        assert_eq!((joined.signal, joined.oom_killed), (Some(9), Some(false)));
        assert_eq!(joined.words(), "process 7 was killed by signal 9");
    }
}
