//! `cargo xtask test`: all tests that this machine can run, and which ones it cannot.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;

use crate::broker;
use crate::engine;
use crate::image;
use crate::workspace::{Workspace, succeed};

/// Test files with this prefix need a container engine.
const CONTAINER_PREFIX: &str = "container_";

/// Options of `test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Fail when the container tests cannot run, instead of leaving them out
    #[arg(long)]
    all: bool,
    /// Leave the container tests out, even if an engine answers
    #[arg(long, conflicts_with = "all")]
    no_containers: bool,
    /// Arguments for the test runner, after `--`; for instance a test's name
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Sets up what the tests need and runs them; the runner's summary comes last.
pub(crate) fn run(
    workspace: &Workspace,
    server: Option<&Path>,
    options: &Options,
) -> anyhow::Result<ExitCode> {
    let server = broker::find_or_fetch(workspace, server)?;
    println!("broker: nats-server {} ({})", server.version, server.path.display());
    let containers = containers(options)?;
    // One build of binaries and tests, so that both share every dependency: runners do not
    // build the binaries of other packages, and the tests start them.
    succeed(&mut workspace.cargo(["build", "--workspace", "--bins", "--tests"]))?;
    if containers {
        let tag = image::TAG.to_owned();
        image::pack(workspace, &image::Options { release: false, tag })
            .context("cannot build the image for the container tests")?;
    }
    let mut runner = runner(workspace, options, containers)?;
    runner.env("SELFHEAL_NATS_SERVER", &server.path);
    let status = runner.status().context("cannot run the test runner")?;
    // Nothing is printed after the runner's summary.
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn containers(options: &Options) -> anyhow::Result<bool> {
    if options.no_containers {
        println!("left out: the container tests ({CONTAINER_PREFIX}*), as asked");
        return Ok(false);
    }
    match engine::check() {
        Ok(()) => Ok(true),
        Err(error) if options.all => Err(error).context(format!(
            "--all asks for the container tests, but they cannot run; {}",
            engine::HOW_TO_GET
        )),
        Err(error) => {
            println!("left out: the container tests ({CONTAINER_PREFIX}*): {error:#}");
            println!("          to run them, {}", engine::HOW_TO_GET);
            Ok(false)
        }
    }
}

fn runner(workspace: &Workspace, options: &Options, containers: bool) -> anyhow::Result<Command> {
    let mut nextest = workspace.cargo(["nextest", "--version"]);
    let has_nextest = nextest.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if has_nextest.is_ok_and(|status| status.success()) {
        let mut command = workspace.cargo(["nextest", "run", "--workspace"]);
        command.arg("--no-fail-fast");
        if !containers {
            command.args(["-E", &format!("not binary(/^{CONTAINER_PREFIX}/)")]);
        }
        command.args(&options.rest);
        return Ok(command);
    }
    println!("cargo-nextest is not installed: cargo test runs the tests, file by file");
    let mut command = workspace.cargo(["test", "--workspace", "--no-fail-fast"]);
    if containers {
        command.args(["--bins", "--lib", "--tests"]);
    } else {
        command.args(["--bins", "--lib"]);
        for name in process_tests(workspace)? {
            command.args(["--test", &name]);
        }
    }
    command.args(&options.rest);
    Ok(command)
}

/// Returns the names of all test files of the workspace that need no container engine.
fn process_tests(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let output = workspace
        .cargo(["metadata", "--no-deps", "--format-version=1"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo metadata")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cannot read cargo metadata")?;
    let list = |value: &serde_json::Value, key: &str| -> Vec<serde_json::Value> {
        value.get(key).and_then(serde_json::Value::as_array).cloned().unwrap_or_default()
    };
    let mut names = Vec::new();
    for target in list(&metadata, "packages").iter().flat_map(|package| list(package, "targets")) {
        let is_test = list(&target, "kind").iter().any(|kind| kind == "test");
        let name = target.get("name").and_then(serde_json::Value::as_str).unwrap_or_default();
        if is_test && !name.starts_with(CONTAINER_PREFIX) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
