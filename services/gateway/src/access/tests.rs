//! Decisions that need no broker.

use axum::http::HeaderValue;

use super::*;

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
    for is_token_required in [true, false] {
        let access = Access::new(
            Some(Token::new("the flag's")),
            is_token_required,
            "http",
            Outgoing::default(),
        );
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
    let guarded = Access::new(None, true, "http", Outgoing::default());
    assert!(allowed(&guarded, Need::Open, None).await.is_ok());
    let local = Access::new(None, false, "http", Outgoing::default());
    let refused = allowed(&local, Need::Open, None).await.unwrap_err();
    assert_eq!(refused.code(), "host_refused");
}

#[tokio::test]
async fn a_token_is_shown_in_no_form() {
    let access = Access::new(Some(Token::new("s3cret")), true, "http", Outgoing::default());
    let shown = format!("{access:?} {:?}", allowed(&access, Need::Known, Some("s3cret")).await);
    assert!(!shown.contains("s3cret") && !shown.contains(&token_hash("s3cret")), "{shown}");
}
