//! The command line: every command, every flag, and what `--help` says about them.

mod broker;
mod config;
mod doctor;
mod gateway;
mod key;
mod log;
mod notify;
pub(crate) mod silences;
mod token;
mod values;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use bus::BrokerOptions;
use clap::{
    ArgAction, Args, Parser, Subcommand, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser},
};
use domain::{event::Severity, view::Status};

use self::values::{json, severity, status, sync_interval, time};
pub(crate) use self::{
    broker::Broker,
    config::Config,
    doctor::Doctor,
    gateway::Gateway,
    key::Key,
    log::{Log, Verify},
    notify::{Notify, Test as TestNotify},
    token::{Create as CreateToken, Token},
};
use crate::{
    exit::{EXIT_CODES, Failure},
    up::credentials,
};

/// Where `up` and the supervisor look for the configuration.
pub(crate) const CONFIG_DEFAULT: &str = "selfheal.yaml";

/// Where `up` and the supervisor keep what they know.
const DATA_DIR_DEFAULT: &str = "data";

/// Heading of the flags that every command takes.
const EVERYWHERE: &str = "Everywhere";

/// What the help of `up` says at its end.
const ABOUT_UP: &str = "\
Prints `ready http://…` on standard output when the first event would be accepted, and one log of all
parts on standard error. Restarts what dies. Ctrl-C ends all in order; a second one kills what is left.
Which processes run is in <data-dir>/run/up.json. Targets that the fixer has started go on without us.

Whoever starts it owns it, and could run all of it by hand. So the fixer may do all of its actions
(SELFHEAL_FIXER_ALLOW=all) and the monitor may run the commands of checks and read all logs
(SELFHEAL_MONITOR_ALLOW=all), unless these variables, or SELFHEAL_FIXER_ALLOW_FILE and
SELFHEAL_MONITOR_ALLOW_FILE, say less. Other users of this machine may publish events by HTTP, and
nothing else: the gateway asks for the token in <data-dir>/run/api-token, the broker for the
passwords in <data-dir>/run/nats. Commands find both by themselves, in --data-dir.";

/// How many incidents are listed unless another number is asked for.
const LIMIT_DEFAULT: usize = 50;

/// Where every command looks for the broker.
pub(crate) const NATS_URL_DEFAULT: &str = "nats://127.0.0.1:4222";

/// Detects trouble, finds its cause, heals it, proves it, and logs every decision.
#[derive(Debug, Parser)]
#[command(name = "selfheal", version, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Cli {
    /// What all commands share.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What is to be done.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// Prints JSON, for programs
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    #[arg(help_heading = EVERYWHERE)]
    pub(crate) color: ColorChoice,
    /// Data directory of `up` or of a supervisor on this machine: with that of `up`, its owner needs
    /// neither URL nor token
    #[arg(long, global = true, env = "SELFHEAL_DATA_DIR", value_name = "DIR")]
    #[arg(default_value = DATA_DIR_DEFAULT, value_parser = directory(), help_heading = EVERYWHERE)]
    pub(crate) data_dir: PathBuf,
    /// How to reach the system.
    #[command(flatten)]
    pub(crate) broker: Broker,
}

impl Global {
    /// Returns how to reach the broker in a role: as the flags say, else that of `up`, if it is
    /// ours.
    ///
    /// # Errors
    ///
    /// When others may read what it says.
    pub(crate) fn broker_options(&self, role: &str) -> Result<BrokerOptions, Failure> {
        let mut options = self.broker.options(role);
        if !self.broker.is_given()
            && !self.broker.has_identity()
            && let Some(url) = credentials::found(&self.data_dir, role)?
        {
            options.url = url;
        }
        Ok(options)
    }
}

/// Any path; an empty one counts as absent.
fn directory() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(|it| match it.is_empty() {
        true => PathBuf::from(DATA_DIR_DEFAULT),
        false => PathBuf::from(it),
    })
}

/// When to use colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Cli {
    /// Drops what is empty: an empty environment variable counts as absent, as in every service.
    pub(crate) fn without_empty_values(mut self) -> Self {
        self.global.broker.drop_empty();
        self
    }
}

