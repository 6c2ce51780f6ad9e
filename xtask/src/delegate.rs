//! Commands that are programs of their own: they know the product, which this one does not.

use std::path::Path;
use std::process::ExitCode;

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
    delegate(workspace, None, "simulation", "simulate", options)
}

/// Breaks real processes.
pub(crate) fn chaos(
    workspace: &Workspace,
    server: Option<&Path>,
    options: &Options,
) -> anyhow::Result<ExitCode> {
    let server = broker::find_or_fetch(workspace, server)?;
    workspace.build_product(false)?;
    delegate(workspace, Some(&server.path), "chaos", "chaos", options)
}

/// Runs a steady load.
pub(crate) fn soak(
    workspace: &Workspace,
    server: Option<&Path>,
    options: &Options,
) -> anyhow::Result<ExitCode> {
    let server = broker::find_or_fetch(workspace, server)?;
    workspace.build_product(false)?;
    delegate(workspace, Some(&server.path), "chaos", "soak", options)
}

fn delegate(
    workspace: &Workspace,
    server: Option<&Path>,
    package: &str,
    binary: &str,
    options: &Options,
) -> anyhow::Result<ExitCode> {
    let mut command = workspace.cargo(["run", "--quiet", "--package", package, "--bin", binary]);
    command.arg("--").args(&options.rest);
    if let Some(server) = server {
        command.env("SELFHEAL_NATS_SERVER", server);
    }
    let status = command.status().with_context(|| format!("cannot run {binary}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
