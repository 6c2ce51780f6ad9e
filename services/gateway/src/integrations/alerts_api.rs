//! The API of Alertmanager, version 2, as far as Prometheus and others who raise alerts need
//! it: they can be pointed straight at the gateway.
//!
//! Source: `api/v2/openapi.yaml` of prometheus/alertmanager. Prometheus sends what fires again and
//! again (`resend_delay`), each time with an end that lies some minutes ahead: a lease. An alert
//! that nobody sends any more ends with it.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::event::{self, Event, Status};
use serde::Serialize;
use serde_json::Value;

use crate::{
    admission::{self, Caller},
    alerts::{ALERTS_MAX, Alert},
    app::App,
    body::Group,
    group,
    problem::Problem,
};

/// The end of an alert that says none: `resolve_timeout` of Alertmanager.
const RESOLVE_TIMEOUT: TimeDelta = TimeDelta::minutes(5);

/// An alert without an end of its own counts once in so much time: a retry is no repetition.
const SAME_FOR_S: i64 = 30;

/// `POST /api/v2/alerts`.
pub(crate) async fn alerts(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
    body: Group,
) -> Result<StatusCode, Problem> {
    let caller = Caller::of(&uri, &headers, &body, None);
    let origin = admission::admit(&app, "alertmanager", &caller).await?;
    let mut events = events(event::json(&body.0)?, Utc::now())?;
    group::fit(&mut events, body.0.len());
    group::store(&app, &origin, events).await?;
    // As an Alertmanager answers: nothing more.
    Ok(StatusCode::OK)
}

fn events(body: Value, now: DateTime<Utc>) -> Result<Vec<Event>, Problem> {
    let Value::Array(alerts) = body else {
        let hint = "send [{\"labels\": {\"alertname\": \"...\"}}]";
        return Err(Problem::bad("not_a_list", "the body is not a JSON list of alerts", hint));
    };
    if ALERTS_MAX < alerts.len() {
        let message = format!("{} alerts; {ALERTS_MAX} are taken at once", alerts.len());
        return Err(Problem::bad("too_many_alerts", message, "send several requests"));
    }
    Ok(alerts.into_iter().map(|it| one(Alert::read(it), now)).collect())
}

fn one(mut alert: Alert, now: DateTime<Utc>) -> Event {
    let key = alert.fingerprint();
    let time = |it: DateTime<Utc>| it.to_rfc3339();
    let from = alert.starts_at.map(time).unwrap_or_default();
    // Each lease is a delivery of its own: the last one counts.
    let to = alert.ends_at.map(time);
    let to = to.unwrap_or_else(|| now.timestamp().div_euclid(SAME_FOR_S).to_string());
    let ends_at = alert.ends_at.unwrap_or(now + RESOLVE_TIMEOUT);
    let is_over = ends_at <= now;
    alert.starts_at = Some(alert.starts_at.unwrap_or_else(|| now.min(ends_at)));
    alert.ends_at = Some(ends_at);
    let (status, state) =
        if is_over { (Status::Resolved, "resolved") } else { (Status::Firing, "firing") };
    // The same source as the webhook's: an alert that comes both ways is one.
    alert.event("alertmanager", key.clone(), status, &["api", &key, &from, state, &to], now)
}

/// The answer of `GET /api/v2/status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusAnswer {
    cluster: Cluster,
    version_info: VersionInfo,
    config: Original,
    uptime: DateTime<Utc>,
}

#[derive(Debug, Serialize)]
struct Cluster {
    /// `disabled`: gateways need no cluster of their own, the broker is between them.
    status: &'static str,
    peers: [(); 0],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct VersionInfo {
    version: String,
    revision: &'static str,
    branch: &'static str,
    build_user: &'static str,
    build_date: &'static str,
    go_version: &'static str,
}

#[derive(Debug, Serialize)]
struct Original {
    original: &'static str,
}

/// `GET /api/v2/status`.
pub(crate) async fn status(State(app): State<App>) -> Json<StatusAnswer> {
    let (_, version) = app.identity();
    Json(StatusAnswer {
        cluster: Cluster { status: "disabled", peers: [] },
        version_info: VersionInfo {
            version: format!("selfheal {version}"),
            revision: "",
            branch: "",
            build_user: "",
            build_date: "",
            go_version: "",
        },
        config: Original { original: "" },
        uptime: app.started_at(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_322_800, 0).unwrap()
    }

    fn sent(alert: &Value) -> Event {
        events(json!([alert]), now()).unwrap().remove(0)
    }

    fn alert(ends_at: &str) -> Value {
        json!({"labels": {"alertname": "InstanceDown", "job": "db"}, "annotations": {},
            "startsAt": "2026-01-02T02:59:00Z", "endsAt": ends_at,
            "generatorURL": "http://prometheus/graph"})
    }

    #[test]
    fn an_end_ahead_is_a_lease_and_one_in_the_past_a_resolve() {
        let fired = sent(&alert("2026-01-02T03:04:00Z"));
        assert_eq!(
            (fired.status, fired.ends_at),
            (Status::Firing, Some(now() + TimeDelta::minutes(4)))
        );
        let resolved = sent(&alert("2026-01-02T03:00:00Z"));
        assert_eq!((resolved.status, resolved.ends_at), (Status::Resolved, Some(now())));
        assert_eq!(fired.fingerprint, resolved.fingerprint);
    }

    #[test]
    fn each_lease_is_a_delivery_and_a_retry_of_it_is_none() {
        let first = sent(&alert("2026-01-02T03:04:00Z"));
        assert_eq!(first.id, sent(&alert("2026-01-02T03:04:00Z")).id);
        assert_ne!(first.id, sent(&alert("2026-01-02T03:05:00Z")).id);
    }

    #[test]
    fn without_times_it_begins_now_and_ends_after_the_resolve_timeout() {
        let event = sent(&json!({"labels": {"alertname": "A"}}));
        assert_eq!(event.starts_at, Some(now()));
        assert_eq!(event.ends_at, Some(now() + RESOLVE_TIMEOUT));
        let again = events(json!([{"labels": {"alertname": "A"}}]), now() + TimeDelta::minutes(1));
        assert_ne!(event.id, again.unwrap()[0].id, "the lease is renewed");
    }
}
