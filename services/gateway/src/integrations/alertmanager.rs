//! The webhook of Alertmanager, version "4".
//!
//! Source of the format: `template.Data` and `webhook.Message` of prometheus/alertmanager. The same
//! group is sent again when one of its alerts changes, after `repeat_interval`, and by each
//! member of a cluster.

use axum::{
    extract::State,
    http::{HeaderMap, Uri},
    response::Response,
};
use chrono::{DateTime, Utc};
use domain::event::{self, Event, Status};
use serde_json::{Map, Value};
use tracing::warn;

use crate::{
    admission::{self, Caller},
    alerts::{ALERTS_MAX, Alert},
    app::App,
    body::Group,
    group,
    problem::Problem,
};

/// The same alert with the same state counts as one delivery for so long, so that the members of
/// a cluster, retries and groups that are sent again count once, and a reminder of an alert
/// that fires on counts anew.
const SAME_FOR_S: i64 = 3600;

/// Fields of a group that say something about each of its alerts.
const OF_GROUP: [&str; 8] = [
    "receiver",
    "routeLabels",
    "groupKey",
    "externalURL",
    "truncatedAlerts",
    "notification_reason",
    "title",
    "orgId",
];

/// `POST /integrations/alertmanager`.
pub(crate) async fn webhook(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
    body: Group,
) -> Result<Response, Problem> {
    let caller = Caller::of(&uri, &headers, &body, None);
    let origin = admission::admit(&app, "alertmanager", &caller).await?;
    let mut events = events(event::json(&body.0)?, "alertmanager", Utc::now())?;
    group::fit(&mut events, body.0.len());
    group::accept(&app, &origin, events).await
}

/// Returns the events of a group.
pub(super) fn events(body: Value, source: &str, now: DateTime<Utc>) -> Result<Vec<Event>, Problem> {
    let Value::Object(mut whole) = body else {
        let hint = "send the webhook's JSON object as it is, with its list `alerts`";
        return Err(Problem::bad("not_an_object", "the body is not a JSON object", hint));
    };
    let Some(Value::Array(alerts)) = whole.remove("alerts") else {
        let hint = "send the webhook's JSON object as it is; it has a list `alerts`";
        return Err(Problem::bad("missing_alerts", "the list `alerts` is missing", hint));
    };
    if ALERTS_MAX < alerts.len() {
        let message = format!("{} alerts; {ALERTS_MAX} are taken at once", alerts.len());
        return Err(Problem::bad("too_many_alerts", message, "set `max_alerts` at the sender"));
    }
    let of_all = whole.get("status").and_then(Value::as_str).map(str::to_owned);
    let n_truncated = whole.get("truncatedAlerts").and_then(Value::as_u64).unwrap_or(0);
    if 0 < n_truncated {
        warn!(n_truncated, source, "the sender left alerts of a group out; raise its `max_alerts`");
    }
    let group: Map<String, Value> =
        OF_GROUP.iter().filter_map(|it| whole.remove_entry(*it)).collect();
    let read = |value| {
        let mut alert = Alert::read(value);
        let said = alert.text("status").map(str::to_owned).or_else(|| of_all.clone());
        let status =
            if said.as_deref() == Some("resolved") { Status::Resolved } else { Status::Firing };
        if status == Status::Firing {
            // While it fires there is no end: Alertmanager says when there is one.
            alert.ends_at = None;
        }
        let key = alert.text("fingerprint").map(str::to_owned);
        let key = key.unwrap_or_else(|| alert.fingerprint());
        alert.rest.insert("group".to_owned(), Value::Object(group.clone()));
        if 0 < n_truncated {
            let note =
                format!("{n_truncated} more alerts of this group were left out by the sender");
            alert.annotations.insert("selfheal.truncated".to_owned(), note);
        }
        let time = |it: Option<DateTime<Utc>>| it.map(|it| it.to_rfc3339()).unwrap_or_default();
        let (from, to) = (time(alert.starts_at), time(alert.ends_at));
        let hour = now.timestamp().div_euclid(SAME_FOR_S).to_string();
        let state = if status == Status::Resolved { "resolved" } else { "firing" };
        alert.event(source, key.clone(), status, &[&key, &from, state, &to, &hour], now)
    };
    Ok(alerts.into_iter().map(read).collect())
}

