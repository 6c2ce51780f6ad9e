//! The repository as a place: its root, its target directory, and cargo run in it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};

/// The packages whose binaries make the product, and the demo.
const PRODUCT: [&str; 7] = ["supervisor", "monitor", "analyzer", "fixer", "gateway", "cli", "demo"];

/// The binaries of these packages.
pub(crate) const BINARIES: [&str; 8] = [
    "selfheal",
    "selfheal-supervisor",
    "selfheal-monitor",
    "selfheal-analyzer",
    "selfheal-fixer",
    "selfheal-gateway",
    "demo-store",
    "demo-shop",
];

/// Files that are generated: path, package, the example of it that prints the file, and the
/// arguments of that.
const GENERATED: [(&str, &str, &str, &[&str]); 8] = [
    ("docs/wire.md", "bus", "wire", &[]),
    ("docs/schemas/asyncapi.json", "bus", "asyncapi", &[]),
    ("docs/schemas/selfheal.schema.json", "domain", "schema", &["selfheal.schema.json"]),
    ("docs/schemas/runbook.schema.json", "domain", "schema", &["runbook.schema.json"]),
    ("docs/schemas/event.schema.json", "domain", "schema", &["event.schema.json"]),
    ("docs/schemas/log-line.schema.json", "domain", "schema", &["log-line.schema.json"]),
    ("docs/schemas/openapi.json", "gateway", "openapi", &[]),
    ("deploy/nats.conf", "tests", "nats_conf", &[]),
];

/// Where the source lies and where cargo builds.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The root of the repository.
    pub(crate) root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Finds the workspace that this command was built from.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask has no parent directory")?
            .to_owned();
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version=1"])
            .current_dir(&root)
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run cargo metadata")?;
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
            .context("cannot read the answer of cargo metadata")?;
        let target = metadata
            .get("target_directory")
            .and_then(serde_json::Value::as_str)
            .context("cargo metadata names no target directory")?;
        Ok(Self { target: PathBuf::from(target), root })
    }

    /// Returns the directory of the built binaries.
    pub(crate) fn binaries(&self, release: bool) -> PathBuf {
        self.target.join(if release { "release" } else { "debug" })
    }

    /// Returns where fetched tools lie; not under version control.
    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join(".tools")
    }

    /// Returns a command that runs cargo in the root of the repository.
    pub(crate) fn cargo<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(cargo());
        command.args(args).current_dir(&self.root);
        // What cargo tells this command about its own package is not about what is built: build
        // scripts that look at it would build everything again after a plain `cargo build`.
        let ours = std::env::vars_os().map(|(name, _)| name);
        let ours = ours.filter(|it| it.to_str().is_some_and(is_about_package));
        ours.for_each(|it| {
            command.env_remove(it);
        });
        command
    }

    /// Builds the binaries of the product and of the demo.
    pub(crate) fn build_product(&self, release: bool) -> anyhow::Result<()> {
        let mut command = self.cargo(["build"]);
        for package in PRODUCT {
            command.args(["--package", package]);
        }
        command.arg("--bins");
        if release {
            command.arg("--release");
        }
        succeed(&mut command)
    }

    /// Checks the format, the lints and the documentation; the first that fails ends it.
    pub(crate) fn lint(&self) -> anyhow::Result<ExitCode> {
        succeed(&mut self.cargo(["fmt", "--all", "--check"])).context("run `cargo fmt --all`")?;
        let clippy = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
        succeed(&mut self.cargo(clippy))?;
        let doc = ["doc", "--workspace", "--no-deps"];
        succeed(self.cargo(doc).env("RUSTDOCFLAGS", "--deny warnings"))?;
        println!("lint: format, clippy and documentation are clean");
        Ok(ExitCode::SUCCESS)
    }

    /// Writes what is generated from tables and types.
    pub(crate) fn docs(&self) -> anyhow::Result<ExitCode> {
        for (path, package, example, arguments) in GENERATED {
            let output = self
                .cargo(["run", "--quiet", "--package", package, "--example", example, "--"])
                .args(arguments)
                .stderr(Stdio::inherit())
                .output()
                .with_context(|| format!("cannot run the example `{example}` of {package}"))?;
            if !output.status.success() {
                bail!("the example `{example}` of {package} failed: {}", output.status);
            }
            std::fs::write(self.root.join(path), output.stdout)
                .with_context(|| format!("cannot write {path}"))?;
            println!("{path} is written");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Returns whether cargo sets this variable for a program that it runs, about its package.
fn is_about_package(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"]
        .iter()
        .any(|it| name.starts_with(it))
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs the command with our terminal, and fails when it fails.
pub(crate) fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        let args: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        bail!("{program} {} failed: {status}", args.join(" "));
    }
    Ok(())
}
