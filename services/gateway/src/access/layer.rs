//! The layer around all routes that asks [`super::Access`], takes a permit for who it is, and says
//! who changes what.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::Method,
    middleware::Next,
    response::{IntoResponse, Response},
};
use tracing::info;

use super::{
    Caller,
    table::{self, Found, Load, Need, Route},
};
use crate::{
    admission::{self, ByHead},
    app::App,
    body::ProvenBy,
    connections::Connection,
    network::Network,
    permits::Class,
    problem::Problem,
};

/// From where a request came.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The address.
    pub(crate) address: SocketAddr,
    /// The connection.
    pub(crate) connection: Arc<Connection>,
}

/// Lets a request pass with its [`super::Caller`], or answers it. Says of every change who made it.
///
/// All of it happens before the body is read: what a stranger may send is small.
pub(crate) async fn check(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let route = match table::find(request.method(), request.uri().path()) {
        Found::Route(route) => route,
        Found::OtherMethod => return knock(&app, request, crate::app::wrong_method()).await,
        Found::Nothing => return knock(&app, request, crate::app::unknown_path()).await,
    };
    let (caller, class) = match enter(&app, route, &mut request).await {
        Ok(entered) => entered,
        Err(problem) => return problem.into_response(),
    };
    let _permit = match class.map(|class| app.permits().take(class)).transpose() {
        Ok(permit) => permit.inspect(|it| drop(request.extensions_mut().insert(it.clone()))),
        Err(problem) => return problem.into_response(),
    };
    let is_change = is_change(request.method(), route);
    let by = caller.0.as_ref().map_or_else(|| "unknown".to_owned(), |it| it.name.clone());
    let id = is_change.then(|| id_of(route, request.uri().path())).flatten();
    let method = request.method().clone();
    request.extensions_mut().insert(caller);
    let response = next.run(request).await;
    if is_change {
        // Never the path: some hold a secret.
        let (route, status) = (route.path, response.status().as_u16());
        info!(by, %method, route, id, status, "a change was asked for");
    }
    response
}

fn is_change(method: &Method, route: &Route) -> bool {
    *method == Method::POST && route.load == Load::Requests
        || [Method::PUT, Method::PATCH, Method::DELETE].contains(method)
}

/// Returns the id in a path, which is that of an incident or a silence.
fn id_of(route: &Route, path: &str) -> Option<String> {
    let place = route.path.split('/').position(|part| part == "{id}")?;
    path.split('/').nth(place).map(str::to_owned)
}

/// Returns who it is, and for whom the request counts: for nobody where nothing is waited for.
async fn enter(
    app: &App,
    route: &'static Route,
    request: &mut Request,
) -> Result<(Caller, Option<Class>), Problem> {
    let peer = request.extensions().get::<Peer>().cloned();
    let (uri, headers) = (request.uri(), request.headers());
    let caller = app.access().allow(route, uri, headers, peer.as_ref()).await?;
    let network = peer.as_ref().map_or(Network::Loopback, |it| Network::of(it.address.ip()));
    let known = match (route.load, request.method()) {
        (Load::Events, _) => Class::Event,
        (Load::Requests, &Method::GET | &Method::HEAD) => Class::Read,
        (Load::Requests, _) => Class::Command,
    };
    let by_head = match route.need {
        Need::Open => return Ok((caller, None)),
        Need::Known | Need::Least(_) => return Ok((caller, Some(known))),
        Need::Own => admission::by_head(app, route, uri, headers, &caller).await,
    };
    let by_head = by_head.inspect_err(|it| app.access().tell_of(it, route, peer.as_ref()))?;
    let class = match by_head {
        ByHead::Principal(principal) => {
            request.extensions_mut().insert(ProvenBy(principal));
            known
        }
        ByHead::Link => known,
        ByHead::AskBody => return Ok((caller, Some(Class::Unproven(network)))),
        ByHead::Nobody => return Ok((caller, Some(Class::Stranger(network)))),
    };
    if let Some(peer) = peer {
        peer.connection.prove();
    }
    Ok((caller, Some(class)))
}

/// Tells those whom we know that there is nothing, and nobody else what there is.
async fn knock(app: &App, request: Request, nothing: Problem) -> Response {
    static ANY: Route =
        Route { method: "any", path: "other", need: Need::Known, load: Load::Requests };
    let peer = request.extensions().get::<Peer>();
    match app.access().allow(&ANY, request.uri(), request.headers(), peer).await {
        Ok(_caller) => nothing.into_response(),
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_changes_names_ids_and_no_secret() {
        let id = |method: Method, path: &str| match table::find(&method, path) {
            Found::Route(route) => id_of(route, path),
            Found::OtherMethod | Found::Nothing => panic!("no route: {path}"),
        };
        assert_eq!(id(Method::POST, "/api/v1/incidents/7/approve").as_deref(), Some("7"));
        assert_eq!(id(Method::DELETE, "/api/v1/silences/8").as_deref(), Some("8"));
        assert_eq!(id(Method::POST, "/approve/c2VjcmV0"), None);
        assert_eq!(id(Method::POST, "/integrations/c2VjcmV0"), None);
    }
}
