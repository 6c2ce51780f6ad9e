//! A TCP connection can be made.

use std::io::ErrorKind;

use futures_util::future::BoxFuture;
use service::outgoing::is_forbidden;
use tokio::net::TcpStream;

use super::Question;
use crate::sample::Finding;

pub(super) fn sample(question: &Question) -> BoxFuture<'_, Finding> {
    Box::pin(async {
        let address = question.check.tcp.as_deref().unwrap_or_default();
        match question.instruments.outgoing().connect(address).await {
            // On a port of the range for outgoing connections a socket can meet itself
            // when nobody listens.
            Ok(stream) if is_itself(&stream) => {
                Finding::failed(format!("nothing listens on {address}"))
            }
            Ok(_) => Finding::passed("connected"),
            Err(error) if is_forbidden(&error) => Finding::not_asked(error.to_string()),
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                Finding::not_asked(format!("{address}: {error}"))
            }
            Err(error) => Finding::failed(format!("cannot connect to {address}: {error}")),
        }
    })
}

fn is_itself(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(local), Ok(peer)) if local == peer)
}
