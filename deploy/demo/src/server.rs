//! The store on the network: connections in, commands to the one [`Store`], replies out.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::process::say;
use crate::resp::{self, Reply};
use crate::store::Store;

/// The most connections at once; others wait in the listener's queue.
pub const CONNECTIONS_MAX: usize = 256;

/// Serves `store` on `listener`; ends only with an error of the listener, or when it is dropped.
///
/// # Errors
///
/// When no connection can be accepted any more.
pub async fn serve(listener: TcpListener, store: Store) -> io::Result<()> {
    let store = Arc::new(Mutex::new(store));
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = listener.accept().await?;
        let store = Arc::clone(&store);
        connections.spawn(async move {
            if let Err(error) = converse(stream, &store).await {
                say(&format!("closed the connection of {peer}: {error}"));
            }
            drop(slot);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(mut stream: TcpStream, store: &Mutex<Store>) -> Result<(), resp::Error> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let mut out = Vec::new();
    loop {
        let words = match resp::read_command(&mut reader).await {
            Ok(Some(words)) if words.is_empty() => continue,
            Ok(Some(words)) => words,
            Ok(None) => return Ok(()),
            Err(error) => {
                if let resp::Error::Protocol(what) = error {
                    out.clear();
                    Reply::Error(format!("protocol error: {what}")).encode(&mut out);
                    writer.write_all(&out).await?;
                }
                return Err(error);
            }
        };
        let reply = store.lock().unwrap_or_else(PoisonError::into_inner).execute(&words);
        out.clear();
        reply.encode(&mut out);
        writer.write_all(&out).await?;
    }
}
