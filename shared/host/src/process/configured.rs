//! What must be known of all targets to say which process is whose.

use std::collections::{BTreeMap, BTreeSet};

use domain::target::Target;

/// What must be known of all targets to say which process is whose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// Their names: a record of another name belongs to a target that was renamed or removed.
    names: BTreeSet<String>,
    /// Those whose command another target has, too: a process that nobody has recorded may be
    /// either's.
    alike: BTreeSet<String>,
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
        }
        it
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Returns whether the target is the only one with its command.
    pub(super) fn is_alone(&self, name: &str) -> bool {
        !self.alike.contains(name)
    }
}
