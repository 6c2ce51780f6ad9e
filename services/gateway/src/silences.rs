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
    let by = wanted.by.clone();
    let verb = Verb::Silence { request: request(wanted, Utc::now())? };
    commands::command(&app, &caller, &headers, Wish::by(by), verb).await
}

/// Makes the request of a body. Times so far ahead that nobody means them are refused here; of one
/// that is over already the supervisor tells, whose clock counts.
fn request(wanted: NewSilence, now: DateTime<Utc>) -> Result<SilenceRequest, Problem> {
    let invalid = |why: &str| Problem::bad("invalid_body", why, FORM);
    let until = match (wanted.until, wanted.r#for) {
        (Some(until), None) => until,
        (None, Some(lasts)) => SilenceRequest::end(wanted.from.unwrap_or(now), lasts)
            .ok_or_else(|| invalid("the silence would end outside of the calendar"))?,
        (_, _) => {
            let why = "a silence has exactly one of `until` and `for`: it always ends";
            return Err(invalid(why));
        }
    };
    let NewSilence { matchers, from, comment, .. } = wanted;
    let request = SilenceRequest { matchers, from, until, comment };
    match request.fault_of_times(now) {
        Some(fault) if now < request.until => Err(invalid(&fault)),
        Some(_) | None => Ok(request),
    }
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn times_that_nobody_means_are_a_400_and_no_defect() {
        let now: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().unwrap();
        for (times, is_taken) in [
            (json!({"for": "2h"}), true),
            (json!({"from": "2026-03-05T00:00:00Z", "for": "31d"}), true),
            (json!({"until": "2026-03-02T00:00:00Z"}), true),
            (json!({"for": "365000d"}), false),
            (json!({"for": "18446744073709551615ms"}), false),
            (json!({"for": "0s"}), true),
            (json!({"from": "2026-02-01T00:00:00Z", "for": "1h"}), true),
            (json!({"from": "+262142-12-31T00:00:00Z", "for": "365000d"}), false),
            (json!({"from": "+262142-12-31T00:00:00Z", "for": "1ms"}), false),
            (json!({"from": "-262143-01-01T00:00:00Z", "for": "365000d"}), true),
            (json!({"from": "+262142-12-31T00:00:00Z", "until": "+262142-12-31T23:59:59Z"}), false),
            (json!({"until": "+262142-12-31T23:59:59Z"}), false),
            (json!({"until": "-262143-01-01T00:00:00Z"}), true),
            (json!({"until": "2026-03-02T00:00:00Z", "for": "2h"}), false),
            (json!({}), false),
        ] {
            let mut body = times.clone();
            body["matchers"] = json!(["target=database"]);
            let wanted = serde_json::from_value::<NewSilence>(body);
            let told = request(wanted.unwrap(), now).map_err(|it| it.body());
            let code = told.as_ref().err().map(|it| &it["error"]["code"]);
            let wanted = (!is_taken).then(|| Value::from("invalid_body"));
            assert_eq!(code, wanted.as_ref(), "{times}: {told:?}");
        }
    }
}
