//! Processes of this host: which one is a target, how it ended, how it is started and stopped.

pub mod account;
pub mod adopt;
mod cgroup;
mod configured;
pub mod doubt;
pub mod ending;
pub mod facts;
pub mod files;
pub mod find;
pub mod logs;
mod names;
pub mod oom;
pub mod pid_file;
pub mod pidfd;
pub mod ports;
pub mod present;
pub mod proc;
pub mod record;
pub mod run;
pub mod scan;
pub mod sockets;
pub mod start;
pub mod stat;
pub mod stop;

pub use account::Account;
pub use configured::Configured;
pub use doubt::Doubt;
pub use ending::Ending;
pub use facts::{Host, Notes, ThisHost};
pub use files::Files;
pub use find::{Found, KnownBy, Running, Search};
pub use oom::OomCount;
pub use pidfd::PidFd;
pub use record::Record;
pub use run::Run;
pub use scan::Scanner;
pub use stat::Stat;

/// Names the target in the environment of each process that is started for it.
pub const MARK_TARGET: &str = "SELFHEAL_TARGET";
/// Names the state directory: targets of two installations on one host may have the
/// same name.
pub const MARK_STATE: &str = "SELFHEAL_STATE_DIR";
/// Names the run: what a start has made carries it, and what another start has made does not.
pub const MARK_RUN: &str = "SELFHEAL_RUN";
/// Names the incident.
pub const MARK_INCIDENT: &str = "SELFHEAL_INCIDENT";
/// Names the attempt.
pub const MARK_ATTEMPT: &str = "SELFHEAL_ATTEMPT";
