//! What comes in from outside, for the fuzz targets alone: no part of what others may use.

use crate::{nats_context::NatsContext, options};

/// Reads the URLs of servers, and returns how many there are.
///
/// # Errors
///
/// What is wrong, without passwords.
pub fn urls(text: &str) -> Result<usize, String> {
    options::servers(text).map(|found| found.addresses.len()).map_err(|error| error.to_string())
}

/// Reads a context of the `nats` command.
///
/// # Errors
///
/// What is wrong.
pub fn nats_context(text: &str) -> Result<(), String> {
    serde_json::from_str::<NatsContext>(text).map(drop).map_err(|error| error.to_string())
}
