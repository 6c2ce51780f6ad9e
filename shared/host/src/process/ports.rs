//! Who holds a port of this host.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use domain::check::{Check, Probe};
use rustix::process::Pid;

use super::{Run, proc};

/// State of a socket that listens, in the kernel's tables.
const LISTENS: &str = "0A";

/// Descriptors that are looked at of one process.
const FDS_MAX: usize = 100_000;

/// Who holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The port.
    pub port: u16,
    /// The processes that have its socket open; none when they may not be looked at, or are
    /// in a container.
    pub processes: Vec<Run>,
}

/// Returns the addresses of this host that checks connect to: those of `tcp` and `http`.
#[must_use]
pub fn local_addresses(checks: &[Check]) -> Vec<SocketAddr> {
    let mut found = BTreeSet::new();
    for check in checks {
        let authority = match check.probe() {
            Ok(Probe::Tcp(address)) => Some((address, 0)),
            Ok(Probe::Http(url)) => authority(url),
            Ok(
                Probe::Process
                | Probe::Docker
                | Probe::Command(_)
                | Probe::Disk(_)
                | Probe::Memory
                | Probe::Cpu
                | Probe::Prometheus(_),
            )
            | Err(_) => None,
        };
        let Some((authority, port)) = authority else { continue };
        found.extend(addresses(authority, port).into_iter().filter(|it| is_own(it.ip())));
    }
    found.into_iter().collect()
}

/// Returns host and port of a URL, and the port of its scheme.
fn authority(url: &str) -> Option<(&str, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let port = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
    let authority = rest.split(['/', '?', '#']).next()?;
    Some((authority.rsplit_once('@').map_or(authority, |(_, it)| it), port))
}

/// Reads an address without asking the network: names other than `localhost` are somebody
/// else's.
fn addresses(authority: &str, port: u16) -> Vec<SocketAddr> {
    if let Ok(address) = authority.parse() {
        return vec![address];
    }
    let bare = authority.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return if port == 0 { Vec::new() } else { vec![SocketAddr::new(ip, port)] };
    }
    let (name, number) = match authority.rsplit_once(':') {
        Some((name, number)) => (name, number.parse().unwrap_or(0)),
        None => (authority, port),
    };
    if !name.eq_ignore_ascii_case("localhost") || number == 0 {
        return Vec::new();
    }
    let both = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    both.map(|ip| SocketAddr::new(ip, number)).into()
}

/// Returns whether an address is this host's: one can only listen on those.
fn is_own(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// Returns who listens on one of these addresses.
#[must_use]
pub fn holders(addresses: &[SocketAddr]) -> Vec<Holder> {
    if addresses.is_empty() {
        return Vec::new();
    }
    let sockets: Vec<Socket> = ["tcp", "tcp6"]
        .iter()
        .filter_map(|it| fs::read_to_string(format!("/proc/net/{it}")).ok())
        .flat_map(|it| it.lines().filter_map(Socket::parse).collect::<Vec<_>>())
        .filter(|socket| addresses.iter().any(|it| socket.answers(*it)))
        .collect();
    let ports: BTreeSet<u16> = sockets.iter().map(|it| it.address.port()).collect();
    ports
        .into_iter()
        .map(|port| {
            let inodes: Vec<u64> =
                sockets.iter().filter(|it| it.address.port() == port).map(|it| it.inode).collect();
            Holder { port, processes: who_has(&inodes) }
        })
        .collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    address: SocketAddr,
    inode: u64,
}

impl Socket {
    /// Reads a line of `/proc/net/tcp` or `tcp6`, if the socket listens.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        if fields.get(3) != Some(&LISTENS) {
            return None;
        }
        let (ip, port) = fields.get(1)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let word = |at: usize| {
            let text = ip.get(at * 8..at * 8 + 8)?;
            Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes())
        };
        let ip = match ip.len() {
            8 => IpAddr::from(word(0)?),
            32 => {
                let [a, b, c, d] = [word(0)?, word(1)?, word(2)?, word(3)?];
                let mut bytes = [0_u8; 16];
                for (to, from) in bytes.iter_mut().zip([a, b, c, d].into_iter().flatten()) {
                    *to = from;
                }
                IpAddr::from(bytes).to_canonical()
            }
            _ => return None,
        };
        Some(Self { address: SocketAddr::new(ip, port), inode: fields.get(9)?.parse().ok()? })
    }

    /// Returns whether a connection to this address would reach it.
    fn answers(&self, wanted: SocketAddr) -> bool {
        let ip = self.address.ip();
        let same_kind = ip.is_ipv6() || wanted.is_ipv4();
        let reaches =
            ip == wanted.ip() || (ip.is_unspecified() && same_kind) || wanted.ip().is_unspecified();
        self.address.port() == wanted.port() && reaches
    }
}

fn who_has(inodes: &[u64]) -> Vec<Run> {
    let wanted: Vec<String> = inodes.iter().map(|it| format!("socket:[{it}]")).collect();
    let is_wanted = |fd: fs::DirEntry| {
        let link = fs::read_link(fd.path()).unwrap_or_default();
        wanted.iter().any(|it| link.as_os_str() == it.as_str())
    };
    let has = |pid: &Pid| {
        let own = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut own = own.take(FDS_MAX).peekable();
        if own.peek().is_some() {
            return own.any(is_wanted);
        }
        // The first thread has ended: the others have the descriptors.
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let fds = threads.filter_map(|it| fs::read_dir(it.path().join("fd")).ok()).flatten();
        fds.flatten().take(FDS_MAX).any(is_wanted)
    };
    proc::all().into_iter().filter(has).filter_map(Run::of).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn check(http: Option<&str>, tcp: Option<&str>) -> Check {
        Check { http: http.map(str::to_owned), tcp: tcp.map(str::to_owned), ..Check::blank() }
    }

    #[test]
    fn only_addresses_of_this_host_are_looked_at() {
        for (check, expected) in [
            (check(None, Some("127.0.0.1:5432")), vec!["127.0.0.1:5432"]),
            (check(Some("http://127.0.0.1:8081/health"), None), vec!["127.0.0.1:8081"]),
            (check(Some("http://user:pw@127.0.0.1/x"), None), vec!["127.0.0.1:80"]),
            (check(Some("https://127.0.0.1"), None), vec!["127.0.0.1:443"]),
            (check(Some("https://example.com/x"), None), vec![]),
            (check(None, Some("192.0.2.1:80")), vec![]),
            (check(None, Some("nonsense")), vec![]),
        ] {
            let found = local_addresses(std::slice::from_ref(&check));
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{check:?}");
        }
        let local = local_addresses(&[check(Some("http://localhost:8081/"), None)]);
        assert!(local.contains(&"127.0.0.1:8081".parse().unwrap()), "{local:?}");
    }

    #[test]
    fn who_listens_is_found_by_its_socket() {
        let own = Run::of(rustix::process::getpid()).unwrap();
        for bind in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            // A host without IPv6 has no such address to hold.
            let Ok(listener) = TcpListener::bind(bind) else {
                assert!(bind.starts_with('['), "cannot listen on {bind}");
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            let wanted = SocketAddr::from(([127, 0, 0, 1], port));
            let found = holders(&[wanted]);
            assert_eq!(found, [Holder { port, processes: vec![own] }], "{bind}");
            drop(listener);
            assert!(holders(&[wanted]).is_empty());
        }
    }
}
