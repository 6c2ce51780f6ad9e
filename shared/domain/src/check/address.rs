//! Addresses that can be asked, and those that never can: a mistake of the configuration is told
//! when it is made, and not as a failure of the target.

use std::{collections::BTreeMap, net::Ipv6Addr};

use url::{Host, Url};

use crate::secret::Text;

/// The longest name of a host, and the longest part of it between dots.
const HOST_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// Returns why a text is no URL that an HTTP client can ask.
pub(crate) fn url_mistake(text: &str) -> Option<String> {
    if !text.starts_with("http://") && !text.starts_with("https://") {
        return Some("must begin with http:// or https://".to_owned());
    }
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => return Some(format!("is not a URL: {error}")),
    };
    match url.host() {
        Some(Host::Domain(name)) if !is_host(name) => Some(format!("`{name}` is not a host name")),
        Some(Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_)) if url.port() == Some(0) => {
            Some("port 0 cannot be connected to".to_owned())
        }
        Some(Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_)) => None,
        None => Some("must name a host".to_owned()),
    }
}

/// Returns why a text is no `host:port` that can be connected to.
pub(super) fn host_and_port_mistake(text: &str) -> Option<String> {
    let form = "must be host:port, such as 127.0.0.1:5432";
    let Some((host, port)) = text.rsplit_once(':') else { return Some(form.to_owned()) };
    let bracketed = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let is_v6 = bracketed.unwrap_or(host).parse::<Ipv6Addr>().is_ok();
    if bracketed.is_some() && !is_v6 {
        return Some(format!("`{host}` is not an IPv6 address"));
    }
    if !is_v6 && !is_host(host) {
        let why = format!("`{host}` is not a host name or an address");
        return Some(if host.is_empty() { form.to_owned() } else { why });
    }
    match port.parse::<u16>() {
        Ok(0) | Err(_) if port.is_empty() => Some(form.to_owned()),
        Ok(0) | Err(_) => Some(format!("`{port}` is not a port: use a number from 1 to 65535")),
        Ok(_) => None,
    }
}

/// Returns whether a text can be the name of a host, or is an IPv4 address.
fn is_host(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    let label = |it: &str| {
        (1..=LABEL_MAX).contains(&it.len())
            && it.chars().all(legal)
            && !it.starts_with('-')
            && !it.ends_with('-')
    };
    name.len() <= HOST_MAX && name.split('.').all(label)
}

/// Returns why headers cannot be sent.
pub(crate) fn headers_mistake(headers: &BTreeMap<String, Text>) -> Option<String> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let is_name = |name: &str| !name.is_empty() && name.chars().all(in_name);
    let is_value = |value: &str| value.chars().all(|c| c == '\t' || !c.is_control());
    headers.iter().find_map(|(name, value)| {
        if !is_name(name) {
            return Some(format!("`{name}` is not the name of a header"));
        }
        if let Some(error) = value.mistake() {
            return Some(format!("the value of `{name}`: {error}"));
        }
        (!value.plain().is_none_or(is_value))
            .then(|| format!("the value of `{name}` contains a control character"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_cannot_be_asked_are_mistakes() {
        for good in [
            "http://127.0.0.1:8080/health",
            "https://[::1]:1/x?y=z",
            "http://my_service.local",
            "http://user:pw@db.example.org./",
        ] {
            assert_eq!(url_mistake(good), None, "{good}");
        }
        for (wrong, why) in [
            ("", "must begin with"),
            ("ftp://x", "must begin with"),
            ("http://", "is not a URL"),
            ("http://x:99999/", "is not a URL"),
            ("http://x:0/", "port 0"),
            ("http://a b/", "is not a URL"),
            ("http://-x-/", "is not a host name"),
            ("http://1.2.3.4.5.6:80", "is not a URL"),
        ] {
            let told = url_mistake(wrong).unwrap_or_default();
            assert!(told.contains(why), "{wrong}: {told}");
        }
    }

    #[test]
    fn addresses_that_cannot_be_connected_to_are_mistakes() {
        for good in ["127.0.0.1:5432", "db:1", "my-db.example.org:65535", "[::1]:80", "::1:80"] {
            assert_eq!(host_and_port_mistake(good), None, "{good}");
        }
        for wrong in [
            "",
            "db",
            ":80",
            "db:",
            "db:0",
            "db:99999",
            "db:-1",
            "db:http",
            "a b:80",
            "-x:80",
            "[db]:80",
            "[::1:80",
            "a..b:80",
            "http://db:80",
        ] {
            assert!(host_and_port_mistake(wrong).is_some(), "{wrong}");
        }
        let long = "x".repeat(64);
        assert!(host_and_port_mistake(&format!("{long}:80")).is_some());
    }

    #[test]
    fn headers_that_cannot_be_sent_are_mistakes() {
        let one = |name: &str, value: &str| {
            headers_mistake(&BTreeMap::from([(name.to_owned(), Text::from(value))]))
        };
        assert_eq!(one("X-Token", "a b\tc"), None);
        for (name, value) in [("", "x"), ("a b", "x"), ("a:", "x"), ("a", "x\r\ny: z")] {
            assert!(one(name, value).is_some(), "{name:?} {value:?}");
        }
    }
}
