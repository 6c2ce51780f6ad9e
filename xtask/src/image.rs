//! `cargo xtask image`: the container image, from binaries compiled here instead of in a container.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::workspace::{BINARIES, Workspace, succeed};

/// What `docker-compose.yml` starts.
pub(crate) const TAG: &str = "selfheal:dev";

/// The image of the build stage when there is nothing to compile in it.
const SLIM: &str = "debian:bookworm-slim";

/// Options of `image`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Build with optimisation
    #[arg(long)]
    pub(crate) release: bool,
    /// The name of the image
    #[arg(long, default_value = TAG)]
    pub(crate) tag: String,
}

/// Builds the binaries, then the image.
pub(crate) fn build(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    if cfg!(target_os = "linux") {
        workspace.build_product(options.release)?;
    }
    pack(workspace, options)
}

/// Builds the image around binaries that are built already.
///
/// On Linux those of this machine are copied. Elsewhere, where they could not run in a container, the
/// image's own build stage compiles them.
pub(crate) fn pack(workspace: &Workspace, options: &Options) -> anyhow::Result<()> {
    let mut docker = Command::new("docker");
    docker.current_dir(&workspace.root);
    docker.args(["build", "--file", "deploy/Dockerfile", "--tag", &options.tag]);
    if !cfg!(target_os = "linux") {
        return succeed(docker.arg("."));
    }
    // In the build context whatever the target directory is; `.dockerignore` lets it through.
    let dir = workspace.root.join("target/image");
    remove(&dir)?;
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for name in BINARIES {
        let from = workspace.binaries(options.release).join(name);
        let to = dir.join(name);
        std::fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        // Smaller without symbols; a machine without `strip` makes a larger image.
        Command::new("strip").arg(&to).status().ok();
    }
    let built = succeed(docker.args(["--build-arg", &format!("RUST={SLIM}"), "."]));
    // Left there, a later `docker build` would take old binaries for new ones.
    remove(&dir)?;
    built
}

fn remove(dir: &Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
