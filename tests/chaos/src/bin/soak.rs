//! `cargo xtask soak`: a steady load for long, and what it does to memory and descriptors.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "progress for people goes to standard error, figures to standard output"
)]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use chaos::{agents::Places, person, run, soak, target::Part, world::World};
use clap::Parser;
use tokio_util::sync::CancellationToken;

/// Run a steady load for long and watch memory and file descriptors
#[derive(Debug, Parser)]
#[command(name = "cargo xtask soak", args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// How long, in minutes
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Events a second: a third begins something, a third repeats it, a third ends it
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// The nats-server
    #[arg(long, env = "SELFHEAL_NATS_SERVER", default_value = "nats-server", value_name = "FILE")]
    nats_server: PathBuf,
    /// Use what `cargo build --release` has built
    #[arg(long)]
    release: bool,
    /// Directory of our own programs, instead of this one's
    #[arg(long, value_name = "DIR", conflicts_with = "release")]
    programs: Option<PathBuf>,
    /// The figures as one line of JSON, which is what is printed in any case
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.part {
        Some(part) => part.play().await.map_err(Into::into),
        None => run_soak(&args.run).await,
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run_soak(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let this = std::env::current_exe().context("cannot tell where this program is")?;
    let beside = this.parent().map(Path::to_owned).unwrap_or_default();
    let programs = match (&args.programs, args.release) {
        (Some(programs), _) => programs.clone(),
        (None, true) => beside.with_file_name("release"),
        (None, false) => beside,
    };
    let dir = std::env::temp_dir().join(format!("soak-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let places = Places { dir: dir.clone(), programs, small: false };
    let world = World::start(&places, &args.nats_server, &this, 1).await?;
    let stop = CancellationToken::new();
    let _stopped_in_any_case = stop.clone().drop_guard();
    let keeper = tokio::spawn(Arc::clone(&world).look_after(stop.clone()));
    // One of the targets may only be started with a person's approval.
    let names = world.ground.targets.iter().map(|it| it.name.clone()).collect();
    let person = tokio::spawn(person::be_on_call(world.http.clone(), names, stop.clone()));
    run::until_ready(&world).await?;
    tell(&format!("{} events a second, in {}", args.rate, dir.display()));
    let span = Duration::from_secs_f64(args.minutes * 60.0);
    let figures = tokio::select! {
        figures = soak::soak(Arc::clone(&world), span, args.rate, tell) => figures?,
        _ = tokio::signal::ctrl_c() => bail!("stopped by a signal"),
    };
    stop.cancel();
    keeper.await??;
    person.await?;
    for kept in world.kept() {
        kept.odd().1.iter().for_each(|it| tell(it));
    }
    println!("{}", serde_json::to_string(&figures)?);
    if figures.good {
        drop(world);
        std::fs::remove_dir_all(&dir).context("cannot remove the directory of the run")?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("everything is kept in {}", dir.display());
    Ok(ExitCode::FAILURE)
}

fn tell(what: &str) {
    eprintln!("{} {what}", chrono::Utc::now().format("%H:%M:%S"));
}
