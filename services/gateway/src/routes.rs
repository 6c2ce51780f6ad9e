//! The one table of what the gateway serves. The router, who may come in
//! ([`crate::access::table`]), the list at `GET /`, the document at `GET /openapi.json` and the
//! page at `GET /docs` are all made from it, so that no route can be added without being guarded
//! and documented.

mod access;
mod answers;
mod commands;
mod events;
mod incidents;
mod integrations;
mod silences;
mod system;

use axum::{Json, Router, routing::MethodRouter};
use serde_json::{Value, json};

use crate::{
    access::table::{Load, Need},
    app::App,
    openapi::Operation,
};

/// A route: who serves it, and what is to be known about it.
pub(crate) struct Route {
    /// Method and path, such as `GET /api/v1/incidents/{id}`.
    pub(crate) at: &'static str,
    /// Name in documents and in programs that are made from them.
    pub(crate) id: &'static str,
    /// What for, in half a sentence.
    pub(crate) about: &'static str,
    /// What its caller must be.
    pub(crate) need: Need,
    /// What it counts for.
    pub(crate) load: Load,
    /// Who serves it.
    pub(crate) served: Served,
    /// Says what it takes and what it answers.
    pub(crate) document: fn(&mut Operation<'_>),
}

/// Who serves a route.
pub(crate) enum Served {
    /// A handler of ours.
    Here(fn() -> MethodRouter<App>),
    /// [`service::Probe`], as in every process.
    ByProbe,
}

/// Routes that belong together, under a heading of the documents.
pub(crate) struct Group {
    /// The heading.
    pub(crate) name: &'static str,
    /// What they have in common, in one sentence.
    pub(crate) about: &'static str,
    /// The routes.
    pub(crate) routes: &'static [Route],
}

/// All routes.
pub(crate) const GROUPS: [&Group; 8] = [
    &events::GROUP,
    &incidents::GROUP,
    &commands::GROUP,
    &silences::GROUP,
    &access::GROUP,
    &integrations::GROUP,
    &answers::GROUP,
    &system::GROUP,
];

impl Route {
    /// Returns method and path.
    pub(crate) fn method_and_path(&self) -> (&'static str, &'static str) {
        self.at.split_once(' ').unwrap_or(("GET", self.at))
    }
}

/// Returns all routes of the table.
pub(crate) fn all() -> impl Iterator<Item = &'static Route> {
    GROUPS.into_iter().flat_map(|group| group.routes)
}

/// Makes the router of the table, without those that the probe serves.
pub(crate) fn router() -> Router<App> {
    all().fold(Router::new(), |router, route| match route.served {
        Served::Here(handler) => router.route(route.method_and_path().1, handler()),
        Served::ByProbe => router,
    })
}

/// `GET /`: all routes.
pub(crate) async fn index() -> Json<Value> {
    let routes: serde_json::Map<_, _> =
        all().map(|route| (route.at.to_owned(), route.about.into())).collect();
    Json(json!({ "name": "selfheal-gateway", "routes": routes }))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_route_has_a_name_and_a_place_of_its_own() {
        let mut seen = BTreeSet::new();
        for route in all() {
            assert!(seen.insert(route.at) && seen.insert(route.id), "{} is there twice", route.at);
            let (method, path) = route.method_and_path();
            assert!(["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method), "{}", route.at);
            assert!(path.starts_with('/') && !route.about.is_empty(), "{}", route.at);
        }
    }

    fn sources(dir: &Path) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                found.extend(sources(&path));
            } else {
                let shipped = fs::read_to_string(&path).unwrap();
                let shipped = shipped.split("#[cfg(test)]\nmod ").next().unwrap().to_owned();
                found.push((path.display().to_string(), shipped));
            }
        }
        found
    }

    #[test]
    fn no_route_stands_outside_of_the_table() {
        let sources = sources(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")));
        assert!(20 <= sources.len(), "is the test blind?");
        for (path, text) in sources {
            let adds = [".route(", ".route_service(", ".nest("].iter().any(|it| text.contains(it));
            assert!(
                !adds || path.ends_with("/src/routes.rs"),
                "{path} adds a route: put it into the table of services/gateway/src/routes.rs"
            );
        }
    }
}
