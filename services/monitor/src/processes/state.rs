//! The state of a process as others see it.

use std::fs;

use chrono::{DateTime, Utc};
use domain::wire::ProcessState;
use host::process::{Ending, Files, Run, Stat, ThisHost};

/// Descriptors that are counted at most.
const N_FDS_MAX: usize = 1_000_000;

/// Describes a living process and how the run before it ended, or the last run.
pub(super) fn of(living: Option<&Run>, files: &Files, last: Option<Ending>) -> ProcessState {
    let mut state = living.map_or_else(ProcessState::default, of_living);
    let ending = if living.is_some() {
        last
    } else {
        let ending = of_last_run(files, last);
        let pid = ending.as_ref().map(|it| it.pid).or_else(|| last_pid(files));
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

/// Finds out how the last run ended: what is remembered may be about an older one.
pub(super) fn of_last_run(files: &Files, last: Option<Ending>) -> Option<Ending> {
    match last_pid(files) {
        Some(pid) => last
            .filter(|it| it.pid == pid)
            .or_else(|| Ending::of_dead(rustix::process::Pid::from_raw(pid)?)),
        None => last,
    }
}

/// Returns the process of the last run: that of the pid file, if it was written while the
/// recorded run went on or later, else the recorded one.
fn last_pid(files: &Files) -> Option<i32> {
    let recorded = files.read_record().filter(|it| it.is_of_this_boot(&ThisHost));
    let named = files.read_pid();
    let is_newer = |named: &host::process::pid_file::Content| {
        recorded.as_ref().is_none_or(|it| named.is_since(&it.run, &ThisHost))
    };
    let named = named.filter(is_newer).and_then(|it| it.pid);
    named.map(|it| it.as_raw_nonzero().get()).or_else(|| recorded.map(|it| it.run.pid))
}

fn of_living(living: &Run) -> ProcessState {
    let pid = living.pid;
    ProcessState {
        running: true,
        pid: u32::try_from(pid).ok(),
        state: living.id().and_then(Stat::read).map(|stat| stat.state.to_string()),
        rss_bytes: rss_bytes(pid),
        n_fds: n_fds(pid),
        fds_max: fds_max(pid),
        started_at: Some(DateTime::<Utc>::from(living.started_at())),
        ..ProcessState::default()
    }
}

fn rss_bytes(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

fn n_fds(pid: i32) -> Option<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    u64::try_from(entries.take(N_FDS_MAX).count()).ok()
}

fn fds_max(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
