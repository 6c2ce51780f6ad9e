//! What happens to every request, whatever it wants.
//!
//! From the outside in: a request id, the measuring, a net for panics, the time limit, and then
//! [`crate::access`], which also limits what is under way ([`crate::permits`]).

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use service::trace;
use tracing::{Instrument as _, debug, debug_span, warn};

use crate::{ids::Ids, problem::Problem, traces};

/// Longest time for one request, from its head to the head of the answer.
pub(crate) const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// Longest request id that is taken over from the sender.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Names the request in the answer and in the log.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request an id, or keeps the sender's; counts, measures and logs it.
pub(crate) async fn identify(
    State(ids): State<Arc<Ids>>,
    request: Request,
    next: Next,
) -> Response {
    let id = request_id(request.headers(), &ids);
    let method = request.method().clone();
    // The pattern, not the path: else every incident would make a time series of its own.
    let route =
        request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let shown = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
    // Never the path: that of an approval link is a secret, also when it is mistyped.
    let span = debug_span!("request", id = shown, %method, route);
    let begun = Instant::now();
    let method = method_label(&method);
    let traced = traces::open(request.headers(), || format!("{method} {route}").into());
    let answer = next.run(request).instrument(span.clone());
    let mut response = trace::within(traced.context(), answer).await;
    drop(traced);
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let status = response.status();
    metrics::counter!("selfheal_gateway_requests_total",
        "route" => route.clone(), "method" => method, "status" => status.as_u16().to_string())
    .increment(1);
    metrics::histogram!("selfheal_gateway_request_seconds", "route" => route, "method" => method)
        .record(begun.elapsed().as_secs_f64());
    span.in_scope(|| debug!(status = status.as_u16(), took = ?begun.elapsed(), "answered"));
    response
}

/// A sender may make methods up; each would be a time series of its own.
fn method_label(method: &Method) -> &'static str {
    let known = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
    ];
    let names = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    known.iter().zip(names).find(|it| it.0 == method).map_or("other", |it| it.1)
}

/// Returns the sender's id of the request, or a new one.
pub(crate) fn request_id(headers: &HeaderMap, ids: &Ids) -> Option<HeaderValue> {
    let given = headers.get(&REQUEST_ID).filter(|value| is_plain(value));
    given.cloned().or_else(|| {
        let mut text = uuid::Uuid::encode_buffer();
        HeaderValue::from_str(ids.next().hyphenated().encode_lower(&mut text)).ok()
    })
}

fn is_plain(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= REQUEST_ID_BYTES_MAX
        && bytes.iter().all(u8::is_ascii_graphic)
}

/// Ends what takes too long. Only a body that does not come takes so long: all
/// that waits for others has a shorter limit of its own.
pub(crate) async fn limit_time(
    State(time_max): State<Duration>,
    request: Request,
    next: Next,
) -> Response {
    match tokio::time::timeout(time_max, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => too_slow(time_max).into_response(),
    }
}

/// 408, with the limit.
pub(crate) fn too_slow(time_max: Duration) -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "request_timeout",
        format!("the request took longer than {time_max:?}"),
        "send it again, and the whole body at once",
    )
}

/// 408 for a body that does not come, or comes more slowly than a slow line carries it.
pub(crate) fn too_slow_body(n_bytes: usize) -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "body_too_slow",
        format!("the body arrives too slowly: {n_bytes} bytes so far"),
        "send it again, and the whole body at once",
    )
}

/// Answers for a handler that panicked; the panic itself is logged where it happened.
pub(crate) fn panicked(_cause: Box<dyn Any + Send + 'static>) -> Response {
    warn!("a request was answered with 500 because its handler panicked");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "defect",
        "the gateway has a defect here",
        "please report it with the gateway's log line of this moment",
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        body::{Body, to_bytes},
        middleware::from_fn_with_state,
        routing::get,
    };
    use tower::ServiceExt as _;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;

    async fn asked(router: Router, id: &str) -> (Response<()>, serde_json::Value) {
        let request = Request::get("/").header("x-request-id", id);
        let request = request.body(Body::empty()).unwrap();
        let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (Response::from_parts(parts, ()), serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn what_takes_too_long_is_ended() {
        let router = Router::new().route("/", get(std::future::pending::<&'static str>));
        let time_max = Duration::from_millis(1);
        let router = router.layer(from_fn_with_state(time_max, limit_time));
        let (answer, told) = asked(router, "1").await;
        assert_eq!(answer.status(), 408);
        assert_eq!(told["error"]["code"], "request_timeout");
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_a_500_and_ids_that_are_no_text_are_replaced() {
        async fn defect() -> &'static str {
            panic!("a defect")
        }
        let router = Router::new().route("/", get(defect));
        let identify = from_fn_with_state(Arc::new(Ids::new()), identify);
        let router = router.layer(CatchPanicLayer::custom(panicked)).layer(identify);
        let (answer, told) = asked(router.clone(), "mine").await;
        assert_eq!(answer.status(), 500);
        assert_eq!(told["error"]["code"], "defect");
        assert_eq!(answer.headers()["x-request-id"], "mine");
        for id in ["two words", "", &"x".repeat(129)] {
            let (answer, _) = asked(router.clone(), id).await;
            assert_eq!(answer.headers()["x-request-id"].len(), 36, "{id}");
        }
    }
}
