//! Silences: what people want kept quiet.

use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use domain::{
    matcher::Matchers,
    silence::{SilenceId, SilenceRequest},
    span::Span,
    view::Query,
    wire::Verb,
};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::json;

use crate::{
    access::Caller,
    app::App,
    body::Whole,
    commands::{self, Wish},
    problem::Problem,
    seen,
};

const FORM: &str =
    "send {\"matchers\": [\"target=database\"], \"for\": \"2h\", \"comment\": \"...\"}";

/// The body of a new silence. Unknown fields are refused: one with a typing mistake in its
/// matchers must not silence something else.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = one_end)]
pub(crate) struct NewSilence {
    /// What must all fit; at least one asks for a value.
    matchers: Matchers,
    /// From when on; now when absent.
    from: Option<DateTime<Utc>>,
    /// Until when; this or `for`.
    until: Option<DateTime<Utc>>,
    /// How long; this or `until`.
    r#for: Option<Span>,
    /// Why.
    comment: String,
    /// Who asks, besides the name of the token.
    by: Option<String>,
}

/// A silence has exactly one of `for` and `until`; null stands for absent.
fn one_end(schema: &mut Schema) {
    let given = |field: &str| {
        let fields = json!({ field: { "not": { "type": "null" } } });
        json!({ "required": [field], "properties": fields })
    };
    schema.insert("oneOf".to_owned(), json!([given("for"), given("until")]));
}

/// `GET /api/v1/silences`.
pub(crate) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    let body = seen::bytes(&app, &caller, app.query_raw(&Query::Silences).await?)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response())
}

/// `POST /api/v1/silences`.
pub(crate) async fn create(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Whole,
) -> Result<Response, Problem> {
    let wanted: NewSilence = body.fields(FORM)?;
    let begin = wanted.from.unwrap_or_else(Utc::now);
    let until = match (wanted.until, wanted.r#for) {
        (Some(until), None) => until,
        (None, Some(lasts)) => begin + lasts.to_delta(),
        (_, _) => {
            return Err(Problem::bad(
                "invalid_body",
                "a silence has exactly one of `until` and `for`: it always ends",
                FORM,
            ));
        }
    };
    let NewSilence { matchers, from, comment, by, .. } = wanted;
    let verb = Verb::Silence { request: SilenceRequest { matchers, from, until, comment } };
    commands::command(&app, &caller, &headers, Wish::by(by), verb).await
}

/// `DELETE /api/v1/silences/{id}`.
pub(crate) async fn end(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Whole,
) -> Result<Response, Problem> {
    let wish = commands::wish(&body)?;
    commands::command(&app, &caller, &headers, wish, Verb::Unsilence { id: SilenceId(id) }).await
}
