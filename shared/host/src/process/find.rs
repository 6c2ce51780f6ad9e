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
//!    by a run that has ended; and the only process that runs the very command of the target, if
//!    no other target has it.
//!
//! A record is the target's if it tells of the handle that the target has; see [`history`]. What
//! is adopted is recorded, see [`adopt`](super::adopt): it is the target from then on, whatever
//! becomes of its command or its name.
//!
//! What may be the target and cannot be known to be, such as the same command in another
//! directory, is left alone, and nothing is started beside it; see [`similar`].
//!
//! What is left of an ended run is not the target, and is ended before the next start. A
//! start command that has ended with code 0 and left processes behind runs in the background:
//! without a pid file nobody knows which of them is the target, and none is touched.

pub(super) mod history;
mod looked;
mod similar;

use std::{fs, path::Path, time::Duration};

use domain::{check::Check, target::ProcessHandle};
use rustix::process::{Pid, getpgrp};

use self::{history::History, looked::Looked, similar::Similar};
use super::{
    Configured, Host, MARK_RUN, MARK_TARGET, Notes, Record, Run, facts, names, pid_file::Content,
    proc, scan, scan::Entry,
};

/// A pid file that the handle names and that was written so soon after a process was started
/// was written for it, whatever its name.
const WRITTEN_WITHIN: Duration = Duration::from_secs(120);

/// Whoever does not listen on the target's port after so long is not the target if only a pid
/// file says so.
const LISTENS_WITHIN: Duration = Duration::from_secs(30);

/// A program shows its environment after so long, if it does not hide it.
const SHOWS_WITHIN: Duration = Duration::from_secs(1);

/// How a target's process is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownBy {
    /// It was recorded when it was started.
    Record,
    /// It was recorded when it was adopted.
    Adoption,
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
            Self::Record | Self::Adoption | Self::PidFile => None,
            Self::Mark => Some(format!("it carries {MARK_TARGET} of the target")),
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
    let named = pid_file(search);
    match running(search, History::certain(search).as_ref(), named.as_ref()) {
        Some(Known::Running(running)) => Some(running),
        Some(Known::Doubtful(..)) | None => None,
    }
}

/// Finds a target, by all that is known. `scan` lists the living processes; it is asked only
/// when record and pid file do not tell.
pub fn find<E: AsRef<[Entry]>>(search: Search<'_>, scan: impl FnOnce() -> E) -> Found {
    let history = History::of(search);
    let named = pid_file(search);
    match running(search, history.as_ref(), named.as_ref()) {
        Some(Known::Running(running)) => return Found::Running(running),
        Some(Known::Doubtful(run)) => return doubtful(search, run),
        None => {}
    }
    let entries = scan();
    let looked = Looked { search, history: history.as_ref(), entries: entries.as_ref() };
    looked.found(named.as_ref())
}

/// Reads the pid file. One that only we write says nothing beside our record, and names another
/// target's run when the name was given away.
fn pid_file(search: Search<'_>) -> Option<Content> {
    let counts = search.files.has_named_pid_file() || search.files.record().is_none();
    counts.then(|| search.files.pid_file()).flatten()
}

/// What record and pid file tell.
enum Known {
    Running(Running),
    /// The pid file names a process, and nothing else speaks for it.
    Doubtful(Run),
}

fn running(
    search: Search<'_>,
    history: Option<&History>,
    content: Option<&Content>,
) -> Option<Known> {
    let recorded = history.and_then(|it| Some((it.living(search.host)?, it.known_by())));
    let named = content.and_then(|it| named(search, history, it));
    let is_newer = |than: &Run| content.is_some_and(|it| it.is_since(than, search.host));
    let starter = recorded.as_ref().map(|it| it.0);
    match (recorded, named) {
        (Some((recorded, _)), Some(Named { run: main, by: Some(by) }))
            if main != recorded && is_newer(&recorded) =>
        {
            Some(Known::Running(Running { main, by, starter }))
        }
        (Some((main, by)), _) => Some(Known::Running(Running { main, by, starter: None })),
        (None, Some(Named { run: main, by: Some(by) })) => {
            Some(Known::Running(Running { main, by, starter: None }))
        }
        (None, Some(Named { run, by: None })) => Some(Known::Doubtful(run)),
        (None, None) => None,
    }
}

