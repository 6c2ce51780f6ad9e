//! A network between an agent and the broker, which can be cut and slowed.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

/// What is read at once.
const CHUNK: usize = 16 * 1024;

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// As it should be.
    Open,
    /// Each piece arrives so much later.
    Slow(Duration),
    /// Nothing arrives and nobody is told, as behind a firewall; what was sent comes later.
    Silent,
    /// Connections are torn, and new ones end at once.
    Cut,
}

/// A way to one address. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Listens on a port of its own and leads to this port of the host.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    #[expect(clippy::unwrap_used, reason = "without a port there is no test")]
    pub async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (network, seen) = watch::channel(Network::Open);
        let task = tokio::spawn(accept(listener, port, seen));
        Self { address, network, _task: AbortOnDropHandle::new(task) }
    }

    /// Returns its URL for a client of the broker.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Changes the network from now on.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }
}

async fn accept(listener: TcpListener, port: u16, network: watch::Receiver<Network>) {
    // Aborts its tasks when this one ends.
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if *network.borrow() == Network::Cut {
            continue;
        }
        let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        let (there, back) = (network.clone(), network.clone());
        connections.spawn(async move {
            // Whichever way ends first ends the other.
            tokio::select! {
                () = pass(near_in, far_out, there) => {}
                () = pass(far_in, near_out, back) => {}
            }
        });
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
) {
    let mut buffer = vec![0; CHUNK];
    let mut cut = network.clone();
    loop {
        let n = tokio::select! {
            n = from.read(&mut buffer) => n.unwrap_or(0),
            _ = cut.wait_for(|it| *it == Network::Cut) => return,
        };
        let Some(piece) = buffer.get(..n).filter(|piece| !piece.is_empty()) else { return };
        let passes = network.wait_for(|it| *it != Network::Silent).await.map(|it| *it);
        match passes {
            Ok(Network::Open | Network::Silent) => {}
            Ok(Network::Slow(by)) => tokio::time::sleep(by).await,
            Ok(Network::Cut) | Err(_) => return,
        }
        if to.write_all(piece).await.is_err() {
            return;
        }
    }
}
