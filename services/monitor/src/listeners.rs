//! Who answers on a port of this host.
//!
//! A connection proves that something listens, and not that the target does: a process that
//! outlived it may hold its port, or another program may have taken it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use domain::check::{Check, Probe};
use host::process::sockets;

/// Forwards to the published port of a container.
const FORWARDERS: [&str; 3] = ["docker-proxy", "rootlessport", "slirp4netns"];

/// Whose socket it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This process, one that it has started, or one of its group or session.
    Process(i32),
    /// A process in the container of this id.
    Container(String),
    /// There is none: whoever answers is another one, but for these, which its last run has left
    /// behind.
    Nobody {
        /// Their ids.
        left: Vec<i32>,
    },
}

/// Who answers at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answering {
    /// The owner.
    Owner,
    /// Another process, such as `pid 4711 (postgres)`.
    Another {
        /// The port.
        port: u16,
        /// The process.
        who: String,
    },
    /// Something on this host; which process it is cannot be seen.
    Unseen,
    /// The address is not one of this host, or the check connects to none.
    Elsewhere,
}

/// Returns the host and port that a check connects to.
fn endpoint(check: &Check) -> Option<(String, u16)> {
    match check.probe().ok()? {
        Probe::Tcp(address) => {
            let (host, port) = address.rsplit_once(':')?;
            Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
        }
        Probe::Http(url) => {
            let url = reqwest::Url::parse(url).ok()?;
            let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
            Some((host, url.port_or_known_default()?))
        }
        Probe::Process
        | Probe::Docker
        | Probe::Command(_)
        | Probe::Disk(_)
        | Probe::Memory
        | Probe::Cpu
        | Probe::Prometheus(_) => None,
    }
}

/// Returns who answers where a check connects to.
pub(crate) async fn answering(check: &Check, owner: Owner) -> Answering {
    let Some((host, port)) = endpoint(check) else { return Answering::Elsewhere };
    let Ok(addresses) = tokio::net::lookup_host((host.as_str(), port)).await else {
        return Answering::Elsewhere;
    };
    let addresses: Vec<SocketAddr> = addresses.collect();
    let look = move || look(&addresses, &owner);
    tokio::task::spawn_blocking(look).await.unwrap_or(Answering::Unseen)
}

fn look(addresses: &[SocketAddr], owner: &Owner) -> Answering {
    let Some(address) = addresses.iter().find(|it| is_local(it.ip())) else {
        return Answering::Elsewhere;
    };
    let sockets = listening(*address);
    // None when it is forwarded by the kernel, or listens in another network namespace.
    if sockets.is_empty() {
        return Answering::Unseen;
    }
    let family = family(owner);
    let holds = |pid: &i32| sockets_of(*pid).is_some_and(|own| !own.is_disjoint(&sockets));
    if family.iter().any(holds) {
        return Answering::Owner;
    }
    let mut others = pids().into_iter().filter(|pid| !family.contains(pid));
    match others.find(holds) {
        Some(pid) if is_forwarder(pid, owner) => Answering::Unseen,
        Some(pid) => {
            let name = name_of(pid).unwrap_or_default();
            Answering::Another { port: address.port(), who: format!("pid {pid} ({name})") }
        }
        // It belongs to another user, and we may not look.
        None => Answering::Unseen,
    }
}

/// Returns whether the forwarder of a container engine holds a socket that a container's may be.
fn is_forwarder(pid: i32, owner: &Owner) -> bool {
    let is_one = || name_of(pid).is_some_and(|name| FORWARDERS.contains(&name.as_str()));
    matches!(owner, Owner::Container(_)) && is_one()
}

/// Returns whether an address is one of this host: only such a one can be bound.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok()
}

/// Returns the inodes of the sockets that listen where a connection to `address` arrives.
fn listening(address: SocketAddr) -> BTreeSet<u64> {
    let all = sockets::listening().into_iter().filter(|it| it.address.port() == address.port());
    let found: Vec<(IpAddr, u64)> = all.map(|it| (it.address.ip(), it.inode)).collect();
    // A socket of the very address is preferred to one of all addresses.
    let exact = found.iter().filter(|it| it.0 == address.ip().to_canonical());
    let exact: BTreeSet<u64> = exact.map(|it| it.1).collect();
    if !exact.is_empty() {
        return exact;
    }
    found.into_iter().filter(|it| it.0.is_unspecified()).map(|it| it.1).collect()
}

/// What is needed of a process to know whose it is.
#[derive(Clone, Copy, Debug)]
struct Kin {
    parent: i32,
    group: i32,
    session: i32,
}

fn pids() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn kin(pid: i32) -> Option<Kin> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything: what counts stands behind the last one.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(1);
    let mut next = || fields.next()?.parse().ok();
    Some(Kin { parent: next()?, group: next()?, session: next()? })
}

