//! Incidents, as people read them.

use axum::{
    Extension,
    body::Body,
    extract::{Path, Query as UrlQuery, State, rejection::QueryRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::{
    event::Severity,
    id::IncidentId,
    span::Span,
    view::{Filter, Query, Status},
};
use serde::de::value::StrDeserializer;

use crate::{access::Caller, app::App, problem::Problem, seen};

/// Longest text of one filter.
pub(crate) const TEXT_BYTES_MAX: usize = 1024;

const PARAMETERS: &str = "use status, open, target, type, severity, q, since, limit, cursor";

/// The parameters of a request, in their order, if they can be read.
pub(crate) type Parameters = Result<UrlQuery<Vec<(String, String)>>, QueryRejection>;

/// Returns the parameters of a request.
pub(crate) fn parameters(
    given: Parameters,
    hint: &'static str,
) -> Result<Vec<(String, String)>, Problem> {
    let UrlQuery(parameters) = given.map_err(|error| {
        Problem::bad("invalid_query", format!("the query cannot be read: {error}"), hint)
    })?;
    Ok(parameters)
}

/// `GET /api/v1/incidents`.
pub(crate) async fn list(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    given: Parameters,
) -> Result<Response, Problem> {
    let filter = filter(&parameters(given, PARAMETERS)?, Utc::now())?;
    let answer = app.query_raw(&Query::Incidents(filter)).await?;
    Ok(json(seen::bytes(&app, &caller, answer)?))
}

/// `GET /api/v1/incidents/{id}`.
pub(crate) async fn one(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(text): Path<String>,
) -> Result<Response, Problem> {
    let id = id(&text)?;
    let answer = app.query_raw(&Query::Incident { id }).await?;
    if answer.trim_ascii() == b"null" {
        return Err(not_found(id));
    }
    Ok(json(seen::bytes(&app, &caller, answer)?))
}

/// Reads an incident's id.
pub(crate) fn id(text: &str) -> Result<IncidentId, Problem> {
    text.parse().map_err(|error| {
        Problem::bad(
            "invalid_id",
            format!("this is not an incident's id: {error}"),
            "GET /api/v1/incidents lists ids",
        )
    })
}

/// 404.
pub(crate) fn not_found(id: IncidentId) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no_such_incident",
        format!("there is no incident {id}"),
        "GET /api/v1/incidents lists those that are known",
    )
}

/// Passes a supervisor's JSON on as it is, fields that this build does not know included.
fn json(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Body::from(body)).into_response()
}

fn filter(parameters: &[(String, String)], now: DateTime<Utc>) -> Result<Filter, Problem> {
    let mut filter = Filter::default();
    for (name, text) in parameters {
        if TEXT_BYTES_MAX < text.len() {
            return Err(refused(
                name,
                &format!("is longer than {TEXT_BYTES_MAX} bytes"),
                PARAMETERS,
            ));
        }
        if text.is_empty() {
            continue;
        }
        match name.as_str() {
            "status" => filter.status.extend(statuses(text)?),
            "open" => filter.open = word(name, text, "use true or false")?,
            "target" => filter.target = Some(text.clone()),
            "type" => filter.kind = Some(text.clone()),
            "severity" => filter.severity = Some(severity(text)?),
            "q" => filter.q = Some(text.clone()),
            "since" => filter.since = Some(since(text, now)?),
            "cursor" => {
                let hint = "pass on the `next` of the page before";
                filter.after = Some(
                    text.parse()
                        .map_err(|error| refused(name, &format!("is no cursor: {error}"), hint))?,
                );
            }
            "limit" => filter.limit = Some(limit(text)?),
            _ => return Err(refused(name, "is not known", PARAMETERS)),
        }
    }
    Ok(filter)
}

fn refused(name: &str, why: &str, hint: &str) -> Problem {
    let name: String = name.chars().take(64).collect();
    Problem::bad("invalid_query", format!("parameter `{name}` {why}"), hint)
}

/// Reads one word.
fn word<T: std::str::FromStr>(name: &str, text: &str, hint: &str) -> Result<T, Problem> {
    text.parse().map_err(|_unreadable| refused(name, &format!("cannot be `{text}`"), hint))
}

fn statuses(text: &str) -> Result<Vec<Status>, Problem> {
    let one = |part: &str| {
        Status::ALL.into_iter().find(|status| status.as_str() == part.trim()).ok_or_else(|| {
            let names = Status::ALL.map(Status::as_str).join(", ");
            refused(
                "status",
                &format!("cannot be `{}`", part.trim()),
                &format!(
                    "use one or more of {names}, separated by commas; open=true means all open ones"
                ),
            )
        })
    };
    text.split(',').map(one).collect()
}

fn severity(text: &str) -> Result<Severity, Problem> {
    let reader: StrDeserializer<'_, serde::de::value::Error> =
        serde::de::IntoDeserializer::into_deserializer(text);
    serde::Deserialize::deserialize(reader).map_err(|_unknown| {
        refused(
            "severity",
            &format!("cannot be `{text}`"),
            "use info, warning, error or critical; worse ones are included",
        )
    })
}

/// Reads a time, or a span before now.
fn since(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Problem> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let span = text.parse::<Span>().ok();
    span.and_then(|span| now.checked_sub_signed(span.to_delta())).ok_or_else(|| {
        refused(
            "since",
            &format!("cannot be `{text}`"),
            "use a time such as 2026-01-31T12:00:00Z, or a span before now such as 2h",
        )
    })
}

fn limit(text: &str) -> Result<usize, Problem> {
    text.parse().ok().filter(|limit| (1..=Filter::LIMIT_MAX).contains(limit)).ok_or_else(|| {
        refused(
            "limit",
            &format!("cannot be `{text}`"),
            &format!("use a number from 1 to {}", Filter::LIMIT_MAX),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Filter, String> {
        let pairs: Vec<_> =
            pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        filter(&pairs, DateTime::UNIX_EPOCH + chrono::TimeDelta::days(1))
            .map_err(|problem| problem.body().to_string())
    }

    #[test]
    fn all_filters_are_understood() {
        let id = "01990000-0000-7000-8000-000000000001";
        let filter = read(&[
            ("status", "open,fixing"),
            ("status", "verifying"),
            ("open", "true"),
            ("target", "db"),
            ("type", "service_down"),
            ("severity", "warning"),
            ("q", "exit code"),
            ("since", "2h"),
            ("limit", "500"),
            ("cursor", id),
        ])
        .unwrap();
        assert_eq!(filter.status, [Status::Open, Status::Fixing, Status::Verifying]);
        assert!(filter.open);
        assert_eq!(filter.severity, Some(Severity::Warning));
        assert_eq!(filter.since.unwrap().to_rfc3339(), "1970-01-01T22:00:00+00:00");
        assert_eq!(filter.after.unwrap().to_string(), id);
        assert_eq!(filter.limit, Some(500));
    }

    #[test]
    fn a_filter_that_cannot_be_meant_is_refused_by_name() {
        for (name, text) in [
            ("status", "broken"),
            ("open", "maybe"),
            ("severity", "bad"),
            ("since", "yesterday"),
            ("limit", "0"),
            ("limit", "501"),
            ("limit", "-1"),
            ("cursor", "7"),
            ("colour", "red"),
        ] {
            let error = read(&[(name, text)]).unwrap_err();
            assert!(error.contains(name), "{name}={text}: {error}");
        }
    }
}
