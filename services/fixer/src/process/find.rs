//! Which living processes are a target's.
//!
//! The danger is to stop an innocent one: process ids are used again, so a number in
//! a file proves nothing. And to overlook one that lives: it would be started twice.

use std::{os::fd::OwnedFd, time::Duration};

use domain::target::ProcessHandle;
use rustix::process::{Pid, PidfdFlags, getpgrp, pidfd_open, test_kill_process_group};

use super::{MARK_STATE, MARK_TARGET, files::Files, proc};

/// How much younger than its pid file a process may be: clocks are set, and ticks are coarse.
const CLOCK_SLACK: Duration = Duration::from_secs(2);

/// A process that lives and is the target's.
#[derive(Debug)]
pub(crate) struct Living {
    pub(crate) pid: Pid,
    /// Its group, when that is the target's alone.
    pub(crate) group: Option<Pid>,
    /// Stands for this process, whoever gets its number later.
    pub(crate) fd: OwnedFd,
}

/// Finds what lives of a target.
///
/// All of `/proc` is searched only when the pid file cannot be trusted: there is
/// none, or a start was begun whose id was never written (its fixer died), or the
/// process is gone and its group is not.
pub(crate) fn find(files: &Files, handle: &ProcessHandle) -> Vec<Living> {
    let written = files.read_pid();
    if let Some((pid, at)) = written {
        if let Some(living) = living(pid, |pid| is_ours(pid, files.target(), handle, at)) {
            return vec![living];
        }
        let gone = proc::stat(pid).is_none_or(|it| !it.is_alive());
        if gone && test_kill_process_group(pid).is_ok() {
            let left = members(pid, |it| is_marked(it, files.target()));
            if !left.is_empty() {
                return left;
            }
        }
    }
    if written.is_some() && !files.has_unfinished_start() {
        return Vec::new();
    }
    let state_dir = files.state_dir().to_string_lossy();
    let ours = |pid| {
        is_marked(pid, files.target())
            && proc::variable(pid, MARK_STATE).is_some_and(|it| it == state_dir)
    };
    proc::all().into_iter().filter_map(|pid| living(pid, ours)).collect()
}

/// Lists the living members of a group that a test accepts.
pub(crate) fn members(group: Pid, accept: impl Fn(Pid) -> bool) -> Vec<Living> {
    let group = group.as_raw_nonzero().get();
    let in_group = |pid: &Pid| proc::stat(*pid).is_some_and(|it| it.group == group);
    proc::all().into_iter().filter(in_group).filter_map(|pid| living(pid, &accept)).collect()
}

/// Takes hold of a process, and only then looks whether it is the right one.
fn living(pid: Pid, accept: impl Fn(Pid) -> bool) -> Option<Living> {
    let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let stat = proc::stat(pid).filter(|it| it.is_alive())?;
    if !accept(pid) {
        return None;
    }
    // A process that others started may share their group, even ours.
    let group = Pid::from_raw(stat.group).filter(|group| {
        *group != getpgrp() && (*group == pid || proc::variable(pid, MARK_TARGET).is_some())
    });
    Some(Living { pid, group, fd })
}

fn is_marked(pid: Pid, target: &str) -> bool {
    proc::variable(pid, MARK_TARGET).is_some_and(|it| it == target)
}

/// Tells whether the process of a pid file is the one that the file was written for.
fn is_ours(
    pid: Pid,
    target: &str,
    handle: &ProcessHandle,
    written_at: std::time::SystemTime,
) -> bool {
    if let Some(marked) = proc::variable(pid, MARK_TARGET) {
        return marked == target;
    }
    // Somebody else started it: it must have the right name, and be older than the file.
    let Some(program) = handle.command.first().and_then(|it| proc::file_name(it)) else {
        return false;
    };
    let started_at = proc::stat(pid).and_then(proc::Stat::started_at);
    proc::names(pid).contains(&program)
        && started_at.is_some_and(|it| it <= written_at + CLOCK_SLACK)
}
