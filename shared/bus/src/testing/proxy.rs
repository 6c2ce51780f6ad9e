//! A network between an agent and the broker, which can be cut, slowed, and lose what it carries.

use std::{io, net::SocketAddr, time::Duration};

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
    /// What the broker says is lost.
    LoseAnswers,
    /// Connections are torn, and new ones end at once.
    Cut,
}

/// A way to one address. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    n_cuts: watch::Sender<u64>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Listens on a port of its own and leads to this port of the host.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    #[expect(clippy::panic, reason = "without a port there is no test")]
    pub async fn before(port: u16) -> Self {
        match Self::try_before(port).await {
            Ok(proxy) => proxy,
            Err(error) => panic!("cannot listen: {error}"),
        }
    }

    async fn try_before(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (network, seen) = watch::channel(Network::Open);
        let (n_cuts, cuts) = watch::channel(0);
        let task = tokio::spawn(accept(listener, port, seen, cuts));
        Ok(Self { address, network, n_cuts, _task: AbortOnDropHandle::new(task) })
    }

    /// Returns its URL for a client of the broker.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Tears all connections, and lets new ones through.
    pub fn cut(&self) {
        self.n_cuts.send_modify(|n| *n += 1);
        self.set(Network::Open);
    }

    /// Changes the network from now on.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }
}

async fn accept(
    listener: TcpListener,
    port: u16,
    network: watch::Receiver<Network>,
    cuts: watch::Receiver<u64>,
) {
    // Aborts its tasks when this one ends.
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        if *network.borrow() == Network::Cut {
            continue;
        }
        let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        let (there, back, mut cut) = (network.clone(), network.clone(), cuts.clone());
        cut.mark_unchanged();
        connections.spawn(async move {
            // Whichever way ends first ends the other. What was held back does not outlive a cut.
            tokio::select! {
                biased;
                _ = cut.changed() => {}
                () = pass(near_in, far_out, there, false) => {}
                () = pass(far_in, near_out, back, true) => {}
            }
        });
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
    answers: bool,
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
            Ok(Network::LoseAnswers) if answers => continue,
            Ok(Network::Open | Network::Silent | Network::LoseAnswers) => {}
            Ok(Network::Slow(by)) => tokio::time::sleep(by).await,
            Ok(Network::Cut) | Err(_) => return,
        }
        if to.write_all(piece).await.is_err() {
            return;
        }
    }
}
