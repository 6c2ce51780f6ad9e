//! A cluster of three brokers, which are killed and started again at will.

use std::{
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

use bus::{BrokerOptions, Bus, testing::Broker};
use rustix::process::{Pid, Signal, kill_process};

use crate::eventually;

/// Nodes of a cluster.
pub const NODES: usize = 3;

/// How long one look at the cluster may take.
const LOOK: Duration = Duration::from_secs(2);

/// Three brokers that know each other. Killed with SIGKILL when dropped.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Broker>,
}

impl Cluster {
    /// Starts the three, and waits until they can store.
    ///
    /// # Panics
    ///
    /// When they do not start.
    pub async fn start() -> Self {
        let ports: [u16; NODES] = std::array::from_fn(|_| free_port());
        let routes: Vec<_> =
            ports.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        let mut nodes = Vec::with_capacity(NODES);
        for (idx, port) in ports.iter().enumerate() {
            // Clients keep to the addresses that they were given, so that a proxy stays one.
            let more = format!(
                "cluster {{ name: test, listen: \"127.0.0.1:{port}\", no_advertise: true, routes: [{}] }}",
                routes.join(", ")
            );
            nodes.push(Broker::named(&format!("node-{idx}"), &more).await);
        }
        Self { nodes }
    }

    /// Returns the URLs of all nodes, parted by commas.
    #[must_use]
    pub fn url(&self) -> String {
        self.nodes.iter().map(Broker::url).collect::<Vec<_>>().join(",")
    }

    /// Returns a node.
    ///
    /// # Panics
    ///
    /// When there is none of this number.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "tests know how many there are")]
    pub fn node(&mut self, idx: usize) -> &mut Broker {
        &mut self.nodes[idx]
    }

    /// Connects to whichever node answers, and makes all streams and buckets.
    ///
    /// # Panics
    ///
    /// When that cannot be done.
    #[expect(clippy::unwrap_used, reason = "without a broker there is no test")]
    pub async fn bus(&self) -> Bus {
        let options = BrokerOptions { url: self.url(), ..BrokerOptions::default() };
        let bus = bus::connect(&options).await.unwrap();
        bus.ensure_topology().await.unwrap();
        bus
    }

    /// Returns a context of a client of its own, to look from outside.
    ///
    /// # Panics
    ///
    /// When no node answers.
    #[expect(clippy::unwrap_used, reason = "without a broker there is no test")]
    pub async fn outside(&self) -> async_nats::jetstream::Context {
        let urls: Vec<_> = self.nodes.iter().map(Broker::url).collect();
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
        let client = options.connect(urls).await.unwrap();
        async_nats::jetstream::context::ContextBuilder::new().timeout(LOOK).build(client)
    }

    /// Waits until a stream has a leader and all its copies, and returns the leader's number.
    ///
    /// # Panics
    ///
    /// When it does not come so far in time.
    pub async fn leader_of(&self, stream: &str) -> usize {
        let js = self.outside().await;
        eventually(&format!("{stream} has a leader and all copies"), || async {
            let found = js.get_stream(stream).await.map_err(|error| error.to_string())?;
            let told = found.cached_info().cluster.clone().ok_or("no cluster")?;
            let leader = told.leader.ok_or("no leader")?;
            let n_current = told.replicas.iter().filter(|it| it.current && !it.offline).count();
            let idx = leader.strip_prefix("node-").and_then(|n| n.parse().ok());
            if n_current + 1 == NODES {
                idx.ok_or(leader)
            } else {
                Err(format!("{leader} and {:?}", told.replicas))
            }
        })
        .await
    }

    /// Waits until a stream has a leader that is another one than this node.
    ///
    /// # Panics
    ///
    /// When it does not come so far in time.
    pub async fn elects_another(&self, stream: &str, former: usize) {
        let js = self.outside().await;
        eventually(&format!("{stream} has another leader"), || async {
            let found = js.get_stream(stream).await.map_err(|error| error.to_string())?;
            let leader = found.cached_info().cluster.as_ref().and_then(|it| it.leader.clone());
            match leader {
                Some(leader) if leader != format!("node-{former}") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Asks a node to end, as a service manager does, and waits until it has.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[expect(clippy::unwrap_used, reason = "the node is ours")]
    pub async fn stop(&mut self, idx: usize) {
        let node = self.node(idx);
        let pid = node.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        node.ended().await;
    }
}

#[expect(clippy::unwrap_used, reason = "without a port there is no test")]
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
