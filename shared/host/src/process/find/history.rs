//! Which record is a target's.
//!
//! Records are kept by name, and names may be given away: a target gets another one, or two of
//! them exchange theirs. What a record says of the handle tells whose run it is then.

use domain::target::ProcessHandle;

use super::{KnownBy, Search, carries_mark_of};
use crate::process::{Host, Record, Run, names, record::Definition, scan::Entry};

/// Stands between the name of a target and the run in the name of a record that was set aside.
/// No name of a target has it.
pub(in crate::process) const ASIDE: char = '~';

/// What was noted of the last run of a target, since the host was started.
#[derive(Clone, Debug)]
pub(in crate::process) struct History {
    /// The name that the record is kept under, when it is not the target's own.
    pub(in crate::process) former: Option<String>,
    /// It.
    pub(in crate::process) record: Record,
}

impl History {
    /// Finds the record of a target.
    pub(in crate::process) fn of(search: Search<'_>) -> Option<Self> {
        let own = search.files.record().filter(|it| it.is_of_this_boot(search.host));
        let definition = Definition::of(search.handle);
        let is_own = own.as_ref().is_some_and(|it| it.definition == definition);
        if is_own && own.as_ref().is_some_and(|it| it.living(search.host).is_some()) {
            return own.map(Self::own);
        }
        let former = former(search, &definition, is_own);
        let lives = |it: &Self| it.record.living(search.host).is_some();
        if former.as_ref().is_some_and(lives) {
            return former;
        }
        let own = own.filter(|it| is_own || !is_given_away(search, it));
        own.map(Self::own).or(former)
    }

    /// Returns the target's own record if it cannot be another's, and nobody else's can be this
    /// target's: nothing else is read.
    pub(super) fn certain(search: Search<'_>) -> Option<Self> {
        let own = search.files.record()?;
        let is_certain = search.configured.is_none() || own.is_of(search.handle);
        is_certain.then(|| Self::own(own))
    }

    const fn own(record: Record) -> Self {
        Self { former: None, record }
    }

    /// Returns the run while it is alive.
    pub(super) fn living(&self, host: &dyn Host) -> Option<Run> {
        self.record.living(host)
    }

    pub(super) fn known_by(&self) -> KnownBy {
        match &self.former {
            Some(name) => KnownBy::FormerName(shown(name).to_owned()),
            None if self.record.is_adopted => KnownBy::Adoption,
            None => KnownBy::Record,
        }
    }

    /// Returns whether a process was started by this run when the target had another name.
    pub(super) fn has_started(&self, search: Search<'_>, entry: &Entry) -> bool {
        !self.record.mark.is_empty()
            && entry.mark.as_ref() == Some(&self.record.mark)
            && self.name_before().is_some_and(|it| carries_mark_of(search, it, entry))
    }

    /// Returns the name in the marks of the run, when it is not the target's own.
    pub(in crate::process) fn name_before(&self) -> Option<&str> {
        self.record.started_as.as_deref().or(self.former.as_deref())
    }

    /// Returns the name of the target whose fixer has seen the end of the run.
    pub(super) fn name_at_end<'a>(&'a self, own: &'a str) -> &'a str {
        self.former.as_deref().map_or(own, shown)
    }
}

/// Returns a name without what tells records apart that were set aside.
pub(in crate::process) fn shown(name: &str) -> &str {
    name.split_once(ASIDE).map_or(name, |(it, _)| it)
}

/// Returns the record of a target that has just this handle now, and is kept under a name that is
/// not configured any more, or is that of a target with another handle now. Among several, one
/// that lives.
fn former(search: Search<'_>, definition: &Definition, is_own: bool) -> Option<History> {
    let configured = search.configured?;
    if configured.sole(definition) != Some(search.files.target()) {
        return None;
    }
    // Of hundreds of targets nearly all are configured, and have the handle that they had.
    let records = search.files.others(&|name| !is_own || !configured.has(name)).into_iter();
    let free = records.filter(|(name, record)| {
        record.definition == *definition
            && record.is_of_this_boot(search.host)
            && !configured.defines(name, definition)
    });
    let newest = |(_, record): &(String, Record)| {
        (record.living(search.host).is_some(), record.run.start_ticks)
    };
    let (name, record) = free.max_by_key(newest)?;
    Some(History { former: Some(name), record })
}

/// Returns whether a record is another target's now: the only one with the handle that it was
/// made for, and without another run of its own.
fn is_given_away(search: Search<'_>, record: &Record) -> bool {
    let Some(configured) = search.configured else { return false };
    let heir = configured.sole(&record.definition).filter(|it| *it != search.files.target());
    heir.is_some_and(|heir| {
        let own = search.files.others(&|name| name == heir);
        !own.iter().any(|(_, it)| {
            let is_its_own = it.definition == record.definition && it.run != record.run;
            is_its_own && it.is_of_this_boot(search.host)
        })
    })
}

/// Returns the living runs of targets that are not configured any more and may have become this
/// one, which has never run: its record tells of the same program or the same pid file, and of another
/// handle.
pub(super) fn alike(search: Search<'_>) -> Vec<(String, Run)> {
    let Some(configured) = search.configured else { return Vec::new() };
    // Whatever has run under this name is no other target with a new one.
    if search.files.record().is_some() {
        return Vec::new();
    }
    let records = search.files.others(&|name| !configured.has(name)).into_iter();
    let living = records.filter(|(_, it)| may_have_become(it, search.handle));
    living.filter_map(|(name, it)| Some((name, it.living(search.host)?))).collect()
}

fn may_have_become(record: &Record, handle: &ProcessHandle) -> bool {
    let before = &record.definition;
    let has_same_pid_file = before.pid_file.is_some() && before.pid_file == handle.pid_file;
    has_same_pid_file || names::have_same_program(&before.command, &handle.command)
}
