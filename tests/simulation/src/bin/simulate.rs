//! `cargo xtask simulate`: runs the simulation, shows how a seed fails, finds planted bugs.

#![expect(clippy::print_stdout, reason = "this is a command for people")]

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use serde_json::json;
use simulation::{Batch, Bug, Found, Options, Outcome, Part, Report, find_bugs, run_many, shrink};

/// Simulates the whole system: all agents, the broker, the network, targets and people, in
/// virtual time, with everything that can go wrong.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask simulate")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command")]
struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// One seed; if it fails, made as small as it gets, with what happened
    #[arg(long)]
    seed: Option<u64>,
    /// The first of many seeds
    #[arg(long, default_value_t = 1)]
    start: u64,
    /// Simulated time in which things go wrong, in hours
    #[arg(long)]
    hours: Option<f64>,
    /// The same in minutes
    #[arg(long, default_value_t = Options::MINUTES)]
    minutes: u64,
    /// Threads [default: one for each processor]
    #[arg(long)]
    jobs: Option<usize>,
    /// No new seed is begun after so many seconds
    #[arg(long, value_name = "S")]
    budget: Option<u64>,
    /// What does not happen; may be given several times
    #[arg(long, value_name = "PART")]
    without: Vec<Part>,
    /// A planted bug
    #[arg(long)]
    bug: Option<Bug>,
    /// Looks for all planted bugs, and writes what found them into docs/simulation.md
    #[arg(long)]
    bugs: bool,
    /// Prints everything that happens in one seed
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Prints a line for each seed, with the simulated time, as soon as it has ended
    #[arg(long, conflicts_with = "json")]
    each: bool,
    /// Goes on after a failing seed
    #[arg(long)]
    keep_going: bool,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

/// Seeds in which a planted bug is looked for.
const BUG_SEEDS_MAX: u64 = 300;

fn main() -> ExitCode {
    let args = Args::parse();
    let ok = match (args.bugs, args.seed) {
        (true, _) => bugs(&args),
        (false, Some(seed)) => one(&args, seed),
        (false, None) => many(&args),
    };
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(args: &Args, seed: u64) -> Options {
    let minutes = args.hours.map_or(args.minutes, |hours| {
        let seconds = Duration::try_from_secs_f64(hours * 3600.0).unwrap_or_default().as_secs();
        (seconds / 60).max(1)
    });
    let without: BTreeSet<Part> = args.without.iter().copied().collect();
    Options { seed, minutes, without, bug: args.bug, trace: args.trace }
}

fn jobs(args: &Args) -> usize {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    args.jobs.unwrap_or(all)
}

fn one(args: &Args, seed: u64) -> bool {
    let options = options(args, seed);
    if args.trace {
        let outcome = simulation::run(&options);
        for (at, line) in &outcome.trace {
            println!("{:>5}.{:06} {line}", at / 1_000_000, at % 1_000_000);
        }
        return outcome.broken.is_none();
    }
    let outcome = simulation::run(&options);
    let Some(broken) = &outcome.broken else {
        let (hash, counts) = (outcome.hash, outcome.counts);
        println!("seed {seed}: no law is broken; {counts:?}, hash {hash:016x}");
        return true;
    };
    println!("seed {seed}: {}: {}", broken.law, broken.why);
    tell_smallest(&options);
    false
}

fn tell_smallest(options: &Options) {
    let Some(shrunk) = shrink(options) else { return };
    println!("\nThe smallest run that was found, and what happened in it:\n");
    for line in &shrunk.story {
        println!("{line}");
    }
    println!("\n{}: {}", shrunk.broken.law, shrunk.broken.why);
    println!("\nRun it again:\n  {}", shrunk.options.command());
}

fn many(args: &Args) -> bool {
    let like = options(args, args.start);
    let batch = Batch {
        like: like.clone(),
        seeds: args.seeds,
        jobs: jobs(args),
        budget: args.budget.map(Duration::from_secs),
        stop_at_failure: !args.keep_going,
    };
    let report = run_many(&batch, |seed, outcome| tell_seed(args, seed, outcome));
    if args.json {
        println!("{}", as_json(&report));
    } else {
        tell(&report);
    }
    let first = report.broken.keys().next().copied();
    if let Some(seed) = first.filter(|_| !args.json && !args.keep_going) {
        tell_smallest(&Options { seed, ..like });
    }
    first.is_none()
}

fn tell_seed(args: &Args, seed: u64, outcome: &Outcome) {
    if let Some(broken) = outcome.broken.as_ref().filter(|_| !args.json) {
        println!("seed {seed}: {}: {}", broken.law, broken.why);
    }
    if args.each {
        let sign = if outcome.broken.is_some() { "failed" } else { "no law is broken" };
        let hours = Duration::from_micros(outcome.simulated).as_secs_f64() / 3600.0;
        println!("seed {seed}: {sign}, {hours:.2} simulated hours");
    }
}

fn tell(report: &Report) {
    let counts = report.counts;
    println!(
        "{} seeds, {} simulated hours, {} failed, in {:.1} s",
        report.seeds,
        report.hours(),
        report.broken.len(),
        report.took.as_secs_f64()
    );
    println!(
        "{} messages in, {} decisions, {} incidents, {} fixes, {} steps on targets, {} resolved, {} to a person",
        counts.inputs,
        counts.decisions,
        counts.incidents,
        counts.fixes,
        counts.effects,
        counts.resolved,
        counts.escalated
    );
}

fn as_json(report: &Report) -> serde_json::Value {
    let counts = report.counts;
    let failed = report.broken.iter().map(|(seed, broken)| {
        json!({ "seed": seed, "law": broken.law, "why": broken.why, "at_us": broken.at })
    });
    json!({
        "seeds": report.seeds,
        "simulated_hours": report.hours(),
        "failed": failed.collect::<Vec<_>>(),
        "inputs": counts.inputs,
        "decisions": counts.decisions,
        "incidents": counts.incidents,
        "fixes": counts.fixes,
        "effects": counts.effects,
        "resolved": counts.resolved,
        "escalated": counts.escalated,
        "took_s": report.took.as_secs_f64(),
    })
}

fn bugs(args: &Args) -> bool {
    let found = find_bugs(&options(args, args.start), &Bug::ALL, BUG_SEEDS_MAX, jobs(args));
    let table = table(&found);
    println!("{table}");
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/simulation.md"));
    if let Err(error) = write(&path, &table) {
        println!("the table is not in {}: {error}", path.display());
    }
    found.iter().all(|it| it.broken.is_some())
}

fn table(found: &[Found]) -> String {
    let mut text =
        String::from("| bug | what is wrong | seeds | law that it breaks |\n|---|---|---|---|\n");
    for one in found {
        let law = one.broken.as_ref().map_or("not found", |it| it.law);
        let (bug, what, seeds) = (one.bug, one.bug.what(), one.seeds);
        let row = format!("| `{bug}` | {what} | {seeds} | {law} |\n");
        text.push_str(&row);
    }
    text
}

/// Puts the table between its two marks.
fn write(path: &PathBuf, table: &str) -> std::io::Result<()> {
    const BEGIN: &str = "<!-- bugs: written by `cargo xtask simulate --bugs` -->\n";
    const END: &str = "<!-- end of bugs -->";
    let text = std::fs::read_to_string(path)?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        rest.split_once(END).map(|(_, after)| format!("{before}{BEGIN}\n{table}\n{END}{after}"))
    });
    std::fs::write(path, parts.ok_or(std::io::ErrorKind::NotFound)?)
}
