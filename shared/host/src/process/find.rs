//! Which living process is a target.
//!
//! The dangers: to stop an innocent process, for ids are used again and a number in a file
//! proves nothing; to overlook one that lives, for it would be started twice; and to call
//! alive what is only left over. In this order:
//!
//! 1. The run that was recorded when it was started, by id and start time.
//! 2. What the pid file names, checked against start time, and that it may be the target at
//!    all: by its mark, its name, or because the file was written while our run went on.
//! 3. Without these, a process is adopted that carries the target's mark and was not started
//!    by a run that has ended; the recorded run of a target that is no longer configured and
//!    had the same command and pid file: it was renamed; and the only process that runs the
//!    very command of the target, if no other target has it.
//!
//! What is left of an ended run is not the target, and is ended before the next start. A
//! start command that has ended with code 0 and left processes behind runs in the background:
//! without a pid file nobody knows which of them is the target, and none is touched.

mod looked;

use std::{fs, path::Path, time::Duration};

use domain::{check::Check, target::ProcessHandle};
use rustix::process::{Pid, getpgrp};

use self::looked::Looked;
use super::{
    Configured, Host, Notes, Record, Run, names, pid_file::Content, proc, scan, scan::Entry,
};

/// A pid file that the handle names and that was written so soon after a process was started
/// was written for it, whatever its name.
const WRITTEN_WITHIN: Duration = Duration::from_secs(120);

/// How a target's process is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownBy {
    /// It was recorded when it was started.
    Record,
    /// The pid file names it.
    PidFile,
    /// It carries the target's mark. It is adopted.
    Mark,
    /// It runs the very command of the target and was started by somebody else. It is adopted.
    Command,
    /// It was recorded for, or carries the mark of, a target that had another name. It is adopted.
    FormerName(String),
}

impl KnownBy {
    /// Says how a process was adopted that nobody has recorded for the target.
    #[must_use]
    pub fn adoption(&self) -> Option<String> {
        match self {
            Self::Record | Self::PidFile => None,
            Self::Mark => Some(format!("it carries {} of the target", super::MARK_TARGET)),
            Self::Command => Some("it runs the target's command".to_owned()),
            Self::FormerName(name) => {
                Some(format!("it was started as target `{name}`, with the same command"))
            }
        }
    }
}

/// A target that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its main process.
    pub main: Run,
    /// How it is known.
    pub by: KnownBy,
    /// The run that was recorded, where the pid file names another and both are alive.
    pub starter: Option<Run>,
}

/// What was found of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It runs.
    Running(Running),
    /// Processes run of which it cannot be said whether one is the target. Nothing is
    /// started beside them, and none is stopped.
    Unclear {
        /// Them.
        processes: Vec<Run>,
        /// Why, and what to do.
        reason: String,
    },
    /// It does not run.
    NotRunning {
        /// What its last run has left behind.
        leftovers: Vec<Run>,
    },
}

impl Found {
    /// Returns the main process of a target that runs.
    #[must_use]
    pub const fn main(&self) -> Option<Run> {
        match self {
            Self::Running(running) => Some(running.main),
            Self::Unclear { .. } | Self::NotRunning { .. } => None,
        }
    }
}

/// Who is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// Where: the processes of this host are looked at.
    pub host: &'a dyn Host,
    /// The files beside it.
    pub files: &'a dyn Notes,
    /// Its handle.
    pub handle: &'a ProcessHandle,
    /// Its checks: the ports that they name are the target's.
    pub checks: &'a [Check],
    /// The targets of the configuration, if it is known.
    pub configured: Option<&'a Configured>,
}

/// Finds a target by its record and its pid file alone: a few small files are read.
#[must_use]
pub fn find_recorded(search: Search<'_>) -> Option<Running> {
    let record = search.files.record();
    let named = search.files.pid_file();
    running(search, record.as_ref(), named.as_ref())
}

