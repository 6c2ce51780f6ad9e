//! Every route, and the least that its caller must be: a view of the table in [`crate::routes`].
//!
//! What is not in it is not reachable, whatever the router knows.

use std::sync::LazyLock;

use axum::http::Method;
use domain::access::Role;

/// What a caller must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: those who watch a process seldom have a token. Where no token is asked for at
    /// all, these too are for this host alone.
    Open,
    /// Anybody whom we know.
    Known,
    /// Who has this role, or one that covers it.
    Least(Role),
    /// The handler looks at a secret or a signature of the route's own. It is told who the
    /// caller is, if he is known, by [`super::Caller`], and must refuse whom it cannot prove.
    Own,
}

/// Which limit a request counts for, and how one above it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Load {
    /// Brings events: 503 above the limit, as Alertmanager drops on 429 what it could send again.
    Events,
    /// All others: 429.
    Requests,
}

/// What access depends on at a route.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    /// Method; `GET` is also `HEAD`.
    pub(crate) method: &'static str,
    /// Path; `{name}` is any one part, `{*name}` at the end any rest.
    pub(crate) path: &'static str,
    /// What its caller must be.
    pub(crate) need: Need,
    /// What it counts for.
    pub(crate) load: Load,
}

pub(crate) const VIEWER: Need = Need::Least(Role::Viewer);
pub(crate) const PUBLISHER: Need = Need::Least(Role::Publisher);
pub(crate) const OPERATOR: Need = Need::Least(Role::Operator);
pub(crate) const APPROVER: Need = Need::Least(Role::Approver);
pub(crate) const ADMIN: Need = Need::Least(Role::Admin);

/// The route that [`crate::front`] serves itself.
pub(crate) const PUBLISH_EVENT: Route =
    Route { method: "POST", path: "/publish_event", need: PUBLISHER, load: Load::Events };

/// All routes.
pub(crate) static ROUTES: LazyLock<Vec<Route>> = LazyLock::new(|| {
    let view = |it: &crate::routes::Route| {
        let (method, path) = it.method_and_path();
        Route { method, path, need: it.need, load: it.load }
    };
    crate::routes::all().map(view).collect()
});

/// What the table knows of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    /// Its route.
    Route(&'static Route),
    /// There are routes of this path, with other methods.
    OtherMethod,
    /// There is nothing at this path.
    Nothing,
}

/// Looks a request up, by its path as it was sent: what is written in another way, such as
/// with `%61`, is another path.
pub(crate) fn find(method: &Method, path: &str) -> Found {
    find_in(&ROUTES, method, path)
}

fn find_in(routes: &'static [Route], method: &Method, path: &str) -> Found {
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    let of_path = || routes.iter().filter(|it| fits(it.path, path));
    // As the router does: a part that is written out counts more than one that may be any.
    let exact = |it: &&Route| (it.path.matches("{*").count(), it.path.matches('{').count());
    match of_path().filter(|it| it.method == method).min_by_key(exact) {
        Some(route) => Found::Route(route),
        None if of_path().next().is_some() => Found::OtherMethod,
        None => Found::Nothing,
    }
}

fn fits(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), parts.next()) {
            (None, None) => return true,
            (Some(any), Some(part)) if any.starts_with("{*") => return !part.is_empty(),
            (Some(any), Some(part)) if any.starts_with('{') && !part.is_empty() => {}
            (Some(word), Some(part)) if word == part => {}
            (Some(_) | None, Some(_)) | (Some(_), None) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;
    use crate::routes::Served;

    fn found(method: &str, path: &str) -> Option<&'static str> {
        match find(&method.parse().unwrap(), path) {
            Found::Route(route) => Some(route.path),
            Found::OtherMethod => Some("other method"),
            Found::Nothing => None,
        }
    }

    #[test]
    fn a_request_is_found_by_method_and_path_and_nothing_else_is() {
        let incident = "/api/v1/incidents/01990000-0000-7000-8000-000000000001";
        assert_eq!(found("GET", incident), Some("/api/v1/incidents/{id}"));
        assert_eq!(found("HEAD", incident), Some("/api/v1/incidents/{id}"));
        assert_eq!(found("DELETE", incident), Some("other method"));
        let approve = format!("{incident}/approve");
        assert_eq!(found("POST", &approve), Some("/api/v1/incidents/{id}/approve"));
        for unknown in ["/explode", "/%61pprove", "/APPROVE", "/approve/", "//approve"] {
            assert_eq!(found("POST", &format!("{incident}{unknown}")), None, "{unknown}");
        }
        assert_eq!(found("POST", "/api/v1/incidents//approve"), None);
        assert_eq!(found("GET", ""), None);
        assert_eq!(found("GET", "/"), Some("/"));
        assert_eq!(found("OPTIONS", "/publish_event"), Some("other method"));
    }

    #[test]
    fn a_part_that_is_written_out_counts_more_than_any() {
        const fn get(path: &'static str) -> Route {
            Route { method: "GET", path, need: VIEWER, load: Load::Requests }
        }
        static OF_TEST: [Route; 3] = [get("/a/{*rest}"), get("/a/{b}"), get("/a/b")];
        let path = |path| match find_in(&OF_TEST, &Method::GET, path) {
            Found::Route(route) => route.path,
            Found::OtherMethod | Found::Nothing => "",
        };
        assert_eq!(
            [path("/a/b"), path("/a/c"), path("/a/c/d"), path("/a/")],
            ["/a/b", "/a/{b}", "/a/{*rest}", ""]
        );
    }

    /// The router is made from the table, but for what the probe of every process serves: it
    /// cannot be asked for its routes, so its source is.
    #[test]
    fn every_route_of_the_router_is_in_the_table_and_the_other_way_round() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(folder.join("../../shared/service/src/health.rs")).unwrap();
        let routed: BTreeSet<&str> =
            text.split(".route(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        let by_probe = |it: &&crate::routes::Route| matches!(it.served, Served::ByProbe);
        let listed: BTreeSet<&str> =
            crate::routes::all().filter(by_probe).map(|it| it.method_and_path().1).collect();
        assert_eq!(routed, listed);
        let rows: BTreeSet<_> = ROUTES.iter().map(|it| (it.method, it.path)).collect();
        assert_eq!(rows.len(), ROUTES.len(), "each once");
        let fast = &PUBLISH_EVENT;
        assert!(rows.contains(&(fast.method, fast.path)), "the front serves what is in the table");
    }

    /// Returns the table of `docs/security.md`.
    fn documented() -> Vec<[String; 2]> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
        let text = fs::read_to_string(path).unwrap();
        let (_, section) = text.split_once("\n## Routes\n").unwrap();
        let section = section.split("\n## ").next().unwrap();
        let rows = section.lines().filter_map(|it| it.strip_prefix("| `"));
        rows.map(|row| row.split_once("` | ").unwrap())
            .map(|(route, rest)| [route.to_owned(), rest.split(" |").next().unwrap().to_owned()])
            .collect()
    }

    #[test]
    fn the_documented_table_is_this_one() {
        let need = |need| match need {
            Need::Open => "nobody asks".to_owned(),
            Need::Known => "any".to_owned(),
            Need::Least(role) => role.to_string(),
            Need::Own => "its own secret".to_owned(),
        };
        let rows: Vec<_> =
            ROUTES.iter().map(|it| [format!("{} {}", it.method, it.path), need(it.need)]).collect();
        assert_eq!(documented(), rows);
    }
}
