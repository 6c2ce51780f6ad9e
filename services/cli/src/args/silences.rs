//! Arguments of `silences`.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use domain::{matcher::Matcher, span::Span};

use super::By;

/// What is to be done with silences.
#[derive(Debug, Subcommand)]
pub(crate) enum Silences {
    /// Lists silences, maintenance windows, and what is suppressed
    Ls,
    /// Keeps something quiet for a while: no incident is opened, no fix begun, nobody told
    Add(Add),
    /// Ends a silence; what it kept quiet is looked at again
    End {
        /// Its id
        id: String,
        /// In whose name
        #[command(flatten)]
        by: By,
    },
}

/// A new silence.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// What is silenced, such as `target=database` or `host=~db-.*`; all must fit
    #[arg(required = true, value_name = "MATCHER")]
    pub(crate) matchers: Vec<Matcher>,
    /// How long, such as 2h
    #[arg(long = "for", value_name = "TIME", required_unless_present = "until")]
    pub(crate) lasts: Option<Span>,
    /// Until when, such as 2026-03-01T06:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "lasts")]
    pub(crate) until: Option<DateTime<Utc>>,
    /// From when on, instead of now
    #[arg(long, value_name = "TIME")]
    pub(crate) from: Option<DateTime<Utc>>,
    /// Why
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) comment: String,
    /// In whose name
    #[command(flatten)]
    pub(crate) by: By,
}
