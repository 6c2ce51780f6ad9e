//! `process.restart`: stops a process if it lives, and starts it.

use std::{path::PathBuf, process::ExitStatus, sync::Arc};

use domain::{
    action::{Action, ActionName},
    secret::without_secrets,
    target::ProcessHandle,
};

use host::process::{
    Account, Files,
    start::{Launch, Started, start},
};

use self::present::Case;
use super::{Attempt, Done, Failure, Listed, Running, Tools};
use crate::{
    allow::{AllowList, Denied, Setting},
    output::printable,
    process::{
        reap::{describe, reap, record},
        settle,
    },
    secrets,
};

mod present;

/// Most bytes of a log that tell why a process ended at once.
const LOG_BYTES: u64 = 4096;

pub(super) const LISTED: Listed =
    Listed { name: ActionName::ProcessRestart, by_default: true, permit, run };

fn permit(action: &Action, allow: &AllowList, setting: Setting<'_>) -> Result<(), Denied> {
    let Action::ProcessRestart { target, process } = action else { return Ok(()) };
    allow.process(target, process, setting)
}

fn run<'a>(action: &'a Action, tools: &'a Tools, attempt: &'a Attempt) -> Running<'a> {
    Box::pin(async move {
        let Action::ProcessRestart { target, process } = action else {
            return Err(Failure::misled(action));
        };
        restart(target, process, tools, attempt).await
    })
}

async fn restart(
    target: &str,
    process: &ProcessHandle,
    tools: &Tools,
    attempt: &Attempt,
) -> Result<Done, Failure> {
    // What cannot be started again is not stopped.
    let program = tools
        .environment
        .find(&process.command, process.dir.as_deref(), &without_secrets(&process.env))
        .map_err(|error| Failure::of(&error, error.hint()))?;
    let account = Account::of(process)
        .map_err(|error| Failure::refused(Failure::of(&error, error.hint()).reason))?;
    let files = Files::new(&tools.state_dir, target, process)
        .map_err(|error| Failure::of(&error, error.hint()))?;
    let case = Case {
        files: files.clone(),
        process: process.clone(),
        configured: tools.targets.get().map(|it| Arc::clone(&it.configured)),
        checks: attempt.checks.clone(),
    };
    let (_lock, case, present) = blocking(move || {
        let lock = case.files.lock().map_err(|error| Failure::of(&error, error.hint()))?;
        let present = case.look()?;
        Ok((lock, case, present))
    })
    .await?;
    if let Some(main) = present.main().filter(|_| attempt.is_start) {
        let pid = main.pid;
        return Ok(Done::idle(format!("found it running, as process {pid}, and left it alone")));
    }
    let stopped = present.stop(process, attempt).await?;
    let again = case.clone();
    if let Some(pid) = blocking(move || again.look_again()).await? {
        return Ok(Done::silently(format!(
            "{stopped}found it started again from outside, as process {pid}"
        )));
    }
    // This process may have been stopped meanwhile, and another one be at work by now.
    attempt.in_time()?;
    let started = begin((program, account), process, &files, tools, attempt).await?;
    let pid = started.run.pid;
    if let Some(status) = started.exited {
        record(pid, status, files.clone()).await;
        return exited(pid, status, &stopped, files).await;
    }
    tools.tasks.spawn(settle(started.pid_file, files.clone(), started.run));
    tools.tasks.spawn(reap(started.child, pid, files, tools.stop.clone()));
    let run = started.run;
    if let Some((theirs, ours)) = blocking(move || Ok(case.look_beside(run))).await? {
        let ended = ours.stop(process, attempt).await?;
        return Ok(Done::silently(format!(
            "{stopped}started process {pid}, {ended}left process {theirs}, which was started from outside at the same time"
        )));
    }
    Ok(Done::silently(format!("{stopped}started process {pid}")))
}

async fn begin(
    (program, account): (PathBuf, Option<Account>),
    process: &ProcessHandle,
    files: &Files,
    tools: &Tools,
    attempt: &Attempt,
) -> Result<Started, Failure> {
    let (process, files) = (process.clone(), files.clone());
    let (mut env, cause, starter) =
        (tools.environment.pairs(), attempt.cause.clone(), tools.starter.clone());
    env.extend(secrets::of(&process.env)?);
    blocking(move || {
        let launch = Launch {
            starter: &starter,
            program: &program,
            handle: &process,
            files: &files,
            env: &env,
            account: account.as_ref(),
            cause: &cause,
        };
        start(launch).map_err(|error| Failure::of(&error, error.hint()))
    })
    .await
}

/// A process that has ended while its start was written down. Success is for the
/// verification to say; but an error at this time is one for certain.
async fn exited(
    pid: i32,
    status: ExitStatus,
    stopped: &str,
    files: Files,
) -> Result<Done, Failure> {
    let what =
        format!("{stopped}started process {pid}, which ended at once with {}", describe(status));
    let output = blocking(move || Ok(printable(&files.log_tail(LOG_BYTES)))).await?;
    if status.success() {
        return Ok(Done { summary: what, output, is_idle: false });
    }
    Err(Failure { output, ..Failure::new(format!("{what}; see its log")) })
}

/// Runs what blocks for a moment where it holds nobody up.
async fn blocking<T, F>(work: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Failure> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Failure::of(&error, "this is a fault of the fixer: please report it")),
    }
}