fn doubtful(search: Search<'_>, run: Run) -> Found {
    let Run { pid, .. } = run;
    let reason = format!(
        "the pid file names process {pid} ({}), and nothing else says that it is the target; end it, or remove the pid file",
        search.host.describe(pid)
    );
    Found::Unclear { processes: vec![run], reason }
}

/// Returns whether something else than the pid file says that a process of another name, without
/// the mark of a target, may be the target.
fn is_like(search: Search<'_>, run: &Run, arguments: &[String]) -> bool {
    let host = search.host;
    let words = search.handle.command.get(1..).unwrap_or_default();
    let has_name_of_file = || {
        let stem = search.handle.pid_file.as_deref().map(Path::new)?.file_stem()?.to_str()?;
        Some(host.short_name(run.pid)?.starts_with(stem))
    };
    let is_hidden = || {
        // A program that has just begun shows none for a moment.
        SHOWS_WITHIN <= facts::age(host, run) && !host.shows_environment(run.pid)
    };
    is_hidden()
        || names::share_word(words, arguments)
        || host.listen(&[*run], &host.local_addresses(search.checks))
        || has_name_of_file().unwrap_or_default()
}

fn is_in_cgroup_of(host: &dyn Host, record: &Record, pid: i32) -> bool {
    record.cgroup.as_deref().is_some_and(|it| host.members_of_cgroup(it).contains(&pid))
}

/// The process that a pid file names.
struct Named {
    run: Run,
    /// How it is known to be the target; `None` if only the file speaks for it.
    by: Option<KnownBy>,
}

/// Returns the process that a pid file names, if it may be the target.
fn named(search: Search<'_>, history: Option<&History>, content: &Content) -> Option<Named> {
    let host = search.host;
    let run = content.named(host)?;
    let pid = run.pid;
    let target = search.files.target();
    let is_named_pid_file = search.files.has_named_pid_file();
    if let Some(marked) = host.variable(pid, MARK_TARGET) {
        let is_of_history = history.is_some_and(|it| {
            it.name_before() == Some(&marked)
                && host.variable(pid, MARK_RUN).as_ref() == Some(&it.record.mark)
        });
        if marked == target || is_of_history {
            return Some(Named { run, by: Some(KnownBy::PidFile) });
        }
        // Started by a process of another target, or as another target. Its own pid file may
        // name it: a child of that target that was meant to be this one.
        let is_recorded = !search.files.others(&|_| true).iter().all(|(_, it)| it.run != run);
        let is_command = || names::is_command(host, &host.arguments(pid), &search.handle.command);
        let is_same = !is_recorded && is_named_pid_file && is_command();
        return is_same.then_some(Named { run, by: Some(KnownBy::PidFile) });
    }
    let arguments = host.arguments(pid);
    if history.is_some_and(|it| is_in_cgroup_of(host, &it.record, pid)) {
        return Some(Named { run, by: Some(KnownBy::PidFile) });
    }
    let goes_by_name = names::goes_by_name(host, pid, search.handle)
        && !names::interprets_another(&arguments, search.handle);
    let addresses = host.local_addresses(search.checks);
    let has_had_time = LISTENS_WITHIN <= facts::age(host, &run);
    if goes_by_name {
        // Another instance of the program, whose number was written there or is used again.
        if !addresses.is_empty() && host.listens_elsewhere(run, &addresses) {
            return (!has_had_time).then_some(Named { run, by: None });
        }
        return Some(Named { run, by: Some(KnownBy::PidFile) });
    }
    let is_of_our_run = history.is_some_and(|it| {
        it.record.run.start_ticks <= run.start_ticks && content.is_since(&it.record.run, host)
    });
    let is_written_for_it =
        content.age_at(&run, host) <= WRITTEN_WITHIN && host.program(pid).is_some();
    if !is_named_pid_file || !(is_of_our_run || is_written_for_it) {
        return None;
    }
    if is_like(search, &run, &arguments) {
        return Some(Named { run, by: Some(KnownBy::PidFile) });
    }
    // Its number may have been used again, or the file have been written by mistake. Whoever has
    // the target's port to himself and does not listen there is not the target.
    let is_innocent = !addresses.is_empty() && has_had_time;
    (!is_innocent).then_some(Named { run, by: None })
}

