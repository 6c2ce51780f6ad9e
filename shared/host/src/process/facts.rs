//! What the rules of [`find`](super::find) ask: of a host and of the files beside a target.
//!
//! The rules themselves read nothing. [`ThisHost`] and [`Files`] answer from the kernel and the
//! disk; the simulation answers from a model, so that the same rules are tried in it.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use domain::check::Check;
use rustix::process::Pid;

use super::{
    Doubt, Ending, Files, Record, Run,
    pid_file::Content,
    ports::{self, Holder},
    proc, stat,
};

/// What a host shows of its processes.
pub trait Host: fmt::Debug {
    /// Returns what tells this start of the host from the others.
    fn boot_id(&self) -> String;
    /// Returns the time by the wall clock.
    fn now(&self) -> SystemTime;
    /// Returns when the host was started, by the wall clock of now.
    fn boot_time(&self) -> SystemTime;
    /// Returns the living process with this id, if it is one that a target can be.
    fn living(&self, pid: i32) -> Option<Run>;
    /// Returns whether this very run is still alive.
    fn is_alive(&self, run: &Run) -> bool;
    /// Returns a variable of the environment that a process was started with.
    fn variable(&self, pid: i32, name: &str) -> Option<String>;
    /// Returns whether a process shows an environment.
    fn shows_environment(&self, pid: i32) -> bool;
    /// Returns the arguments of a process, or the title that it has given itself.
    fn arguments(&self, pid: i32) -> Vec<String>;
    /// Returns the program that a process runs.
    fn program(&self, pid: i32) -> Option<String>;
    /// Returns the short name of a process.
    fn short_name(&self, pid: i32) -> Option<String>;
    /// Returns the working directory of a process.
    fn directory(&self, pid: i32) -> Option<PathBuf>;

    /// Says what runs under an id, for people.
    fn describe(&self, pid: i32) -> String {
        let arguments = self.arguments(pid).join(" ");
        let short = || self.short_name(pid).unwrap_or_default();
        let words = if arguments.is_empty() { short() } else { arguments };
        words.chars().filter(|it| !it.is_control()).take(80).collect()
    }

    /// Returns a path as the kernel names it, without links.
    fn canonical(&self, path: &str) -> Option<PathBuf>;
    /// Returns the processes of a control group.
    fn members_of_cgroup(&self, dir: &str) -> Vec<i32>;
    /// Returns the addresses of this host that checks connect to.
    fn local_addresses(&self, checks: &[Check]) -> Vec<SocketAddr>;
    /// Returns who listens on one of these addresses.
    fn holders(&self, addresses: &[SocketAddr]) -> Vec<Holder>;
    /// Returns whether one of these processes listens on one of these addresses.
    fn listen(&self, runs: &[Run], addresses: &[SocketAddr]) -> bool;
    /// Returns whether a process listens on other addresses, and on none of these.
    fn listens_elsewhere(&self, run: Run, addresses: &[SocketAddr]) -> bool;
}

/// What is noted beside a target.
pub trait Notes: fmt::Debug {
    /// Returns the name of the target.
    fn target(&self) -> &str;
    /// Returns the state directory, which tells two installations apart.
    fn state_dir(&self) -> &Path;
    /// Returns whether the handle names the pid file, so that the program may write it.
    fn has_named_pid_file(&self) -> bool;
    /// Reads what was noted at the last start.
    fn record(&self) -> Option<Record>;
    /// Reads the pid file.
    fn pid_file(&self) -> Option<Content>;
    /// Reads the pid file of another target.
    fn pid_file_at(&self, path: &str) -> Option<Content>;
    /// Reads how the last run of a target ended, of this one or another, if its fixer has seen it.
    fn exit_of(&self, target: &str) -> Option<Ending>;
    /// Returns the mark of a start that was begun and whose record was never written.
    fn unfinished(&self) -> Option<String>;
    /// Reads which processes may have been the target.
    fn doubts(&self) -> Vec<Doubt>;
    /// Reads the records of other targets whose names are `wanted`, with their names.
    fn others(&self, wanted: &dyn Fn(&str) -> bool) -> Vec<(String, Record)>;
}

