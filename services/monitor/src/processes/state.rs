//! The state of a process as others see it.

use std::{fs, path::Path};

use domain::wire::ProcessState;
use rustix::process::Pid;

use super::{Ending, Living, Stat, identity};

/// Descriptors that are counted at most.
const N_FDS_MAX: usize = 1_000_000;

/// Describes a living process and how the run before it ended, or the last run.
pub(super) fn of(living: Option<&Living>, pid_file: &Path, last: Option<Ending>) -> ProcessState {
    let mut state = living.map_or_else(ProcessState::default, of_living);
    let ending = if living.is_some() {
        last
    } else {
        let ending = of_last_run(pid_file, last);
        let pid =
            ending.as_ref().map(|it| it.pid).or_else(|| identity::pid_in(pid_file).map(number));
        state.pid = pid.and_then(|pid| u32::try_from(pid).ok());
        ending.map(Ending::with_kernel_log)
    };
    if let Some(ending) = ending {
        state.exit_code = ending.exit_code;
        state.signal = ending.signal;
        state.oom_killed = ending.oom_killed;
    }
    state
}

/// Finds out how the run ended that the pid file names: what is remembered may be about
/// an older one.
pub(super) fn of_last_run(pid_file: &Path, last: Option<Ending>) -> Option<Ending> {
    match identity::pid_in(pid_file) {
        Some(pid) => last.filter(|it| it.pid == number(pid)).or_else(|| Ending::of_dead(pid)),
        None => last,
    }
}

fn number(pid: Pid) -> i32 {
    pid.as_raw_nonzero().get()
}

fn of_living(living: &Living) -> ProcessState {
    let pid = living.pid;
    ProcessState {
        running: true,
        pid: u32::try_from(living.number()).ok(),
        state: Stat::read(pid).map(|stat| stat.state.to_string()),
        rss_bytes: rss_bytes(pid),
        n_fds: n_fds(pid),
        fds_max: fds_max(pid),
        started_at: living.started_at(),
        ..ProcessState::default()
    }
}

fn rss_bytes(pid: Pid) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn n_fds(pid: Pid) -> Option<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    u64::try_from(entries.take(N_FDS_MAX).count()).ok()
}

fn fds_max(pid: Pid) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