/// What `selfheal` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the whole system on this machine: broker, supervisor, monitor, analyzer, fixer, gateway
    Up(Up),
    /// Checks a configuration file, and says what it would do
    Check {
        /// The file
        #[arg(default_value = CONFIG_DEFAULT)]
        file: PathBuf,
    },
    /// Says what a configuration file may hold
    Config {
        /// What is wanted
        #[command(subcommand)]
        command: Config,
    },
    /// Checks a configuration file and makes it the active one
    Apply {
        /// The file
        #[arg(default_value = CONFIG_DEFAULT)]
        file: PathBuf,
        /// In whose name
        #[command(flatten)]
        by: By,
    },
    /// Publishes an event, and prints what became of it
    Publish(Publish),
    /// Lists incidents, shows one, or follows them
    Incidents {
        /// What is wanted; a list if nothing is said
        #[command(subcommand)]
        command: Option<Incidents>,
    },
    /// Approves the plan that an incident waits for
    Approve {
        /// The incident: its id, or a part of it that no other has
        incident: String,
        /// Hash of the plan, as shown; without it the plan of this moment is approved
        #[arg(long, value_name = "HASH")]
        plan: Option<String>,
        /// In whose name
        #[command(flatten)]
        by: By,
    },
    /// Rejects the plan that an incident waits for; a person takes over
    Reject(Reasoned),
    /// Acknowledge an incident
    #[command(alias = "ack")]
    Acknowledge(Named),
    /// Closes an incident by hand
    Close(Reasoned),
    /// Retry an escalated incident with a fresh attempt budget
    Retry(Named),
    /// Stops new fixes at once, everywhere; verification goes on
    Pause {
        /// Why
        #[arg(long, default_value = "", value_name = "TEXT")]
        reason: String,
        /// In whose name
        #[command(flatten)]
        by: By,
    },
    /// Allows fixes again
    Resume {
        /// In whose name
        #[command(flatten)]
        by: By,
    },
    /// Keeps things quiet for a while, lists what is quiet, and ends it
    Silences {
        /// What (default: ls)
        #[command(subcommand)]
        command: Option<silences::Silences>,
    },
    /// Send test notifications
    #[command(subcommand)]
    Notify(Notify),
    /// Makes, lists and ends the tokens of the gateway's callers
    #[command(subcommand)]
    Token(Token),
    /// Makes and shows the keys that supervisors sign with
    #[command(subcommand)]
    Key(Key),
    /// Tells whether the log of decisions is as the supervisor wrote it
    #[command(subcommand)]
    Log(Log),
    /// Shows agents, leader, queues and broker at a glance
    Status,
    /// Says what is wrong with the installation, why it matters, and how to mend it
    Doctor(Doctor),
    /// Rebuilds the ledger of a broker that lost its disk from the log of decisions
    ///
    /// End all supervisors first. In a data directory of `selfheal up`, and without --nats-url, the broker of
    /// that directory is started for it. Where the broker has users, it needs the supervisor's.
    Restore(Restore),
    /// Asks a URL and ends with 0 if the answer is 2xx: the health check of our containers
    Health {
        /// Such as http://127.0.0.1:8080/readyz
        url: String,
    },
    /// Prints a completion script
    #[command(after_help = "For example: selfheal completions bash > \
        ~/.local/share/bash-completion/completions/selfheal")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Runs a program that dies with this process's parent. For `up` alone.
    #[command(name = "__child", hide = true)]
    Child {
        /// The process that must be the parent
        #[arg(long)]
        parent: u32,
        /// What it makes is for its own user alone
        #[arg(long)]
        private: bool,
        /// The program and its arguments
        #[arg(last = true, required = true, num_args = 1..)]
        command: Vec<OsString>,
    },
}

