//! What comes in from outside, for the fuzz targets alone: no part of what others may use.

use crate::process::proc;

/// Reads a text as the kernel's file about a process, and tells whether it means something.
#[must_use]
pub fn is_stat(text: &str) -> bool {
    proc::parse_stat(text).is_some_and(|it| !it.is_alive() || it.started_at().is_some())
}
