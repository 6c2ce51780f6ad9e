//! What is there before a start: the target itself, what it has left behind, and who holds
//! its ports. Nothing is started beside what may be the target.

use std::{collections::BTreeSet, sync::Arc};

use domain::{check::Check, target::ProcessHandle};
use host::process::{
    Configured, Files, Found, KnownBy, Run, Running, Search,
    find::{belonging, find, started_beside},
    ports::{Holder, holders, local_addresses},
    proc,
    scan::{Entry, scan},
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
        let entries = scan();
        let found = find(self.search(), || &entries);
        let heads = match &found {
            Found::Unclear { reason, .. } => return Err(Failure::refused(reason.clone())),
            Found::Running(running) => {
                if let Some(how) = running.by.adoption() {
                    let (target, pid) = (self.files.target(), running.main.pid);
                    info!(target.name = target, pid, how, "a running process is adopted");
                }
                hold(running)
            }
            Found::NotRunning { .. } => Vec::new(),
        };
        let mut rest = belonging(self.search(), &found, &entries);
        let groups: BTreeSet<i32> =
            heads.iter().filter_map(|it| Self::group_of(it.run(), &entries)).collect();
        let head_runs: Vec<Run> = heads.iter().map(Held::run).collect();
        let is_known = |run: &Run, rest: &[Run]| {
            head_runs.contains(run)
                || rest.contains(run)
                || entries.iter().any(|it| it.run == *run && groups.contains(&it.group))
        };
        for holder in holders(&local_addresses(&self.checks)) {
            if holder.processes.iter().any(|it| is_known(it, &rest)) {
                continue;
            }
            let marked: Vec<Run> = holder
                .processes
                .iter()
                .copied()
                .filter(|it| self.carries_mark(it, &entries))
                .collect();
            if marked.is_empty() {
                return Err(self.held(&holder));
            }
            // Left over by an earlier run than the last.
            rest.extend(marked);
        }
        Ok(Present { heads, rest: hold_each(&rest) })
    }

    /// Looks again when all was ended: somebody may have started the target meanwhile. Returns
    /// its process id.
    ///
    /// # Errors
    ///
    /// When somebody else holds its port now.
    pub(super) fn look_again(&self) -> Result<Option<i32>, Failure> {
        match find(self.search(), scan) {
            Found::Running(running) => return Ok(Some(running.main.pid)),
            Found::Unclear { reason, .. } => return Err(Failure::new(reason)),
            Found::NotRunning { .. } => {}
        }
        match holders(&local_addresses(&self.checks)).first() {
            None => Ok(None),
            Some(holder) => {
                let held = self.held(holder);
                Err(Failure { is_refusal: false, ..held })
            }
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
        Search { files: &self.files, handle: &self.process, checks: &self.checks, configured }
    }

    /// Returns the group of a process if it leads it.
    fn group_of(run: Run, entries: &[Entry]) -> Option<i32> {
        entries.iter().find(|it| it.run == run && it.leads()).map(|it| it.group)
    }

    fn carries_mark(&self, run: &Run, entries: &[Entry]) -> bool {
        let state_dir = self.files.state_dir().to_string_lossy();
        entries.iter().any(|it| {
            it.run == *run
                && it.target.as_deref() == Some(self.files.target())
                && it.state_dir.as_deref() == Some(&state_dir)
        })
    }

    fn held(&self, holder: &Holder) -> Failure {
        let by = match holder.processes.first().and_then(|it| Some((it.pid, it.id()?))) {
            Some((pid, id)) => format!("process {pid} ({})", proc::describe(id)),
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
