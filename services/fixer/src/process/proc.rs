//! What the kernel tells about a process.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use rustix::process::Pid;

/// Ticks a second of the times in `/proc`; part of the kernel's interface.
const USER_HZ: u64 = 100;

/// The few fields of `/proc/<pid>/stat` that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) group: i32,
    /// In ticks since the machine was started.
    start_ticks: u64,
}

impl Stat {
    /// Returns whether the process still runs; a zombie only waits to be counted.
    pub(crate) const fn is_alive(self) -> bool {
        !matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Returns when it was started, by the wall clock of now.
    pub(crate) fn started_at(self) -> Option<SystemTime> {
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
        let since_boot = Duration::from_millis(self.start_ticks.saturating_mul(1000 / USER_HZ));
        let age = Duration::try_from_secs_f64(uptime).ok()?.saturating_sub(since_boot);
        SystemTime::now().checked_sub(age)
    }
}

/// Reads the state of a process; `None` when there is none.
pub(crate) fn stat(pid: Pid) -> Option<Stat> {
    parse_stat(&fs::read_to_string(path(pid, "stat")).ok()?)
}

pub(crate) fn parse_stat(text: &str) -> Option<Stat> {
    // The name is in parentheses and may hold anything, spaces and parentheses too.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        group: fields.get(2)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

/// Returns a variable of the environment that the process was started with.
pub(crate) fn variable(pid: Pid, name: &str) -> Option<String> {
    let environ = fs::read(path(pid, "environ")).ok()?;
    let value = |entry: &[u8]| {
        let (key, value) = entry.split_at_checked(name.len())?;
        let value = value.strip_prefix(b"=")?;
        (key == name.as_bytes()).then(|| String::from_utf8_lossy(value).into_owned())
    };
    environ.split(|byte| *byte == 0).find_map(value)
}

/// Returns the names under which the process may go: its binary's, its own, and, as a
/// script is run by its interpreter, its first argument's.
pub(crate) fn names(pid: Pid) -> Vec<String> {
    let exe = fs::read_link(path(pid, "exe")).ok();
    let exe = exe.map(|it| it.to_string_lossy().trim_end_matches(" (deleted)").to_owned());
    let arguments = fs::read(path(pid, "cmdline")).unwrap_or_default();
    let arguments = arguments.split(|byte| *byte == 0).take(2);
    let arguments = arguments.map(|it| String::from_utf8_lossy(it).into_owned());
    exe.into_iter().chain(arguments).filter_map(|it| file_name(&it)).collect()
}

/// Returns the last part of a path.
pub(crate) fn file_name(path: &str) -> Option<String> {
    path.rsplit('/').next().filter(|it| !it.is_empty()).map(str::to_owned)
}

/// Lists the processes of this host.
pub(crate) fn all() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pid = |entry: fs::DirEntry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
    entries.flatten().filter_map(pid).collect()
}

fn path(pid: Pid, file: &str) -> PathBuf {
    format!("/proc/{}/{file}", pid.as_raw_nonzero()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 1234 1 1";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.state, stat.group, stat.start_ticks), ('S', 42, 1234));
        assert!(stat.is_alive());
    }

    #[test]
    fn we_are_alive_and_were_started_a_moment_ago() {
        let own = stat(rustix::process::getpid()).unwrap();
        assert!(own.is_alive());
        // The kernel's ticks are coarse: it may even seem to lie a moment ahead.
        let age = SystemTime::now().duration_since(own.started_at().unwrap()).unwrap_or_default();
        assert!(age < Duration::from_secs(600), "{age:?}");
        assert!(all().contains(&rustix::process::getpid()));
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let own = rustix::process::getpid();
        assert!(variable(own, "PATH").is_some());
        assert_eq!(variable(own, "PAT"), None);
    }
}
