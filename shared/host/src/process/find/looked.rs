//! What is looked at when neither record nor pid file tells: all processes.

use std::path::Path;

use chrono::{DateTime, Utc};

use super::{Found, KnownBy, Running, Search, is_marked};
use crate::process::{Ending, Record, Run, facts, names, pid_file::Content, scan, scan::Entry};

/// A start command that puts its program into the background has ended after so many seconds.
const STARTER_MAX_S: i64 = 300;

/// What was looked at when neither record nor pid file tells.
pub(super) struct Looked<'a> {
    pub(super) search: Search<'a>,
    pub(super) record: Option<&'a Record>,
    pub(super) entries: &'a [Entry],
}

impl Looked<'_> {
    pub(super) fn found(&self, content: Option<&Content>) -> Found {
        if let Some(main) = self.unfinished().or_else(|| self.marked()).or_else(|| self.successor())
        {
            return Found::Running(Running { main, by: KnownBy::Mark, starter: None });
        }
        if let Some((main, name)) = self.renamed() {
            let by = KnownBy::FormerName(name);
            return Found::Running(Running { main, by, starter: None });
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
        let same = self.of_same_command(&left);
        if let [main] = same.as_slice()
            && self.is_to_be_adopted(main)
        {
            return Found::Running(Running { main: *main, by: KnownBy::Command, starter: None });
        }
        if !same.is_empty() {
            return Found::Unclear { reason: self.not_known(&same), processes: same };
        }
        Found::NotRunning { leftovers: left }
    }

    /// Returns whether the only process with the target's command is the target: no other
    /// target has the command, it is no worker whose master has ended, and it or a process below
    /// it holds the target's ports, as far as they are known.
    fn is_to_be_adopted(&self, run: &Run) -> bool {
        let target = self.search.files.target();
        let has_leader = |it: &Entry| self.entries.iter().any(|other| other.run.pid == it.group);
        if !self.search.configured.is_some_and(|it| it.is_alone(target))
            || !self.entries.iter().any(|it| it.run == *run && has_leader(it))
        {
            return false;
        }
        let addresses = self.search.host.local_addresses(self.search.checks);
        // A master may leave the port to workers that listen by themselves.
        let below = scan::descendants(self.entries, &[run.pid]);
        let family: Vec<Run> = below.iter().map(|it| it.run).chain([*run]).collect();
        addresses.is_empty() || self.search.host.listen(&family, &addresses)
    }

    fn is_ours(&self, entry: &Entry) -> bool {
        is_marked(self.search, entry)
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
        let since = self
            .record
            .filter(|it| it.is_of_this_boot(self.search.host))
            .map(|it| it.run.start_ticks);
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
        self.oldest(adopted)
    }

    /// Returns the process that the program has started in the place of the recorded run, such
    /// as a keeper does that outlives its server: it began after the end of that run, and has
    /// the target's ports. A child of a worker that has them is left over as the worker is.
    fn successor(&self) -> Option<Run> {
        let record =
            self.record.filter(|it| it.is_of_this_boot(self.search.host) && !it.mark.is_empty())?;
        let exit = self.search.files.exit().filter(|it| it.pid == record.run.pid)?;
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

    fn renamed(&self) -> Option<(Run, String)> {
        let configured = self.search.configured?;
        // Of hundreds of targets nearly all are configured: their records need not be read.
        let former = self.search.files.others(&|name| !configured.has(name)).into_iter();
        let same = former.filter(|(_, record)| record.is_of(self.search.handle));
        let mut living =
            same.filter_map(|(name, record)| Some((record.living(self.search.host)?, name)));
        living.next()
    }

    /// Returns what lives of the run that was recorded, or that the pid file names.
    fn of_ended_run(&self, content: Option<&Content>) -> Vec<Run> {
        let record = self.record.filter(|it| it.is_of_this_boot(self.search.host));
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
            let of_recorded = is_in(recorded) && (self.is_ours(it) || !it.has_environment);
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
        let Some(record) = self.record.filter(|it| it.is_of_this_boot(self.search.host)) else {
            return false;
        };
        if content.is_some_and(|it| {
            it.is_since(&record.run, self.search.host) && it.names_another_than(&record.run)
        }) {
            return false;
        }
        let exit = self.search.files.exit().filter(|it| it.pid == record.run.pid);
        match exit {
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
        let since = self.record.map_or(0, |it| it.run.start_ticks);
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
                && !serves_others(it.run)
                // A program that has just begun shows none for a moment.
                && !self.search.host.shows_environment(it.run.pid)
                && self.search.host.living(it.run.pid) == Some(it.run)
        });
        alike.map(|it| it.run).collect()
    }

    fn is_in(&self, pid: i32, dir: Option<&Path>) -> bool {
        // What may not be looked at may well be it.
        self.search.host.directory(pid).is_none_or(|it| dir.is_none_or(|dir| dir == it))
    }

    /// Returns what runs the very command of the target, in the same directory if that counts,
    /// and was started by somebody else.
    pub(super) fn of_same_command(&self, left: &[Run]) -> Vec<Run> {
        let handle = self.search.handle;
        // A program that is named by its whole path may have gone to another directory.
        let is_anywhere = handle.dir.is_none() && handle.command.first().is_some_and(is_absolute);
        let dir = self.search.host.canonical(handle.dir.as_deref().unwrap_or("."));
        let addresses = self.search.host.local_addresses(self.search.checks);
        // The end of a command says less: only with the target's port it counts.
        let is_end = |it: &Entry| {
            names::is_end_of(self.search.host, &it.arguments, &handle.command)
                && self.search.host.listen(&[it.run], &addresses)
        };
        let same = self.entries.iter().filter(|it| {
            it.target.is_none()
                && !left.contains(&it.run)
                && (names::is_command(self.search.host, &it.arguments, &handle.command)
                    || is_end(it))
                && (is_anywhere || self.is_in(it.run.pid, dir.as_deref()))
                && self.search.host.living(it.run.pid) == Some(it.run)
        });
        let same: Vec<&Entry> = same.collect();
        // Of a family with the same command, such as a server and its workers, the eldest.
        let parents: Vec<i32> = same.iter().map(|it| it.run.pid).collect();
        same.iter().filter(|it| !parents.contains(&it.parent)).map(|it| it.run).collect()
    }

    fn in_background(&self, processes: &[Run]) -> String {
        format!(
            "it runs in the background: its start command has ended, and which of {} is the target is not known; name a `pid_file` in its handle",
            self.described(processes)
        )
    }

    fn not_known(&self, processes: &[Run]) -> String {
        format!(
            "{} has the target's command and was started by somebody else; whether it is the target is not known; name its `pid_file` in the handle, or end it",
            self.described(processes)
        )
    }

    /// Names a few processes for people.
    fn described(&self, processes: &[Run]) -> String {
        const SHOWN_MAX: usize = 3;
        let one = |it: &Run| format!("process {} ({})", it.pid, self.search.host.describe(it.pid));
        let mut words: Vec<_> = processes.iter().take(SHOWN_MAX).map(one).collect();
        if SHOWN_MAX < processes.len() {
            words.push(format!("{} more", processes.len() - SHOWN_MAX));
        }
        words.join(", ")
    }
}

fn is_absolute(program: &String) -> bool {
    Path::new(program).is_absolute()
}
