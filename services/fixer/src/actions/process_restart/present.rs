//! What is there before a start: the target itself, what it has left behind, and who holds
//! its ports. Nothing is started beside what may be the target.

use std::sync::Arc;

use domain::{check::Check, target::ProcessHandle};
use host::process::{
    Configured, Files, Found, Host, KnownBy, Run, Running, Search, ThisHost,
    find::{belonging, started_beside},
    ports::Holder,
    present::{Obstacle, present, started_meanwhile},
    scan::scan,
    stop::{Held, hold, hold_each, stop},
};
use tracing::info;

use crate::actions::{Attempt, Failure};

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) files: Files,
    pub(super) process: ProcessHandle,
    pub(super) configured: Option<Arc<Configured>>,
    pub(super) checks: Vec<Check>,
}

/// What was found, held until it is ended.
#[derive(Debug)]
pub(super) struct Present {
    heads: Vec<Held>,
    rest: Vec<Held>,
}

impl Case {
    /// Looks, and takes hold of what is to be ended.
    ///
    /// # Errors
    ///
    /// A refusal, where something runs that may be the target, or holds its port.
    pub(super) fn look(&self) -> Result<Present, Failure> {
        let found = present(self.search(), &scan()).map_err(|it| self.refused(it))?;
        if let Some(running) = &found.running
            && let Some(how) = running.by.adoption()
        {
            let (target, pid) = (self.files.target(), running.main.pid);
            info!(target.name = target, pid, how, "a running process is adopted");
        }
        let heads = found.running.as_ref().map(hold).unwrap_or_default();
        Ok(Present { heads, rest: hold_each(&found.rest) })
    }

    /// Looks again when all was ended: somebody may have started the target meanwhile. Returns
    /// its process id.
    ///
    /// # Errors
    ///
    /// When somebody else holds its port now.
    pub(super) fn look_again(&self) -> Result<Option<i32>, Failure> {
        match started_meanwhile(self.search(), scan) {
            Ok(run) => Ok(run.map(|it| it.pid)),
            Err(obstacle) => Err(Failure { is_refusal: false, ..self.refused(obstacle) }),
        }
    }

    /// Looks once more when a run was started: somebody else may have begun to start the target
    /// before us, and its program was not there yet when it was looked for. Returns its process
    /// and, to be ended, all that was started here.
    pub(super) fn look_beside(&self, run: Run) -> Option<(i32, Present)> {
        let entries = scan();
        let other = started_beside(self.search(), &run, &entries)?;
        let running = Running { main: run, by: KnownBy::Record, starter: None };
        let heads = hold(&running);
        let rest = belonging(self.search(), &Found::Running(running), &entries);
        Some((other.pid, Present { heads, rest: hold_each(&rest) }))
    }

    fn search(&self) -> Search<'_> {
        let configured = self.configured.as_deref();
        Search {
            host: &ThisHost,
            files: &self.files,
            handle: &self.process,
            checks: &self.checks,
            configured,
        }
    }

    fn refused(&self, obstacle: Obstacle) -> Failure {
        match obstacle {
            Obstacle::Unclear(reason) => Failure::refused(reason),
            Obstacle::Held(holder) => self.held(&holder),
        }
    }

    fn held(&self, holder: &Holder) -> Failure {
        let by = match holder.processes.first() {
            Some(run) => format!("process {} ({})", run.pid, ThisHost.describe(run.pid)),
            None => "a process that may not be looked at".to_owned(),
        };
        let target = self.files.target();
        Failure::refused(format!(
            "port {} is held by {by}, which is not known to be target `{target}`: not started; end it, or name the `pid_file` of the target",
            holder.port
        ))
    }
}

impl Present {
    /// Returns the main process of a target that runs.
    pub(super) fn main(&self) -> Option<Run> {
        self.heads.first().map(Held::run)
    }

    /// Ends what was found; returns the beginning of the summary.
    ///
    /// # Errors
    ///
    /// When it cannot be ended.
    pub(super) async fn stop(
        self,
        process: &ProcessHandle,
        attempt: &Attempt,
    ) -> Result<String, Failure> {
        let Self { heads, rest } = self;
        if heads.is_empty() && rest.is_empty() {
            return Ok(String::new());
        }
        let named = if heads.is_empty() { &rest } else { &heads };
        let pids: Vec<_> = named.iter().map(|it| it.run().pid.to_string()).collect();
        let pids = pids.join(", ");
        let patience = process.stop_timeout.to_std().min(attempt.remaining());
        let stopped =
            stop(heads, rest, patience).await.map_err(|error| Failure::of(&error, error.hint()))?;
        Ok(if stopped.killed {
            format!(
                "killed process {pids}, which had not ended {} after SIGTERM, and ",
                process.stop_timeout
            )
        } else {
            format!("stopped process {pids} and ")
        })
    }
}
