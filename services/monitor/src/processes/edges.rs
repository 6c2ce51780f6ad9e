//! What comes in from outside, for the fuzz targets alone: no part of what others may use.

use std::path::Path;

use host::process::{Ending, Stat, oom};

use super::record;
use crate::host as of_host;

/// Reads a text in every way in which files of the kernel and of fixers are read, and returns
/// in how many of them it means something. `path` holds the same text.
#[must_use]
pub fn understood(text: &str, path: &Path) -> usize {
    [
        Stat::parse(text).is_some(),
        !oom::files(text).is_empty(),
        of_host::ticks(text).is_some(),
        of_host::memory_used(text).is_some(),
        !of_host::local_mounts(text).is_empty(),
        Ending::recorded(path).is_some_and(|it| !it.words().is_empty()),
        !record::recent_starts(path).is_empty(),
        10 < record::last_lines(path, 100).len(),
    ]
    .into_iter()
    .filter(|it| *it)
    .count()
}
