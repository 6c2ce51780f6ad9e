//! A way to the broker that can lose what it carries.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

/// What becomes of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Both ways are open.
    Open,
    /// What the broker says is lost.
    LoseAnswers,
    /// Nothing passes; what was sent waits.
    Hold,
}

pub(crate) struct Proxy {
    address: SocketAddr,
    mode: Arc<watch::Sender<Mode>>,
    cut: Arc<watch::Sender<u64>>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    pub(crate) async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = Arc::new(watch::Sender::new(Mode::Open));
        let cut = Arc::new(watch::Sender::new(0));
        let (modes, cuts) = (Arc::clone(&mode), Arc::clone(&cut));
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                let ((near_in, near_out), (far_in, far_out)) =
                    (near.into_split(), far.into_split());
                tokio::spawn(pass(near_in, far_out, modes.subscribe(), cuts.subscribe(), false));
                tokio::spawn(pass(far_in, near_out, modes.subscribe(), cuts.subscribe(), true));
            }
        });
        Self { address, mode, cut, _task: AbortOnDropHandle::new(task) }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Closes all connections, and lets new ones through.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|n| *n += 1);
        self.set(Mode::Open);
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    mut cut: watch::Receiver<u64>,
    answers: bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = tokio::select! {
            n = from.read(&mut buffer) => n.unwrap_or(0),
            _ = cut.changed() => return,
        };
        if n == 0 {
            return;
        }
        tokio::select! {
            open = mode.wait_for(|mode| *mode != Mode::Hold) => if open.is_err() { return },
            _ = cut.changed() => return,
        }
        let lost = answers && *mode.borrow() == Mode::LoseAnswers;
        if !lost && to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
