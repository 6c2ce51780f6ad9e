//! The routes, and what their handlers share.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Json, Router,
    http::StatusCode,
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bus::{Bus, Claimed, InboxWriter};
use domain::{notify::Notify, wire::Member};
use serde_json::json;
use service::{Chain, Context, Probe};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::warn;

use crate::{
    access, approvals, commands, events,
    ids::Ids,
    in_force::InForce,
    incidents,
    layers::{self, Places},
    problem::Problem,
    receivers,
    settings::{Args, Settings, Token},
    slack_actions, status,
    stream::{self, Live},
};

/// Every route with its method and its purpose; `GET /` shows it.
const ROUTES: [(&str, &str); 22] = [
    ("POST /publish_event", "one event; answers what became of it"),
    ("POST /api/v1/events", "events: plain, CloudEvents structured, binary, batch"),
    (
        "GET /api/v1/incidents",
        "incidents, the newest first; filters status, open, target, type, severity, q, since; limit, cursor",
    ),
    ("GET /api/v1/incidents/{id}", "one incident, whole"),
    ("POST /api/v1/incidents/{id}/approve", "carry the plan out; body: plan_hash, by"),
    ("POST /api/v1/incidents/{id}/reject", "do not carry the plan out; body: reason, by"),
    ("POST /api/v1/incidents/{id}/acknowledge", "somebody is looking at it; body: by"),
    ("POST /api/v1/incidents/{id}/close", "it is over; body: reason, by"),
    ("POST /api/v1/incidents/{id}/retry", "seek the cause anew; body: by"),
    ("POST /api/v1/pause", "start no new fix; body: reason, by"),
    ("POST /api/v1/resume", "start fixes again; body: by"),
    ("GET /api/v1/status", "the system, its agents, the broker"),
    ("GET /api/v1/stream", "server-sent events: every decision, and progress; filter incident"),
    ("POST /api/v1/receivers/{name}/test", "tells a receiver of notices that this is a test"),
    ("POST /integrations/slack/actions", "a button of Slack was pressed; signed by Slack"),
    ("GET /approve/{token}", "the plan behind an approval link, as a page"),
    (
        "POST /approve/{token}",
        "decides about it, once; fields decision (approve, reject), name, reason",
    ),
    ("GET /healthz", "whether this process lives"),
    ("GET /readyz", "whether this process may be given work"),
    ("GET /metrics", "metrics in the format of Prometheus"),
    ("GET /favicon.ico", "nothing, so that browsers are content"),
    ("GET /", "this list"),
];

/// The broker syncs to a disk that may be busy: less would refuse what is well.
const GIVE_UP_MIN: Duration = Duration::from_secs(1);

/// What handlers share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    bus: Bus,
    writer: InboxWriter,
    probe: Probe,
    member_id: String,
    version: &'static str,
    stop: CancellationToken,
    live: Live,
    members: OnceLock<watch::Receiver<BTreeMap<String, Member>>>,
    in_force: OnceLock<InForce>,
    places: Places,
    ids: Arc<Ids>,
    meters: events::Meters,
}

impl App {
    /// Gathers what the handlers need.
    #[must_use]
    pub(crate) fn new(cx: &Context<Args>, settings: Settings, live: Live) -> Self {
        Self(Arc::new(Shared {
            // Who waits for an answer waits no longer for the broker than for the supervisor.
            writer: cx.bus.inbox_writer().with_give_up(settings.answer_timeout.max(GIVE_UP_MIN)),
            bus: cx.bus.clone(),
            probe: cx.probe.clone(),
            member_id: cx.member_id.clone(),
            version: cx.version,
            stop: cx.stop.clone(),
            live,
            members: OnceLock::new(),
            in_force: OnceLock::new(),
            places: Places::new(layers::REQUESTS_MAX, layers::BODIES_BYTES_MAX),
            ids: Arc::new(Ids::new()),
            meters: events::Meters::new(),
            settings,
        }))
    }

    /// Returns whether clients must send a token.
    #[must_use]
    pub fn asks_for_token(&self) -> bool {
        self.0.settings.token.is_some()
    }

