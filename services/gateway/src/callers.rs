//! What callers may know of who may come in: `GET /api/v1/whoami` and `GET /api/v1/tokens`.

use axum::{Extension, Json, extract::State};
use chrono::{DateTime, Utc};
use domain::{
    access::{Role, TokenRecord},
    span::Rates,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    access::{Caller, Proof},
    app::App,
    problem::Problem,
};

/// The answer of `GET /api/v1/whoami`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Whoami {
    /// What the log calls the caller.
    name: String,
    /// What he may do.
    role: Role,
    /// How he proved it: `host`, `api-token`, `token` or `oidc`.
    proof: &'static str,
    /// How often he may come, if that is said of him alone.
    rate: Option<Rates>,
    /// When his token ends, if it does.
    expires_at: Option<DateTime<Utc>>,
}

/// `GET /api/v1/whoami`.
pub(crate) async fn whoami(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Whoami>, Problem> {
    let principal = caller.require_any()?;
    let (proof, expires_at) = match &principal.proof {
        Proof::Host => ("host", None),
        Proof::Flags => ("api-token", None),
        Proof::Token(hash) => ("token", app.access().record(hash).and_then(|it| it.expires_at)),
        Proof::Provider { until, .. } => ("oidc", Some(*until)),
        Proof::Integration => ("integration", None),
    };
    Ok(Json(Whoami {
        name: principal.name.clone(),
        role: principal.role,
        proof,
        rate: principal.rate.clone(),
        expires_at,
    }))
}

/// A token, without what could be mistaken for it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Token {
    /// What the log calls its holder.
    name: String,
    /// What its holder may do.
    role: Role,
    /// `valid`, `expired` or `revoked`.
    state: &'static str,
    /// When it was made.
    created_at: DateTime<Utc>,
    /// Who made it.
    created_by: String,
    /// When it ends, if it does.
    expires_at: Option<DateTime<Utc>>,
    /// How often it may be used at each gateway, if that is said of it alone.
    rate: Option<Rates>,
    /// When it was revoked, if it was.
    revoked_at: Option<DateTime<Utc>>,
    /// Who revoked it.
    revoked_by: Option<String>,
}

impl Token {
    fn of(record: &TokenRecord, now: DateTime<Utc>) -> Self {
        Self {
            name: record.name.clone(),
            role: record.role,
            state: record.state(now).as_str(),
            created_at: record.created_at,
            created_by: record.created_by.clone(),
            expires_at: record.expires_at,
            rate: record.rate.clone(),
            revoked_at: record.revoked.as_ref().map(|it| it.at),
            revoked_by: record.revoked.as_ref().map(|it| it.by.clone()),
        }
    }
}

/// `GET /api/v1/tokens`.
pub(crate) async fn tokens(State(app): State<App>) -> Result<Json<serde_json::Value>, Problem> {
    let Some(tokens) = app.access().tokens() else {
        return Err(Problem::later(
            "access_not_known",
            "tokens are not loaded yet: waiting for the broker",
            "ask again after the time in Retry-After; see whether the broker runs",
            1,
        ));
    };
    let now = Utc::now();
    let tokens: Vec<_> = tokens.values().map(|(_, record)| Token::of(record, now)).collect();
    Ok(Json(serde_json::json!({ "tokens": tokens })))
}
