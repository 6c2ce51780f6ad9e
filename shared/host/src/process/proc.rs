//! What the kernel shows of a process besides its state.

use std::{fs, path::PathBuf};

use rustix::process::Pid;

use super::{Stat, stat};

/// Returns a variable of the environment that the process was started with.
#[must_use]
pub fn variable(pid: Pid, name: &str) -> Option<String> {
    variable_in(&environment(pid), name)
}

pub(super) fn environment(pid: Pid) -> Vec<u8> {
    read(pid, "environ")
}

pub(super) fn variable_in(environment: &[u8], name: &str) -> Option<String> {
    let value = |entry: &[u8]| {
        let (key, value) = entry.split_at_checked(name.len())?;
        let value = value.strip_prefix(b"=")?;
        (key == name.as_bytes()).then(|| String::from_utf8_lossy(value).into_owned())
    };
    environment.split(|byte| *byte == 0).find_map(value)
}

/// Returns the arguments of a process, or the title that it has given itself. Empty for
/// threads of the kernel, and for an instant at the start of each process.
#[must_use]
pub fn arguments(pid: Pid) -> Vec<String> {
    let line = read(pid, "cmdline");
    let line = line.strip_suffix(&[0]).unwrap_or(&line);
    if line.is_empty() {
        return Vec::new();
    }
    line.split(|byte| *byte == 0).map(|it| String::from_utf8_lossy(it).into_owned()).collect()
}

/// Returns the program that a process runs.
#[must_use]
pub fn program(pid: Pid) -> Option<String> {
    let exe = link(pid, "exe")?;
    Some(exe.to_string_lossy().trim_end_matches(" (deleted)").to_owned())
}

/// Returns the short name of a process, at most 15 bytes.
#[must_use]
pub fn short_name(pid: Pid) -> Option<String> {
    Some(fs::read_to_string(path(pid, "comm")).ok()?.trim_end().to_owned())
}

/// Returns the working directory of a process.
pub(super) fn directory(pid: Pid) -> Option<PathBuf> {
    link(pid, "cwd")
}

/// Returns whether the id is a process (not a thread of one) of our own process namespace
/// (not one of a container).
///
/// What the kernel does not show is taken to be one.
pub(super) fn is_process_of_this_namespace(pid: Pid) -> bool {
    let Ok(status) = fs::read_to_string(path(pid, "status")) else { return true };
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let is_process = field("Tgid:").is_none_or(|it| it.trim() == pid.to_string());
    // Its ids in each namespace from ours down to its own.
    let is_here = field("NSpid:").is_none_or(|it| it.split_ascii_whitespace().count() <= 1);
    is_process && is_here
}

/// Lists the processes of this host.
#[must_use]
pub fn all() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pid = |entry: fs::DirEntry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
    entries.flatten().filter_map(pid).collect()
}

/// Reads a file of a process, by another thread if its first one has ended.
fn read(pid: Pid, file: &str) -> Vec<u8> {
    let own = fs::read(path(pid, file)).unwrap_or_default();
    if !own.is_empty() {
        return own;
    }
    let thread = successor_of_first_thread(pid);
    thread.and_then(|it| fs::read(it.join(file)).ok()).unwrap_or_default()
}

/// The same of a link.
fn link(pid: Pid, file: &str) -> Option<PathBuf> {
    let own = fs::read_link(path(pid, file)).ok();
    own.or_else(|| fs::read_link(successor_of_first_thread(pid)?.join(file)).ok())
}

fn successor_of_first_thread(pid: Pid) -> Option<PathBuf> {
    Stat::read(pid).filter(|it| !it.is_living()).and_then(|_| stat::living_thread(pid))
}

fn path(pid: Pid, file: &str) -> PathBuf {
    format!("/proc/{pid}/{file}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let own = rustix::process::getpid();
        assert!(variable(own, "PATH").is_some());
        assert_eq!(variable(own, "PAT"), None);
        assert!(all().contains(&own));
    }

    #[test]
    fn we_are_a_process_and_our_threads_are_none() {
        let own = rustix::process::getpid();
        assert!(is_process_of_this_namespace(own));
        let thread = std::thread::spawn(|| {
            let link = fs::read_link("/proc/thread-self").unwrap();
            let id = link.file_name().unwrap().to_str().unwrap().parse().unwrap();
            is_process_of_this_namespace(Pid::from_raw(id).unwrap())
        });
        assert!(!thread.join().unwrap());
    }
}