#[cfg(test)]
mod tests {
    use domain::event::Severity;
    use serde_json::json;

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_322_800, 0).unwrap()
    }

    fn group(alerts: &Value) -> Value {
        json!({"version": "4", "groupKey": "{}:{alertname=\"InstanceDown\"}", "truncatedAlerts": 0,
            "status": "firing", "receiver": "selfheal", "groupLabels": {"alertname": "InstanceDown"},
            "commonLabels": {"alertname": "InstanceDown"}, "commonAnnotations": {},
            "externalURL": "http://am:9093", "alerts": alerts})
    }

    fn alert(status: &str, ends_at: &str) -> Value {
        json!({"status": status, "startsAt": "2026-01-02T02:59:00.5Z", "endsAt": ends_at,
            "labels": {"alertname": "InstanceDown", "instance": "10.0.0.1:9100", "service": "db",
                "severity": "page"},
            "annotations": {"summary": "it is down", "runbook_url": "https://example.org/r"},
            "generatorURL": "http://prometheus/graph", "fingerprint": "0e63eea17fc3fb5d"})
    }

    const NEVER: &str = "0001-01-01T00:00:00Z";

    #[test]
    fn an_alert_becomes_an_event_with_all_that_it_says() {
        let events =
            events(group(&json!([alert("firing", NEVER)])), "alertmanager", now()).unwrap();
        let [event] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!(event.kind.as_str(), "InstanceDown");
        assert_eq!(event.source, "alertmanager");
        assert_eq!(event.fingerprint.as_deref(), Some("0e63eea17fc3fb5d"));
        assert_eq!(event.target.as_deref(), Some("db"));
        assert_eq!((event.status, event.severity), (Status::Firing, Severity::Critical));
        assert_eq!(event.starts_at.unwrap().timestamp(), 1_767_322_740);
        assert_eq!(event.ends_at, None, "it fires until somebody says otherwise");
        assert_eq!(event.links, ["http://prometheus/graph", "https://example.org/r"]);
        assert_eq!(event.labels["instance"], "10.0.0.1:9100");
        assert_eq!(event.annotations["summary"], "it is down");
        assert_eq!(event.payload["group"]["receiver"], "selfheal");
    }

    #[test]
    fn duplicates_are_one_delivery_and_what_changes_is_another() {
        let id = |alert: Value, at: DateTime<Utc>| {
            events(group(&json!([alert])), "alertmanager", at).unwrap().remove(0).id
        };
        let fired = id(alert("firing", NEVER), now());
        let minutes = |n| now() + chrono::TimeDelta::minutes(n);
        assert_eq!(fired, id(alert("firing", NEVER), minutes(5)), "another of the cluster");
        assert_ne!(fired, id(alert("firing", NEVER), minutes(240)), "a reminder");
        let resolved = id(alert("resolved", "2026-01-02T03:00:00Z"), now());
        assert_ne!(fired, resolved);
        let mut again = alert("firing", NEVER);
        again["startsAt"] = json!("2026-01-02T02:59:30Z");
        assert_ne!(fired, id(again, now()), "it fires anew");
    }

    #[test]
    fn a_resolved_alert_has_its_end_and_a_truncated_group_says_so() {
        let mut body = group(&json!([alert("resolved", "2026-01-02T03:00:00Z")]));
        body["truncatedAlerts"] = json!(7);
        let event = events(body, "alertmanager", now()).unwrap().remove(0);
        assert_eq!(event.status, Status::Resolved);
        assert_eq!(event.ends_at.unwrap(), now());
        assert!(event.annotations["selfheal.truncated"].starts_with("7 more"));
    }

    #[test]
    fn only_what_is_no_group_at_all_is_refused() {
        for body in [json!([]), json!(null), json!({}), json!({"alerts": 7})] {
            assert!(events(body.clone(), "alertmanager", now()).is_err(), "{body}");
        }
        for body in [json!({"alerts": []}), json!({"alerts": [null, 1, {}]})] {
            assert!(events(body.clone(), "alertmanager", now()).is_ok(), "{body}");
        }
    }
}
