//! The measuring program; `cargo xtask bench` runs it.
#![expect(clippy::print_stdout, reason = "the result is what it prints")]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use bench::{Setting, floor::Bare, ingest, react, recover, storm};
use clap::{Parser, Subcommand};

/// Measures a running system; use `cargo xtask bench`, which builds it first
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Args)]
struct Given {
    /// The broker's program
    #[arg(long, value_name = "FILE")]
    server: PathBuf,
    /// The directory of the binaries that are measured
    #[arg(long, value_name = "DIR")]
    binaries: PathBuf,
    /// How long each load runs
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// How many kills or events
    #[arg(long, default_value_t = 10)]
    runs: u32,
    /// How often the broker syncs
    #[arg(long, default_value = "always")]
    sync: String,
    /// Share of the full sizes, for quick runs
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Events a second through the front door
    Ingest(Given),
    /// The front door at 64 connections alone, for profilers
    Profile(Given),
    /// From an accepted event to the first instruction of the action
    React(Given),
    /// A million events of a hundred fingerprints, and a hundred thousand open incidents
    Storm(Given),
    /// From kill -9 of the supervisor to the next decision
    Recover(Given),
    /// Serve the floor of `ingest` until the input ends
    BareServer,
}

fn main() -> ExitCode {
    // The action of `react`: nothing else may come before its look at the clock.
    let now_ns = react::now_ns();
    let words: Vec<_> = std::env::args_os().collect();
    if let [_, word, dir, target] = words.as_slice()
        && word == "mark"
    {
        let marked = react::mark(now_ns, dir.as_ref(), &target.to_string_lossy());
        return marked.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the one place where errors are shown")]
fn say(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

fn run(args: Args) -> anyhow::Result<()> {
    let setting = |given: Given| Setting {
        server: given.server,
        binaries: given.binaries,
        span: Duration::from_secs_f64(given.seconds),
        runs: given.runs,
        sync: given.sync,
        scale: given.scale,
    };
    // One thread: the generator must not compete with what it measures for two cores.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = match args.what {
        What::BareServer => return Bare::process(),
        What::React(given) => runtime.block_on(react::measure(&setting(given)))?,
        What::Storm(given) => runtime.block_on(storm::measure(&setting(given)))?,
        What::Recover(given) => runtime.block_on(recover::measure(&setting(given)))?,
        What::Ingest(given) => runtime.block_on(ingest::measure(&setting(given)))?,
        What::Profile(given) => runtime.block_on(ingest::profile(&setting(given)))?,
    };
    println!("{result}");
    Ok(())
}
