//! The flags of the fixer.

use std::path::PathBuf;

use clap::Args as ClapArgs;

/// The flags of the fixer. An empty value counts as absent.
#[derive(Clone, Debug, Default, ClapArgs)]
#[command(next_help_heading = "Fixer")]
pub struct Args {
    /// Where ids, logs and ends of processes are kept
    #[arg(long, env = "SELFHEAL_STATE_DIR", default_value = "./data/run", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// Fixes that are carried out at once, each on another target
    #[arg(long, env = "SELFHEAL_FIXER_PARALLEL", default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub parallel: u16,
    /// What may be done: `all`, or names of actions, separated by commas; without more lists only
    /// as the handles of targets say [default: process.restart, docker.restart, docker.start]
    #[arg(long, env = "SELFHEAL_FIXER_ALLOW", value_name = "NAMES")]
    pub allow: Option<String>,
    /// YAML file with the lists actions, programs, env, hosts, containers, directories and writes
    #[arg(long, env = "SELFHEAL_FIXER_ALLOW_FILE", value_name = "FILE")]
    pub allow_file: Option<String>,
}
