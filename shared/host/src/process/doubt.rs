//! Processes of which it was not known whether one is the target, noted so that they stay in
//! doubt.
//!
//! When the command in a handle changes, what had the former command has nothing left that speaks
//! for it, and is still as likely the target as before: nothing is started beside it.

use serde::{Deserialize, Serialize};

use super::{Files, Found, Run, Search, files, record::Definition};

/// A process that may have been the target, as the handle was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// The process.
    #[serde(flatten)]
    pub run: Run,
    /// Which start of the host.
    pub boot_id: String,
    /// What the handle said.
    #[serde(flatten)]
    pub definition: Definition,
}

/// Notes the processes that may be the target, if they are not noted yet.
///
/// # Errors
///
/// When the state directory cannot be written.
pub fn note(search: Search<'_>, files: &Files, found: &Found) -> Result<(), files::Error> {
    let Found::Unclear { processes, .. } = found else { return Ok(()) };
    let definition = Definition::of(search.handle);
    if !search.configured.is_some_and(|it| it.defines(files.target(), &definition)) {
        return Ok(());
    }
    let boot_id = search.host.boot_id();
    let mut all = files.read_doubts();
    let n_read = all.len();
    all.retain(|it| it.boot_id == boot_id && search.host.is_alive(&it.run));
    // One that is noted keeps the handle for which it was in doubt.
    let new: Vec<Run> =
        processes.iter().filter(|run| all.iter().all(|it| it.run != **run)).copied().collect();
    if new.is_empty() && all.len() == n_read {
        return Ok(());
    }
    all.extend(new.into_iter().map(|run| Doubt {
        run,
        boot_id: boot_id.clone(),
        definition: definition.clone(),
    }));
    files.write_doubts(&all)
}
