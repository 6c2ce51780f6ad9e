//! `selfheal`, the command of people: it runs the system, asks it, and tells it what to do.

mod args;
mod config_file;
mod exit;
mod http;
mod terminal;
mod up;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::{
    args::{Cli, Command},
    exit::{Exit, Failure},
    terminal::Terminal,
};

/// Runs the command line and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be done about a closed stream, and help is no failure.
            drop(error.print());
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            return exit.into();
        }
    };
    let terminal = Terminal::new(cli.global.json, cli.global.color);
    match run(cli, terminal) {
        Ok(()) => Exit::Success.into(),
        Err(failure) => {
            terminal.failure(&failure);
            failure.exit().into()
        }
    }
}

fn run(cli: Cli, terminal: Terminal) -> Result<(), Failure> {
    // Not a runtime yet: the wrapper becomes another program, and must not start threads before.
    if let Command::Child { parent, command } = &cli.command {
        return up::wrapper::become_child(*parent, command);
    }
    // One thread is enough, and `up` needs it: the kernel ends a child with the *thread* that started it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::new(Exit::Failed, "cannot start the runtime").because(error))?;
    runtime.block_on(dispatch(cli, terminal))
}

async fn dispatch(cli: Cli, terminal: Terminal) -> Result<(), Failure> {
    let global = cli.global;
    match cli.command {
        Command::Up(args) => up::run(&args, &global, terminal).await,
        Command::Check { file } => config_file::check(&file, terminal),
        Command::Health { url } => http::health(&url, global.broker.timeout, terminal).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "selfheal", &mut script);
            terminal.print(String::from_utf8_lossy(&script).trim_end())
        }
        _ => Err(Failure::new(Exit::Failed, "not yet")),
    }
}
