//! A TCP proxy in front of one broker for one agent: its network, which can be cut.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// What is read at once.
const CHUNK: usize = 16 * 1024;

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As it should be.
    Pass,
    /// Nothing arrives and nobody is told, as behind a firewall; what was sent comes later.
    Hold,
    /// Connections are torn, and new ones refused.
    Cut,
    /// Each piece arrives so much later.
    Delay(Duration),
}

/// A running proxy. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    _end: DropGuard,
}

impl Proxy {
    /// Listens on a port of its own and leads to `to`.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub async fn start(to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (mode, seen) = watch::channel(Mode::Pass);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (accept, ended) = (tasks.clone(), stop.clone());
        tasks.spawn(async move {
            while let Some(Ok((client, _))) = ended.run_until_cancelled(listener.accept()).await {
                if *seen.borrow() == Mode::Cut {
                    continue;
                }
                let (seen, ended) = (seen.clone(), ended.clone());
                accept.spawn(async move {
                    // However a connection ends, both sides see its end.
                    let _ended = ended.run_until_cancelled(lead(client, to, seen)).await;
                });
            }
        });
        Ok(Self { address, mode, _end: stop.drop_guard() })
    }

    /// Returns where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how the network is, also for connections that stand.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn lead(client: TcpStream, to: SocketAddr, mode: watch::Receiver<Mode>) -> io::Result<()> {
    let mut before = mode.clone();
    passable(&mut before).await?;
    let server = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Either end ends both: half a connection is none for this protocol.
    tokio::select! {
        ended = pump(from_client, to_server, mode.clone()) => ended,
        ended = pump(from_server, to_client, mode) => ended,
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let n = tokio::select! {
            n = from.read(&mut chunk) => n?,
            cut = until_cut(mode.clone()) => return cut,
        };
        if n == 0 {
            return Ok(());
        }
        if let Mode::Delay(by) = passable(&mut mode).await? {
            tokio::time::sleep(by).await;
            passable(&mut mode).await?;
        }
        tokio::select! {
            written = to.write_all(chunk.get(..n).unwrap_or_default()) => written?,
            cut = until_cut(mode.clone()) => return cut,
        }
    }
}

async fn until_cut(mut mode: watch::Receiver<Mode>) -> io::Result<()> {
    let _gone = mode.wait_for(|it| *it == Mode::Cut).await;
    Err(io::ErrorKind::ConnectionReset.into())
}

/// Waits until something may pass, and tells how.
async fn passable(mode: &mut watch::Receiver<Mode>) -> io::Result<Mode> {
    let now = *mode.wait_for(|it| *it != Mode::Hold).await.map_err(io::Error::other)?;
    if now == Mode::Cut { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(now) }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                drop(tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    tokio::io::copy(&mut from, &mut to).await
                }));
            }
        }));
        address
    }

    async fn answers(stream: &mut TcpStream) -> io::Result<bool> {
        stream.write_all(b"x").await?;
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut byte)).await;
        match read {
            Ok(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Ok(_)) => Ok(true),
            Ok(Err(error)) => Err(error),
            Err(_late) => Ok(false),
        }
    }

    #[tokio::test]
    async fn what_is_held_arrives_later_and_what_is_cut_never() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(answers(&mut stream).await.unwrap());
        proxy.set(Mode::Hold);
        assert!(!answers(&mut stream).await.unwrap(), "held");
        proxy.set(Mode::Delay(Duration::from_millis(1)));
        assert!(answers(&mut stream).await.unwrap(), "late, but here");
        proxy.set(Mode::Cut);
        assert!(answers(&mut stream).await.is_err(), "torn");
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(answers(&mut stream).await.is_err(), "refused");
        proxy.set(Mode::Pass);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(answers(&mut stream).await.unwrap());
    }
}
