//! What handlers share, and what stands around all routes.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{Router, http::StatusCode, middleware::from_fn_with_state};
use bus::{Bus, InboxWriter};
use domain::wire::Member;
use service::{Context, Probe};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    access, events,
    ids::Ids,
    layers::{self, Places},
    problem::Problem,
    routes,
    settings::{Args, Settings, Token},
    stream::Live,
};

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
}

/// Builds the routes with everything around them.
pub fn router(app: App) -> Router {
    let (places, ids) = (app.0.places.clone(), Arc::clone(&app.0.ids));
    routes::router()
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
