//! Which hosts may be reached.

use glob::Pattern;

use crate::outgoing::Network;

/// Which hosts may be reached: patterns that name a host with or without its port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<Pattern>);

impl Hosts {
    /// Allows what fits one of these.
    #[must_use]
    pub const fn new(patterns: Vec<Pattern>) -> Self {
        Self(patterns)
    }

    /// Returns whether a host may be reached; `with_port` is the same with its port.
    #[must_use]
    pub fn allow(&self, host: &str, with_port: &str) -> bool {
        self.0.iter().any(|it| it.matches(with_port) || it.matches(host))
    }

    /// Returns the addresses among them: what is written out as an address is meant.
    pub fn addresses(&self) -> impl Iterator<Item = Network> {
        self.0.iter().filter_map(|it| {
            let text = it.as_str();
            let without_port = || text.rsplit_once(':').map_or(text, |it| it.0);
            let address = text.parse::<std::net::IpAddr>();
            let bare = |text: &str| text.trim_matches(['[', ']']).parse().ok();
            address.ok().or_else(|| bare(text)).or_else(|| bare(without_port())).map(Network::from)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_named_with_or_without_their_port() {
        let patterns = ["127.0.0.1:8081", "*.internal"];
        let hosts = Hosts::new(patterns.iter().map(|it| Pattern::new(it).unwrap()).collect());
        for (host, port, allowed) in [
            ("127.0.0.1", 8081, true),
            ("127.0.0.1", 8082, false),
            ("db.internal", 443, true),
            ("db.internal.evil.example", 443, false),
        ] {
            assert_eq!(hosts.allow(host, &format!("{host}:{port}")), allowed, "{host} {port}");
        }
    }

    #[test]
    fn an_address_that_is_written_out_is_meant() {
        let patterns = ["169.254.10.1", "169.254.10.2:80", "[fe80::1]:80", "fe80::2", "169.254.*"];
        let hosts = Hosts::new(patterns.iter().filter_map(|it| Pattern::new(it).ok()).collect());
        let found: Vec<Network> = hosts.addresses().collect();
        for address in ["169.254.10.1", "169.254.10.2", "fe80::2"] {
            let address = address.parse().unwrap();
            assert!(found.iter().any(|it| it.contains(address)), "{address}");
        }
        assert!(!found.iter().any(|it| it.contains("169.254.169.254".parse().unwrap())));
    }
}
