//! Every route, and the least that its caller must be.
//!
//! What is not in this table is not reachable, whatever the router knows: a route is added
//! by its line here and its line in [`crate::app::router`].

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

/// A route.
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
    /// What it is for; `GET /` shows it.
    pub(crate) about: &'static str,
}

const VIEWER: Need = Need::Least(Role::Viewer);
const PUBLISHER: Need = Need::Least(Role::Publisher);
const OPERATOR: Need = Need::Least(Role::Operator);
const APPROVER: Need = Need::Least(Role::Approver);
const ADMIN: Need = Need::Least(Role::Admin);

const fn get(path: &'static str, need: Need, about: &'static str) -> Route {
    Route { method: "GET", path, need, load: Load::Requests, about }
}

const fn post(path: &'static str, need: Need, about: &'static str) -> Route {
    Route { method: "POST", path, need, load: Load::Requests, about }
}

const fn delete(path: &'static str, need: Need, about: &'static str) -> Route {
    Route { method: "DELETE", path, need, load: Load::Requests, about }
}

const fn events(path: &'static str, need: Need, about: &'static str) -> Route {
    Route { method: "POST", path, need, load: Load::Events, about }
}

/// Brings events, and proves its callers itself.
const fn own(path: &'static str, about: &'static str) -> Route {
    events(path, Need::Own, about)
}

/// The route that [`crate::front`] serves itself.
pub(crate) const PUBLISH_EVENT: Route =
    events("/publish_event", PUBLISHER, "one event; answers what became of it");

/// All routes.
#[rustfmt::skip]
pub(crate) static ROUTES: &[Route] = &[
    PUBLISH_EVENT,
    events("/api/v1/events", PUBLISHER, "events: plain, CloudEvents structured, binary, batch"),
    get("/api/v1/incidents", VIEWER, "incidents, the newest first; filters status, open, target, type, severity, q, since; limit, cursor"),
    get("/api/v1/incidents/{id}", VIEWER, "one incident, whole"),
    post("/api/v1/incidents/{id}/approve", APPROVER, "carry the plan out; body: plan_hash, by"),
    post("/api/v1/incidents/{id}/reject", APPROVER, "do not carry the plan out; body: reason, by"),
    post("/api/v1/incidents/{id}/acknowledge", OPERATOR, "somebody is looking at it; body: by"),
    post("/api/v1/incidents/{id}/close", OPERATOR, "it is over; body: reason, by"),
    post("/api/v1/incidents/{id}/retry", OPERATOR, "seek the cause anew; body: by"),
    post("/api/v1/pause", OPERATOR, "start no new fix; body: reason, by"),
    post("/api/v1/resume", OPERATOR, "start fixes again; body: by"),
    get("/api/v1/silences", VIEWER, "silences, maintenance windows, and what is kept quiet"),
    post("/api/v1/silences", OPERATOR, "keep something quiet; body: matchers, for or until, comment, by"),
    delete("/api/v1/silences/{id}", OPERATOR, "end a silence; body: by"),
    post("/api/v1/config", ADMIN, "a new configuration; body: that of selfheal.yaml"),
    get("/api/v1/tokens", ADMIN, "the tokens, without the tokens"),
    get("/api/v1/whoami", Need::Known, "who the caller is, and what he may do"),
    get("/api/v1/status", VIEWER, "the system, its agents, the broker"),
    get("/api/v1/stream", VIEWER, "server-sent events: every decision, and progress; filter incident"),
    own("/integrations/alertmanager", "the webhook of Alertmanager, version 4"),
    own("/integrations/grafana", "the webhook of Grafana's alerting"),
    own("/integrations/{name}", "any other sender, by a mapping of the configuration or a ready one"),
    own("/api/v2/alerts", "alerts, as Prometheus sends them to an Alertmanager"),
    get("/api/v2/status", Need::Known, "what clients of an Alertmanager ask first"),
    own("/v2/enqueue", "alerts of clients of PagerDuty (Events API v2)"),
    own("/v2/change/enqueue", "changes of clients of PagerDuty: evidence"),
    get("/-/healthy", Need::Open, "whether this process lives, as an Alertmanager says it"),
    get("/-/ready", Need::Open, "whether this process answers, as an Alertmanager says it"),
    post("/api/v1/receivers/{name}/test", OPERATOR, "tells a receiver of notices that this is a test"),
    Route { load: Load::Requests, ..own("/integrations/slack/actions", "a button of Slack was pressed; signed by Slack") },
    get("/approve/{token}", Need::Own, "the plan behind an approval link, as a page"),
    post("/approve/{token}", Need::Own, "decides about it, once; fields decision (approve, reject), name, reason"),
    get("/healthz", Need::Open, "whether this process lives"),
    get("/readyz", Need::Open, "whether this process may be given work"),
    get("/metrics", Need::Open, "metrics in the format of Prometheus"),
    get("/favicon.ico", Need::Known, "nothing, so that browsers are content"),
    get("/", Need::Known, "this list"),
];

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
    find_in(ROUTES, method, path)
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
        static OF_TEST: [Route; 3] =
            [get("/a/{*rest}", VIEWER, ""), get("/a/{b}", VIEWER, ""), get("/a/b", ADMIN, "")];
        let path = |path| match find_in(&OF_TEST, &Method::GET, path) {
            Found::Route(route) => route.path,
            Found::OtherMethod | Found::Nothing => "",
        };
        assert_eq!(
            [path("/a/b"), path("/a/c"), path("/a/c/d"), path("/a/")],
            ["/a/b", "/a/{b}", "/a/{*rest}", ""]
        );
    }

    fn sources(dir: &Path) -> String {
        let entries = fs::read_dir(dir).unwrap().map(|it| it.unwrap().path());
        let text = |path: std::path::PathBuf| match path.extension() {
            Some(it) if it == "rs" => fs::read_to_string(path).unwrap(),
            Some(_) => String::new(),
            None => sources(&path),
        };
        entries.map(text).collect()
    }

    /// The router cannot be asked for its routes, so its source is.
    #[test]
    fn every_route_of_the_router_is_in_the_table_and_the_other_way_round() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut text = sources(&folder.join("src"));
        text.push_str(
            &fs::read_to_string(folder.join("../../shared/service/src/health.rs")).unwrap(),
        );
        let shipped: String =
            text.split_inclusive('\n').filter(|it| !it.contains("Router::new().route(")).collect();
        let routed: BTreeSet<&str> = shipped
            .split(".route(\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        let listed: BTreeSet<&str> = ROUTES.iter().map(|it| it.path).collect();
        assert_eq!(routed, listed);
        let rows: BTreeSet<_> = ROUTES.iter().map(|it| (it.method, it.path)).collect();
        assert_eq!(rows.len(), ROUTES.len(), "each once");
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
