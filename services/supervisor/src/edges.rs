//! What comes in from outside, for the fuzz targets alone: no part of what others may use.

use std::{path::Path, time::Duration};

use crate::journal::{Journal, Keep, Rotation};

/// Opens a log and returns the number of its last line, or why it cannot be used.
///
/// # Errors
///
/// What the supervisor says when it refuses to start on it.
pub fn open_log(path: &Path) -> Result<u64, String> {
    let rotation = Rotation { bytes_max: u64::MAX, age_max: Duration::MAX, keep: Keep::default() };
    let opened = Journal::open(path, rotation, bus::Keys::default());
    opened.map(|journal| journal.last_seq()).map_err(|error| {
        // The name of the file is another one at each call.
        format!("{error}: {}", service::Chain(&error)).replace(&*path.to_string_lossy(), "FILE")
    })
}
