//! Whose process is it? Ids are used again, so a number in a file proves nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use domain::target::ProcessHandle;
use rustix::process::Pid;

use super::{Living, Stat};

/// The variable by which a process of ours is known.
const NAME_VARIABLE: &[u8] = b"SELFHEAL_TARGET=";
/// The variable that tells the installations of one host apart.
const STATE_VARIABLE: &[u8] = b"SELFHEAL_STATE_DIR=";

/// Returns the living process that a pid file names, if it is the target's.
pub(super) fn of_file(pid_file: &Path, name: &str, handle: &ProcessHandle) -> Option<Living> {
    let pid = pid_in(pid_file)?;
    let stat = Stat::read(pid).filter(Stat::is_living)?;
    let is_ours = match named_target(pid) {
        Some(carried) => carried == name,
        None => runs_program(pid, handle.command.first()?),
    };
    is_ours.then_some(Living { pid, start_ticks: stat.start_ticks })
}

/// Returns the number in a pid file.
pub(super) fn pid_in(pid_file: &Path) -> Option<Pid> {
    Pid::from_raw(fs::read_to_string(pid_file).ok()?.trim().parse().ok()?)
}

/// Returns the target's name that a process carries in its environment, if it can be read.
pub(super) fn named_target(pid: Pid) -> Option<String> {
    variable(pid, NAME_VARIABLE)
}

/// Returns the state directory that a process carries in its environment.
pub(super) fn named_state_dir(pid: Pid) -> Option<PathBuf> {
    variable(pid, STATE_VARIABLE).map(PathBuf::from)
}

/// Returns what follows `prefix` in the environment that a process was started with.
fn variable(pid: Pid, prefix: &[u8]) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let value = variables.find_map(|variable| variable.strip_prefix(prefix))?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// Returns whether a process runs this program: as its executable, as the name it was
/// called by, or as the script of an interpreter.
fn runs_program(pid: Pid, program: &str) -> bool {
    let file_name = |path: &Path| path.file_name().map(std::ffi::OsStr::to_owned);
    let Some(wanted) = file_name(Path::new(program)) else { return false };
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    if line.is_empty() {
        // It is being started this very moment, and its environment cannot be read yet either.
        return false;
    }
    let executable = fs::read_link(format!("/proc/{pid}/exe")).ok();
    let called = line.split(|byte| *byte == 0).take(2);
    let called = called.map(|text| PathBuf::from(String::from_utf8_lossy(text).into_owned()));
    executable.into_iter().chain(called).any(|path| file_name(&path) == Some(wanted.clone()))
}
