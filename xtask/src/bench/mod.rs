//! `cargo xtask bench NAME`: measured on real processes, printed for people or as JSON.

mod footprint;
mod heal;
mod stack;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use serde_json::{Value, json};

use crate::broker;
use crate::workspace::Workspace;

/// Options of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What is measured
    #[arg(value_enum)]
    name: Name,
    /// Print one JSON object instead of lines for people
    #[arg(long)]
    json: bool,
    /// Measure optimised binaries
    #[arg(long)]
    release: bool,
    /// How many kills (heal), or how many seconds (footprint)
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// From kill -9 of a target to its answering again, beside its own start time
    Heal,
    /// Memory and processor time of the five agents and the broker, idle; time until ready
    Footprint,
}

/// What a bench needs.
#[derive(Debug)]
struct Setting {
    server: PathBuf,
    binaries: PathBuf,
    runs: u32,
}

/// Builds, measures, prints.
pub(crate) fn run(
    workspace: &Workspace,
    server: Option<&Path>,
    options: &Options,
) -> anyhow::Result<ExitCode> {
    let server = broker::find_or_fetch(workspace, server)?;
    workspace.build_product(options.release)?;
    let binaries = workspace.binaries(options.release);
    let setting = Setting { server: server.path, binaries, runs: options.runs };
    let (name, result) = match options.name {
        Name::Heal => ("heal", heal::measure(&setting)?),
        Name::Footprint => ("footprint", footprint::measure(&setting)?),
    };
    let machine = json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "nats_server": server.version,
        "profile": if options.release { "release" } else { "dev" },
    });
    let whole = json!({"bench": name, "machine": machine, "result": result});
    if options.json {
        println!("{whole}");
    } else {
        println!("{}", serde_json::to_string_pretty(&whole).context("cannot print the result")?);
    }
    Ok(ExitCode::SUCCESS)
}

/// Summarises measured milliseconds: median, 95th percentile, least and most.
fn summary(mut values: Vec<f64>) -> Value {
    values.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        let idx = (values.len() * percent / 100).min(values.len().saturating_sub(1));
        values.get(idx).copied().map(rounded)
    };
    json!({"n": values.len(), "min": at(0), "median": at(50), "p95": at(95), "max": at(100)})
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_the_middle_and_the_ends() {
        let values = (1..=100).rev().map(f64::from).collect();
        let wanted = json!({"n": 100, "min": 1.0, "median": 51.0, "p95": 96.0, "max": 100.0});
        assert_eq!(summary(values), wanted);
        assert_eq!(summary(Vec::new())["median"], Value::Null);
    }
}
