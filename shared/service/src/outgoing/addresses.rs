//! Which addresses are refused, in whatever form they come.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Network;

const METADATA: &str = "it is where a cloud keeps credentials of this host";
const LINK_LOCAL: &str = "it is a link-local address, where clouds keep credentials";
const NOWHERE: &str = "it is the address of no host";
const MULTICAST: &str = "it is an address of many hosts";

/// What is refused by default, and why.
#[rustfmt::skip]
const REFUSED: [(Network, &str); 15] = [
    (Network::v4([169, 254, 0, 0], 16), LINK_LOCAL),
    (Network::v4([0, 0, 0, 0], 8), NOWHERE),
    (Network::v4([224, 0, 0, 0], 4), MULTICAST),
    (Network::v4([255, 255, 255, 255], 32), MULTICAST),
    // Alibaba Cloud, Azure, Oracle Cloud.
    (Network::v4([100, 100, 100, 200], 32), METADATA),
    (Network::v4([168, 63, 129, 16], 32), METADATA),
    (Network::v4([192, 0, 0, 192], 32), METADATA),
    (Network::v6(0xfe80 << 112, 10), LINK_LOCAL),
    // `::` alone: its neighbour `::1` is this host.
    (Network::v6(0, 128), NOWHERE),
    (Network::v6(0xff00 << 112, 8), MULTICAST),
    // AWS (fd00:ec2::254 and its other services), Google Cloud, Oracle Cloud, Scaleway.
    (Network::v6(0xfd00_0ec2 << 96, 32), METADATA),
    (Network::v6((0xfd20_00ce << 96) + 0x254, 128), METADATA),
    (Network::v6((0xfd00_00c1 << 96) + 0xa9fe_a9fe, 128), METADATA),
    (Network::v6((0xfd00_0042 << 96) + 0x42, 128), METADATA),
    (Network::v6(0xfec0 << 112, 10), LINK_LOCAL),
];

/// Says why an address is refused by default; not in which form.
pub(super) fn refusal(address: IpAddr) -> Option<&'static str> {
    REFUSED.iter().find(|(network, _)| network.contains(address)).map(|it| it.1)
}

/// Returns an address and the IPv4 addresses that it stands for.
pub(super) fn forms(address: IpAddr) -> Vec<IpAddr> {
    let mut forms = vec![address];
    if let IpAddr::V6(it) = address {
        forms.extend(embedded(it).into_iter().map(IpAddr::V4));
    }
    forms
}

/// Returns the IPv4 addresses that an IPv6 address leads to, by the way it is made.
fn embedded(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let bits = address.to_bits();
    let is_in = |base: u128, n_bits| Network::v6(base, n_bits).contains(IpAddr::V6(address));
    let of = |bits: u128| Ipv4Addr::from_bits(u32::try_from(bits & 0xffff_ffff).unwrap_or(0));
    let mut found = Vec::new();
    // IPv4-mapped, IPv4-compatible (an old form, as which `::1` looks), and NAT64.
    if is_in(0xffff << 32, 96)
        || (is_in(0, 96) && 1 < bits)
        || is_in(0x0064_ff9b << 96, 96)
        // ISATAP: the part of the interface is `0:5efe` or `200:5efe`, and the address.
        || (bits >> 32) & 0xfdff_ffff == 0x5efe
    {
        found.push(of(bits));
    }
    // NAT64 with a local prefix of 96 bits, or of 48 (RFC 6052): 16 bits of the address, a zero
    // byte, 16 bits. Where the one stands, the other is zero.
    if is_in(0x0064_ff9b_0001 << 80, 48) {
        let split = ((bits >> 64) & 0xffff) << 16 | ((bits >> 40) & 0xffff);
        found.extend([of(bits), of(split)].into_iter().filter(|it| !it.is_unspecified()));
    }
    // 6to4.
    if is_in(0x2002 << 112, 16) {
        found.push(of(bits >> 80));
    }
    // Teredo: the client's address stands there inverted.
    if is_in(0x2001_0000 << 96, 32) {
        found.push(of(!bits));
    }
    found
}
