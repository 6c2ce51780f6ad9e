//! Decisions that need no broker.

use axum::http::HeaderValue;

use super::*;
use crate::connections::{Connections, Limits};

fn route(need: Need) -> Route {
    Route { method: "POST", path: "/x", need, load: Load::Events }
}

async fn allowed(access: &Access, need: Need, token: Option<&str>) -> Result<Caller, Problem> {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("gateway.example"));
    if let Some(token) = token {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        headers.insert(header::AUTHORIZATION, value);
    }
    access.allow(&route(need), &Uri::from_static("/x"), &headers, None).await
}

#[tokio::test]
async fn a_route_that_proves_its_callers_itself_is_told_who_is_known_and_nothing_of_others() {
    for tokenless in [Tokenless::Nobody, Tokenless::Host, Tokenless::Events { token_file: None }] {
        let access =
            Access::new(Some(Token::new("the flag's")), tokenless, "http", Outgoing::default());
        for stranger in [None, Some("its own secret")] {
            let caller = allowed(&access, Need::Own, stranger).await.unwrap();
            assert_eq!(caller.require_any().unwrap_err().status(), StatusCode::UNAUTHORIZED);
            assert!(caller.require(Role::Publisher).is_err());
        }
        let caller = allowed(&access, Need::Own, Some("the flag's")).await.unwrap();
        assert_eq!(caller.require(Role::Admin).unwrap().name, "api-token");
    }
}

#[tokio::test]
async fn what_everybody_may_see_is_for_this_host_alone_where_no_token_is_asked_for() {
    let guarded = Access::new(None, Tokenless::Nobody, "http", Outgoing::default());
    assert!(allowed(&guarded, Need::Open, None).await.is_ok());
    let local = Access::new(None, Tokenless::Host, "http", Outgoing::default());
    let refused = allowed(&local, Need::Open, None).await.unwrap_err();
    assert_eq!(refused.code(), "host_refused");
}

#[tokio::test]
async fn a_token_is_shown_in_no_form() {
    let access =
        Access::new(Some(Token::new("s3cret")), Tokenless::Nobody, "http", Outgoing::default());
    let shown = format!("{access:?} {:?}", allowed(&access, Need::Known, Some("s3cret")).await);
    assert!(!shown.contains("s3cret") && !shown.contains(&token_hash("s3cret")), "{shown}");
}

#[test]
fn a_door_has_a_rate_where_nothing_is_configured_and_above_it_senders_come_again() {
    let access = Access::new(None, Tokenless::Nobody, "http", Outgoing::default());
    let (door, other) = (Principal::of_integration("grafana"), Principal::of_integration("gatus"));
    let mut n_taken = 0_u32;
    let refused = loop {
        match access.limit(&door, Load::Events) {
            Ok(()) => n_taken += 1,
            Err(problem) => break problem,
        }
        assert!(n_taken < 1_000_000, "there is no limit");
    };
    assert!(INTEGRATION_RATE <= n_taken, "only {n_taken} were taken");
    assert_eq!((refused.status().as_u16(), refused.code()), (503, "rate_limited"));
    assert!(access.limit(&other, Load::Events).is_ok(), "each has its own");
    let flags = Principal::of_flags();
    assert!((0..=2 * INTEGRATION_RATE).all(|_| access.limit(&flags, Load::Events).is_ok()));
}

/// Asks from somewhere, with headers, without a token.
async fn without_token(
    route: &Route,
    peer: Option<&str>,
    headers: &[(&'static str, &'static str)],
) -> Result<String, (StatusCode, String)> {
    let file = Some("/data/run/api-token".to_owned());
    let tokenless = Tokenless::Events { token_file: file };
    let access =
        Access::new(Some(Token::new("the owner's")), tokenless, "http", Outgoing::default());
    let mut sent = HeaderMap::new();
    for &(name, value) in [("host", "127.0.0.1:8080")].iter().chain(headers) {
        sent.insert(name, HeaderValue::from_static(value));
    }
    let all = Connections::new(Limits { total: 8, per_network: 0 });
    let peer = peer.map(|it| {
        let address: SocketAddr = it.parse().unwrap();
        Peer { address, connection: Arc::new(all.open(address.ip()).unwrap()) }
    });
    match access.allow(route, &Uri::from_static("/x"), &sent, peer.as_ref()).await {
        Ok(Caller(principal)) => Ok(principal.map_or_else(String::new, |it| it.role.to_string())),
        Err(problem) => Err((problem.status(), problem.text())),
    }
}

#[tokio::test]
async fn events_of_this_host_need_no_token_and_all_else_does() {
    const HERE: Option<&str> = Some("127.0.0.1:50000");
    let event = |path| Route { method: "POST", path, need: table::PUBLISHER, load: Load::Events };
    for peer in ["127.0.0.1:5", "[::1]:5", "[::ffff:127.0.0.1]:5"] {
        let sent = without_token(&event("/publish_event"), Some(peer), &[]).await;
        assert_eq!(sent.unwrap(), "publisher", "{peer}");
    }
    for peer in [None, Some("10.0.0.7:5"), Some("[2001:db8::1]:5")] {
        let refused = without_token(&event("/api/v1/events"), peer, &[]).await.unwrap_err();
        assert_eq!(refused.0, StatusCode::UNAUTHORIZED, "{peer:?}");
        assert!(!refused.1.contains("/data/run"), "{}", refused.1);
    }
    for need in [Need::Known, table::VIEWER, table::OPERATOR, table::APPROVER, table::ADMIN] {
        for load in [Load::Requests, Load::Events] {
            let route = Route { method: "GET", path: "/x", need, load };
            let (status, hint) = without_token(&route, HERE, &[]).await.unwrap_err();
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{need:?}");
            assert!(hint.contains("/data/run/api-token"), "{hint}");
        }
    }
    let own = Route { method: "POST", path: "/x", need: Need::Own, load: Load::Events };
    assert_eq!(without_token(&own, HERE, &[]).await.unwrap(), "", "nobody whom we know");
}

#[tokio::test]
async fn pages_and_proxies_bring_no_event_without_a_token() {
    const HERE: Option<&str> = Some("127.0.0.1:50000");
    let event = route(table::PUBLISHER);
    let table: [(&[(&'static str, &'static str)], StatusCode); 8] = [
        (&[("origin", "http://evil.example")], StatusCode::FORBIDDEN),
        (&[("sec-fetch-site", "cross-site")], StatusCode::FORBIDDEN),
        (&[("host", "evil.example")], StatusCode::FORBIDDEN),
        (&[("x-forwarded-for", "10.0.0.7")], StatusCode::UNAUTHORIZED),
        (&[("forwarded", "for=10.0.0.7")], StatusCode::UNAUTHORIZED),
        (&[("via", "1.1 proxy")], StatusCode::UNAUTHORIZED),
        (&[("authorization", "Basic YTpi")], StatusCode::UNAUTHORIZED),
        (&[("authorization", "Bearer wrong")], StatusCode::UNAUTHORIZED),
    ];
    for (headers, status) in table {
        let refused = without_token(&event, HERE, headers).await.unwrap_err();
        assert_eq!(refused.0, status, "{headers:?}");
    }
    let open = route(Need::Open);
    assert!(without_token(&open, HERE, &[]).await.is_ok());
    let rebound = without_token(&open, HERE, &[("host", "evil.example")]).await;
    assert_eq!(rebound.unwrap_err().0, StatusCode::FORBIDDEN);
    let from_elsewhere = [("host", "gateway.example")];
    assert!(without_token(&open, Some("10.0.0.7:5"), &from_elsewhere).await.is_ok());
}
