//! Says when the first event would be accepted.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use bus::roles::Role;
use tokio_util::sync::CancellationToken;

use crate::{
    http,
    terminal::Terminal,
    up::{
        log::{Level, Log},
        plan::Plan,
    },
};

/// How often the gateway is asked while it is not ready.
const POLL: Duration = Duration::from_millis(20);

/// How often after [`PATIENCE`]: something must change first.
const POLL_SLOW: Duration = Duration::from_millis(250);

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(1);

/// After this time we say what we wait for, once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until the gateway is ready, then prints `ready http://…` and cancels `ready`.
pub(crate) async fn announce(
    listen: SocketAddr,
    broker_url: String,
    log: &Log,
    terminal: Terminal,
    ready: &CancellationToken,
) {
    let url = format!("http://{}", reachable(listen));
    let asked = format!("{url}/readyz");
    let begun = Instant::now();
    let mut warned = false;
    while !matches!(http::get(&asked, ANSWER).await, Ok(200..300)) {
        if !warned && PATIENCE < begun.elapsed() {
            warned = true;
            let broker = without_password(&broker_url);
            log.say(Level::Warn, &format!("not ready yet; is the broker {broker} there, and do the lines above show errors?"));
        }
        tokio::time::sleep(if warned { POLL_SLOW } else { POLL }).await;
    }
    ready.cancel();
    let printed = if terminal.is_json() {
        terminal.print_json(&serde_json::json!({"ready": url}), false)
    } else {
        terminal.print(&format!("ready {url}"))
    };
    if printed.is_err() {
        log.say(Level::Debug, "nobody reads our standard output");
    }
    log.say(Level::Info, &format!("ready after {} ms", begun.elapsed().as_millis()));
}

/// Says who comes in how: where the secrets are, and none of them.
pub(crate) fn tell_how_to_come_in(plan: &Plan, log: &Log) {
    if let Some(path) = &plan.api_token {
        log.say(Level::Info, &format!(
            "gateway: events of this host need no token; all else needs that of its owner, in {}",
            path.display()
        ));
    }
    if let Some(own) = &plan.broker {
        let file = own.users.file(Role::Publisher);
        log.say(Level::Info, &format!(
            "to publish over NATS: NATS_URL=\"$(cat '{}')\" nats pub selfheal.event.disk_full '{{\"target\":\"db\"}}'",
            file.display()
        ));
    }
}

/// Returns the address at which this machine reaches one that it listens on.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Returns URLs without the part before the `@`.
fn without_password(urls: &str) -> String {
    let hide = |url: &str| match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => url.to_owned(),
    };
    urls.split(',').map(hide).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_everybody_is_reached_on_loopback() {
        for (listen, url) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:1", "[::1]:1"),
            ("10.1.2.3:9", "10.1.2.3:9"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), url);
        }
    }

    #[test]
    fn a_password_is_not_logged() {
        assert_eq!(without_password("nats://a:s3cret@h:4222,b:x@i"), "nats://h:4222,i");
        assert_eq!(without_password("nats://h:4222"), "nats://h:4222");
    }
}