/// Finds a target, by all that is known. `scan` lists the living processes; it is asked only
/// when record and pid file do not tell.
pub fn find<E: AsRef<[Entry]>>(search: Search<'_>, scan: impl FnOnce() -> E) -> Found {
    let record = search.files.record();
    let named = search.files.pid_file();
    if let Some(running) = running(search, record.as_ref(), named.as_ref()) {
        return Found::Running(running);
    }
    let entries = scan();
    let looked = Looked { search, record: record.as_ref(), entries: entries.as_ref() };
    looked.found(named.as_ref())
}

fn running(
    search: Search<'_>,
    record: Option<&Record>,
    content: Option<&Content>,
) -> Option<Running> {
    let recorded = record.and_then(|it| it.living(search.host));
    let named = content.and_then(|it| named(search, record, it));
    match (recorded, named) {
        (Some(main), None) => Some(Running { main, by: KnownBy::Record, starter: None }),
        (Some(recorded), Some((main, by))) => {
            let is_newer = content.is_some_and(|it| it.is_since(&recorded, search.host));
            Some(if main != recorded && is_newer {
                Running { main, by, starter: Some(recorded) }
            } else {
                Running { main: recorded, by: KnownBy::Record, starter: None }
            })
        }
        (None, Some((main, by))) => Some(Running { main, by, starter: None }),
        (None, None) => None,
    }
}

/// Returns the process that a pid file names, if it may be the target.
fn named(search: Search<'_>, record: Option<&Record>, content: &Content) -> Option<(Run, KnownBy)> {
    let host = search.host;
    let run = content.named(host)?;
    let pid = run.pid;
    let target = search.files.target();
    if let Some(marked) = host.variable(pid, super::MARK_TARGET) {
        if marked == target {
            return Some((run, KnownBy::PidFile));
        }
        // Started by a process of another target, or as another target.
        let recorded = search.files.others(&|_| true).into_iter().find(|(_, it)| it.run == run);
        let is_same = match recorded {
            Some((name, other)) => {
                let is_former = search.configured.is_none_or(|it| !it.has(&name));
                return (is_former && other.is_of(search.handle))
                    .then_some((run, KnownBy::FormerName(name)));
            }
            // Its own pid file names it: a child of that target that was meant to be this one.
            None => {
                search.files.has_named_pid_file()
                    && names::is_command(host, &host.arguments(pid), &search.handle.command)
            }
        };
        return is_same.then_some((run, KnownBy::PidFile));
    }
    let is_of_our_run = record.is_some_and(|it| {
        it.is_of_this_boot(host)
            && it.run.start_ticks <= run.start_ticks
            && content.is_since(&it.run, host)
            && search.files.has_named_pid_file()
    });
    let is_written_for_it = search.files.has_named_pid_file()
        && content.age_at(&run, host) <= WRITTEN_WITHIN
        && host.program(pid).is_some();
    let may_be =
        is_of_our_run || is_written_for_it || names::goes_by_name(host, pid, search.handle);
    may_be.then_some((run, KnownBy::PidFile))
}

/// Returns the process of the target's command that somebody else has started no later than a run
/// that was just started: it was on its way when it was looked whether there is one.
#[must_use]
pub fn started_beside(search: Search<'_>, run: &Run, entries: &[Entry]) -> Option<Run> {
    if !search.configured.is_some_and(|it| it.is_alone(search.files.target())) {
        return None;
    }
    let looked = Looked { search, record: None, entries };
    let own: Vec<i32> =
        scan::descendants(entries, &[run.pid]).iter().map(|it| it.run.pid).collect();
    let same = looked.of_same_command(&[*run]).into_iter();
    same.filter(|it| it.start_ticks <= run.start_ticks && !own.contains(&it.pid)).min()
}

