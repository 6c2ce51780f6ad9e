//! The command line of `notify`.

use clap::{Args, Subcommand};

use super::{gateway::Gateway, values::token_name};

/// What is wanted of those who are told.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Notify {
    /// Tells a receiver that this is a test, and says how it went
    Test(Test),
}

/// What `selfheal notify test` may be told.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The gateway sends it, since it has the secrets. Where that leaves an alert, it is resolved at once. A gateway
that asks for a token wants one of an operator.")]
pub(crate) struct Test {
    /// The receiver, as in `notify.receivers` of the configuration
    #[arg(value_name = "NAME", value_parser = token_name)]
    pub(crate) name: String,
    /// Who sends it.
    #[command(flatten)]
    pub(crate) at: Gateway,
}
