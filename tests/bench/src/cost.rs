//! What a load takes from each process.

use std::collections::BTreeMap;

use anyhow::bail;
use serde_json::{Map, Value, json};

use crate::{
    float,
    load::{Load, Outcome},
    proc, rounded,
    stack::Stack,
};

/// A run with the processor time that it took.
#[derive(Clone, Debug)]
pub struct Cost {
    /// The run.
    pub outcome: Outcome,
    /// Microseconds for each event, by program; `client` is the generator of the load.
    pub cpu_us: BTreeMap<String, f64>,
}

impl Cost {
    /// Runs a load.
    ///
    /// # Errors
    ///
    /// When a connection breaks.
    pub async fn measure(stack: &Stack, load: Load) -> anyhow::Result<Self> {
        let before = stack.processes();
        let own = proc::process(std::process::id());
        let outcome = load.run().await?;
        let own_after = proc::process(std::process::id());
        let mut cpu = proc::cpu_between(&before, &stack.processes());
        if let (Some(own), Some(after)) = (own, own_after) {
            cpu.insert("client".to_owned(), after.cpu_s - own.cpu_s);
        }
        let n = float(outcome.latencies.n()).max(1.0);
        let cpu_us = cpu.into_iter().map(|(name, seconds)| (name, seconds * 1e6 / n)).collect();
        Ok(Self { outcome, cpu_us })
    }

    /// Returns microseconds of all programs together.
    #[must_use]
    pub fn all_us(&self) -> f64 {
        self.cpu_us.values().sum()
    }

    /// Returns microseconds of one program.
    #[must_use]
    pub fn of_us(&self, name: &str) -> f64 {
        self.cpu_us.get(name).copied().unwrap_or(0.0)
    }

    /// Returns the figures.
    ///
    /// # Errors
    ///
    /// When an event was refused.
    pub fn tell(&self) -> anyhow::Result<Value> {
        let mut told = tell(&self.outcome)?;
        let mut per_event: Map<String, Value> = self
            .cpu_us
            .iter()
            .map(|(name, us)| (name.clone(), rounded(*us).into()))
            .filter(|(_, us)| us != 0.0)
            .collect();
        per_event.insert("all".to_owned(), rounded(self.all_us()).into());
        if let Some(told) = told.as_object_mut() {
            told.insert("cpu_us_per_event".to_owned(), per_event.into());
        }
        Ok(told)
    }
}

/// Returns rate and latencies of a run in which every event was accepted.
///
/// # Errors
///
/// When one was refused.
pub fn tell(outcome: &Outcome) -> anyhow::Result<Value> {
    let n = outcome.latencies.n();
    if outcome.n(200) + outcome.n(202) < n {
        bail!("not every event was accepted: {:?}", outcome.statuses);
    }
    let mut told = json!({"per_s": rounded(outcome.per_s()), "ms": outcome.latencies.summary()});
    if 0 < outcome.n(202)
        && let Some(told) = told.as_object_mut()
    {
        told.insert("n_accepted_without_answer".to_owned(), outcome.n(202).into());
    }
    Ok(told)
}