/// The host on which we run.
#[derive(Clone, Copy, Debug)]
pub struct ThisHost;

impl Host for ThisHost {
    fn boot_id(&self) -> String {
        stat::boot_id()
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn boot_time(&self) -> SystemTime {
        stat::boot_time()
    }

    fn living(&self, pid: i32) -> Option<Run> {
        Run::of(Pid::from_raw(pid)?)
    }

    fn is_alive(&self, run: &Run) -> bool {
        run.is_alive()
    }

    fn variable(&self, pid: i32, name: &str) -> Option<String> {
        proc::variable(Pid::from_raw(pid)?, name)
    }

    fn shows_environment(&self, pid: i32) -> bool {
        Pid::from_raw(pid).is_some_and(|pid| proc::environment(pid).contains(&b'='))
    }

    fn arguments(&self, pid: i32) -> Vec<String> {
        Pid::from_raw(pid).map(proc::arguments).unwrap_or_default()
    }

    fn program(&self, pid: i32) -> Option<String> {
        proc::program(Pid::from_raw(pid)?)
    }

    fn short_name(&self, pid: i32) -> Option<String> {
        proc::short_name(Pid::from_raw(pid)?)
    }

    fn directory(&self, pid: i32) -> Option<PathBuf> {
        proc::directory(Pid::from_raw(pid)?)
    }

    fn canonical(&self, path: &str) -> Option<PathBuf> {
        std::fs::canonicalize(path).ok()
    }

    fn members_of_cgroup(&self, dir: &str) -> Vec<i32> {
        super::find::members_of_cgroup(dir)
    }

    fn local_addresses(&self, checks: &[Check]) -> Vec<SocketAddr> {
        ports::local_addresses(checks)
    }

    fn holders(&self, addresses: &[SocketAddr]) -> Vec<Holder> {
        ports::holders(addresses)
    }

    fn listen(&self, runs: &[Run], addresses: &[SocketAddr]) -> bool {
        ports::listen(runs, addresses)
    }

    fn listens_elsewhere(&self, run: Run, addresses: &[SocketAddr]) -> bool {
        ports::listens_elsewhere(run, addresses)
    }
}

impl Notes for Files {
    fn target(&self) -> &str {
        self.target()
    }

    fn state_dir(&self) -> &Path {
        self.state_dir()
    }

    fn has_named_pid_file(&self) -> bool {
        self.has_named_pid_file()
    }

    fn record(&self) -> Option<Record> {
        self.read_record()
    }

    fn pid_file(&self) -> Option<Content> {
        self.read_pid()
    }

    fn pid_file_at(&self, path: &str) -> Option<Content> {
        Content::read(Path::new(path))
    }

    fn exit_of(&self, target: &str) -> Option<Ending> {
        self.read_exit_of(target)
    }

    fn unfinished(&self) -> Option<String> {
        self.unfinished_start()
    }

    fn doubts(&self) -> Vec<Doubt> {
        self.read_doubts()
    }

    fn others(&self, wanted: &dyn Fn(&str) -> bool) -> Vec<(String, Record)> {
        self.other_records(wanted)
    }
}

/// Returns when a run was started, by the wall clock of now.
pub(super) fn started_at(host: &dyn Host, run: &Run) -> SystemTime {
    let since_boot = Duration::from_millis(stat::millis_of_ticks(run.start_ticks));
    host.boot_time().checked_add(since_boot).unwrap_or_else(SystemTime::now)
}

/// Returns how long ago a run was started.
pub(super) fn age(host: &dyn Host, run: &Run) -> Duration {
    host.now().duration_since(started_at(host, run)).unwrap_or_default()
}
