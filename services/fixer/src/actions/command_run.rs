//! `command.run`: runs a program without a shell.

use domain::{
    action::{Action, ActionName},
    redact,
    secret::without_secrets,
};

use super::{Attempt, Done, Failure, Listed, Running, Tools};
use crate::{
    allow::{AllowList, Denied, Setting},
    process::reap::describe,
    program::{Error, Program},
    secrets,
};

pub(super) const LISTED: Listed =
    Listed { name: ActionName::CommandRun, by_default: false, permit, run };

fn permit(action: &Action, allow: &AllowList, setting: Setting<'_>) -> Result<(), Denied> {
    let Action::CommandRun { command, dir, env } = action else { return Ok(()) };
    allow.command(command, dir.as_deref(), &without_secrets(env), setting)
}

fn run<'a>(action: &'a Action, tools: &'a Tools, attempt: &'a Attempt) -> Running<'a> {
    Box::pin(async move {
        let Action::CommandRun { command, dir, env } = action else {
            return Err(Failure::misled(action));
        };
        let (secrets, env) = (secrets::of(env)?, secrets::read_all(env)?);
        let program = Program { command, dir: dir.as_deref(), env: &env, marks: attempt.marks() };
        let ended = program.run(&tools.environment, attempt.deadline).await.map_err(told)?;
        let what =
            format!("{} ended with {}", redact::text(&command.join(" ")), describe(ended.status));
        let output = secrets::hidden(ended.output, &secrets);
        if ended.status.success() {
            Ok(Done { summary: what, output, is_idle: false })
        } else {
            Err(Failure { output, ..Failure::new(what) })
        }
    })
}

fn told(error: Error) -> Failure {
    let failure = Failure::of(&error, error.hint());
    match error {
        Error::TimedOut { output, .. } => Failure { output, ..failure },
        Error::NotFound(_) | Error::Spawn { .. } => failure,
    }
}
