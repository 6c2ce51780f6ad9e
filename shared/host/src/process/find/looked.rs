//! What is looked at when neither record nor pid file tells: all processes.

use chrono::{DateTime, Utc};

use super::{
    Found, History, KnownBy, Running, Search, is_marked, is_of_another, of_others, similar::Similar,
};
use crate::process::{Ending, Host, Record, Run, facts, names, pid_file::Content, scan::Entry};

/// A start command that puts its program into the background has ended after so many seconds.
const STARTER_MAX_S: i64 = 300;

/// What was looked at when neither record nor pid file tells.
pub(super) struct Looked<'a> {
    pub(super) search: Search<'a>,
    pub(super) history: Option<&'a History>,
    pub(super) entries: &'a [Entry],
}

impl Looked<'_> {
    pub(super) fn found(&self, content: Option<&Content>) -> Found {
        if let Some(main) = self.unfinished().or_else(|| self.marked()).or_else(|| self.successor())
        {
            return Found::Running(Running { main, by: KnownBy::Mark, starter: None });
        }
        let left = self.of_ended_run(content);
        if self.went_into_background(&left, content) {
            let suspects = if left.is_empty() { self.of_its_name() } else { left.clone() };
            if !suspects.is_empty() {
                return Found::Unclear {
                    reason: self.in_background(&suspects),
                    processes: suspects,
                };
            }
        }
        self.similar(&left).unwrap_or(Found::NotRunning { leftovers: left })
    }

    fn record(&self) -> Option<&Record> {
        self.history.map(|it| &it.record)
    }

    fn is_ours(&self, entry: &Entry) -> bool {
        is_marked(self.search, entry)
            || self.history.is_some_and(|it| it.has_started(self.search, entry))
    }

    /// Reads how the recorded run ended, if a fixer has seen it.
    fn exit(&self, record: &Record) -> Option<Ending> {
        let own = self.search.files.target();
        let name = self.history.map_or(own, |it| it.name_at_end(own));
        self.search.files.exit_of(name).filter(|it| it.pid == record.run.pid)
    }

    fn started_at(&self, run: &Run) -> DateTime<Utc> {
        facts::started_at(self.search.host, run).into()
    }

    /// Returns whether a run ended as a start command does that puts its program into the
    /// background.
    fn is_of_starter(&self, exit: &Ending, run: &Run) -> bool {
        let lived = exit.at - self.started_at(run);
        // A little less than nothing, for the ticks are coarse.
        exit.exit_code == Some(0) && (-1..=STARTER_MAX_S).contains(&lived.num_seconds())
    }

    fn oldest<'b>(&self, entries: impl Iterator<Item = &'b Entry>) -> Option<Run> {
        let living = entries.filter(|it| self.search.host.living(it.run.pid) == Some(it.run));
        living.map(|it| it.run).min_by_key(|it| (it.start_ticks, it.pid))
    }

    /// Returns the process of a start whose record was never written.
    fn unfinished(&self) -> Option<Run> {
        let mark = self.search.files.unfinished()?;
        let started = self.entries.iter().filter(|it| {
            let is_it =
                if mark.is_empty() { it.mark.is_none() } else { it.mark.as_ref() == Some(&mark) };
            self.is_ours(it) && it.leads() && is_it
        });
        self.oldest(started)
    }

    /// Returns a process that carries the target's mark and was not started by a run that is
    /// recorded and has ended.
    fn marked(&self) -> Option<Run> {
        let since = self.record().map(|it| it.run.start_ticks);
        let is_new = |it: &Entry| match since {
            None => true,
            // Of a run of ours there would be a record.
            Some(since) => it.mark.is_none() && since < it.run.start_ticks,
        };
        let adopted = self.entries.iter().filter(|it| {
            self.is_ours(it)
                && it.leads()
                && is_new(it)
                && names::goes_by_name(self.search.host, it.run.pid, self.search.handle)
        });
        let adopted: Vec<&Entry> = adopted.collect();
        if adopted.is_empty() {
            return None;
        }
        // A target that has another name now carries this mark for as long as it runs.
        let others = of_others(self.search);
        self.oldest(adopted.into_iter().filter(|it| !is_of_another(self.search, &others, it)))
    }

    /// Returns the process that the program has started in the place of the recorded run, such
    /// as a keeper does that outlives its server: it began after the end of that run, and has
    /// the target's ports. A child of a worker that has them is left over as the worker is.
    fn successor(&self) -> Option<Run> {
        let record = self.record().filter(|it| !it.mark.is_empty())?;
        let exit = self.exit(record)?;
        if self.is_of_starter(&exit, &record.run) {
            return None;
        }
        let addresses = self.search.host.local_addresses(self.search.checks);
        // Ticks are cut down and an end is noted late: a worker of that run is never since.
        let is_since = |it: &Entry| exit.at <= self.started_at(&it.run);
        let of_run: Vec<&Entry> = self
            .entries
            .iter()
            .filter(|it| self.is_ours(it) && it.mark.as_ref() == Some(&record.mark))
            .collect();
        let listens = |it: &Entry| self.search.host.listen(&[it.run], &addresses);
        let has_listening_parent =
            |it: &Entry| of_run.iter().any(|other| other.run.pid == it.parent && listens(other));
        let new = of_run.iter().filter(|it| is_since(it) && listens(it));
        self.oldest(new.copied().filter(|it| !has_listening_parent(it)))
    }

    /// Returns what lives of the run that was recorded, or that the pid file names.
    fn of_ended_run(&self, content: Option<&Content>) -> Vec<Run> {
        let record = self.record();
        // While a group has members, its number is not used again for a process.
        let ended = |pid: &i32| self.search.host.living(*pid).is_none();
        let recorded = record.map(|it| it.run.pid).filter(ended);
        let named = content.filter(|it| it.is_of_this_boot(self.search.host)).and_then(|it| it.pid);
        let named = named.map(|it| it.as_raw_nonzero().get()).filter(ended);
        let in_cgroup = record.and_then(|it| it.cgroup.as_deref());
        let in_cgroup = in_cgroup.map(|it| self.search.host.members_of_cgroup(it));
        let in_cgroup = in_cgroup.unwrap_or_default();
        let is_left = |it: &&Entry| {
            let is_in = |pid: Option<i32>| pid == Some(it.group) || pid == Some(it.session);
            // The number alone is not enough: the group may have ended, and another begun.
            let of_recorded = is_in(recorded)
                && (self.is_ours(it) || !it.has_environment || self.is_left_by_adopted(it));
            let of_named = is_in(named) && (self.is_ours(it) || self.is_unmarked_namesake(it));
            let is_marked = record.is_some_and(|record| {
                !record.mark.is_empty()
                    && it.mark.as_deref() == Some(&record.mark)
                    && self.is_ours(it)
            });
            of_recorded || of_named || is_marked || in_cgroup.contains(&it.run.pid)
        };
        self.entries.iter().filter(is_left).map(|it| it.run).collect()
    }

    /// Returns whether a process goes by the name of a target that was adopted, and is younger.
    fn is_left_by_adopted(&self, entry: &Entry) -> bool {
        let is_younger = |it: &Record| it.run.start_ticks <= entry.run.start_ticks;
        self.record().filter(|it| it.is_adopted).is_some_and(is_younger)
            && entry.target.is_none()
            && names::goes_by_name(self.search.host, entry.run.pid, self.search.handle)
    }

    fn is_unmarked_namesake(&self, entry: &Entry) -> bool {
        self.search.files.has_named_pid_file()
            && entry.target.is_none()
            && names::goes_by_name(self.search.host, entry.run.pid, self.search.handle)
    }

    /// Returns whether the recorded run was a start command that has put the program into
    /// the background.
    ///
    /// Not if the program has written a pid file since: then that says who the target was.
    fn went_into_background(&self, left: &[Run], content: Option<&Content>) -> bool {
        // What was adopted was no start command.
        let Some(record) = self.record().filter(|it| !it.is_adopted) else { return false };
        if content.is_some_and(|it| {
            it.is_since(&record.run, self.search.host) && it.names_another_than(&record.run)
        }) {
            return false;
        }
        match self.exit(record) {
            Some(exit) => self.is_of_starter(&exit, &record.run),
            // Nobody saw it end: what has a session of its own has put itself there.
            None => {
                self.entries.iter().any(|it| left.contains(&it.run) && it.session != record.run.pid)
            }
        }
    }

    /// Returns what goes by the target's name, shows no environment, was started after the
    /// recorded run, and is not known to be another target's or to serve other ports.
    fn of_its_name(&self) -> Vec<Run> {
        let since = self.record().map_or(0, |it| it.run.start_ticks);
        let records = self.search.files.others(&|_| true);
        let others: Vec<i32> = records
            .iter()
            .filter_map(|(_, it)| it.living(self.search.host))
            .map(|it| it.pid)
            .collect();
        let is_others = |it: &Entry| others.contains(&it.session) || others.contains(&it.group);
        let addresses = self.search.host.local_addresses(self.search.checks);
        let serves_others =
            |run: Run| !addresses.is_empty() && self.search.host.listens_elsewhere(run, &addresses);
        let alike = self.entries.iter().filter(|it| {
            !it.has_environment
                && since <= it.run.start_ticks
                && !is_others(it)
                && names::goes_by_name(self.search.host, it.run.pid, self.search.handle)
                && !self.is_anothers_program(it)
                && !serves_others(it.run)
                // A program that has just begun shows none for a moment.
                && !self.search.host.shows_environment(it.run.pid)
                && self.search.host.living(it.run.pid) == Some(it.run)
        });
        alike.map(|it| it.run).collect()
    }

    /// Returns whether a process runs another program of the same interpreter, and its parent
    /// lives: what a start command has left behind belongs to the first process of the host, or
    /// to a manager of services.
    fn is_anothers_program(&self, entry: &Entry) -> bool {
        if !names::interprets_another(&entry.arguments, self.search.handle) {
            return false;
        }
        let parent = self.entries.iter().find(|it| it.run.pid == entry.parent);
        parent.is_some_and(|it| {
            it.run.pid != 1 && !it.arguments.iter().take(1).any(|name| is_manager(name))
        })
    }

    /// Returns what is to be said of processes that were started by somebody else and are, or may
    /// be, the target.
    fn similar(&self, left: &[Run]) -> Option<Found> {
        Similar { search: self.search, entries: self.entries, left }.found()
    }

    fn in_background(&self, processes: &[Run]) -> String {
        format!(
            "it runs in the background: its start command has ended, and which of {} is the target is not known; name a `pid_file` in its handle",
            described(self.search.host, processes)
        )
    }
}

/// Returns whether a program takes in what others leave behind.
fn is_manager(program: &str) -> bool {
    const MANAGERS: [&str; 6] =
        ["systemd", "init", "tini", "dumb-init", "s6-svscan", "selfheal-fixer"];
    program.rsplit('/').next().is_some_and(|name| MANAGERS.contains(&name))
}

/// Names a few processes for people.
pub(super) fn described(host: &dyn Host, processes: &[Run]) -> String {
    const SHOWN_MAX: usize = 3;
    let one = |it: &Run| format!("process {} ({})", it.pid, host.describe(it.pid));
    let mut words: Vec<_> = processes.iter().take(SHOWN_MAX).map(one).collect();
    if SHOWN_MAX < processes.len() {
        words.push(format!("{} more", processes.len() - SHOWN_MAX));
    }
    words.join(", ")
}
