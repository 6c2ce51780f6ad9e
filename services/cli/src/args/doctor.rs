//! The command line of `doctor`.

use std::path::PathBuf;

use bus::roles::Role;
use clap::Args;

use super::{CONFIG_DEFAULT, values::role};

/// What the help of `doctor` says at its end.
const ABOUT_DOCTOR: &str = "\
It changes nothing and ends in time, also when the broker is away or hangs.

Exit codes of doctor:
   0  nothing is wrong, or there are notes only
   1  there are warnings
   2  there are errors: something that should be healed will not be, or may be lost";

/// What `selfheal doctor` may be told.
#[derive(Args, Clone, Debug)]
#[command(after_help = ABOUT_DOCTOR)]
pub(crate) struct Doctor {
    /// Configuration file to compare with the active one, if there is one
    #[arg(long, env = "SELFHEAL_CONFIG", value_name = "FILE", default_value = CONFIG_DEFAULT)]
    pub(crate) config: PathBuf,
    /// Gateways to ask whether they are ready, such as http://host:8080
    #[arg(long, value_name = "URL")]
    pub(crate) gateway: Vec<String>,
    /// Also looks for what would let somebody use the installation who should not
    #[arg(long)]
    pub(crate) security: bool,
    /// Compares what the broker permits these credentials with what this part needs
    #[arg(long, value_name = "PART", value_parser = role)]
    pub(crate) role: Option<Role>,
}