/// Returns the process of the target's command that somebody else has started no later than a run
/// that was just started: it was on its way when it was looked whether there is one.
#[must_use]
pub fn started_beside(search: Search<'_>, run: &Run, entries: &[Entry]) -> Option<Run> {
    if !search.configured.is_some_and(|it| it.is_alone(search.files.target())) {
        return None;
    }
    let own: Vec<i32> =
        scan::descendants(entries, &[run.pid]).iter().map(|it| it.run.pid).collect();
    let (same, _) = Similar { search, entries, left: &[*run] }.of_same_command();
    same.into_iter().filter(|it| it.start_ticks <= run.start_ticks && !own.contains(&it.pid)).min()
}

/// Returns everything that belongs to a target besides its main process: what its run has
/// started, and what descends from it. It is ended with the target.
#[must_use]
pub fn belonging(search: Search<'_>, found: &Found, entries: &[Entry]) -> Vec<Run> {
    let history = History::of(search);
    let is_ours = |it: &Entry| {
        is_marked(search, it)
            || history.as_ref().is_some_and(|history| history.has_started(search, it))
    };
    let names = [Some(search.files.target()), history.as_ref().and_then(History::name_before)];
    let record = history.as_ref().map(|it| &it.record);
    let (heads, recorded) = match found {
        Found::Running(running) => {
            let heads: Vec<Run> =
                [Some(running.main), running.starter].into_iter().flatten().collect();
            let is_of_record = record.is_some_and(|it| heads.contains(&it.run));
            (heads, is_of_record)
        }
        Found::NotRunning { leftovers } => (leftovers.clone(), true),
        Found::Unclear { .. } => return Vec::new(),
    };
    let record = record.filter(|_| recorded);
    let mark = record.map(|it| &it.mark).filter(|it| !it.is_empty());
    let cgroup = record.and_then(|it| it.cgroup.as_deref());
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
        it.target.is_none() || names.contains(&it.target.as_deref())
    });
    all.extend(below.map(|it| it.run));
    all.retain(|it| !heads.contains(it) || matches!(found, Found::NotRunning { .. }));
    // What it has started in a namespace of its own belongs to it, too.
    all.retain(|it| search.host.is_alive(it));
    // The records of all others are read for it, which after a reboot is asked for each target.
    if all.is_empty() {
        return all;
    }
    let mains: &[Run] = if matches!(found, Found::Running(_)) { &heads } else { &[] };
    let others = of_other_targets(search, mains, entries);
    all.retain(|it| !others.contains(it));
    all.sort();
    all.dedup();
    all
}

/// Returns the processes of other targets, which may carry our marks: whoever starts one of them
/// from within this target hands them on. They are known by their records or pid files, or run the
/// very command of another target.
fn of_other_targets(search: Search<'_>, mains: &[Run], entries: &[Entry]) -> Vec<Run> {
    let Some(configured) = search.configured else { return Vec::new() };
    let records = search.files.others(&|name| configured.has(name)).into_iter();
    let recorded = records.filter_map(|(_, it)| it.living(search.host));
    let named = configured.pid_files(search.files.target());
    let named = named.filter_map(|it| search.files.pid_file_at(it)?.named(search.host));
    let own = &search.handle.command;
    let commanded = entries.iter().filter(|it| {
        it.leads()
            && !names::is_command(search.host, &it.arguments, own)
            && configured.runs(search.host, search.files.target(), &it.arguments)
    });
    let mut found: Vec<Run> = recorded.chain(named).chain(commanded.map(|it| it.run)).collect();
    found.retain(|it| !mains.contains(it));
    let pids: Vec<i32> = found.iter().map(|it| it.pid).collect();
    found.extend(scan::descendants(entries, &pids).into_iter().map(|it| it.run));
    found
}

/// Returns whether a process carries the mark of the target that is looked for, of this
/// installation.
pub(super) fn is_marked(search: Search<'_>, entry: &Entry) -> bool {
    carries_mark_of(search, search.files.target(), entry)
}

/// Returns whether a process is the living run that is recorded for another target, or was started
/// by it.
pub(super) fn is_of_another(search: Search<'_>, others: &[Record], entry: &Entry) -> bool {
    others.iter().any(|it| {
        let has_started = !it.mark.is_empty() && entry.mark.as_ref() == Some(&it.mark);
        it.living(search.host).is_some_and(|run| run == entry.run || has_started)
    })
}

/// Returns the records of all other targets.
pub(super) fn of_others(search: Search<'_>) -> Vec<Record> {
    search.files.others(&|_| true).into_iter().map(|(_, it)| it).collect()
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
    let is_marked = || run.id().is_some_and(|it| proc::variable(it, MARK_TARGET).is_some());
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
            user: None,
            group: None,
        }
    }
}
