//! Ranges of addresses.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A range of addresses: an address and how many of its first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    n_bits: u8,
}

/// A text is no range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an address nor a network, such as 169.254.10.1 or fe80::/64")]
pub struct NotANetwork(String);

impl Network {
    /// A range of IPv4 addresses.
    pub(super) const fn v4(base: [u8; 4], n_bits: u8) -> Self {
        let [a, b, c, d] = base;
        Self { base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), n_bits }
    }

    /// A range of IPv6 addresses.
    pub(super) const fn v6(base: u128, n_bits: u8) -> Self {
        Self { base: IpAddr::V6(Ipv6Addr::from_bits(base)), n_bits }
    }

    /// Returns whether an address lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (base, other, width) = match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(it)) => {
                (u128::from(base.to_bits()), u128::from(it.to_bits()), 32)
            }
            (IpAddr::V6(base), IpAddr::V6(it)) => (base.to_bits(), it.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        let shift = u32::from(width - self.n_bits.min(width));
        // Shifting by all bits leaves nothing to differ.
        (base ^ other).checked_shr(shift).unwrap_or(0) == 0
    }
}

impl From<IpAddr> for Network {
    fn from(base: IpAddr) -> Self {
        Self { base, n_bits: if base.is_ipv4() { 32 } else { 128 } }
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let wrong = || NotANetwork(text.to_owned());
        let (address, n_bits) = match text.trim().split_once('/') {
            Some((address, n_bits)) => (address, Some(n_bits)),
            None => (text.trim(), None),
        };
        let whole = address.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(Self::from);
        let whole = whole.ok_or_else(wrong)?;
        let Some(n_bits) = n_bits else { return Ok(whole) };
        let n_bits = n_bits.parse().ok().filter(|it| *it <= whole.n_bits).ok_or_else(wrong)?;
        Ok(Self { n_bits, ..whole })
    }
}
