//! Measurements that need to know the product are a program of their own.

use std::process::Stdio;

use anyhow::{Context, bail};
use serde_json::Value;

use super::Setting;
use crate::workspace::{Workspace, succeed};

/// Builds the measuring program, always optimised, and returns what it found.
pub(super) fn measure(
    workspace: &Workspace,
    setting: &Setting,
    name: &str,
) -> anyhow::Result<Value> {
    succeed(&mut workspace.cargo(["build", "--release", "--quiet", "--package", "bench"]))?;
    let output = std::process::Command::new(workspace.binaries(true).join("bench"))
        .arg(name)
        .arg("--server")
        .arg(&setting.server)
        .arg("--binaries")
        .arg(&setting.binaries)
        .args(["--seconds", &setting.seconds.to_string()])
        .args(["--runs", &setting.runs.to_string()])
        .args(["--scale", &setting.scale.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run the measuring program")?;
    if !output.status.success() {
        bail!("{name} was not measured: {}", output.status);
    }
    serde_json::from_slice(&output.stdout).context("the measuring program told no JSON")
}
