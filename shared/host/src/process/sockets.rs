//! The sockets of this host that listen.
//!
//! Asked of the kernel by `sock_diag(7)`, which returns those that listen and no others: the
//! tables in `/proc/net` also hold each connection, and those that ended within the last minute,
//! thousands on a busy host. They are read where the kernel does not answer.

use std::{
    fs, io,
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr},
};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// State of a socket that listens, in the kernel's tables.
const LISTENS: &str = "0A";

/// The same as a bit of `idiag_states`.
const LISTENS_BIT: u32 = 1 << 10;

/// Numbers of `linux/netlink.h`, `linux/sock_diag.h` and `linux/in.h`.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const IPPROTO_TCP: u8 = 6;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Sizes of `nlmsghdr` and `inet_diag_req_v2`.
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = HEADER_BYTES + 56;

/// One answer of the kernel is at most this large.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Socket {
    /// Where; a mapped address of version 4 as such.
    pub address: SocketAddr,
    /// What the links of descriptors name it by.
    pub inode: u64,
}

impl Socket {
    /// Returns whether a connection to this address would reach it.
    pub(super) fn answers(&self, wanted: SocketAddr) -> bool {
        let ip = self.address.ip();
        let same_kind = ip.is_ipv6() || wanted.is_ipv4();
        let reaches =
            ip == wanted.ip() || (ip.is_unspecified() && same_kind) || wanted.ip().is_unspecified();
        self.address.port() == wanted.port() && reaches
    }

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

    /// Reads an `inet_diag_msg`.
    fn of_diag(message: &[u8]) -> Option<Self> {
        let port = u16::from_be_bytes(array(message, 4)?);
        let ip = match *message.first()? {
            AF_INET => IpAddr::from(array::<4>(message, 8)?),
            AF_INET6 => IpAddr::from(array::<16>(message, 8)?).to_canonical(),
            _ => return None,
        };
        let inode = u32::from_ne_bytes(array(message, 68)?);
        Some(Self { address: SocketAddr::new(ip, port), inode: u64::from(inode) })
    }
}

/// Returns all sockets of this host that listen for TCP connections.
#[must_use]
pub fn listening() -> Vec<Socket> {
    of_kernel().unwrap_or_else(|_| of_tables())
}

fn of_tables() -> Vec<Socket> {
    ["tcp", "tcp6"]
        .iter()
        .filter_map(|it| fs::read_to_string(format!("/proc/net/{it}")).ok())
        .flat_map(|it| it.lines().filter_map(Socket::parse).collect::<Vec<_>>())
        .collect()
}

/// Asks the kernel.
///
/// # Errors
///
/// When it has no `sock_diag`, or does not let us ask, as in some sandboxes.
fn of_kernel() -> io::Result<Vec<Socket>> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        rustix::net::send(&socket, &request(family), SendFlags::empty())?;
        let mut buffer = vec![MaybeUninit::<u8>::uninit(); ANSWER_BYTES_MAX];
        loop {
            let ((answer, _), n_bytes) =
                rustix::net::recv(&socket, &mut buffer[..], RecvFlags::TRUNC)?;
            if ANSWER_BYTES_MAX < n_bytes || n_bytes == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if take(answer, &mut found)? {
                break;
            }
        }
    }
    Ok(found)
}

fn request(family: u8) -> [u8; REQUEST_BYTES] {
    let mut request = [0; REQUEST_BYTES];
    let length = u32::try_from(REQUEST_BYTES).unwrap_or_default();
    let mut put = |at: usize, bytes: &[u8]| {
        for (to, from) in request.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    };
    put(0, &length.to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &NLM_F_REQUEST_DUMP.to_ne_bytes());
    put(HEADER_BYTES, &[family, IPPROTO_TCP]);
    put(HEADER_BYTES + 4, &LISTENS_BIT.to_ne_bytes());
    request
}

/// Takes the sockets of one answer. Returns whether it was the last.
fn take(mut answer: &[u8], found: &mut Vec<Socket>) -> io::Result<bool> {
    while !answer.is_empty() {
        let header = || {
            let length = usize::try_from(u32::from_ne_bytes(array(answer, 0)?)).ok()?;
            let kind = u16::from_ne_bytes(array(answer, 4)?);
            Some((length, kind, answer.get(HEADER_BYTES..length)?))
        };
        let Some((length, kind, body)) = header() else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        match kind {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let code = array(body, 0).map_or(0, i32::from_ne_bytes);
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            SOCK_DIAG_BY_FAMILY => found.extend(Socket::of_diag(body)),
            _ => {}
        }
        answer = answer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_kernel_and_its_tables_name_the_same_sockets() {
        let binds = ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"];
        // A host without IPv6 has fewer.
        let listeners: Vec<_> = binds.iter().filter_map(|it| TcpListener::bind(it).ok()).collect();
        assert!(2 <= listeners.len());
        let own = |all: Vec<Socket>| {
            let is_own =
                |it: &Socket| listeners.iter().any(|own| own.local_addr().unwrap() == it.address);
            let mut own: Vec<Socket> = all.into_iter().filter(is_own).collect();
            own.sort();
            own
        };
        let of_tables = own(of_tables());
        assert_eq!(of_tables.len(), listeners.len());
        assert_eq!(own(of_kernel().unwrap()), of_tables);
    }

    #[test]
    fn connections_are_no_listeners() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let at = client.local_addr().unwrap();
        assert!(listening().iter().all(|it| it.address != at));
    }

    #[test]
    fn what_is_cut_or_unknown_in_an_answer_is_an_error_and_no_panic() {
        let mut found = Vec::new();
        assert!(take(&[1, 2, 3], &mut found).is_err());
        let header = |length: u32, kind: u16| {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes
        };
        for length in [0, 15, 17, u32::MAX] {
            assert!(take(&header(length, SOCK_DIAG_BY_FAMILY), &mut found).is_err(), "{length}");
        }
        assert!(!take(&header(16, SOCK_DIAG_BY_FAMILY), &mut found).unwrap());
        assert!(take(&header(16, NLMSG_DONE), &mut found).unwrap());
        assert!(take(&header(16, NLMSG_ERROR), &mut found).is_err());
        assert!(found.is_empty());
    }
}
