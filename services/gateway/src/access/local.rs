//! Callers without a token, where none is asked for.
//!
//! The gateway listens on loopback only then, or takes from elsewhere nothing without a token;
//! there two strangers still can knock: a page in
//! the user's browser that posts to `127.0.0.1` (cross-site request), and one whose name
//! resolves to `127.0.0.1` (DNS rebinding). Both give themselves away by their headers.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, StatusCode, Uri, header, uri::Authority};

use crate::problem::Problem;

/// Returns whether a request comes from this host, and not by way of a page of another site.
pub(super) fn check(scheme: &str, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    const HINT: &str =
        "call http://127.0.0.1 or http://localhost from this host, or set SELFHEAL_API_TOKEN";
    let refused = |code, message: String| Problem::new(StatusCode::FORBIDDEN, code, message, HINT);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let Some(host) = host.and_then(|host| host.parse::<Authority>().ok()) else {
        return Err(Problem::bad("host_missing", "the request has no valid Host header", HINT));
    };
    let in_uri = uri.host().is_none_or(is_loopback);
    if !is_loopback(host.host()) || !in_uri {
        let message = format!("without a token only this host is served, not `{}`", host.host());
        return Err(refused("host_refused", message));
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("null");
        let same = origin
            .split_once("://")
            .is_some_and(|(by, at)| by == scheme && at.eq_ignore_ascii_case(host.as_str()));
        if !same {
            return Err(refused(
                "origin_refused",
                format!("pages of `{origin}` may not call this API"),
            ));
        }
    }
    let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
    if site == Some("cross-site") {
        return Err(refused(
            "origin_refused",
            "pages of other sites may not call this API".to_owned(),
        ));
    }
    Ok(())
}

/// Returns whether a connection comes from this host.
pub(super) fn is_of_host(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

/// Returns whether a request says that a proxy has passed it on: from where, this host does not
/// know.
pub(super) fn is_forwarded(headers: &HeaderMap) -> bool {
    ["forwarded", "x-forwarded-for", "x-real-ip", "via"].iter().any(|it| headers.contains_key(*it))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn local(headers: &[(&'static str, &str)]) -> Result<(), StatusCode> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect();
        check("http", &Uri::from_static("/x"), &headers).map_err(|problem| problem.status())
    }

    #[test]
    fn this_host_by_any_of_its_names_is_served() {
        for host in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "[::1]:8080", "127.0.0.2"] {
            assert_eq!(local(&[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_name_that_was_rebound_to_this_host_is_refused() {
        for host in
            ["evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1"]
        {
            assert_eq!(local(&[("host", host)]), Err(StatusCode::FORBIDDEN), "{host}");
        }
        assert_eq!(local(&[]), Err(StatusCode::BAD_REQUEST));
    }

    #[test]
    fn pages_of_other_sites_are_refused_and_our_own_served() {
        let host = ("host", "localhost:8080");
        assert_eq!(local(&[host, ("origin", "http://localhost:8080")]), Ok(()));
        assert_eq!(local(&[host, ("sec-fetch-site", "same-origin")]), Ok(()));
        for origin in
            ["http://evil.example", "null", "http://localhost:3000", "https://localhost:8080"]
        {
            assert_eq!(local(&[host, ("origin", origin)]), Err(StatusCode::FORBIDDEN), "{origin}");
        }
        assert_eq!(local(&[host, ("sec-fetch-site", "cross-site")]), Err(StatusCode::FORBIDDEN));
    }
}
