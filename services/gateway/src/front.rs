//! The way of most requests: one event as JSON to `POST /publish_event`.
//!
//! It is decoded once, written once and answered, without the stack of layers that all other
//! requests go through; the promises are the same, step by step. Every other request, also one
//! with a CloudEvent, goes to the routes of [`crate::app::router`].

use std::{
    convert::Infallible,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use hyper::{body::Incoming, service::Service};
use hyper_util::service::TowerToHyperService;
use metrics::{Counter, Histogram};
use service::trace;

use crate::{
    access::{Peer, table::PUBLISH_EVENT},
    app::App,
    body,
    connections::Connection,
    events,
    layers::{self, REQUEST_ID, REQUEST_TIME_MAX},
    permits::Class,
    problem::Problem,
    traces,
};

/// The path that is served here.
const PATH: &str = PUBLISH_EVENT.path;

/// Answers requests: those of the fast way itself, all others by the routes.
#[derive(Clone)]
pub(crate) struct Front {
    app: App,
    routes: TowerToHyperService<Router>,
    meters: Arc<Meters>,
    peer: Option<Peer>,
}

/// Looked up once: finding a metric by its labels costs more than counting.
struct Meters {
    answered: Counter,
    seconds: Histogram,
}

impl Meters {
    fn new() -> Self {
        let labels = [("route", PATH), ("method", "POST")];
        Self {
            answered: metrics::counter!(
                "selfheal_gateway_requests_total",
                "route" => PATH, "method" => "POST", "status" => "200"
            ),
            seconds: metrics::histogram!("selfheal_gateway_request_seconds", &labels),
        }
    }

    fn count(&self, status: StatusCode, took: Duration) {
        if status == StatusCode::OK {
            self.answered.increment(1);
        } else {
            let status = status.as_u16().to_string();
            metrics::counter!(
                "selfheal_gateway_requests_total",
                "route" => PATH, "method" => "POST", "status" => status
            )
            .increment(1);
        }
        self.seconds.record(took.as_secs_f64());
    }
}

impl Front {
    /// Stands before the routes.
    pub(crate) fn new(app: App, routes: Router) -> Self {
        Self {
            app,
            routes: TowerToHyperService::new(routes),
            meters: Arc::new(Meters::new()),
            peer: None,
        }
    }

    /// Answers the requests of one connection, which comes from there.
    pub(crate) fn of_peer(&self, address: SocketAddr, connection: Arc<Connection>) -> Self {
        Self { peer: Some(Peer { address, connection }), ..self.clone() }
    }

    async fn publish(self, request: Request<Incoming>) -> Response {
        let begun = Instant::now();
        let (head, incoming) = request.into_parts();
        let id = layers::request_id(&head.headers, self.app.ids());
        // As around all routes: a defect answers 500 instead of cutting the connection.
        let span = traces::open(&head.headers, || "POST /publish_event".into());
        let answer = self.answer(&head.uri, &head.headers, incoming);
        let answered = AssertUnwindSafe(trace::within(span.context(), answer));
        let mut response = match answered.catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(problem)) => problem.into_response(),
            Err(cause) => layers::panicked(cause),
        };
        if let Some(id) = id {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        self.meters.count(response.status(), begun.elapsed());
        response
    }

    async fn answer(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        incoming: Incoming,
    ) -> Result<Response, Problem> {
        let _busy = self.peer.as_ref().map(|it| it.connection.busy());
        let caller =
            self.app.access().allow(&PUBLISH_EVENT, uri, headers, self.peer.as_ref()).await?;
        let permit = self.app.permits().take(Class::Event)?;
        let body = body::read(headers, incoming, Some(&permit));
        let body = tokio::time::timeout(REQUEST_TIME_MAX, body).await;
        let body = body.map_err(|_elapsed| layers::too_slow(REQUEST_TIME_MAX))??;
        events::publish_plain(&self.app, &caller, &body).await
    }
}

/// Returns whether the fast way does all that this request needs.
fn is_plain(request: &Request<Incoming>) -> bool {
    request.method() == Method::POST
        && request.uri().path() == PATH
        && is_plain_json(request.headers())
}

fn is_plain_json(headers: &HeaderMap) -> bool {
    let special = |name: &str| name.starts_with("ce-") || name == "idempotency-key";
    headers.get(header::CONTENT_TYPE).is_some_and(|it| it == "application/json")
        && !headers.keys().any(|name| special(name.as_str()))
}

impl Service<Request<Incoming>> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if is_plain(&request) {
            Box::pin(self.clone().publish(request).map(Ok))
        } else {
            let busy = self.peer.as_ref().map(|it| it.connection.busy());
            if let Some(peer) = &self.peer {
                request.extensions_mut().insert(peer.clone());
            }
            let answer = self.routes.call(request);
            Box::pin(async move {
                let answered = answer.await;
                drop(busy);
                answered
            })
        }
    }
}

/// 200 or 202 with a body that is JSON already.
pub(crate) fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        is_plain_json(&headers)
    }

    #[test]
    fn only_what_needs_no_more_takes_the_fast_way() {
        let json = ("content-type", "application/json");
        assert!(plain(&[json, ("host", "localhost")]));
        assert!(!plain(&[]), "the routes know what to do without a type");
        assert!(!plain(&[("content-type", "application/cloudevents+json")]));
        assert!(!plain(&[json, ("ce-specversion", "1.0")]));
        assert!(!plain(&[json, ("idempotency-key", "a")]));
    }
}
