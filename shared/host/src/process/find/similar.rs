//! What somebody else has started and is the target, or may be.
//!
//! A process with the very command of the target is the target if nothing speaks against it. In
//! another directory, under a title that it has given itself, or as a target that had another name
//! and another command, it may be: then it is left alone, nothing is started beside it, and a
//! person is asked.

use std::path::{Path, PathBuf};

use super::{
    Found, KnownBy, Running, Search, history, is_of_another, looked::described, of_others,
};
use crate::process::{Run, names, record::Definition, scan, scan::Entry};

/// What somebody else has started.
pub(super) struct Similar<'a> {
    pub(super) search: Search<'a>,
    pub(super) entries: &'a [Entry],
    /// What the target's own runs have left behind.
    pub(super) left: &'a [Run],
}

/// Where a process with the target's command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Where the target does, or its program is named by its whole path.
    Same,
    /// Elsewhere: with the files there its command may be another. Or only a part of the
    /// command is to be seen.
    Elsewhere,
}

impl Similar<'_> {
    /// Says what was found; `None` when nothing may be the target.
    pub(super) fn found(&self) -> Option<Found> {
        let (same, elsewhere) = self.of_same_command();
        if let [main] = same.as_slice()
            && self.is_to_be_adopted(main)
        {
            return Some(adopted(*main, KnownBy::Command));
        }
        if !same.is_empty() {
            return Some(
                self.unclear(same, "has the target's command and was started from outside"),
            );
        }
        if let [main] = elsewhere.as_slice()
            && self.listens(main)
            && self.is_to_be_adopted(main)
        {
            return Some(adopted(*main, KnownBy::Command));
        }
        if !elsewhere.is_empty() {
            return Some(self.unclear(
                elsewhere,
                "has the target's command, in another directory or without a part of it",
            ));
        }
        if let Some(found) = self.of_former_name() {
            return Some(found);
        }
        let titled = self.titled();
        if !titled.is_empty() {
            return Some(self.unclear(titled, "goes by the name of the target's program"));
        }
        let doubted = self.doubted();
        (!doubted.is_empty()).then(|| {
            self.unclear(doubted, "may have been the target before its handle was changed")
        })
    }

    /// Returns the living processes that were in doubt for a former handle of the target. What
    /// serves other ports than its own now is not it.
    fn doubted(&self) -> Vec<Run> {
        // With one, whoever is the target has written it.
        if self.search.files.has_named_pid_file() {
            return Vec::new();
        }
        let host = self.search.host;
        let (boot_id, definition) = (host.boot_id(), Definition::of(self.search.handle));
        let addresses = self.addresses();
        let is_it = |run: Run| {
            host.is_alive(&run)
                && !self.left.contains(&run)
                && (addresses.is_empty() || !host.listens_elsewhere(run, &addresses))
        };
        let former = self
            .search
            .files
            .doubts()
            .into_iter()
            .filter(|it| it.boot_id == boot_id && it.definition != definition && is_it(it.run));
        let doubted: Vec<Run> = former.map(|it| it.run).collect();
        if doubted.is_empty() {
            return doubted;
        }
        let others = of_others(self.search);
        let is_anothers = |run: &Run| {
            let mut entries = self.entries.iter().filter(|it| it.run == *run);
            entries.any(|it| is_of_another(self.search, &others, it))
        };
        doubted.into_iter().filter(|it| !is_anothers(it)).collect()
    }

    /// Returns what runs the very command of the target and was started by somebody else: where
    /// the target runs, and elsewhere.
    pub(super) fn of_same_command(&self) -> (Vec<Run>, Vec<Run>) {
        let command = &self.search.handle.command;
        let host = self.search.host;
        let addresses = self.addresses();
        // The end of a command says less: with the target's port it counts, and where no port is
        // known it may be.
        let is_part = |it: &Entry| {
            names::is_end_of(host, &it.arguments, command)
                || names::is_end_of_text(&it.arguments, command)
        };
        let has_port = |it: &Entry| addresses.is_empty() || host.listen(&[it.run], &addresses);
        let is_whole = |it: &Entry| names::is_command(host, &it.arguments, command);
        let has_command = |it: &&Entry| {
            let is_free = self.is_unmarked(it) || (is_whole(it) && self.is_handed_on(it));
            is_free && (is_whole(it) || (is_part(it) && has_port(it)))
        };
        let eldest = self.eldest(has_command);
        let place = |it: &Entry| {
            let place = self.place(it)?;
            let is_certain = is_whole(it) || !addresses.is_empty();
            Some(if is_certain { place } else { Place::Elsewhere })
        };
        let placed = eldest.iter().filter_map(|it| Some((it.run, place(it)?)));
        let (same, elsewhere): (Vec<_>, Vec<_>) = placed.partition(|it| it.1 == Place::Same);
        let runs = |all: Vec<(Run, Place)>| all.into_iter().map(|it| it.0).collect();
        (runs(same), runs(elsewhere))
    }

    /// Returns where a process with the target's command runs; `None` when it is plainly
    /// another program or another target's.
    fn place(&self, entry: &Entry) -> Option<Place> {
        let (host, handle) = (self.search.host, self.search.handle);
        // A program that is named by its whole path may have gone to another directory.
        if handle.dir.is_none() && handle.command.first().is_some_and(|it| is_absolute(it)) {
            return Some(Place::Same);
        }
        // What may not be looked at may well be it.
        let Some(theirs) = host.directory(entry.run.pid) else { return Some(Place::Same) };
        let Some(ours) = host.canonical(handle.dir.as_deref().unwrap_or(".")) else {
            return Some(Place::Same);
        };
        if ours == theirs {
            return Some(Place::Same);
        }
        let is_of_target_there = self.search.configured.is_some_and(|it| {
            let mut directories = it.directories(&handle.command);
            directories.any(|it| host.canonical(it).as_ref() == Some(&theirs))
        });
        if is_of_target_there {
            return None;
        }
        let addresses = self.addresses();
        if !addresses.is_empty() && host.listens_elsewhere(entry.run, &addresses) {
            return None;
        }
        match self.names_same_files(entry, &ours, &theirs) {
            Some(true) => Some(Place::Same),
            Some(false) => None,
            None => Some(Place::Elsewhere),
        }
    }

    /// Returns whether the words of a command that name files name the same ones in its directory
    /// and in the target's; `None` when no word tells.
    fn names_same_files(&self, entry: &Entry, ours: &Path, theirs: &Path) -> Option<bool> {
        let host = self.search.host;
        let command = &self.search.handle.command;
        let file = |dir: &Path, word: &str| -> Option<PathBuf> {
            let path = dir.join(word);
            host.canonical(path.to_str()?)
        };
        // It may stand behind its interpreter.
        let skipped = entry.arguments.len().saturating_sub(command.len());
        let words = command.iter().zip(entry.arguments.iter().skip(skipped));
        let tells = words.filter(|(word, called)| !(is_absolute(word) && is_absolute(called)));
        let mut told = tells.filter_map(|(word, called)| {
            match (file(ours, word), file(theirs, called)) {
                (Some(one), Some(other)) => Some(one == other),
                // It may have gone elsewhere after it was started.
                (Some(_) | None, None) | (None, Some(_)) => None,
            }
        });
        let first = told.next()?;
        Some(first && told.all(|it| it))
    }

    /// Returns whether the only process with the target's command is the target: no other
    /// target has the command, it is no worker whose master has ended, and it or a process below
    /// it holds the target's ports, as far as they are known.
    fn is_to_be_adopted(&self, run: &Run) -> bool {
        let target = self.search.files.target();
        if !self.search.configured.is_some_and(|it| it.is_alone(target)) {
            return false;
        }
        let has_leader = |it: &Entry| self.entries.iter().any(|other| other.run.pid == it.group);
        let is_led = self.entries.iter().any(|it| it.run == *run && has_leader(it));
        is_led && (self.addresses().is_empty() || self.listens(run))
    }

    /// Returns whether a process or one below it listens on the target's ports.
    fn listens(&self, run: &Run) -> bool {
        // A master may leave the port to workers that listen by themselves.
        let below = scan::descendants(self.entries, &[run.pid]);
        let family: Vec<Run> = below.iter().map(|it| it.run).chain([*run]).collect();
        self.search.host.listen(&family, &self.addresses())
    }

    fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.search.host.local_addresses(self.search.checks)
    }

    /// Returns what a fixer has started for a target that had another name and another command:
    /// with the port of this one it is this one. Without a port nothing tells it from a target that
    /// was removed and still runs.
    fn of_former_name(&self) -> Option<Found> {
        let addresses = self.addresses();
        if addresses.is_empty() {
            return None;
        }
        let alike = history::alike(self.search);
        if alike.is_empty() {
            return None;
        }
        // The table of sockets is read once, however many there are.
        let holders = self.search.host.holders(&addresses).into_iter();
        let holders: Vec<Run> = holders.flat_map(|it| it.processes).collect();
        let holds = |run: &Run| {
            let below = scan::descendants(self.entries, &[run.pid]);
            holders.contains(run) || below.iter().any(|it| holders.contains(&it.run))
        };
        let (name, main) = alike.into_iter().find(|(_, run)| holds(run))?;
        Some(adopted(main, KnownBy::FormerName(history::shown(&name).to_owned())))
    }

    /// Returns what goes by the name of the target's program under a title that it has given
    /// itself, in the target's directory: what its command was cannot be seen.
    fn titled(&self) -> Vec<Run> {
        let (host, handle) = (self.search.host, self.search.handle);
        // With one, whoever is the target has written it.
        if self.search.files.has_named_pid_file() {
            return Vec::new();
        }
        let ours = host.canonical(handle.dir.as_deref().unwrap_or("."));
        let addresses = self.addresses();
        let is_here = |pid: i32| host.directory(pid).is_none_or(|it| Some(it) == ours);
        let serves_others =
            |run: Run| !addresses.is_empty() && host.listens_elsewhere(run, &addresses);
        let titled = self.eldest(|it| {
            self.is_unmarked(it) && names::is_titled(&it.arguments, handle) && is_here(it.run.pid)
        });
        titled.into_iter().map(|it| it.run).filter(|it| !serves_others(*it)).collect()
    }

    /// Returns whether a process carries no mark of a target; or that of the target of this name in
    /// another installation that is not there any more, as when the state directory was moved.
    fn is_unmarked(&self, entry: &Entry) -> bool {
        let Some(theirs) = entry.state_dir.as_deref().filter(|_| entry.target.is_some()) else {
            return entry.target.is_none();
        };
        let ours = self.search.files.state_dir().to_string_lossy();
        // Whoever does not know the configuration does not adopt, and has no use for doubts.
        let is_namesake = self.search.configured.is_some()
            && entry.target.as_deref() == Some(self.search.files.target());
        is_namesake && theirs != ours && !self.entries.iter().any(|it| may_serve(it, theirs))
    }

    /// Returns whether a process carries the mark of another target of ours, whose command it does
    /// not run: it was started by hand from within that, and marks are handed on.
    fn is_handed_on(&self, entry: &Entry) -> bool {
        let ours = self.search.files.state_dir().to_string_lossy();
        if !entry.leads() || entry.state_dir.as_deref() != Some(&ours) {
            return false;
        }
        let named = entry.target.as_deref().filter(|it| *it != self.search.files.target());
        let command = self.search.configured.zip(named).and_then(|(all, it)| all.command(it));
        command.is_some_and(|it| !names::is_command(self.search.host, &entry.arguments, it))
    }

    /// Returns the living processes of a kind that are nobody's as far as it is known: of a family,
    /// such as a server and its workers, the eldest.
    fn eldest(&self, is_it: impl Fn(&&Entry) -> bool) -> Vec<&Entry> {
        let lives = |it: &&Entry| self.search.host.living(it.run.pid) == Some(it.run);
        let all = self.entries.iter().filter(|it| !self.left.contains(&it.run));
        let all: Vec<&Entry> = all.filter(is_it).filter(lives).collect();
        if all.is_empty() {
            return all;
        }
        let others = of_others(self.search);
        let parents: Vec<i32> = all.iter().map(|it| it.run.pid).collect();
        let is_eldest = |it: &&Entry| !parents.contains(&it.parent);
        let is_recorded =
            |it: &Entry| others.iter().any(|other| other.living(self.search.host) == Some(it.run));
        let is_nobodys = |it: &&Entry| {
            if self.is_handed_on(it) {
                !is_recorded(it)
            } else {
                !is_of_another(self.search, &others, it)
            }
        };
        all.into_iter().filter(is_eldest).filter(is_nobodys).collect()
    }

    fn unclear(&self, processes: Vec<Run>, what: &str) -> Found {
        let reason = format!(
            "{} {what}; whether it is the target is not known; name its `pid_file` in the handle, or end it",
            described(self.search.host, &processes)
        );
        Found::Unclear { processes, reason }
    }
}

/// Returns whether a process may be a fixer that works with this state directory.
fn may_serve(entry: &Entry, state_dir: &str) -> bool {
    let mut words = entry.arguments.iter();
    let is_fixer = words.next().is_some_and(|it| it.ends_with("selfheal-fixer"));
    let is_named = || entry.arguments.iter().any(|it| it.ends_with(state_dir));
    // One that names none has the default, which nobody can tell from here.
    is_fixer && (entry.state_dir.as_deref().is_none_or(|it| it == state_dir) || is_named())
}

fn adopted(main: Run, by: KnownBy) -> Found {
    Found::Running(Running { main, by, starter: None })
}

fn is_absolute(program: &str) -> bool {
    Path::new(program).is_absolute()
}
