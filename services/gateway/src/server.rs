//! Taking connections, with limits that `axum::serve` does not have.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use service::{BoxError, Chain};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::{front::Front, tls};

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1024;

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
    TcpListener::bind(address).await.map_err(|source| BindError { address, source })
}

/// Answers until `stop`; requests under way then end, new ones are not taken. With `tls` it
/// speaks nothing else.
pub(crate) async fn serve(
    listener: TcpListener,
    front: Front,
    tls: Option<tls::Now>,
    stop: CancellationToken,
) -> Result<(), BoxError> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await?;
            Ok::<_, BoxError>((listener.accept().await, place))
        };
        let Some(accepted) = stop.run_until_cancelled(accept).await else { break };
        match accepted? {
            (Ok((stream, peer)), place) => {
                let (front, stop) = (front.of_peer(peer), stop.clone());
                let tls = tls.as_ref().map(|now| TlsAcceptor::from(Arc::clone(&now.borrow())));
                connections.spawn(async move {
                    greet(stream, tls, front, stop).await;
                    drop(place);
                });
            }
            (Err(error), _) => {
                warn!(error = %Chain(&error), "cannot take a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN_TIME_MAX, connections.wait()).await.is_err() {
        warn!(n_connections = connections.len(), "connections were cut");
    }
    Ok(())
}

/// Shakes hands, if that is to be done, and answers.
async fn greet(stream: TcpStream, tls: Option<TlsAcceptor>, front: Front, stop: CancellationToken) {
    // Answers are small and one at a time: waiting for more to send costs 40 ms.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot set TCP_NODELAY");
    }
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
