//! The command line of `key`.

use std::path::PathBuf;

use clap::Subcommand;

/// What the help of `key` says at its end.
const ABOUT_KEYS: &str = "\
Supervisors sign what is believed: decisions, the configuration, and who leads. Give every supervisor
a key of its own with --signing-key, and every agent all public keys with --trusted-keys.";

/// What is wanted of the keys.
#[derive(Clone, Debug, Subcommand)]
#[command(after_help = ABOUT_KEYS)]
pub(crate) enum Key {
    /// Makes a key, writes its seed to a file, and prints its public key
    New {
        /// The file; it must not be there, and only its owner may read it
        file: PathBuf,
    },
    /// Prints the public key of a seed
    Show {
        /// The file with the seed
        file: PathBuf,
    },
}