/// Returns everything that belongs to a target besides its main process: what its run has
/// started, and what descends from it. It is ended with the target.
#[must_use]
pub fn belonging(search: Search<'_>, found: &Found, entries: &[Entry]) -> Vec<Run> {
    // What a renamed target has started carries its former name.
    let former = match found {
        Found::Running(Running { by: KnownBy::FormerName(name), .. }) => Some(name.as_str()),
        Found::Running(_) | Found::Unclear { .. } | Found::NotRunning { .. } => None,
    };
    let record = match former {
        Some(name) => search.files.others(&|it| it == name).pop().map(|(_, it)| it),
        None => search.files.record(),
    };
    let record = record.filter(|it| it.is_of_this_boot(search.host));
    let target = former.unwrap_or_else(|| search.files.target());
    let is_ours = |it: &Entry| carries_mark_of(search, target, it);
    let (heads, recorded) = match found {
        Found::Running(running) => {
            let heads: Vec<Run> =
                [Some(running.main), running.starter].into_iter().flatten().collect();
            let is_of_record = record.as_ref().is_some_and(|it| heads.contains(&it.run));
            (heads, is_of_record)
        }
        Found::NotRunning { leftovers } => (leftovers.clone(), true),
        Found::Unclear { .. } => return Vec::new(),
    };
    let mark = record.as_ref().filter(|_| recorded).map(|it| &it.mark).filter(|it| !it.is_empty());
    let cgroup = record.as_ref().filter(|_| recorded).and_then(|it| it.cgroup.as_deref());
    let in_cgroup = cgroup.map(|it| search.host.members_of_cgroup(it)).unwrap_or_default();
    let started = entries.iter().filter(|it| {
        let is_marked = mark.is_some() && it.mark.as_ref() == mark && is_ours(it);
        is_marked || in_cgroup.contains(&it.run.pid)
    });
    let mut all: Vec<Run> = heads.clone();
    all.extend(started.map(|it| it.run));
    let pids: Vec<i32> = all.iter().map(|it| it.pid).collect();
    let below = scan::descendants(entries, &pids).into_iter().filter(|it| {
        // What was started as another target is that one's.
        it.target.as_deref().is_none_or(|it| it == target)
    });
    all.extend(below.map(|it| it.run));
    all.retain(|it| !heads.contains(it) || matches!(found, Found::NotRunning { .. }));
    // What it has started in a namespace of its own belongs to it, too.
    all.retain(|it| search.host.is_alive(it));
    all.sort();
    all.dedup();
    all
}

/// Returns whether a process carries the mark of the target that is looked for, of this
/// installation.
pub(super) fn is_marked(search: Search<'_>, entry: &Entry) -> bool {
    carries_mark_of(search, search.files.target(), entry)
}

fn carries_mark_of(search: Search<'_>, target: &str, entry: &Entry) -> bool {
    let state_dir = search.files.state_dir().to_string_lossy();
    entry.target.as_deref() == Some(target) && entry.state_dir.as_deref() == Some(&state_dir)
}

/// Returns the processes of a control group.
pub(super) fn members_of_cgroup(dir: &str) -> Vec<i32> {
    let text = fs::read_to_string(Path::new(dir).join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|it| it.trim().parse().ok()).collect()
}

/// Returns the group of a process, when it is the target's alone: a process that others
/// started may share their group, even ours.
pub(super) fn own_group(run: &Run, starter: Option<&Run>) -> Option<Pid> {
    let group = run.stat()?.group;
    let leads = group == run.pid || starter.is_some_and(|it| it.pid == group);
    let is_marked = || run.id().is_some_and(|it| proc::variable(it, super::MARK_TARGET).is_some());
    Pid::from_raw(group).filter(|it| *it != getpgrp() && (leads || is_marked()))
}

#[cfg(test)]
pub(super) mod testing {
    use std::collections::BTreeMap;

    use domain::{span::Span, target::ProcessHandle};

    /// Returns a handle with this command and nothing else.
    pub(crate) fn handle(command: &[&str]) -> ProcessHandle {
        ProcessHandle {
            command: command.iter().map(|it| (*it).to_owned()).collect(),
            dir: None,
            env: BTreeMap::new(),
            pid_file: None,
            log: None,
            stop_timeout: Span::from_secs(5),
        }
    }
}
