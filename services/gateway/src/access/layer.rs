//! The layer around all routes that asks [`super::Access`], and says who changes what.

use std::net::SocketAddr;

use axum::{
    extract::{Request, State},
    http::Method,
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::info;

use super::table::{self, Found, Load, Need, Route};
use crate::{app::App, problem::Problem};

/// From where a request came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Lets a request pass with its [`super::Caller`], or answers it. Says of every change who made it.
pub(crate) async fn check(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let route = match table::find(request.method(), request.uri().path()) {
        Found::Route(route) => route,
        Found::OtherMethod => return knock(&app, request, crate::app::wrong_method()).await,
        Found::Nothing => return knock(&app, request, crate::app::unknown_path()).await,
    };
    let peer = request.extensions().get::<Peer>().map(|it| it.0);
    let allowed = app.access().allow(route, request.uri(), request.headers(), peer).await;
    let caller = match allowed {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    let is_change = *request.method() == Method::POST && route.load == Load::Requests
        || [Method::PUT, Method::PATCH, Method::DELETE].contains(request.method());
    if !is_change {
        request.extensions_mut().insert(caller);
        return next.run(request).await;
    }
    let by = caller.0.as_ref().map_or_else(|| "unknown".to_owned(), |it| it.name.clone());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    request.extensions_mut().insert(caller);
    let response = next.run(request).await;
    info!(by, %method, path, status = response.status().as_u16(), "a change was asked for");
    response
}

/// Tells those whom we know that there is nothing, and nobody else what there is.
async fn knock(app: &App, request: Request, nothing: Problem) -> Response {
    static ANY: Route =
        Route { method: "any", path: "other", need: Need::Known, load: Load::Requests };
    let peer = request.extensions().get::<Peer>().map(|it| it.0);
    match app.access().allow(&ANY, request.uri(), request.headers(), peer).await {
        Ok(_caller) => nothing.into_response(),
        Err(problem) => problem.into_response(),
    }
}
