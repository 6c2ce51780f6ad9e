//! The actions: the closed list of what this fixer can do.
//!
//! To add one: a file in `actions/`, its `mod` line and its line in [`ACTIONS`]. A
//! test compares the list with the folder and with the domain's list of names.

use std::{error::Error as StdError, fmt, path::PathBuf, time::Duration};

use domain::{
    action::{Action, ActionName},
    check::Check,
    plan::{OVERTIME, Plan},
    wire::{FixOrder, cause},
};
use futures_util::future::BoxFuture;
use host::process::{MARK_ATTEMPT, MARK_INCIDENT, start::Cause};
use service::{Chain, outgoing};
use tokio::{sync::OnceCell, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    allow::{AllowList, Denied, Setting},
    containers::Engine,
    environment::Environment,
    known::{Known, KnownTargets},
};

mod command_run;
mod disk_clean;
mod docker_restart;
mod docker_start;
mod docker_stop;
mod http_request;
mod process_restart;

pub(crate) use http_request::client as http_client;

/// Everything that can be done.
pub(crate) static ACTIONS: &[Listed] = &[
    command_run::LISTED,
    disk_clean::LISTED,
    docker_restart::LISTED,
    docker_start::LISTED,
    docker_stop::LISTED,
    http_request::LISTED,
    process_restart::LISTED,
];

/// One action of the list.
pub(crate) struct Listed {
    /// Its name.
    pub(crate) name: ActionName,
    /// Whether it is allowed where nothing is said: only what the configuration says of a target
    /// and what that recovers from by itself.
    pub(crate) by_default: bool,
    /// Whether the local list allows its arguments.
    pub(crate) permit: fn(&Action, &AllowList, Setting<'_>) -> Result<(), Denied>,
    /// Carries it out.
    pub(crate) run: for<'a> fn(&'a Action, &'a Tools, &'a Attempt) -> Running<'a>,
}

impl fmt::Debug for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)
    }
}

/// An action under way. Dropping it ends what can be ended.
pub(crate) type Running<'a> = BoxFuture<'a, Result<Done, Failure>>;

/// How long an order waits for the configuration that it was planned with.
const CONFIGURATION_WITHIN: Duration = Duration::from_secs(3);

/// This process's own binary, also when it was replaced on disk.
const OWN_BINARY: &str = "/proc/self/exe";

/// What the actions work with.
#[derive(Debug)]
pub struct Tools {
    pub(crate) allow: AllowList,
    pub(crate) environment: Environment,
    pub(crate) state_dir: PathBuf,
    /// The binary that becomes what is started: see `host::process::start`.
    pub(crate) starter: PathBuf,
    pub(crate) targets: KnownTargets,
    pub(crate) engine: Engine,
    pub(crate) http: OnceCell<outgoing::Client>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Tools {
    /// Returns the tools of a fixer. What needs a connection is made at its first use.
    #[must_use]
    pub fn new(
        allow: AllowList,
        state_dir: PathBuf,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            allow,
            environment: Environment::of_this_process(),
            state_dir,
            starter: PathBuf::from(OWN_BINARY),
            targets: KnownTargets::default(),
            engine: Engine::default(),
            http: OnceCell::new(),
            tasks,
            stop,
        }
    }

    /// Starts processes by another binary than this process's own.
    #[must_use]
    pub fn with_starter(self, starter: PathBuf) -> Self {
        Self { starter, ..self }
    }

    /// Returns where the targets of the configuration are kept.
    #[must_use]
    pub fn targets(&self) -> KnownTargets {
        self.targets.clone()
    }

    /// Says what the local list says of an order.
    ///
    /// # Errors
    ///
    /// What is not allowed here, and how it would be.
    pub fn permits(&self, order: &FixOrder) -> Result<(), String> {
        let known = self.targets.get();
        self.judge(order, known.as_deref()).map_err(|denied| denied.to_string())
    }

    /// Says the same. Where only the configuration stands in the way, it waits a moment for
    /// another one: the supervisor that ordered it may have heard of it before us.
    pub(crate) async fn permits_soon(&self, order: &FixOrder) -> Result<(), String> {
        let known = self.targets.get();
        match self.judge(order, known.as_deref()) {
            Err(denied) if denied.is_for_now => {
                self.targets.changed_since(known.as_ref(), CONFIGURATION_WITHIN).await;
                self.permits(order)
            }
            judged => judged.map_err(|denied| denied.to_string()),
        }
    }

    fn judge(&self, order: &FixOrder, known: Option<&Known>) -> Result<(), Denied> {
        self.allow.permits(order, Setting { environment: &self.environment, known })
    }
}

