//! `cargo xtask bench NAME`: measured on real processes, printed for people or as JSON.

mod footprint;
mod heal;
mod program;
mod report;
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
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub(crate) struct Options {
    /// What is measured
    #[arg(value_enum)]
    name: Name,
    /// Print one JSON object for each measurement instead of lines for people
    #[arg(long)]
    json: bool,
    /// Measure binaries as developers build them; by default they are optimised
    #[arg(long, conflicts_with = "release")]
    dev: bool,
    /// Measure optimised binaries, which is the default
    #[arg(long)]
    release: bool,
    /// How many kills (heal, recover), events (react, times ten), or seconds (footprint)
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// How long each load of ingest runs
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Share of the full sizes of storm and recover, for quick runs, such as 0.1
    #[arg(long, default_value_t = 1.0, value_name = "SHARE")]
    scale: f64,
    /// Write the figures into docs/performance.md
    #[arg(long)]
    write: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Events a second through the front door, beside a bare server and the bare broker
    Ingest,
    /// From an accepted event to the first instruction of the action
    React,
    /// From kill -9 of a target to its answering again, beside its own start time
    Heal,
    /// A million events of a hundred fingerprints, and a hundred thousand open incidents
    Storm,
    /// From kill -9 of the supervisor to the next decision, with a long ledger
    Recover,
    /// Memory and processor time of the five agents and the broker, idle; time until ready
    Footprint,
    /// All of these, one after the other
    All,
}

impl Name {
    const EACH: [Self; 6] =
        [Self::Ingest, Self::React, Self::Heal, Self::Storm, Self::Recover, Self::Footprint];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::React => "react",
            Self::Heal => "heal",
            Self::Storm => "storm",
            Self::Recover => "recover",
            Self::Footprint => "footprint",
            Self::All => "all",
        }
    }
}

/// What a bench needs.
#[derive(Debug)]
struct Setting {
    server: PathBuf,
    binaries: PathBuf,
    runs: u32,
    seconds: u32,
    scale: f64,
}

/// Builds, measures, prints.
pub(crate) fn run(
    workspace: &Workspace,
    server: Option<&Path>,
    options: &Options,
) -> anyhow::Result<ExitCode> {
    let server = broker::find_or_fetch(workspace, server)?;
    workspace.build_product(!options.dev)?;
    let setting = Setting {
        server: server.path,
        binaries: workspace.binaries(!options.dev),
        runs: options.runs,
        seconds: options.seconds,
        scale: options.scale,
    };
    let machine = json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "nats_server": server.version,
        "profile": if options.dev { "dev" } else { "release" },
    });
    let one = [options.name];
    let names = if options.name == Name::All { Name::EACH.as_slice() } else { one.as_slice() };
    for name in names {
        let result = measure(workspace, &setting, *name)?;
        let whole = json!({"bench": name.as_str(), "machine": machine, "result": result});
        if options.json {
            println!("{whole}");
        } else {
            let pretty = serde_json::to_string_pretty(&whole).context("cannot print the result")?;
            println!("{pretty}");
        }
        if options.write {
            report::write(workspace, name.as_str(), &machine, &result)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(workspace: &Workspace, setting: &Setting, name: Name) -> anyhow::Result<Value> {
    match name {
        Name::Heal => heal::measure(setting),
        Name::Footprint => footprint::measure(setting),
        Name::Ingest | Name::React | Name::Storm | Name::Recover | Name::All => {
            program::measure(workspace, setting, name.as_str())
        }
    }
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
