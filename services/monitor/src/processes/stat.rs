//! `/proc/<pid>/stat`, read and understood.

use std::{fs, os::unix::fs::MetadataExt, sync::OnceLock};

use chrono::{DateTime, Utc};
use rustix::process::Pid;

/// Clock ticks in a second, as the kernel tells them to programs: 100 on every
/// architecture that it runs on with Rust.
const TICKS_PER_SECOND: u64 = 100;

/// What is needed of `/proc/<pid>/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `D`, `T`, `Z`, ...
    pub state: char,
    /// The process group.
    pub group: i32,
    /// Clock ticks from the host's start to its own.
    pub start_ticks: u64,
    /// How it ended, in the form of `wait`; meaningful for a zombie alone.
    pub wait_status: i32,
}

impl Stat {
    /// Reads the state of a process; `None` when there is none.
    #[must_use]
    pub fn read(pid: Pid) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name, in parentheses, may hold anything: what counts stands behind the last one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (_, behind) = text.rsplit_once(')')?;
        let fields: Vec<&str> = behind.split_ascii_whitespace().collect();
        // The first of these is field 3 of proc(5).
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            state: field(3)?.chars().next()?,
            group: field(5)?.parse().ok()?,
            start_ticks: field(22)?.parse().ok()?,
            wait_status: field(52).and_then(|text| text.parse().ok()).unwrap_or(0),
        })
    }

    /// Returns whether it runs; a zombie does not.
    #[must_use]
    pub const fn is_living(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Returns whether we may read the exit status of this process; to others the kernel
/// shows a 0, which would look like a success.
pub(super) fn may_see_exit(pid: Pid) -> bool {
    let ours = rustix::process::geteuid();
    let owner = fs::metadata(format!("/proc/{pid}")).map(|meta| meta.uid());
    ours.is_root() || owner.is_ok_and(|owner| owner == ours.as_raw())
}

/// Returns the time so many ticks after the host's start.
pub(super) fn time_of_ticks(ticks: u64) -> Option<DateTime<Utc>> {
    static BOOT: OnceLock<Option<i64>> = OnceLock::new();
    let boot = (*BOOT.get_or_init(boot_time))?;
    let ms = i64::try_from(ticks.checked_mul(1000 / TICKS_PER_SECOND)?).ok()?;
    DateTime::from_timestamp_millis(boot.checked_mul(1000)?.checked_add(ms)?)
}

fn boot_time() -> Option<i64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let tail = "S 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 777 1000 55 \
                    18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 9";
        let stat = Stat::parse(&format!("42 (a) S 9 (b) {tail}")).unwrap();
        let wanted = Stat { state: 'S', group: 42, start_ticks: 777, wait_status: 9 };
        assert_eq!(stat, wanted);
        assert_eq!(Stat::parse("42 (x"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn we_are_alive_and_were_started_in_the_past() {
        let stat = Stat::read(rustix::process::getpid()).unwrap();
        assert!(stat.is_living());
        let started = time_of_ticks(stat.start_ticks).unwrap();
        let age = Utc::now() - started;
        assert!((-2..3600).contains(&age.num_seconds()), "{age}");
    }
}
