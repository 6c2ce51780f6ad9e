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
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use service::trace;
use tokio::sync::{Semaphore, SemaphorePermit};
use tracing::{Instrument as _, debug, debug_span, warn};

use crate::{
    body::{BODY_BYTES_MAX, GROUP_BYTES_MAX},
    ids::Ids,
    problem::Problem,
    traces,
};

/// Requests under way at once.
pub(crate) const REQUESTS_MAX: usize = 1024;

/// Bytes of the bodies of all requests under way: decoded they need several times as much.
pub(crate) const BODIES_BYTES_MAX: usize = 32 * 1024 * 1024;

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
    // Who holds an approval link may decide: it is written down nowhere.
    let path = request.uri().path();
    let path = if path.starts_with("/approve/") { "/approve/…" } else { path };
    let span = debug_span!("request", id = shown, %method, path);
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

/// Room for requests under way: their number, and the bytes of their bodies.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    requests: Arc<Semaphore>,
    body_bytes: Arc<Semaphore>,
}

/// A place for one request, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    _request: SemaphorePermit<'a>,
    _body_bytes: SemaphorePermit<'a>,
}

impl Places {
    /// Makes room for so many requests and bytes.
    pub(crate) fn new(requests: usize, body_bytes: usize) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(requests)),
            body_bytes: Arc::new(Semaphore::new(body_bytes)),
        }
    }

    /// Takes a place for a request, or refuses it at once: before its body is read, so that
    /// what is refused costs no memory.
    pub(crate) fn take(&self, headers: &HeaderMap) -> Result<Place<'_>, Problem> {
        let full = |what: String| {
            let hint = "send it again after the time in Retry-After";
            Problem::later("overloaded", what, hint, 1)
        };
        let request = self
            .requests
            .try_acquire()
            .map_err(|_none_left| full(format!("{REQUESTS_MAX} requests are under way already")))?;
        let body_bytes =
            self.body_bytes.try_acquire_many(bytes_wanted(headers)).map_err(|_none_left| {
                full(format!("bodies of {BODIES_BYTES_MAX} bytes are under way already"))
            })?;
        Ok(Place { _request: request, _body_bytes: body_bytes })
    }
}

/// Returns how many bytes a body may need: those of a body without a length come as they come.
fn bytes_wanted(headers: &HeaderMap) -> u32 {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
    let chunked = headers.contains_key(header::TRANSFER_ENCODING);
    let wanted: usize = length.unwrap_or(if chunked { BODY_BYTES_MAX } else { 0 });
    u32::try_from(wanted.min(GROUP_BYTES_MAX)).unwrap_or(u32::MAX)
}

/// Refuses what would be too much, at once, instead of making everybody wait.
pub(crate) async fn shed(State(places): State<Places>, request: Request, next: Next) -> Response {
    match places.take(request.headers()) {
        Ok(_place) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
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
        http::request::Builder,
        middleware::from_fn_with_state,
        routing::get,
    };
    use tower::ServiceExt as _;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;

    async fn asked(router: Router, id: &str) -> (Response<()>, serde_json::Value) {
        heard(router, Request::get("/").header("x-request-id", id)).await
    }

    async fn heard(router: Router, request: Builder) -> (Response<()>, serde_json::Value) {
        let request = request.body(Body::empty()).unwrap();
        let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (Response::from_parts(parts, ()), serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn what_is_too_much_is_refused_at_once_with_a_time_to_come_back() {
        for (no_place, length) in [(Places::new(0, 10), "0"), (Places::new(1, 10), "11")] {
            let router = Router::new().route("/", get(async || "well"));
            let router = router.layer(from_fn_with_state(no_place.clone(), shed));
            let request = Request::get("/").header("content-length", length);
            let (answer, told) = heard(router, request).await;
            assert_eq!(answer.status(), 503, "{length}");
            assert_eq!(answer.headers()["retry-after"], "1");
            assert_eq!(told["error"]["code"], "overloaded");
            assert!(no_place.take(&HeaderMap::new()).is_ok() == (length == "11"), "given back");
        }
    }

    #[test]
    fn a_body_without_a_length_needs_as_much_as_the_longest() {
        let wanted = |name: &'static str, value: &'static str| {
            let headers = [(HeaderName::from_static(name), HeaderValue::from_static(value))];
            bytes_wanted(&headers.into_iter().collect())
        };
        assert_eq!(wanted("host", "a"), 0);
        assert_eq!(wanted("content-length", "7"), 7);
        assert_eq!(wanted("content-length", "99999999999"), 8 * 1024 * 1024);
        assert_eq!(wanted("transfer-encoding", "chunked"), 1024 * 1024);
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
