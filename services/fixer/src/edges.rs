//! What comes in from outside, for the fuzz targets alone: no part of what others may use.

use host::process::{Stat, stat::time_of_ticks};

/// Reads a text as the kernel's file about a process, and tells whether it means something.
#[must_use]
pub fn is_stat(text: &str) -> bool {
    Stat::parse(text).is_some_and(|it| {
        !it.is_living() || std::time::SystemTime::UNIX_EPOCH < time_of_ticks(it.start_ticks)
    })
}
