//! What can be asked about the form of a configuration.

use clap::Subcommand;

/// What is wanted.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum Config {
    /// Prints the form of selfheal.yaml as JSON Schema, for editors
    Schema,
}
