//! What every process does before its first useful line, and after its last.
//!
//! A service is one function from a [`Context`] to a result. Everything else
//! (flags, logs, metrics, the broker, membership, readiness, signals, the exit
//! code) is here, once, so that all services behave alike for whoever runs them.
//!
//! | exit code | meaning | will a restart help? |
//! |---|---|---|
//! | 0 | told to stop, and all work has ended | |
//! | 1 | failed; the last log line says why | often |
//! | 69 | the broker cannot be used: too old, or without JetStream | not before the broker changes |
//! | 70 | the tasks of the process no longer ran for [`Common::stuck_after`] | yes |
//! | 78 | flags or configuration refused | not before they change |

mod chain;
mod context;
mod exit;
mod flags;
mod health;
pub mod local_list;
mod logs;
mod member;
mod metrics;
pub mod outgoing;
mod process;
mod readiness;
mod reaper;
mod run;
mod secret;
mod signals;
mod systemd;
pub mod trace;
mod watchdog;

pub use crate::metrics::{METRICS, Metric, MetricKind};
pub use crate::process::METRICS as PROCESS_METRICS;
pub use chain::Chain;
pub use context::Context;
pub use exit::ConfigError;
pub use flags::{Common, LogFormat};
pub use health::Probe;
pub use readiness::{Latch, Readiness};
pub use reaper::reap_orphans;
pub use run::run;
pub use secret::{
    Secret, SecretError, SecretLimits, limit_secrets, read_secret, read_text, read_texts,
};

/// Any error that ends a service.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
