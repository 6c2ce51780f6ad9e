//! The broker: one node, or a cluster of three whose nodes reach each other through proxies.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{
    disk::Disk,
    process::Kept,
    proxy::{Mode, Proxy},
};

/// Size of the small disk of a node, in MiB.
const DISK_MIB: u64 = 2048;
/// How long a node may take to start on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);

/// The stream whose leader is sought.
const LEDGER: &str = "SELFHEAL_LEDGER";
/// How long the broker may take to tell.
const ASK_WITHIN: Duration = Duration::from_secs(2);

/// The nodes of the broker.
#[derive(Debug)]
pub struct Brokers {
    /// The nodes.
    pub nodes: Vec<Node>,
    routes: Vec<Route>,
}

/// One node of the broker.
#[derive(Debug)]
pub struct Node {
    /// Its process.
    pub kept: Kept,
    /// Where clients reach it.
    pub address: SocketAddr,
    /// The disk of its store, if it is a small one.
    pub disk: Option<Disk>,
}

/// The way from one node to another.
#[derive(Debug)]
struct Route {
    from: usize,
    to: usize,
    proxy: Proxy,
}

impl Brokers {
    /// Starts so many nodes. The last one has a small disk, if `small`.
    ///
    /// # Errors
    ///
    /// When there is no program, or a node does not start.
    pub async fn start(
        dir: &Path,
        server: &Path,
        n_nodes: usize,
        small: bool,
    ) -> anyhow::Result<Self> {
        let mut clients = Vec::new();
        let mut peers = Vec::new();
        for _ in 0..n_nodes {
            clients.push(free_address()?);
            peers.push(free_address()?);
        }
        let mut routes = Vec::new();
        for from in 0..n_nodes {
            for (to, peer) in peers.iter().enumerate().filter(|(to, _)| *to != from) {
                routes.push(Route { from, to, proxy: Proxy::start(*peer).await? });
            }
        }
        let mut nodes = Vec::new();
        for (idx, (client, peer)) in clients.iter().zip(&peers).enumerate() {
            let home = dir.join(format!("node-{}", idx + 1));
            std::fs::create_dir_all(&home)?;
            let ways: Vec<_> = routes.iter().filter(|it| it.from == idx).collect();
            let cluster = if ways.is_empty() { String::new() } else { cluster(*peer, &ways) };
            std::fs::write(home.join("nats.conf"), conf(&home, *client, idx + 1, &cluster))?;
            let disk =
                (small && idx + 1 == n_nodes).then(|| Disk::make(&home.join("store"), DISK_MIB));
            let disk = disk.transpose()?;
            nodes.push(Node {
                kept: run(&home, server, idx + 1, disk.as_ref())?,
                address: *client,
                disk,
            });
        }
        let brokers = Self { nodes, routes };
        brokers.wait_until_up().await?;
        Ok(brokers)
    }

    /// Returns the URLs of all nodes.
    #[must_use]
    pub fn url(&self) -> String {
        let urls: Vec<_> = self.nodes.iter().map(|it| format!("nats://{}", it.address)).collect();
        urls.join(",")
    }

    /// Changes the network between one node and all others.
    pub fn isolate(&self, node: usize, mode: Mode) {
        for route in self.routes.iter().filter(|it| it.from == node || it.to == node) {
            route.proxy.set(mode);
        }
    }

    /// Returns the name of the node that leads the ledger's stream, if somebody tells.
    pub async fn stream_leader(&self) -> Option<String> {
        let urls: Vec<_> = self.url().split(',').map(str::to_owned).collect();
        let ask = async {
            let client = async_nats::connect(urls).await.ok()?;
            let ledger = async_nats::jetstream::new(client).get_stream(LEDGER).await.ok()?;
            ledger.cached_info().cluster.as_ref()?.leader.clone()
        };
        tokio::time::timeout(ASK_WITHIN, ask).await.ok().flatten()
    }

    /// Waits until all nodes greet.
    ///
    /// # Errors
    ///
    /// When one does not in time.
    pub async fn wait_until_up(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        for node in &self.nodes {
            while !greets(node.address) {
                if START_WITHIN < start.elapsed() {
                    bail!("the broker's {} does not start", node.kept.name());
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }
}

fn run(home: &Path, server: &Path, n: usize, disk: Option<&Disk>) -> anyhow::Result<Kept> {
    let mut base = match disk {
        Some(disk) => disk.command(server),
        None => Command::new(server),
    };
    base.arg("-c").arg(home.join("nats.conf"));
    let words: Vec<_> = std::iter::once(base.get_program())
        .chain(base.get_args())
        .map(std::ffi::OsStr::to_owned)
        .collect();
    let log: PathBuf = home.join("output");
    Kept::start(format!("node-{n}"), log, move || {
        let mut words = words.iter();
        let mut command = Command::new(words.next().cloned().unwrap_or_default());
        command.args(words);
        command
    })
}

fn conf(home: &Path, client: SocketAddr, n: usize, cluster: &str) -> String {
    format!(
        "listen: \"{client}\"\nserver_name: \"node-{n}\"\nlog_file: \"{}\"\n\
         jetstream {{ store_dir: \"{}\", sync_interval: always, max_file: 8GB, max_mem: 1GB }}\n{cluster}",
        home.join("log").display(),
        home.join("store").display(),
    )
}

fn cluster(peer: SocketAddr, ways: &[&Route]) -> String {
    let routes: Vec<_> =
        ways.iter().map(|it| format!("\"nats://{}\"", it.proxy.address())).collect();
    // Nodes must not learn of ways around the proxies, nor must clients: what is
    // advertised leads nowhere.
    format!(
        "cluster {{\n  name: chaos\n  listen: \"{peer}\"\n  advertise: \"127.0.0.1:1\"\n  \
         no_advertise: true\n  routes: [{}]\n}}\n",
        routes.join(", ")
    )
}

/// Returns an address of this host that nobody uses now.
///
/// # Errors
///
/// When there is none.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr()?)
}

/// Tells whether a node greets, with its storage.
#[must_use]
pub fn greets(address: SocketAddr) -> bool {
    let greeting = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(500))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.flush()?;
        let mut buffer = [0_u8; 4096];
        let n = stream.read(&mut buffer)?;
        Ok(String::from_utf8_lossy(buffer.get(..n).unwrap_or_default()).into_owned())
    };
    greeting().is_ok_and(|it| it.starts_with("INFO ") && it.contains("\"jetstream\":true"))
}
