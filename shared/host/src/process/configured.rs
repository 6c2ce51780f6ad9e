//! What must be known of all targets to say which process is whose.

use std::collections::{BTreeMap, BTreeSet};

use domain::target::Target;

use super::{Host, names, record::Definition};

/// What must be known of all targets to say which process is whose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// Their names: a record of another name belongs to a target that was renamed or removed.
    names: BTreeSet<String>,
    /// Those whose command another target has, too: a process that nobody has recorded may be
    /// either's.
    alike: BTreeSet<String>,
    /// What the handle of each says.
    definitions: BTreeMap<String, Definition>,
    /// The target of each definition; `None` when several have it.
    by_definition: BTreeMap<Definition, Option<String>>,
    /// The working directories of each command.
    directories: BTreeMap<Vec<String>, BTreeSet<String>>,
}

impl Configured {
    /// Takes the targets of a configuration.
    #[must_use]
    pub fn of<'a>(targets: impl IntoIterator<Item = &'a Target>) -> Self {
        let mut it = Self::default();
        let mut commands: BTreeMap<(&[String], Option<&str>), &str> = BTreeMap::new();
        for target in targets {
            it.names.insert(target.name.clone());
            let Some(handle) = &target.process else { continue };
            let command = (handle.command.as_slice(), handle.dir.as_deref());
            if let Some(other) = commands.insert(command, &target.name) {
                it.alike.extend([other.to_owned(), target.name.clone()]);
            }
            it.define(&target.name, Definition::of(handle));
        }
        it
    }

    fn define(&mut self, name: &str, definition: Definition) {
        if let Some(dir) = &definition.dir {
            let directories = self.directories.entry(definition.command.clone()).or_default();
            directories.insert(dir.clone());
        }
        self.by_definition
            .entry(definition.clone())
            .and_modify(|it| *it = None)
            .or_insert_with(|| Some(name.to_owned()));
        self.definitions.insert(name.to_owned(), definition);
    }

    /// Returns whether a target is configured with just this definition.
    pub(super) fn defines(&self, name: &str, definition: &Definition) -> bool {
        self.definitions.get(name) == Some(definition)
    }

    /// Returns the only target with this definition.
    pub(super) fn sole(&self, definition: &Definition) -> Option<&str> {
        self.by_definition.get(definition)?.as_deref()
    }

    /// Returns the working directories that the targets with this command name.
    pub(super) fn directories(&self, command: &[String]) -> impl Iterator<Item = &str> {
        self.directories.get(command).into_iter().flatten().map(String::as_str)
    }

    /// Returns whether a process runs the very command of a target other than this one.
    pub(super) fn runs(&self, host: &dyn Host, than: &str, arguments: &[String]) -> bool {
        let mut others = self.definitions.iter().filter(|(name, _)| *name != than);
        others.any(|(_, it)| names::is_command(host, arguments, &it.command))
    }

    /// Returns the command of a target.
    pub(super) fn command(&self, name: &str) -> Option<&[String]> {
        Some(&self.definitions.get(name)?.command)
    }

    /// Returns the pid files of all targets but this one.
    pub(super) fn pid_files(&self, than: &str) -> impl Iterator<Item = &str> {
        let others = self.definitions.iter().filter(move |(name, _)| *name != than);
        others.filter_map(|(_, it)| it.pid_file.as_deref())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Returns whether the target is the only one with its command.
    pub(super) fn is_alone(&self, name: &str) -> bool {
        !self.alike.contains(name)
    }
}
