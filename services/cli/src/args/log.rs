//! The command line of `log`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What the help of `log verify` says at its end.
const ABOUT_VERIFY: &str = "\
Beside each part of the log is a chain, which supervisors write and sign. Every line that was changed,
removed, inserted or moved is named with its file and number; so is an end that was cut. The keys of a
data directory of `selfheal up` are found by themselves; elsewhere name them with --trusted-keys, or the
signatures are not checked. What no file can show is a log that was taken back to an earlier state as a
whole, with its chain: note the head that is printed somewhere else, and name it with --head next time.

Exit codes: 0 as it was written; 1 changed; 3 there is no log";

/// What is wanted of the log.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Log {
    /// Tells whether the log of decisions is as the supervisor wrote it, and which lines are not
    Verify(Verify),
}

/// How the log is verified.
#[derive(Args, Clone, Debug)]
#[command(after_help = ABOUT_VERIFY)]
pub(crate) struct Verify {
    /// Parts of the log, the oldest first, instead of all that is in --data-dir
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// A head that was printed before and must still be part of the chain
    #[arg(long, value_name = "HEAD")]
    pub(crate) head: Option<String>,
}