/// What `selfheal up` may be told.
#[derive(Args, Clone, Debug)]
#[command(after_help = ABOUT_UP)]
pub(crate) struct Up {
    /// Configuration file
    #[arg(long, env = "SELFHEAL_CONFIG", value_name = "FILE", default_value = CONFIG_DEFAULT)]
    pub(crate) config: PathBuf,
    /// Where the gateway listens; port 0 takes a free one
    #[arg(long, env = "SELFHEAL_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// The broker of our own.
    #[command(flatten)]
    pub(crate) own: OwnBroker,
    /// Shows the broker's own remarks too
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

/// How a broker of our own is run.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "A broker of our own, when no --nats-url is given")]
pub(crate) struct OwnBroker {
    /// Its port; 0 takes a free one [default: 4222]
    #[arg(long, value_name = "PORT")]
    pub(crate) nats_port: Option<u16>,
    /// How often it syncs to disk: `always`, or a time such as 1s
    #[arg(long, value_name = "TIME", default_value = "always", value_parser = sync_interval)]
    pub(crate) nats_sync: String,
    /// The nats-server to run; else it is searched for
    #[arg(long, env = "SELFHEAL_NATS_SERVER", value_name = "FILE")]
    pub(crate) nats_server: Option<String>,
}

/// In whose name a command is given.
#[derive(Args, Clone, Debug)]
pub(crate) struct By {
    /// Who asks, for the log
    #[arg(long = "by", env = "USER", value_name = "NAME", default_value = "cli", hide_env = true)]
    pub(crate) by: String,
}

/// A command about one incident.
#[derive(Args, Clone, Debug)]
pub(crate) struct Named {
    /// The incident: its id, or a part of it that no other has
    pub(crate) incident: String,
    /// In whose name.
    #[command(flatten)]
    pub(crate) by: By,
}

/// A command about one incident, with a reason.
#[derive(Args, Clone, Debug)]
pub(crate) struct Reasoned {
    /// The incident: its id, or a part of it that no other has
    pub(crate) incident: String,
    /// Why
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) reason: String,
    /// In whose name.
    #[command(flatten)]
    pub(crate) by: By,
}

/// What `selfheal publish` may be told.
#[derive(Args, Clone, Debug)]
pub(crate) struct Publish {
    /// Type of the event, such as service_down or disk.full
    #[arg(value_name = "TYPE")]
    pub(crate) kind: domain::event::EventType,
    /// Who observed it
    #[arg(long, default_value = "cli", value_name = "NAME")]
    pub(crate) source: String,
    /// The target it is about
    #[arg(long, value_name = "NAME")]
    pub(crate) target: Option<String>,
    /// How bad it is: info, warning, error, critical
    #[arg(long, value_name = "WORD", default_value = "error", value_parser = severity)]
    pub(crate) severity: Severity,
    /// Any further data, as JSON
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub(crate) payload: Option<serde_json::Value>,
    /// The trouble is over
    #[arg(long, action = ArgAction::SetTrue)]
    pub(crate) resolved: bool,
    /// Id of the event; sending the same id again changes nothing
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
}

/// What is wanted of the incidents.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Incidents {
    /// Lists them, the newest first
    #[command(alias = "list")]
    Ls(List),
    /// Shows one: causes, evidence, what was done and why
    Show {
        /// The incident: its id, or a part of it that no other has
        incident: String,
    },
    /// Follows every decision and progress, as it comes
    Watch {
        /// Only this one: its id, or a part of it that no other has
        incident: Option<String>,
    },
}

/// Which incidents are listed.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct List {
    /// Only open incidents
    #[arg(long)]
    pub(crate) open: bool,
    /// In one of these states, such as resolved,escalated
    #[arg(long, value_name = "WORDS", value_delimiter = ',', value_parser = status)]
    pub(crate) status: Vec<Status>,
    /// About this target
    #[arg(long, value_name = "NAME")]
    pub(crate) target: Option<String>,
    /// Of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// Minimum severity
    #[arg(long, value_name = "WORD", value_parser = severity)]
    pub(crate) severity: Option<Severity>,
    /// Opened within this time, such as 2h
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) since: Option<Duration>,
    /// Whose id, type, source, target, analysis or resolution contains this text
    #[arg(value_name = "TEXT")]
    pub(crate) q: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = LIMIT_DEFAULT)]
    pub(crate) limit: usize,
}

impl List {
    /// Returns what `incidents` alone means.
    pub(crate) fn first_page() -> Self {
        Self { limit: LIMIT_DEFAULT, ..Self::default() }
    }
}

/// What `selfheal restore` may be told.
///
/// In a data directory of `selfheal up`, and without --nats-url, the broker of that directory is
/// started for it.
#[derive(Args, Clone, Debug)]
pub(crate) struct Restore {
    /// The log itself, when it is elsewhere; its rotated parts are found beside it
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// The ledger is not empty but has lost its end: appends what is missing
    #[arg(long)]
    pub(crate) append: bool,
    /// Only says what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The broker of our own.
    #[command(flatten)]
    pub(crate) own: OwnBroker,
}

#[cfg(test)]
mod tests;
