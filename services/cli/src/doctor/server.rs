//! Whether there is a broker, and if not, how far one gets.

use std::{io, time::Duration};

use bus::{BrokerOptions, Bus, Error};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use super::facts::Reach;

/// Port of a URL that names none.
const PORT_DEFAULT: &str = "4222";

/// Connects, or says why that is not possible.
pub(crate) async fn reach(options: &BrokerOptions, within: Duration) -> Result<Bus, Reach> {
    match tokio::time::timeout(within, bus::connect(options)).await {
        Ok(Ok(bus)) => Ok(bus),
        Ok(Err(error)) => Err(refused(&error)),
        Err(_elapsed) => Err(away(&options.url, within).await),
    }
}

fn refused(error: &Error) -> Reach {
    let hint = error.hint().unwrap_or("see the broker's log").to_owned();
    let why = error.to_string();
    if matches!(error, Error::Credentials { .. }) {
        return Reach::NotLetIn { why };
    }
    Reach::Unusable { why, hint }
}

/// Finds out by hand why nobody answers: the client keeps trying and does not tell.
async fn away(urls: &str, within: Duration) -> Reach {
    let address = address(urls.split(',').next().unwrap_or_default());
    let why = match tokio::time::timeout(within, greeting(&address)).await {
        Ok(Ok(Some(()))) => "it greets, and then does not answer: is it overloaded or stopped?",
        Ok(Ok(None)) => "something listens there that is no nats-server, or wants TLS first",
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "the connection is refused"
        }
        Ok(Err(error)) => return Reach::Away { address, why: error.to_string() },
        Err(_elapsed) => "no answer: a firewall, a wrong address, or a broker that is stopped",
    };
    Reach::Away { address, why: why.to_owned() }
}

async fn greeting(address: &str) -> io::Result<Option<()>> {
    let mut stream = TcpStream::connect(address).await?;
    let mut first = [0; 5];
    match stream.read_exact(&mut first).await {
        Ok(_) => Ok((&first == b"INFO ").then_some(())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns host and port of a URL, without user and password.
fn address(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest).trim();
    let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let behind = host.rfind(']').map_or(host, |end| host.get(end..).unwrap_or_default());
    if behind.contains(':') { host.to_owned() } else { format!("{host}:{PORT_DEFAULT}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_told_without_its_password() {
        for (url, expected) in [
            ("nats://a", "a:4222"),
            ("nats://me:secret@a:4333", "a:4333"),
            ("tls://[::1]", "[::1]:4222"),
            ("wss://a:9/path", "a:9"),
            ("a", "a:4222"),
        ] {
            assert_eq!(address(url), expected);
        }
    }
}
