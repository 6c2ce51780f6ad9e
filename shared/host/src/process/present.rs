//! What is there before a start: the target itself, what it has left behind, and who holds
//! its ports. Nothing is started beside what may be the target.

use std::collections::BTreeSet;

use super::{
    Found, Run, Running, Search,
    find::{belonging, find, is_marked},
    ports::Holder,
    scan::Entry,
};

/// What is to be ended before a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// The target, if it runs.
    pub running: Option<Running>,
    /// What belongs to it besides.
    pub rest: Vec<Run>,
}

/// Why nothing is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Processes run of which it cannot be said whether one is the target.
    Unclear(String),
    /// Somebody else holds its port.
    Held(Holder),
}

/// Looks for what is to be ended before a start.
///
/// # Errors
///
/// [`Obstacle`], where something runs that may be the target, or holds its port.
pub fn present(search: Search<'_>, entries: &[Entry]) -> Result<Present, Obstacle> {
    let found = find(search, || entries);
    let mut rest = belonging(search, &found, entries);
    let running = match found {
        Found::Unclear { reason, .. } => return Err(Obstacle::Unclear(reason)),
        Found::Running(running) => Some(running),
        Found::NotRunning { .. } => None,
    };
    let heads: Vec<Run> =
        running.iter().flat_map(|it| [Some(it.main), it.starter]).flatten().collect();
    let groups: BTreeSet<i32> = entries
        .iter()
        .filter(|it| heads.contains(&it.run) && it.leads())
        .map(|it| it.group)
        .collect();
    let is_known = |run: &Run, rest: &[Run]| {
        heads.contains(run)
            || rest.contains(run)
            || entries.iter().any(|it| it.run == *run && groups.contains(&it.group))
    };
    for holder in search.host.holders(&search.host.local_addresses(search.checks)) {
        if holder.processes.iter().any(|it| is_known(it, &rest)) {
            continue;
        }
        let carries_mark =
            |run: &&Run| entries.iter().any(|it| it.run == **run && is_marked(search, it));
        let marked: Vec<Run> = holder.processes.iter().filter(carries_mark).copied().collect();
        if marked.is_empty() {
            return Err(Obstacle::Held(holder));
        }
        // Left over by an earlier run than the last.
        rest.extend(marked);
    }
    Ok(Present { running, rest })
}

/// Looks again when all was ended: somebody may have started the target meanwhile. Returns its
/// main process.
///
/// # Errors
///
/// [`Obstacle`], when somebody else holds its port now.
pub fn started_meanwhile<E: AsRef<[Entry]>>(
    search: Search<'_>,
    scan: impl FnOnce() -> E,
) -> Result<Option<Run>, Obstacle> {
    match find(search, scan) {
        Found::Running(running) => return Ok(Some(running.main)),
        Found::Unclear { reason, .. } => return Err(Obstacle::Unclear(reason)),
        Found::NotRunning { .. } => {}
    }
    let holders = search.host.holders(&search.host.local_addresses(search.checks));
    holders.into_iter().next().map_or(Ok(None), |holder| Err(Obstacle::Held(holder)))
}
