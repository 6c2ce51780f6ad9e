//! Waiting until all is quiet: everybody lives, every incident is ended, every log is whole.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{gather, ledger::Seen, world::World};

/// How long it may take until all is quiet.
pub const WITHIN: Duration = Duration::from_secs(180);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// It must have been quiet for so many looks: a target that is found sick again is not quiet.
const LOOKS: usize = 6;

/// Waits until all is quiet.
///
/// # Errors
///
/// What was not, when the time is over.
pub async fn settle(world: &World, seen: &Seen) -> Result<Duration, String> {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(LOOK);
    let mut n_quiet = 0;
    loop {
        ticks.tick().await;
        match look(world, seen).await {
            Ok(()) => n_quiet += 1,
            Err(last) if WITHIN < start.elapsed() => return Err(last),
            Err(_) => n_quiet = 0,
        }
        if n_quiet == LOOKS {
            return Ok(start.elapsed());
        }
    }
}

async fn look(world: &World, seen: &Seen) -> Result<(), String> {
    let status = world.http.get_anywhere("/api/v1/status").await;
    let status = status.map_err(|error| format!("{error:#}"))?;
    let system = status.get("system").filter(|it| it.is_object());
    let system = system.ok_or_else(|| format!("no supervisor answers: {status}"))?;
    let number = |name: &str| system.get(name).and_then(Value::as_u64);
    if system.get("leader").is_none_or(Value::is_null) {
        return Err("nobody leads".to_owned());
    }
    if number("inbox_lag") != Some(0) || number("log_lag") != Some(0) {
        return Err(format!("something waits: {system}"));
    }
    let waits = ["open", "diagnosing", "proposed", "fixing", "verifying", "merged"];
    let incidents = system.get("incidents");
    for name in waits {
        let n = incidents.and_then(|it| it.get(name)).and_then(Value::as_u64);
        if n.is_some_and(|n| 0 < n) {
            return Err(format!("incidents are {name}: {system}"));
        }
    }
    let n_facts = seen.n_facts();
    let n_decisions = number("n_decisions").and_then(|it| usize::try_from(it).ok());
    if n_decisions != Some(n_facts) {
        return Err(format!("{n_facts} decisions were read, and the system says {system}"));
    }
    for agent in &world.agents {
        let Some(data) = &agent.data else { continue };
        let last = gather::last_seq(data).map_err(|error| format!("{error:#}"))?;
        if usize::try_from(last).ok() != Some(n_facts) {
            let name = agent.kept.name();
            return Err(format!("the log of {name} ends at {last}, not at {n_facts}"));
        }
    }
    let sick = world.ground.sick();
    if sick.is_empty() { Ok(()) } else { Err(format!("sick: {}", sick.join(", "))) }
}