/// For what an action is carried out, and until when.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) cause: Cause,
    pub(crate) deadline: Instant,
    pub(crate) timeout: Duration,
    /// The checks that are to pass in the end: the ports that they name are the target's.
    pub(crate) checks: Vec<Check>,
    /// Whether the plan was made because nothing of the target ran: what runs now was started
    /// since, by somebody else, and is left alone.
    pub(crate) is_start: bool,
}

/// Causes that say that the target does not run.
const NOTHING_RUNS: [&str; 4] = [
    cause::PROCESS_EXITED,
    cause::MAIN_PROCESS_EXITED,
    cause::CONTAINER_EXITED,
    cause::OUT_OF_MEMORY,
];

/// Returns whether a plan is for a target of which nothing runs: what runs by now is left alone.
#[must_use]
pub fn is_start(plan: &Plan) -> bool {
    NOTHING_RUNS.contains(&plan.cause.as_str())
}

impl Attempt {
    /// Begins to count the time of one step.
    #[must_use]
    pub(crate) fn begin(incident: String, attempt: u32, timeout: Duration) -> Self {
        let deadline = Instant::now() + timeout;
        let cause = Cause { incident, attempt };
        Self { cause, deadline, timeout, checks: Vec::new(), is_start: false }
    }

    /// Adds what its plan says: why it was made, and which checks are to pass in the end.
    #[must_use]
    pub(crate) fn of_plan(self, plan: &Plan) -> Self {
        Self { checks: plan.success.checks.clone(), is_start: is_start(plan), ..self }
    }

    /// Returns what programs are told about why they run.
    pub(crate) fn marks(&self) -> Vec<(&'static str, String)> {
        vec![
            (MARK_INCIDENT, self.cause.incident.clone()),
            (MARK_ATTEMPT, self.cause.attempt.to_string()),
        ]
    }

    /// Returns an error when the time of the step is over: whoever waits for us may act now.
    pub(crate) fn in_time(&self) -> Result<(), Failure> {
        if self.deadline + OVERTIME.to_std() <= Instant::now() {
            return Err(Failure::new("it timed out before it could continue"));
        }
        Ok(())
    }

    /// Returns the time that is left.
    pub(crate) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// What an action did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// One line for people.
    pub(crate) summary: String,
    /// What was printed.
    pub(crate) output: String,
    /// Whether nothing was touched: what it should have brought about was there already.
    pub(crate) is_idle: bool,
}

impl Done {
    pub(crate) fn silently(summary: impl Into<String>) -> Self {
        Self { summary: summary.into(), ..Self::default() }
    }

    /// Says why nothing was touched.
    pub(crate) fn idle(summary: impl Into<String>) -> Self {
        Self { is_idle: true, ..Self::silently(summary) }
    }
}

/// Why an action was not carried out, in words, with what the reader can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Failure {
    /// One line for people.
    pub(crate) reason: String,
    /// What was printed.
    pub(crate) output: String,
    /// Whether nothing was touched, because it would not have been right to.
    pub(crate) is_refusal: bool,
}

impl Failure {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), output: String::new(), is_refusal: false }
    }

    /// Says why nothing was touched.
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self { is_refusal: true, ..Self::new(reason) }
    }

    /// Tells an error with its causes and a hint.
    pub(crate) fn of(error: &(dyn StdError + 'static), hint: &str) -> Self {
        Self::new(format!("{}; {hint}", Chain(error)))
    }

    /// Says that the arguments are another action's.
    pub(crate) fn misled(action: &Action) -> Self {
        Self::new(format!("`{}` was given to another action", action.name()))
    }

    pub(crate) fn timed_out(what: &str, after: Duration) -> Self {
        Self::new(format!("{what} did not end within {}", Seconds(after)))
    }
}

/// Writes a duration in seconds.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

/// Finds an action in the list.
pub(crate) fn listed(name: ActionName) -> Option<&'static Listed> {
    ACTIONS.iter().find(|it| it.name == name)
}

/// Carries an action out.
///
/// # Errors
///
/// [`Failure`] when it was not carried out, or not wholly.
pub(crate) async fn run(
    action: &Action,
    tools: &Tools,
    attempt: &Attempt,
) -> Result<Done, Failure> {
    let Some(listed) = listed(action.name()) else {
        return Err(Failure::new(format!("this fixer does not know {}", action.name())));
    };
    (listed.run)(action, tools, attempt).await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_action_of_the_domain_is_listed_once() {
        let listed: Vec<_> = ACTIONS.iter().map(|it| it.name).collect();
        let all: BTreeSet<_> = listed.iter().copied().collect();
        assert_eq!(all, ActionName::ALL.into());
        assert_eq!(all.len(), listed.len());
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_list() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/actions");
        let files: BTreeSet<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|it| it.unwrap().path())
            // A folder holds parts of the action of the same name.
            .filter(|path| path.is_file())
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let names = ACTIONS.iter().map(|it| it.name.as_str().replace('.', "_")).collect();
        assert_eq!(files, names);
    }
}
