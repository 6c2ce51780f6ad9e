//! `cargo xtask chaos`: faults at random on real processes, judged.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "progress for people goes to standard error, figures to standard output"
)]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use chaos::{
    agents::Places,
    docker,
    figures::{Figures, Report},
    run::{self, Options, Outcome},
    target::Part,
};
use clap::Parser;

/// Break real processes at random, under load, and judge what is left
#[derive(Debug, Parser)]
#[command(name = "cargo xtask chaos", args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command")]
struct RunArgs {
    /// How long faults are injected, in minutes
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// Seed of all chance; printed, so that a run can be had again
    #[arg(long, env = "SELFHEAL_CHAOS_SEED")]
    seed: Option<u64>,
    /// Only a single broker
    #[arg(long, conflicts_with = "cluster")]
    single: bool,
    /// Only a cluster of three brokers
    #[arg(long)]
    cluster: bool,
    /// Only on containers; build the image first with `cargo xtask image`
    #[arg(long, conflicts_with_all = ["single", "cluster"])]
    docker: bool,
    /// Events a second, about
    #[arg(long, default_value_t = 30.0)]
    rate: f64,
    /// The nats-server
    #[arg(long, env = "SELFHEAL_NATS_SERVER", default_value = "nats-server", value_name = "FILE")]
    nats_server: PathBuf,
    /// Directory of our own programs, instead of this one's
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Keep everything, also when the run is good
    #[arg(long)]
    keep: bool,
    /// The figures as one line of JSON, which is what is printed in any case
    #[arg(long)]
    json: bool,
}

/// Stands for containers, whose broker is theirs.
const DOCKER: usize = 0;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.part {
        Some(part) => part.play().await.map_err(Into::into),
        None => run_all(&args.run).await,
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run_all(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let now = chrono::Utc::now().timestamp_micros();
    let seed = args.seed.unwrap_or_else(|| now.unsigned_abs() % 1_000_000);
    let kinds: &[usize] = match (args.single, args.cluster, args.docker) {
        (true, ..) => &[1],
        (_, true, _) => &[3],
        (.., true) => &[DOCKER],
        (false, false, false) => &[1, 3],
    };
    let n_runs = u32::try_from(kinds.len()).unwrap_or(1);
    let span = Duration::from_secs_f64(args.minutes * 60.0) / n_runs;
    let mut all = Vec::new();
    for n_nodes in kinds {
        all.push(run_one(args, seed, *n_nodes, span).await?);
    }
    let report = Report::of(seed, all);
    println!("{}", serde_json::to_string(&report)?);
    Ok(if report.good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn run_one(
    args: &RunArgs,
    seed: u64,
    n_nodes: usize,
    span: Duration,
) -> anyhow::Result<Figures> {
    let dir = std::env::temp_dir().join(format!("chaos-{}-{n_nodes}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let beside = program.parent().map(Path::to_owned).unwrap_or_default();
    let programs = args.programs.clone().unwrap_or(beside);
    let brokers = match n_nodes {
        DOCKER => "containers",
        1 => "a single broker",
        _ => "a cluster of brokers",
    };
    eprintln!("seed {seed}, {brokers}, {} s of faults, in {}", span.as_secs(), dir.display());
    let options = Options {
        seed,
        span,
        n_nodes,
        rate: args.rate,
        server: args.nats_server.clone(),
        program,
        places: Places { dir: dir.clone(), programs, small: true },
    };
    let run = async {
        if n_nodes == DOCKER {
            docker::run(&options, tell).await
        } else {
            run::run(&options, tell).await
        }
    };
    let outcome = tokio::select! {
        outcome = run => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped by a signal")),
    };
    let outcome = outcome.with_context(|| format!("see {}", dir.display()))?;
    show(&outcome, &dir)?;
    if outcome.figures.is_good() && !args.keep {
        std::fs::remove_dir_all(&dir).context("cannot remove the directory of the run")?;
    } else {
        eprintln!("everything is kept in {}", dir.display());
    }
    Ok(outcome.figures)
}

fn tell(what: &str) {
    eprintln!("{} {what}", chrono::Utc::now().format("%H:%M:%S%.3f"));
}

/// Breaches of one kind that are shown; all are in the file.
const SHOWN_MAX: usize = 5;

fn show(outcome: &Outcome, dir: &Path) -> anyhow::Result<()> {
    for remark in &outcome.remarks {
        eprintln!("remark: {remark}");
    }
    for (name, list) in outcome.verdict.lists() {
        for breach in list.iter().take(SHOWN_MAX) {
            eprintln!("{name}: {breach}");
        }
    }
    std::fs::write(dir.join("verdict.json"), serde_json::to_vec_pretty(&outcome.verdict)?)?;
    eprintln!("{}", serde_json::to_string_pretty(&outcome.figures)?);
    Ok(())
}
