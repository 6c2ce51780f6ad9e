//! What happens to every request, whatever it wants.
//!
//! From the outside in: a request id, the measuring, a net for panics, the limit
//! of requests under way, the time limit, and then [`crate::access`].

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tokio::sync::Semaphore;
use tracing::{Instrument as _, debug, debug_span, warn};
use uuid::Uuid;

use crate::problem::Problem;

/// Requests under way at once. Each may hold a body of 1 MiB.
pub(crate) const REQUESTS_MAX: usize = 256;

/// Longest time for one request, from its head to the head of the answer.
pub(crate) const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// Longest request id that is taken over from the sender.
const REQUEST_ID_BYTES_MAX: usize = 128;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request an id, or keeps the sender's; counts, measures and logs it.
pub(crate) async fn identify(request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(&REQUEST_ID)
        .filter(|value| is_plain(value))
        .cloned()
        .or_else(|| HeaderValue::from_str(&Uuid::now_v7().to_string()).ok());
    let method = request.method().clone();
    // The pattern, not the path: else every incident would make a time series of its own.
    let route =
        request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let shown = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default();
    let span = debug_span!("request", id = shown, %method, path = request.uri().path());
    let begun = Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let status = response.status();
    let labels =
        [("route", route), ("method", method.to_string()), ("status", status.as_u16().to_string())];
    metrics::counter!("selfheal_gateway_requests_total", &labels).increment(1);
    let [route, method, _] = labels;
    metrics::histogram!("selfheal_gateway_request_seconds", &[route, method])
        .record(begun.elapsed().as_secs_f64());
    span.in_scope(|| debug!(status = status.as_u16(), took = ?begun.elapsed(), "answered"));
    response
}

fn is_plain(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= REQUEST_ID_BYTES_MAX
        && bytes.iter().all(u8::is_ascii_graphic)
}

/// Refuses what would be too much, at once, instead of making everybody wait.
pub(crate) async fn shed(
    State(places): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    let Ok(_place) = places.try_acquire() else {
        return Problem::later(
            "overloaded",
            format!("{REQUESTS_MAX} requests are under way already"),
            "send it again after the time in Retry-After",
            1,
        )
        .into_response();
    };
    next.run(request).await
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
        Err(_elapsed) => Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            format!("the request took longer than {time_max:?}"),
            "send it again, and the whole body at once",
        )
        .into_response(),
    }
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
        middleware::{from_fn, from_fn_with_state},
        routing::get,
    };
    use tower::ServiceExt as _;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;

    async fn asked(router: Router, id: &str) -> (Response<()>, serde_json::Value) {
        let request = Request::get("/").header("x-request-id", id).body(Body::empty()).unwrap();
        let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (Response::from_parts(parts, ()), serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn what_is_too_much_is_refused_at_once_with_a_time_to_come_back() {
        let no_place = Arc::new(Semaphore::new(0));
        let router = Router::new().route("/", get(async || "well"));
        let router = router.layer(from_fn_with_state(no_place, shed));
        let (answer, told) = asked(router, "1").await;
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(told["error"]["code"], "overloaded");
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
        let router = router.layer(CatchPanicLayer::custom(panicked)).layer(from_fn(identify));
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
