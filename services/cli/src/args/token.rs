//! The command line of `token`.

use std::time::Duration;

use clap::{Args, Subcommand};
use domain::{
    access::{Role, ScopePart},
    span::Rates,
};

use super::{
    By,
    gateway::Gateway,
    values::{access_role, time, token_name},
};

/// What the help of `token` says at its end.
const ABOUT_ROLES: &str = "\
Roles: a publisher publishes events and nothing else; a viewer reads; an operator also publishes,
acknowledges, closes, retries, pauses and resumes; an approver also approves and rejects; an admin also
gives a new configuration. The broker keeps only hashes: nobody can show a token again.";

/// What is wanted of the tokens.
#[derive(Clone, Debug, Subcommand)]
#[command(after_help = ABOUT_ROLES)]
pub(crate) enum Token {
    /// Makes a token and prints it, this once
    #[command(after_help = ABOUT_ROLES)]
    Create(Create),
    /// Lists them: name, role, state, end, and who made them
    #[command(alias = "list")]
    Ls,
    /// Ends a token; every gateway knows within a second
    Revoke {
        /// Its name
        name: String,
        /// In whose name.
        #[command(flatten)]
        by: By,
    },
    /// Asks a gateway of this host who the holder of a token is
    Check(Gateway),
}

impl Token {
    /// Returns whether it writes a record, which is signed.
    pub(crate) const fn writes(&self) -> bool {
        match self {
            Self::Create(_) | Self::Revoke { .. } => true,
            Self::Ls | Self::Check(_) => false,
        }
    }
}

/// What `selfheal token create` may be told.
#[derive(Args, Clone, Debug)]
pub(crate) struct Create {
    /// What the log calls its holder: letters, digits, - and _
    #[arg(long, value_name = "NAME", value_parser = token_name)]
    pub(crate) name: String,
    /// What its holder may do: publisher, viewer, operator, approver, admin
    #[arg(long, value_name = "ROLE", value_parser = access_role)]
    pub(crate) role: Role,
    /// After which time it ends
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "90d")]
    pub(crate) expires: Duration,
    /// It never ends
    #[arg(long, conflicts_with = "expires")]
    pub(crate) no_expiry: bool,
    /// What its holder's commands may be about: LABEL=VALUE of targets, zone=NAME, action=NAME (such
    /// as docker.*); several times for several
    #[arg(long, value_name = "PART")]
    pub(crate) scope: Vec<ScopePart>,
    /// How often it may be used at each gateway, such as 100/s; else as configured for all
    #[arg(long, value_name = "RATE")]
    pub(crate) rate: Option<Rates>,
    /// In whose name.
    #[command(flatten)]
    pub(crate) by: By,
}
