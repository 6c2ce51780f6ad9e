//! Taking connections, with limits that `axum::serve` does not have.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use service::{BoxError, Chain};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::{
    connections::{Connection, Connections},
    front::Front,
    tls,
    write_progress::WriteProgress,
};

/// Connections that wait in the kernel until they are taken, which is at once.
const BACKLOG: u32 = 1024;

/// What the kernel holds of answers that a client has not read; else it grows to megabytes.
const SEND_BUFFER_BYTES: u32 = 256 * 1024;

/// Longest time for the head of a request, also for the next one on a kept connection.
const HEAD_TIME_MAX: Duration = Duration::from_secs(15);

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long to wait when no connection can be taken, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long open connections may take to end their request.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// The address cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub(crate) struct BindError {
    address: SocketAddr,
    source: std::io::Error,
}

/// Takes the address.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    listen(address).map_err(|source| BindError { address, source })
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Connections have it from here.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What connections are limited to.
#[derive(Clone, Debug)]
pub(crate) struct Limited {
    /// Which of them are open.
    pub(crate) connections: Connections,
    /// How long a client may not read what waits for it.
    pub(crate) write_timeout: Duration,
}

/// Answers until `stop`; requests under way then end, new ones are not taken. With `tls` it
/// speaks nothing else.
pub(crate) async fn serve(
    listener: TcpListener,
    front: Front,
    tls: Option<tls::Now>,
    limited: Limited,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let tasks = TaskTracker::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => {
                let Some(connection) = limited.connections.open(peer.ip()) else { continue };
                let connection = Arc::new(connection);
                let front = front.of_peer(peer, Arc::clone(&connection));
                let tls = tls.as_ref().map(|now| TlsAcceptor::from(Arc::clone(&now.borrow())));
                let (stop, write_timeout) = (stop.clone(), limited.write_timeout);
                tasks.spawn(async move {
                    let answered = greet(stream, tls, front, write_timeout, stop);
                    until_closed(&connection, answered).await;
                });
            }
            Err(error) => {
                warn!(error = %Chain(&error), "cannot take a connection");
                limited.connections.make_room();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(DRAIN_TIME_MAX, tasks.wait()).await.is_err() {
        warn!(n_connections = tasks.len(), "connections were cut");
    }
    Ok(())
}

/// Answers on a connection until it ends, or until another takes its place.
async fn until_closed(connection: &Connection, answered: impl Future<Output = ()>) {
    tokio::select! {
        () = answered => {}
        () = connection.closed() => debug!("a connection was closed for a new one"),
    }
}

/// Shakes hands, if that is to be done, and answers.
async fn greet(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    front: Front,
    write_timeout: Duration,
    stop: CancellationToken,
) {
    // Answers are small and one at a time: waiting for more to send costs 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
    let stream = WriteProgress::new(stream, write_timeout);
    let Some(tls) = tls else { return converse(stream, front, stop).await };
    let shaken = tokio::time::timeout(HEAD_TIME_MAX, tls.accept(stream));
    match stop.run_until_cancelled(shaken).await {
        Some(Ok(Ok(stream))) => converse(stream, front, stop).await,
        Some(Ok(Err(error))) => {
            metrics::counter!("selfheal_gateway_handshakes_failed_total").increment(1);
            debug!(error = %Chain(&error), "a client and we do not agree on TLS");
        }
        Some(Err(_elapsed)) => debug!("a client did not shake hands in time"),
        None => {}
    }
}

async fn converse<S>(stream: S, front: Front, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), front);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(error = %Chain(&error), "a connection ended early");
    }
}
