//! The system at a glance.

use axum::{Extension, Json, extract::State};
use domain::{
    view::{Query, SystemView},
    wire::Member,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::{access::Caller, app::App, problem::Problem, seen};

/// The answer of `GET /api/v1/status`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SystemStatus")]
pub(crate) struct Status {
    /// `ok`, or what is missing.
    status: &'static str,
    /// The gateway that answers.
    gateway: Gateway,
    /// The broker.
    broker: Broker,
    /// All living agents.
    agents: Vec<Member>,
    /// What the supervisor says; null when none answers.
    system: Option<SystemView>,
}

/// The gateway that answers.
#[derive(Debug, Serialize, JsonSchema)]
struct Gateway {
    /// Its id among the agents.
    id: String,
    /// Version of its build.
    version: &'static str,
}

/// The broker, as the gateway sees it.
#[derive(Debug, Serialize, JsonSchema)]
struct Broker {
    /// Whether it is connected.
    connected: bool,
}

/// `GET /api/v1/status`. Answers always: what is missing is what one asks for.
pub(crate) async fn status(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Value>, Problem> {
    let connected = app.bus().is_connected();
    let system = if connected { app.query::<SystemView>(&Query::Status).await.ok() } else { None };
    let (id, version) = app.identity();
    let status = match (&system, connected) {
        (_, false) => "broker away",
        (None, true) => "no supervisor answers",
        (Some(system), true) if system.leader.is_none() => "no supervisor leads",
        (Some(system), true) if system.paused.is_some() => "paused",
        (Some(_), true) => "ok",
    };
    let answer = Status {
        status,
        gateway: Gateway { id: id.to_owned(), version },
        broker: Broker { connected },
        agents: app.members(),
        system,
    };
    seen::value(&app, &caller, &answer).map(Json)
}