    pub(crate) fn token(&self) -> Option<&Token> {
        self.0.settings.token.as_ref()
    }

    pub(crate) fn answer_timeout(&self) -> Duration {
        self.0.settings.answer_timeout
    }

    pub(crate) fn bus(&self) -> &Bus {
        &self.0.bus
    }

    pub(crate) fn writer(&self) -> InboxWriter {
        self.0.writer.clone()
    }

    pub(crate) fn live(&self) -> &Live {
        &self.0.live
    }

    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }

    pub(crate) fn places(&self) -> &Places {
        &self.0.places
    }

    pub(crate) fn ids(&self) -> &Ids {
        &self.0.ids
    }

    pub(crate) fn meters(&self) -> &events::Meters {
        &self.0.meters
    }

    pub(crate) fn identity(&self) -> (&str, &'static str) {
        (&self.0.member_id, self.0.version)
    }

    /// Returns the living agents; nobody before [`Self::watch_members`].
    pub(crate) fn members(&self) -> Vec<Member> {
        let members = self.0.members.get().map(|members| members.borrow().clone());
        members.unwrap_or_default().into_values().collect()
    }

    /// Starts to follow the list of living agents, which a supervisor must have made.
    pub(crate) fn watch_members(&self) {
        self.0.members.get_or_init(|| self.0.bus.members().watch());
    }

    /// Starts to follow the configuration, which a supervisor must have made room for.
    pub(crate) fn watch_config(&self) -> InForce {
        self.0.in_force.get_or_init(|| InForce::follow(&self.0.bus)).clone()
    }

    /// Returns what is configured about notices; nothing before [`Self::watch_config`].
    pub(crate) fn notify(&self) -> Arc<Notify> {
        self.0.in_force.get().map(InForce::notify).unwrap_or_default()
    }

    /// Claims what is done once in the whole fleet.
    pub(crate) async fn claim(&self, key: &str) -> Result<Claimed, Problem> {
        let claim = slack_actions::claim(&self.0.member_id, key);
        self.0.bus.claims().claim_notice(key, &claim).await.map_err(|error| {
            warn!(error = %Chain(&error), "the broker did not say whether this was done before");
            let hint = "try again in a moment";
            Problem::later("broker_unavailable", "the broker does not answer", hint, 2)
        })
    }
}

/// Builds the routes with everything around them.
pub fn router(app: App) -> Router {
    let (places, ids) = (app.0.places.clone(), Arc::clone(&app.0.ids));
    Router::new()
        .route("/publish_event", post(events::publish_event))
        .route("/api/v1/events", post(events::events))
        .route("/api/v1/incidents", get(incidents::list))
        .route("/api/v1/incidents/{id}", get(incidents::one))
        .route("/api/v1/incidents/{id}/{verb}", post(commands::incident))
        .route("/api/v1/pause", post(commands::pause))
        .route("/api/v1/resume", post(commands::resume))
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/stream", get(stream::stream))
        .route("/api/v1/receivers/{name}/test", post(receivers::test))
        .route("/integrations/slack/actions", post(slack_actions::pressed))
        .route("/approve/{token}", get(approvals::show).post(approvals::decide))
        .route("/favicon.ico", get(async || StatusCode::NO_CONTENT))
        .route("/", get(index))
        .with_state(app.clone())
        .merge(app.0.probe.routes())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(app, access::check))
        .layer(from_fn_with_state(layers::REQUEST_TIME_MAX, layers::limit_time))
        .layer(from_fn_with_state(places, layers::shed))
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(from_fn_with_state(ids, layers::identify))
}

async fn index() -> Response {
    let routes: BTreeMap<_, _> = ROUTES.into_iter().collect();
    Json(json!({ "name": "selfheal-gateway", "routes": routes })).into_response()
}

async fn unknown_path() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown_path",
        "there is nothing at this path",
        "GET / lists all paths",
    )
}

async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong_method",
        "this path does not take this method",
        "GET / lists all paths with their methods",
    )
}
