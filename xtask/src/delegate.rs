//! Commands that are programs of their own: they know the product, which this one does not.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context;

use crate::broker;
use crate::workspace::Workspace;

/// Arguments that are handed on as they are.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    /// Arguments of the program; `--help` shows them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Runs the simulation.
pub(crate) fn simulate(workspace: &Workspace, options: &Options) -> anyhow::Result<ExitCode> {
    // Faster by a multiple than the profile of tests, which pays from some ten seeds on.
    let run = ["run", "--quiet", "--profile", "simulation"];
    delegate(workspace.cargo(run), None, ("simulation", "simulate"), options)
}

/// Breaks real processes.
pub(crate) fn chaos(
    workspace: &Workspace,
    server: Option<&Path>,
    options: &Options,
) -> anyhow::Result<ExitCode> {
    let server = broker::find_or_fetch(workspace, server)?;
    workspace.build_product(false)?;
    delegate(workspace.cargo(["run", "--quiet"]), Some(&server.path), ("chaos", "chaos"), options)
}

/// Runs a steady load.
pub(crate) fn soak(
    workspace: &Workspace,
    server: Option<&Path>,
    options: &Options,
) -> anyhow::Result<ExitCode> {
    let server = broker::find_or_fetch(workspace, server)?;
    workspace.build_product(false)?;
    delegate(workspace.cargo(["run", "--quiet"]), Some(&server.path), ("chaos", "soak"), options)
}

fn delegate(
    mut command: Command,
    server: Option<&Path>,
    (package, binary): (&str, &str),
    options: &Options,
) -> anyhow::Result<ExitCode> {
    command.args(["--package", package, "--bin", binary, "--"]).args(&options.rest);
    if let Some(server) = server {
        command.env("SELFHEAL_NATS_SERVER", server);
    }
    let status = command.status().with_context(|| format!("cannot run {binary}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
