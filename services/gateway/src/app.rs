//! What handlers share, and what stands around all routes.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{Router, http::StatusCode, middleware::from_fn_with_state};
use bus::{Bus, Claimed, InboxWriter};
use chrono::{DateTime, Utc};
use domain::{notify::Notify, redact::Redactor, wire::Member};
use service::{Chain, Context, Probe, outgoing::Outgoing};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::warn;

use crate::{
    access::{self, Access},
    doors::Doors,
    events,
    ids::Ids,
    in_force::InForce,
    layers,
    permits::Permits,
    problem::Problem,
    routes,
    settings::{Args, Settings},
    slack_actions, sns,
    stream::Live,
};

/// The broker syncs to a disk that may be busy: less would refuse what is well.
const GIVE_UP_MIN: Duration = Duration::from_secs(1);

/// How long a start waits until the configuration was looked for.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(5);

/// What handlers share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    access: Access,
    bus: Bus,
    writer: InboxWriter,
    probe: Probe,
    member_id: String,
    version: &'static str,
    stop: CancellationToken,
    live: Live,
    members: OnceLock<watch::Receiver<BTreeMap<String, Member>>>,
    in_force: OnceLock<InForce>,
    permits: Permits,
    ids: Arc<Ids>,
    meters: events::Meters,
    doors: Doors,
    certificates: sns::Certificates,
    outgoing: Outgoing,
    started_at: DateTime<Utc>,
}

impl App {
    /// Gathers what the handlers need.
    #[must_use]
    pub(crate) fn new(cx: &Context<Args>, settings: Settings, live: Live) -> Self {
        let scheme = if settings.tls.is_some() { "https" } else { "http" };
        let access = Access::new(
            settings.token.clone(),
            settings.tokenless.clone(),
            scheme,
            cx.outgoing.clone(),
        );
        Self(Arc::new(Shared {
            access,
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
            permits: Permits::new(settings.connections.per_network != 0),
            ids: Arc::new(Ids::new()),
            meters: events::Meters::new(),
            doors: Doors::default(),
            certificates: sns::Certificates::new(cx.outgoing.clone()),
            outgoing: cx.outgoing.clone(),
            started_at: Utc::now(),
            settings,
        }))
    }

    /// Returns whether clients must send a token.
    #[must_use]
    pub fn asks_for_token(&self) -> bool {
        self.0.access.is_token_required()
    }

    pub(crate) fn access(&self) -> &Access {
        &self.0.access
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

    pub(crate) fn permits(&self) -> &Permits {
        &self.0.permits
    }

    pub(crate) fn ids(&self) -> &Ids {
        &self.0.ids
    }

    pub(crate) fn meters(&self) -> &events::Meters {
        &self.0.meters
    }

    pub(crate) fn doors(&self) -> &Doors {
        &self.0.doors
    }

    pub(crate) fn outgoing(&self) -> &Outgoing {
        &self.0.outgoing
    }

    pub(crate) fn certificates(&self) -> &sns::Certificates {
        &self.0.certificates
    }

    pub(crate) fn started_at(&self) -> DateTime<Utc> {
        self.0.started_at
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
    /// Waits until it was looked for once, but not for ever.
    pub(crate) async fn watch_config(&self) -> InForce {
        let (in_force, looked) = InForce::follow(&self.0.bus);
        if timeout(FIRST_LOOK_MAX, looked).await.is_err() {
            warn!(
                hint = "see what this user of the broker may read",
                "the configuration is not known yet; until it is, no notification is sent"
            );
        }
        self.0.in_force.get_or_init(|| in_force).clone()
    }

    /// Returns what is configured about notices; nothing before [`Self::watch_config`].
    pub(crate) fn notify(&self) -> Arc<Notify> {
        self.0.in_force.get().map(InForce::notify).unwrap_or_default()
    }

    /// Returns what leaves credentials out of what is shown.
    pub(crate) fn redactor(&self) -> Arc<Redactor> {
        self.0.in_force.get().map(InForce::redactor).unwrap_or_default()
    }

    /// Claims what is done once in the whole fleet.
    pub(crate) async fn claim(&self, key: &str) -> Result<Claimed, Problem> {
        let claim = slack_actions::claim(&self.0.member_id, key);
        self.0.bus.claims().claim_once(key, &claim).await.map_err(|error| {
            warn!(error = %Chain(&error), "the broker did not say whether this was done before");
            let hint = "try again in a moment";
            Problem::later("broker_unavailable", "the broker does not answer", hint, 2)
        })
    }
}

/// Builds the routes with everything around them.
pub fn router(app: App) -> Router {
    let ids = Arc::clone(&app.0.ids);
    routes::router()
        .with_state(app.clone())
        .merge(app.0.probe.routes())
        .fallback(async || unknown_path())
        .method_not_allowed_fallback(async || wrong_method())
        .layer(from_fn_with_state(app, access::check))
        .layer(from_fn_with_state(layers::REQUEST_TIME_MAX, layers::limit_time))
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(from_fn_with_state(ids, layers::identify))
}

pub(crate) fn unknown_path() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown_path",
        "there is nothing at this path",
        "GET / lists all paths",
    )
}

pub(crate) fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "wrong_method",
        "this path does not take this method",
        "GET / lists all paths with their methods",
    )
}