/// Returns all processes that belong to the owner.
fn family(owner: &Owner) -> BTreeSet<i32> {
    match owner {
        Owner::Nobody { left } => of_processes(left),
        Owner::Process(leader) => of_processes(&[*leader]),
        Owner::Container(id) => {
            let is_inside = |pid: &i32| {
                fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|it| it.contains(id))
            };
            pids().into_iter().filter(|pid| !id.is_empty() && is_inside(pid)).collect()
        }
    }
}

fn of_processes(leaders: &[i32]) -> BTreeSet<i32> {
    if leaders.is_empty() {
        return BTreeSet::new();
    }
    let all: BTreeMap<i32, Kin> =
        pids().into_iter().filter_map(|pid| Some((pid, kin(pid)?))).collect();
    leaders.iter().flat_map(|it| descendants(*it, &all)).collect()
}

/// Returns a process, those that it leads, and all that they have started.
fn descendants(leader: i32, all: &BTreeMap<i32, Kin>) -> BTreeSet<i32> {
    let led = all.iter().filter(|(_, kin)| kin.group == leader || kin.session == leader);
    let mut found: BTreeSet<i32> = led.map(|(pid, _)| *pid).chain([leader]).collect();
    loop {
        let children = all.iter().filter(|(_, kin)| found.contains(&kin.parent)).map(|it| *it.0);
        let new: Vec<i32> = children.filter(|pid| !found.contains(pid)).collect();
        if new.is_empty() {
            return found;
        }
        found.extend(new);
    }
}

/// Returns the inodes of the sockets that a process has; `None` when we may not look.
fn sockets_of(pid: i32) -> Option<BTreeSet<u64>> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let inode = |link: std::path::PathBuf| {
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    Some(links.filter_map(inode).collect())
}

fn name_of(pid: i32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        process::{Command, Stdio},
    };

    use super::*;

    fn tcp(address: SocketAddr) -> Check {
        Check { tcp: Some(address.to_string()), ..Check::blank() }
    }

    fn nobody() -> Owner {
        Owner::Nobody { left: Vec::new() }
    }

    fn us() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    #[tokio::test]
    async fn a_socket_belongs_to_the_process_that_listens() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let ip = if address.contains("::") { "[::1]" } else { "127.0.0.1" };
            let check = tcp(format!("{ip}:{port}").parse().unwrap());
            assert_eq!(
                answering(&check, Owner::Process(us())).await,
                Answering::Owner,
                "{address}"
            );
            let mut other = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
            let pid = i32::try_from(other.id()).unwrap();
            for owner in [Owner::Process(pid), nobody(), Owner::Container("abc".to_owned())] {
                let Answering::Another { port: told, who } = answering(&check, owner).await else {
                    panic!("{address}: the process that listens was not found");
                };
                assert_eq!(
                    (told, who.starts_with(&format!("pid {} (", us()))),
                    (port, true),
                    "{who}"
                );
            }
            other.kill().unwrap();
            other.wait().unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_elsewhere_or_no_connection_at_all_is_said_to_be_so() {
        let elsewhere = Check { tcp: Some("192.0.2.1:80".to_owned()), ..Check::blank() };
        assert_eq!(answering(&elsewhere, nobody()).await, Answering::Elsewhere);
        let memory = Check { memory: Some(true), ..Check::blank() };
        assert_eq!(answering(&memory, nobody()).await, Answering::Elsewhere);
    }

    #[test]
    fn checks_name_their_endpoint() {
        let http = |url: &str| Check { http: Some(url.to_owned()), ..Check::blank() };
        for (check, wanted) in [
            (http("http://127.0.0.1:8080/x"), Some(("127.0.0.1", 8080))),
            (http("https://[::1]/x"), Some(("::1", 443))),
            (Check { tcp: Some("[::1]:80".to_owned()), ..Check::blank() }, Some(("::1", 80))),
            (Check { tcp: Some("db:5432".to_owned()), ..Check::blank() }, Some(("db", 5432))),
            (Check { cpu: Some(true), ..Check::blank() }, None),
        ] {
            let wanted = wanted.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(endpoint(&check), wanted, "{check:?}");
        }
    }

    #[test]
    fn what_a_process_leads_or_has_started_belongs_to_it() {
        let kin = |parent, group, session| Kin { parent, group, session };
        let all = BTreeMap::from([
            (10, kin(1, 10, 10)),
            (11, kin(10, 10, 10)),
            (12, kin(11, 12, 12)),
            (13, kin(1, 10, 10)),
            (20, kin(1, 20, 20)),
        ]);
        assert_eq!(descendants(10, &all), BTreeSet::from([10, 11, 12, 13]));
    }
}
