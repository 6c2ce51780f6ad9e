//! What the kernel says about a process, and when it was started.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use rustix::{
    process::Pid,
    time::{ClockId, clock_gettime},
};

/// Clock ticks in a second, as the kernel tells them to programs: 100 on every
/// architecture that it runs on with Rust.
const TICKS_PER_SECOND: u64 = 100;

/// Threads that are looked at to see whether a process lives whose first thread has ended.
const THREADS_MAX: usize = 10_000;

/// `PF_KTHREAD` of the kernel's flags of a process.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// What is needed of `/proc/<pid>/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `D`, `T`, `Z`, ...
    pub state: char,
    /// The parent.
    pub parent: i32,
    /// The process group.
    pub group: i32,
    /// The session.
    pub session: i32,
    /// Clock ticks from the host's start to its own.
    pub start_ticks: u64,
    /// How it ended, in the form of `wait`; meaningful for a zombie alone.
    pub wait_status: i32,
    /// Whether it is a thread of the kernel, which has no program.
    pub is_kernel: bool,
}

impl Stat {
    /// Reads the state of a process; `None` when there is none.
    #[must_use]
    pub fn read(pid: Pid) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads the state of a process that is alive.
    ///
    /// One whose first thread has ended and others have not is alive, although the kernel
    /// calls it a zombie.
    #[must_use]
    pub fn of_living(pid: Pid) -> Option<Self> {
        Self::read(pid).filter(|it| it.is_living() || has_living_thread(pid))
    }

    /// The name, in parentheses, may hold anything: what counts stands behind the last one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (_, behind) = text.rsplit_once(')')?;
        let fields: Vec<&str> = behind.split_ascii_whitespace().collect();
        // The first of these is field 3 of proc(5).
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            group: field(5)?.parse().ok()?,
            session: field(6)?.parse().ok()?,
            start_ticks: field(22)?.parse().ok()?,
            wait_status: field(52).and_then(|text| text.parse().ok()).unwrap_or(0),
            is_kernel: field(9)?.parse::<u64>().ok()? & KERNEL_THREAD != 0,
        })
    }

    /// Returns whether its first thread runs; a zombie does not.
    #[must_use]
    pub const fn is_living(&self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }
}

fn has_living_thread(pid: Pid) -> bool {
    living_thread(pid).is_some()
}

/// Returns the directory of a thread that lives: what the kernel shows of a process, it shows
/// there only when the first thread has ended.
pub(super) fn living_thread(pid: Pid) -> Option<PathBuf> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    threads.flatten().take(THREADS_MAX).map(|it| it.path()).find(|thread| {
        let text = fs::read_to_string(thread.join("stat")).ok();
        text.and_then(|it| Stat::parse(&it)).is_some_and(|it| it.is_living())
    })
}

/// Returns whether we may read the exit status of this process; to others the kernel
/// shows a 0, which would look like a success.
pub(super) fn may_see_exit(pid: Pid) -> bool {
    let ours = rustix::process::geteuid();
    let owner = fs::metadata(format!("/proc/{pid}")).map(|meta| meta.uid());
    ours.is_root() || owner.is_ok_and(|owner| owner == ours.as_raw())
}

/// Returns the time so many ticks after the host's start, by the wall clock of now.
#[must_use]
pub fn time_of_ticks(ticks: u64) -> SystemTime {
    let since_boot = Duration::from_millis(millis_of_ticks(ticks));
    boot_time().checked_add(since_boot).unwrap_or_else(SystemTime::now)
}

pub(super) const fn millis_of_ticks(ticks: u64) -> u64 {
    ticks.saturating_mul(1000 / TICKS_PER_SECOND)
}

/// Returns when the host was started, by the wall clock of now.
#[must_use]
pub fn boot_time() -> SystemTime {
    let uptime = Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default();
    SystemTime::now().checked_sub(uptime).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Returns how many ticks have passed since the host was started.
#[must_use]
pub fn ticks_now() -> u64 {
    let uptime = Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default();
    u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX) / (1000 / TICKS_PER_SECOND)
}

/// Returns what tells this start of the host from the others.
#[must_use]
pub fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let tail = "S 1 42 43 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 777 1000 55 \
                    18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 9";
        let stat = Stat::parse(&format!("42 (a) S 9 (b) {tail}")).unwrap();
        let wanted = Stat {
            state: 'S',
            parent: 1,
            group: 42,
            session: 43,
            start_ticks: 777,
            wait_status: 9,
            is_kernel: false,
        };
        assert_eq!(stat, wanted);
        assert_eq!(Stat::parse("42 (x"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn we_are_alive_and_were_started_in_the_past() {
        let stat = Stat::of_living(rustix::process::getpid()).unwrap();
        // The kernel's ticks are coarse: it may even seem to lie a moment ahead.
        let age = SystemTime::now().duration_since(time_of_ticks(stat.start_ticks));
        assert!(age.unwrap_or_default() < Duration::from_secs(3600));
        assert!(boot_time() <= time_of_ticks(stat.start_ticks));
        assert!(!boot_id().is_empty());
    }
}
