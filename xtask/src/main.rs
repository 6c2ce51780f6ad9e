//! Developer commands: `cargo xtask up`, `test`, `lint`, `docs`, `bench`, `image`,
//! `simulate`, `chaos`, `soak`.
//!
//! Everything that a newcomer or the CI needs is fetched, built and started from here, so that no
//! step lives in a document only.
#![expect(clippy::print_stdout, reason = "a developer command speaks to a terminal")]

mod bench;
mod broker;
mod delegate;
mod demo;
mod engine;
mod image;
mod process;
mod test;
mod up;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use workspace::Workspace;

/// Developer commands of Self-Heal ITOps
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// The nats-server to use, instead of searching for one
    #[arg(long, global = true, env = "SELFHEAL_NATS_SERVER", value_name = "FILE")]
    nats_server: Option<std::path::PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build and start everything, with a small shop to break
    Up(up::Options),
    /// Run all tests; those that need a container engine when one answers
    Test(test::Options),
    /// Check the format, the lints and the documentation
    Lint,
    /// Write docs/wire.md, docs/schemas and deploy/nats.conf from tables and types
    Docs,
    /// Build the container image from binaries compiled on this machine
    Image(image::Options),
    /// Measure a running system
    Bench(bench::Options),
    /// Run the simulation: all agents in one thread, with virtual time, from seeds
    Simulate(delegate::Options),
    /// Break real processes at random, under load, and judge what is left
    Chaos(delegate::Options),
    /// Run a steady load for long and watch memory and file descriptors
    Soak(delegate::Options),
    /// Find or fetch a nats-server and print its path
    Nats,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln_error(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the one place where errors are shown")]
fn eprintln_error(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::open()?;
    let server = args.nats_server.as_deref();
    match &args.command {
        Command::Up(options) => up::run(&workspace, server, options),
        Command::Test(options) => test::run(&workspace, server, options),
        Command::Lint => workspace.lint(),
        Command::Docs => workspace.docs(),
        Command::Image(options) => image::build(&workspace, options).map(|()| ExitCode::SUCCESS),
        Command::Bench(options) => bench::run(&workspace, server, options),
        Command::Simulate(options) => delegate::simulate(&workspace, options),
        Command::Chaos(options) => delegate::chaos(&workspace, server, options),
        Command::Soak(options) => delegate::soak(&workspace, server, options),
        Command::Nats => {
            println!("{}", broker::find_or_fetch(&workspace, server)?.path.display());
            Ok(ExitCode::SUCCESS)
        }
    }
}
