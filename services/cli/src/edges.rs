//! What comes in from outside, for the fuzz targets and the simulation alone: no part of what
//! others may use.

use std::path::Path;

use bus::InboxMessage;
use clap::Parser as _;
use domain::wire::LedgerEntry;

use crate::{args::Cli, http, restore};

/// Splits a URL into whom to ask and what for.
#[must_use]
pub fn http_url(text: &str) -> Option<(String, String)> {
    http::split(text).map(|(authority, path)| (authority, path.to_owned()))
}

/// Reads the status of an answer.
#[must_use]
pub fn http_status(answer: &[u8]) -> Option<u16> {
    http::status(answer)
}

/// Reads a log of decisions back as messages of the ledger.
///
/// # Errors
///
/// What `selfheal restore` says.
pub fn read_log(path: &Path) -> Result<Vec<LedgerEntry>, String> {
    restore::read_log(path).map_err(|failure| failure.chain())
}

/// Returns the messages that `selfheal restore` gives to an empty ledger, beside this inbox.
///
/// # Errors
///
/// What `selfheal restore` says.
pub fn rebuilt(log: &Path, inbox: &[InboxMessage]) -> Result<Vec<LedgerEntry>, String> {
    restore::rebuilt(log, inbox).map_err(|failure| failure.chain())
}

/// Reads a command line, without the name of the program.
///
/// # Errors
///
/// What is said about it; help, too.
pub fn command_line<'a>(words: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let words = ["selfheal"].into_iter().chain(words);
    Cli::try_parse_from(words).map(drop).map_err(|error| error.to_string())
}
