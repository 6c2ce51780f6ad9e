//! What people want done.

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use domain::{
    id::{IncidentId, sha256_hex},
    view::Query,
    wire::{Answer, AnswerStatus, Command, Input, Verb},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::{
    access::Caller, app::App, body::Whole, events::idempotency_key, incidents, problem::Problem,
};

/// Longest name or reason.
const TEXT_CHARS_MAX: usize = 1000;

/// The body of a command. Unknown fields are refused: a `plan_hash` with a typing
/// mistake must not approve whatever plan there is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Wish {
    /// Who acts, besides the name of the token.
    #[schemars(length(max = TEXT_CHARS_MAX))]
    by: Option<String>,
    /// Why.
    #[schemars(length(max = TEXT_CHARS_MAX))]
    reason: Option<String>,
    /// Hash of the plan that is approved.
    #[schemars(length(max = TEXT_CHARS_MAX))]
    plan_hash: Option<String>,
}

impl Wish {
    /// Says nothing but who wants it.
    pub(crate) fn by(by: Option<String>) -> Self {
        Self { by, ..Self::default() }
    }
}

/// What an approval needs to know of an incident; the rest may be of another version.
#[derive(Debug, Deserialize)]
struct Planned {
    status: String,
    plan: Option<Hashed>,
}

#[derive(Debug, Deserialize)]
struct Hashed {
    hash: String,
}

/// Who asks, about which incident.
type Asked = (State<App>, Extension<Caller>, Path<String>, HeaderMap);

/// `POST /api/v1/incidents/{id}/approve`.
pub(crate) async fn approve(
    (State(app), Extension(caller), Path(id), headers): Asked,
    body: Whole,
) -> Result<Response, Problem> {
    let (incident, wish) = (incidents::id(&id)?, wish(&body)?);
    let plan_hash = match wish.plan_hash.clone() {
        Some(hash) => hash,
        None => present_plan(&app, incident).await?,
    };
    command(&app, &caller, &headers, wish, Verb::Approve { incident, plan_hash }).await
}

/// `POST /api/v1/incidents/{id}/reject`.
pub(crate) async fn reject(
    (State(app), Extension(caller), Path(id), headers): Asked,
    body: Whole,
) -> Result<Response, Problem> {
    let (incident, wish) = (incidents::id(&id)?, wish(&body)?);
    let reason = wish.reason.clone().unwrap_or_default();
    command(&app, &caller, &headers, wish, Verb::Reject { incident, reason }).await
}

/// `POST /api/v1/incidents/{id}/acknowledge`.
pub(crate) async fn acknowledge(
    (State(app), Extension(caller), Path(id), headers): Asked,
    body: Whole,
) -> Result<Response, Problem> {
    let (incident, wish) = (incidents::id(&id)?, wish(&body)?);
    command(&app, &caller, &headers, wish, Verb::Acknowledge { incident }).await
}

/// `POST /api/v1/incidents/{id}/close`.
pub(crate) async fn close(
    (State(app), Extension(caller), Path(id), headers): Asked,
    body: Whole,
) -> Result<Response, Problem> {
    let (incident, wish) = (incidents::id(&id)?, wish(&body)?);
    let reason = wish.reason.clone().unwrap_or_default();
    command(&app, &caller, &headers, wish, Verb::Close { incident, reason }).await
}

/// `POST /api/v1/incidents/{id}/retry`.
pub(crate) async fn retry(
    (State(app), Extension(caller), Path(id), headers): Asked,
    body: Whole,
) -> Result<Response, Problem> {
    let (incident, wish) = (incidents::id(&id)?, wish(&body)?);
    command(&app, &caller, &headers, wish, Verb::Retry { incident }).await
}

/// `POST /api/v1/pause`.
pub(crate) async fn pause(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Whole,
) -> Result<Response, Problem> {
    let wish = wish(&body)?;
    let reason = wish.reason.clone().unwrap_or_default();
    command(&app, &caller, &headers, wish, Verb::Pause { reason }).await
}

/// `POST /api/v1/resume`.
pub(crate) async fn resume(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Whole,
) -> Result<Response, Problem> {
    let wish = wish(&body)?;
    command(&app, &caller, &headers, wish, Verb::Resume).await
}

pub(crate) fn wish(body: &Whole) -> Result<Wish, Problem> {
    let wish: Wish = body.fields("send {}, or an object with `by`, `reason` or `plan_hash`")?;
    for (field, text) in
        [("by", &wish.by), ("reason", &wish.reason), ("plan_hash", &wish.plan_hash)]
    {
        if text.as_ref().is_some_and(|text| TEXT_CHARS_MAX < text.chars().count()) {
            return Err(Problem::bad(
                "invalid_body",
                format!("field `{field}` is longer than {TEXT_CHARS_MAX} characters"),
                "say it in fewer words",
            ));
        }
    }
    Ok(wish)
}

/// Returns the hash of the plan that the incident has now.
///
/// The approval still names one exact plan: if another takes its place before the
/// supervisor decides, it is refused.
async fn present_plan(app: &App, incident: IncidentId) -> Result<String, Problem> {
    let found: Option<Planned> = app.query(&Query::Incident { id: incident }).await?;
    let Some(found) = found else { return Err(incidents::not_found(incident)) };
    let plan = found.plan.ok_or_else(|| {
        Problem::new(
            StatusCode::CONFLICT,
            "nothing_to_approve",
            format!("the incident is `{}` and has no plan", found.status),
            "see its timeline at GET /api/v1/incidents/{id}",
        )
    })?;
    Ok(plan.hash)
}

pub(crate) async fn command(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    wish: Wish,
    verb: Verb,
) -> Result<Response, Problem> {
    let principal = caller.require_any()?;
    let command = Command::new(principal.by(wish.by.as_deref()), verb);
    send(app, headers, command.proven(principal.told())).await
}

/// Sends a command, and answers with what became of it.
pub(crate) async fn send(
    app: &App,
    headers: &HeaderMap,
    command: Command,
) -> Result<Response, Problem> {
    let verb = &command.verb;
    let id = match idempotency_key(headers)? {
        Some(key) => sha256_hex(format!("{}\n{key}", verb.as_str()).as_bytes()),
        None => Uuid::now_v7().to_string(),
    };
    let answer = app.ask(Input::Command(command), id.clone()).await?;
    match answer {
        Some(answer) => respond(&answer),
        None => {
            let body = json!({
                "status": "accepted",
                "command_id": id,
                "message": "The command is stored and will be carried out; no supervisor answered in time.",
            });
            Ok((StatusCode::ACCEPTED, Json(body)).into_response())
        }
    }
}

fn respond(answer: &Answer) -> Result<Response, Problem> {
    match answer.status {
        AnswerStatus::IncidentOpened
        | AnswerStatus::IncidentUpdated
        | AnswerStatus::IncidentResolved
        | AnswerStatus::Suppressed
        | AnswerStatus::Done => Ok(Json(answer).into_response()),
        AnswerStatus::Refused => Err(Problem::new(
            StatusCode::CONFLICT,
            "refused",
            answer.message.clone(),
            match answer.incident_id {
                Some(_) => "see the incident's present state at GET /api/v1/incidents/{id}",
                None => "correct what the message names, and retry",
            },
        )),
        AnswerStatus::NotFound if answer.incident_id.is_none() => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "no_such_silence",
            answer.message.clone(),
            "GET /api/v1/silences lists those that are in force",
        )),
        AnswerStatus::NotFound => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "no_such_incident",
            answer.message.clone(),
            "GET /api/v1/incidents lists those that are known",
        )),
    }
}
