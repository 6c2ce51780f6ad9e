//! Which addresses count as one caller while nothing else is known of them.

use std::net::IpAddr;

/// An address, or the smallest network that one customer of a provider has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Network {
    /// This host. A reverse proxy on it stands for many callers, so no limit for one caller holds.
    Loopback,
    /// One address.
    V4(u32),
    /// A /64: whoever has one address of it has all of them.
    V6(u64),
}

impl Network {
    /// Returns the network of an address. IPv4 that is written as IPv6 is IPv4.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            it if it.is_loopback() => Self::Loopback,
            IpAddr::V4(it) => Self::V4(u32::from(it)),
            IpAddr::V6(it) => Self::V6(u64::try_from(u128::from(it) >> 64_u32).unwrap_or(u64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_one_caller_has_count_as_one() {
        let of = |text: &str| Network::of(text.parse().unwrap());
        for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(of(local), Network::Loopback, "{local}");
        }
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }
}
