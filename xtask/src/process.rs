//! Child processes, signals and waiting.

use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// How often a condition is looked at.
const TICK: Duration = Duration::from_millis(5);

/// Waits until `look` returns something, at most `limit`.
pub(crate) fn eventually<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return Ok(seen);
        }
        if limit <= start.elapsed() {
            bail!("not within {} s: {what}", limit.as_secs());
        }
        tick();
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that waits between two looks")]
fn tick() {
    std::thread::sleep(TICK);
}

/// Asks the child to end, and kills it when it does not within `limit`.
pub(crate) fn end(child: &mut Child, limit: Duration) -> anyhow::Result<ExitStatus> {
    if let Some(status) = child.try_wait().context("cannot look at the process")? {
        return Ok(status);
    }
    if let Some(pid) = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)) {
        // It may have ended already.
        kill_process(pid, Signal::TERM).ok();
    }
    let ended = eventually("the process ends", limit, || child.try_wait().ok().flatten());
    match ended {
        Ok(status) => Ok(status),
        Err(_late) => {
            child.kill().context("cannot kill the process")?;
            child.wait().context("cannot wait for the process")
        }
    }
}

/// Asks a process that is not our child to end, and kills it when it does not within `limit`.
pub(crate) fn end_pid(pid: Pid, limit: Duration) {
    if kill_process(pid, Signal::TERM).is_err() {
        return;
    }
    let ended = eventually("the process ends", limit, || (!is_alive(pid)).then_some(()));
    if ended.is_err() {
        kill_process(pid, Signal::KILL).ok();
    }
}

/// Tells whether the process runs; a zombie does not.
pub(crate) fn is_alive(pid: Pid) -> bool {
    if test_kill_process(pid).is_err() {
        return false;
    }
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        // pid (name) state …; the name may hold anything.
        Ok(stat) => !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        // No /proc: the signal decides.
        Err(_) => !Path::new("/proc/self").exists(),
    }
}

/// Reads a pid file; none when there is none or it holds something else.
pub(crate) fn read_pid(path: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(path).ok()?;
    let number: i32 = text.split_whitespace().next()?.parse().ok()?;
    Pid::from_raw(number)
}
