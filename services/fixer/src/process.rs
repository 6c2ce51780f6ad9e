//! Processes of this host: which are ours, how they are stopped and started.

pub(crate) mod files;
pub(crate) mod find;
pub(crate) mod proc;
pub(crate) mod reap;
pub(crate) mod start;
pub(crate) mod stop;

/// Names the target in the environment of each process that is started for it.
pub(crate) const MARK_TARGET: &str = "SELFHEAL_TARGET";
/// Names the incident.
pub(crate) const MARK_INCIDENT: &str = "SELFHEAL_INCIDENT";
/// Names the attempt.
pub(crate) const MARK_ATTEMPT: &str = "SELFHEAL_ATTEMPT";
/// Names the state directory: targets of two installations on one host may have the
/// same name.
pub(crate) const MARK_STATE: &str = "SELFHEAL_STATE_DIR";
