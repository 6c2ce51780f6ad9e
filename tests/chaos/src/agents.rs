//! Our own agents as processes, each behind a network of its own.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::bail;

use crate::{
    broker::{Brokers, free_address},
    disk::Disk,
    process::Kept,
    proxy::{Mode, Proxy},
};

/// Size of the small disk of a supervisor, in MiB.
const DISK_MIB: u64 = 2048;
/// Files of a log are closed at this size, so that a run sees it happen.
const LOG_MIB: &str = "1";

/// What an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Decides.
    Supervisor,
    /// Watches and verifies.
    Monitor,
    /// Seeks causes.
    Analyzer,
    /// Acts.
    Fixer,
    /// Takes events.
    Gateway,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Supervisor, Self::Monitor, Self::Analyzer, Self::Fixer, Self::Gateway];

    /// Returns its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Monitor => "monitor",
            Self::Analyzer => "analyzer",
            Self::Fixer => "fixer",
            Self::Gateway => "gateway",
        }
    }
}

/// One agent.
#[derive(Debug)]
pub struct Agent {
    /// What it is.
    pub kind: Kind,
    /// Its process.
    pub kept: Kept,
    /// Its ways to the nodes of the broker.
    ways: Vec<Proxy>,
    /// Of a gateway: where it listens.
    pub listen: Option<SocketAddr>,
    /// Of a supervisor: where its log is, as seen from here.
    pub data: Option<PathBuf>,
    /// The disk of that, if it is a small one.
    pub disk: Option<Disk>,
}

/// Where everything lies.
#[derive(Clone, Debug)]
pub struct Places {
    /// Directory of the run.
    pub dir: PathBuf,
    /// Directory of our own programs.
    pub programs: PathBuf,
    /// Whether disks are small ones that can be filled, and files of logs small as well.
    pub small: bool,
}

impl Places {
    /// Returns the path of one of our programs.
    ///
    /// # Errors
    ///
    /// When it was not built.
    pub fn program(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.programs.join(name);
        if !path.exists() {
            bail!("{} is not built: run `cargo xtask chaos`, which builds it", path.display());
        }
        Ok(path)
    }

    /// Returns where fixers and monitors keep what they know of processes.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("run")
    }
}

impl Agent {
    /// Starts the agent `n` of its kind.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub async fn start(
        kind: Kind,
        n: usize,
        places: &Places,
        brokers: &Brokers,
    ) -> anyhow::Result<Self> {
        let name = format!("{}-{n}", kind.as_str());
        let home = places.dir.join(&name);
        std::fs::create_dir_all(&home)?;
        let mut ways = Vec::new();
        for node in &brokers.nodes {
            ways.push(Proxy::start(node.address).await?);
        }
        let urls: Vec<_> = ways.iter().map(|it| format!("nats://{}", it.address())).collect();
        let listen = if kind == Kind::Gateway { Some(free_address()?) } else { None };
        let data = (kind == Kind::Supervisor).then(|| home.join("data"));
        // The second one has a disk that can be filled.
        let disk = match &data {
            Some(data) if n == 2 && places.small => Some(Disk::make(data, DISK_MIB)?),
            Some(_) | None => None,
        };
        let program = places.program(&format!("selfheal-{}", kind.as_str()))?;
        let mut words = match &disk {
            Some(disk) => words(&disk.command(&program)),
            None => words(&Command::new(&program)),
        };
        words.extend(["--nats-url", &urls.join(","), "--grace", "5s"].map(Into::into));
        words.extend(own(kind, places, listen, data.as_deref()));
        let log = home.join("output");
        let kept = Kept::start(name, log, move || {
            let mut words = words.iter();
            let mut command = Command::new(words.next().cloned().unwrap_or_default());
            command.args(words).current_dir(&home);
            for (name, _) in std::env::vars_os() {
                if name.to_string_lossy().starts_with("SELFHEAL_") {
                    command.env_remove(name);
                }
            }
            command
        })?;
        let data = disk.as_ref().map(Disk::seen_at).or(data);
        Ok(Self { kind, kept, ways, listen, data, disk })
    }

    /// Changes its network.
    pub fn network(&self, mode: Mode) {
        for way in &self.ways {
            way.set(mode);
        }
    }
}

fn words(command: &Command) -> Vec<std::ffi::OsString> {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(std::ffi::OsStr::to_owned)
        .collect()
}

/// Returns the flags that only this kind has.
fn own(
    kind: Kind,
    places: &Places,
    listen: Option<SocketAddr>,
    data: Option<&Path>,
) -> Vec<std::ffi::OsString> {
    match kind {
        Kind::Supervisor => {
            let mut flags = vec![
                "--config".into(),
                places.dir.join("selfheal.yaml").into(),
                "--data-dir".into(),
                data.map(Path::to_owned).unwrap_or_default().into(),
            ];
            if places.small {
                flags.extend(["--log-max-mib".into(), LOG_MIB.into()]);
            }
            flags
        }
        Kind::Monitor => vec!["--state-dir".into(), places.state_dir().into()],
        Kind::Analyzer => Vec::new(),
        Kind::Fixer => {
            vec!["--state-dir".into(), places.state_dir().into(), "--allow".into(), "all".into()]
        }
        Kind::Gateway => {
            vec!["--listen".into(), listen.map(|it| it.to_string()).unwrap_or_default().into()]
        }
    }
}
