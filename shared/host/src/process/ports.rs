//! Who holds a port of this host.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use domain::check::{Check, Probe};
use rustix::process::Pid;

use super::{
    Run, proc,
    sockets::{self, Socket},
    stat,
};

/// Descriptors that are looked at of one process.
const FDS_MAX: usize = 100_000;

/// Who holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The port.
    pub port: u16,
    /// The processes that have its socket open, those of containers too; none when they may not
    /// be looked at.
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
    let sockets = listening(addresses);
    let ports: BTreeSet<u16> = sockets.iter().map(|it| it.address.port()).collect();
    let of_port = |port: u16| {
        let own: Vec<_> = sockets.iter().copied().filter(|it| it.address.port() == port).collect();
        let inodes = Inodes::of(&own);
        let has = |pid: &Pid| inodes.are_open_in(*pid);
        let processes = proc::all().into_iter().filter(has).filter_map(Run::of_any).collect();
        Holder { port, processes }
    };
    ports.into_iter().map(of_port).collect()
}

/// Returns the sockets that listen on one of these addresses.
fn listening(addresses: &[SocketAddr]) -> Vec<Socket> {
    let mut found = sockets::listening();
    found.retain(|socket| addresses.iter().any(|it| socket.answers(*it)));
    found
}

/// Returns whether one of these processes has a socket open that listens on one of these
/// addresses.
#[must_use]
pub fn listen(runs: &[Run], addresses: &[SocketAddr]) -> bool {
    let wanted = Inodes::of(&listening(addresses));
    runs.iter().filter_map(Run::id).any(|it| wanted.are_open_in(it))
}

/// Returns whether a process listens on other addresses of this host, and on none of these.
#[must_use]
pub fn listens_elsewhere(run: Run, addresses: &[SocketAddr]) -> bool {
    let Some(pid) = run.id() else { return false };
    let (wanted, others): (Vec<_>, Vec<_>) =
        sockets::listening().into_iter().partition(|it| addresses.iter().any(|at| it.answers(*at)));
    Inodes::of(&others).are_open_in(pid) && !Inodes::of(&wanted).are_open_in(pid)
}

/// Links of descriptors to sockets, as the kernel writes them.
struct Inodes(Vec<String>);

impl Inodes {
    fn of(sockets: &[Socket]) -> Self {
        Self(sockets.iter().map(|it| format!("socket:[{}]", it.inode)).collect())
    }

    fn is_one(&self, fd: &fs::DirEntry) -> bool {
        let link = fs::read_link(fd.path()).unwrap_or_default();
        self.0.iter().any(|it| link.as_os_str() == it.as_str())
    }

    fn are_open_in(&self, pid: Pid) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let own = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut own = own.take(FDS_MAX).peekable();
        if own.peek().is_some() {
            return own.any(|it| self.is_one(&it));
        }
        // The first thread may have ended: the others have the descriptors.
        let fds = stat::living_thread(pid).and_then(|it| fs::read_dir(it.join("fd")).ok());
        fds.into_iter().flatten().flatten().take(FDS_MAX).any(|it| self.is_one(&it))
    }
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
            assert!(listen(&[own], &[wanted]), "{bind}");
            assert!(!listens_elsewhere(own, &[wanted]), "{bind}");
            // Nobody listens on port 1 of an address that is for documents.
            assert!(listens_elsewhere(own, &[([192, 0, 2, 1], 1).into()]), "{bind}");
            drop(listener);
            assert!(holders(&[wanted]).is_empty());
        }
    }
}
