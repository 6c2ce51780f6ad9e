//! Pre-checks: a last look, immediately before a step.

use std::time::Duration;

use domain::{
    action::Action,
    check::{Check, Probe},
    redact,
    wire::CheckResult,
};
use host::process::{Files, Found, Search, ThisHost, find::find, scan};
use tokio::time::Instant;

use crate::{
    actions::{Attempt, Failure, Tools, http_client},
    output::last_part,
    process::reap::describe,
    program::Program,
    secrets,
};

/// Most bytes of a body that are searched for the expected text.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes of what a failed command printed.
const OUTPUT_BYTES_MAX: usize = 1024;

/// Looks whether a check passes now.
pub(crate) async fn look(
    check: &Check,
    action: &Action,
    tools: &Tools,
    attempt: &Attempt,
) -> CheckResult {
    let begun = Instant::now();
    let patience = check.timeout.to_std();
    let probed = probe(check, action, tools, attempt, begun + patience);
    let (ok, detail) = match tokio::time::timeout(patience, probed).await {
        Ok(Ok(detail)) => (true, detail),
        Ok(Err(failure)) => (false, failure.reason),
        Err(_elapsed) => (false, Failure::timed_out("it", patience).reason),
    };
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    CheckResult { check: check.label(), ok, detail, took_ms }
}

async fn probe(
    check: &Check,
    action: &Action,
    tools: &Tools,
    attempt: &Attempt,
    deadline: Instant,
) -> Result<String, Failure> {
    match check.probe() {
        Ok(Probe::Http(url)) => http(check, url, tools).await,
        Ok(Probe::Tcp(address)) => match tools.allow.outgoing().connect(address).await {
            Ok(_) => Ok(format!("{address} accepts connections")),
            Err(error) => Err(Failure::new(format!("cannot connect to {address}: {error}"))),
        },
        Ok(Probe::Process) => process(action, tools, attempt).await,
        Ok(Probe::Docker) => container(action, tools).await,
        Ok(Probe::Command(command)) => program(command, tools, attempt, deadline).await,
        Ok(Probe::Disk(_) | Probe::Memory | Probe::Cpu | Probe::Prometheus(_)) => {
            Err(Failure::new("it cannot be a pre-check; use http, tcp, process, docker or command"))
        }
        Err(error) => Err(Failure::of(&error, "correct it in the runbook")),
    }
}

async fn http(check: &Check, url: &str, tools: &Tools) -> Result<String, Failure> {
    let shown = redact::text(url);
    let mut request = http_client(tools).await?.get(url).timeout(Duration::from_secs(3600));
    for (name, value) in secrets::read_all(&check.headers)? {
        request = request.header(name, value);
    }
    let unanswered =
        |error: reqwest::Error| Failure::new(service::Chain(&error.without_url()).to_string());
    let mut answer = request.send().await.map_err(unanswered)?;
    let status = answer.status().as_u16();
    let expected = if check.status.is_empty() {
        (200..400).contains(&status)
    } else {
        check.status.contains(&status)
    };
    if !expected {
        return Err(Failure::new(format!("{shown} answered {status}")));
    }
    if let Some(wanted) = &check.contains {
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(unanswered)? {
            body.extend_from_slice(&part);
            if BODY_BYTES_MAX < body.len() {
                break;
            }
        }
        if !String::from_utf8_lossy(&body).contains(wanted) {
            return Err(Failure::new(format!("{shown} answered {status}, without `{wanted}`")));
        }
    }
    Ok(format!("{shown} answered {status}"))
}

async fn process(action: &Action, tools: &Tools, attempt: &Attempt) -> Result<String, Failure> {
    let Action::ProcessRestart { target, process } = action else {
        return Err(Failure::new("the step has no process to check"));
    };
    let files = Files::new(&tools.state_dir, target, process)
        .map_err(|error| Failure::of(&error, error.hint()))?;
    let (process, known) = (process.clone(), tools.targets.get());
    let checks = attempt.checks.clone();
    let found = tokio::task::spawn_blocking(move || {
        let configured = known.as_ref().map(|it| &*it.configured);
        let (files, handle, checks) = (&files, &process, checks.as_slice());
        find(Search { host: &ThisHost, files, handle, checks, configured }, scan::scan)
    });
    let found = found
        .await
        .map_err(|error| Failure::of(&error, "this is a fault of the fixer: please report it"))?;
    match found {
        Found::Running(running) => Ok(format!("process {} is alive", running.main.pid)),
        Found::Unclear { reason, .. } => Err(Failure::new(reason)),
        Found::NotRunning { .. } => Err(Failure::new("the process is not alive")),
    }
}

async fn container(action: &Action, tools: &Tools) -> Result<String, Failure> {
    let name = match action {
        Action::DockerRestart { container }
        | Action::DockerStart { container }
        | Action::DockerStop { container } => container,
        Action::ProcessRestart { .. }
        | Action::CommandRun { .. }
        | Action::HttpRequest { .. }
        | Action::DiskClean { .. } => {
            return Err(Failure::new("the step has no container to check"));
        }
    };
    if tools.engine.is_well(name).await? {
        Ok(format!("container {name} runs"))
    } else {
        Err(Failure::new(format!("container {name} does not run or is unhealthy")))
    }
}

async fn program(
    command: &[String],
    tools: &Tools,
    attempt: &Attempt,
    deadline: Instant,
) -> Result<String, Failure> {
    let env = std::collections::BTreeMap::new();
    let program = Program { command, dir: None, env: &env, marks: attempt.marks() };
    let ended = program
        .run(&tools.environment, deadline)
        .await
        .map_err(|error| Failure::of(&error, error.hint()))?;
    let what =
        format!("{} ended with {}", redact::text(&command.join(" ")), describe(ended.status));
    if ended.status.success() {
        return Ok(what);
    }
    Err(Failure::new(format!("{what}: {}", last_part(ended.output.trim(), OUTPUT_BYTES_MAX))))
}
