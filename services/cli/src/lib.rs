//! `selfheal`, the command of people: it runs the system, asks it, and tells it what to do.

mod args;
mod config_file;
mod connection;
mod doctor;
#[doc(hidden)]
pub mod edges;
mod exit;
mod gateway;
mod http;
mod incidents;
mod keys;
mod log_verify;
mod notify_test;
mod restore;
mod silences;
mod status;
mod terminal;
mod token_check;
mod tokens;
mod up;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use domain::wire::Verb;

use crate::{
    args::{Cli, Command, Global, Incidents, List, Notify, Token, silences::Silences},
    connection::System,
    exit::{Exit, Failure},
    terminal::Terminal,
};

/// Runs the command line and returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli.without_empty_values(),
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
    if let Command::Child { parent, private, command } = &cli.command {
        return up::wrapper::become_child(*parent, *private, command);
    }
    // One thread is enough, and `up` needs it: the kernel ends a child with the *thread* that started it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::new(Exit::Failed, "cannot start the runtime").because(error))?;
    runtime.block_on(dispatch(cli.command, &cli.global, terminal))
}

async fn dispatch(command: Command, global: &Global, terminal: Terminal) -> Result<(), Failure> {
    let connect = || System::connect(global, terminal);
    match command {
        Command::Up(args) => up::run(&args, global, terminal).await,
        Command::Check { file } => config_file::check(&file, terminal),
        Command::Config { command: args::Config::Schema } => {
            terminal.print_json(&domain::schema::config(), true)
        }
        Command::Health { url } => http::health(&url, global.broker.timeout, terminal).await,
        Command::Completions { shell } => completions(shell, terminal),
        Command::Apply { file, by } => verbs::apply(global, terminal, &file, &by).await,
        Command::Publish(args) => verbs::publish(&connect().await?, args).await,
        Command::Incidents { command } => {
            let command = command.unwrap_or_else(|| Incidents::Ls(List::first_page()));
            incidents::run(&connect().await?, command).await
        }
        Command::Approve { incident, plan, by } => {
            verbs::approve(&connect().await?, &incident, plan, &by).await
        }
        Command::Reject(args) => verbs::reject(&connect().await?, args).await,
        Command::Acknowledge(args) => verbs::acknowledge(&connect().await?, args).await,
        Command::Close(args) => verbs::close(&connect().await?, args).await,
        Command::Retry(args) => verbs::retry(&connect().await?, args).await,
        Command::Pause { reason, by } => {
            connect().await?.command(&by.by, Verb::Pause { reason }).await
        }
        Command::Resume { by } => connect().await?.command(&by.by, Verb::Resume).await,
        Command::Silences { command } => {
            let command = command.unwrap_or(Silences::Ls);
            silences::run(&connect().await?, command).await
        }
        Command::Notify(Notify::Test(args)) => notify_test::run(&args, global, terminal).await,
        Command::Token(Token::Check(args)) => token_check::run(&args, global, terminal).await,
        Command::Key(command) => keys::run(command, terminal),
        Command::Log(args::Log::Verify(args)) => log_verify::run(&args, global, terminal).await,
        Command::Token(command) => {
            let system = tokens::connect(global, terminal, &command).await?;
            tokens::run(&system, command).await
        }
        Command::Status => status::run(&connect().await?).await,
        Command::Doctor(args) => doctor::run(&args, global, terminal).await,
        Command::Restore(args) => restore::run(&args, global, terminal).await,
        Command::Child { parent, private, command } => {
            up::wrapper::become_child(parent, private, &command)
        }
    }
}

fn completions(shell: clap_complete::Shell, terminal: Terminal) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "selfheal", &mut script);
    terminal.print(String::from_utf8_lossy(&script).trim_end())
}
