//! The webhook of Grafana's alerting.
//!
//! It has the form of Alertmanager's with more fields (`version` "1", `orgId`, `title`, `state`),
//! and may be signed: set a secret at the contact point and the same one here. The alerting that
//! was there before, until Grafana 10, has a form of its own.

use axum::{
    extract::State,
    http::{HeaderMap, Uri},
    response::Response,
};
use chrono::{DateTime, Utc};
use domain::event;
use serde_json::{Map, Value, json};

use super::alertmanager;
use crate::{
    admission::{self, Caller},
    app::App,
    body::Group,
    group,
    problem::Problem,
};

/// `POST /integrations/grafana`.
pub(crate) async fn webhook(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
    body: Group,
) -> Result<Response, Problem> {
    let caller = Caller::of(&uri, &headers, &body, None);
    let origin = admission::admit(&app, "grafana", &caller).await?;
    let (value, now) = (event::json(&body.0)?, Utc::now());
    let mut events = alertmanager::events(as_group(value, now), "grafana", now)?;
    group::fit(&mut events, body.0.len());
    group::accept(&app, &origin, events).await
}

/// Returns a message as a group: that of the alerting until Grafana 10 is of one rule, and has
/// `ruleName`, `state` and `evalMatches` in place of alerts.
fn as_group(body: Value, now: DateTime<Utc>) -> Value {
    let is_rule =
        |it: &&Map<String, Value>| it.contains_key("ruleName") && !it.contains_key("alerts");
    let Some(mut rule) = body.as_object().filter(is_rule).cloned() else { return body };
    let text = |rule: &Map<String, Value>, name: &str| {
        rule.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let status = match text(&rule, "state").as_str() {
        "ok" | "paused" => "resolved",
        // `alerting`, `no_data`, and what is not known: the other mistake would hide it.
        _ => "firing",
    };
    let (summary, message) = (text(&rule, "title"), text(&rule, "message"));
    let (name, url) = (text(&rule, "ruleName"), text(&rule, "ruleUrl"));
    let tags = rule.remove("tags");
    let mut labels = tags.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
    labels.insert("alertname".to_owned(), Value::String(name.clone()));
    let id = rule.get("ruleId").map_or(name, Value::to_string);
    rule.insert("status".to_owned(), json!(status));
    rule.insert("fingerprint".to_owned(), Value::String(format!("rule/{id}")));
    // It does not say since when, and each message is a change of the state or a reminder.
    rule.insert("startsAt".to_owned(), json!(now));
    rule.insert("labels".to_owned(), Value::Object(labels));
    rule.insert("annotations".to_owned(), json!({"summary": summary, "description": message}));
    rule.insert("generatorURL".to_owned(), Value::String(url));
    json!({"version": "0", "alerts": [rule]})
}

#[cfg(test)]
mod tests {
    use domain::event::{Event, Status};

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_322_800, 0).unwrap()
    }

    fn one(body: Value, now: DateTime<Utc>) -> Event {
        alertmanager::events(as_group(body, now), "grafana", now).unwrap().remove(0)
    }

    #[test]
    fn an_alert_of_the_alerting_before_is_taken_and_ends() {
        let message = |state: &str, matches: Value| {
            json!({"evalMatches": matches, "message": "the battery is low", "ruleId": 58,
                "ruleName": "Battery voltage", "orgId": 1, "dashboardId": 2, "panelId": 2,
                "ruleUrl": "https://grafana.example.org/d/x?panelId=2", "state": state,
                "tags": {"severity": "warning", "service": "power"},
                "title": format!("[{state}] Battery voltage")})
        };
        let matches = json!([{"value": 23.4, "metric": "mV", "tags": {}}]);
        let fired = one(message("alerting", matches), now());
        assert_eq!((fired.kind.as_str(), fired.status), ("Battery_voltage", Status::Firing));
        assert_eq!(fired.target.as_deref(), Some("power"));
        assert_eq!(fired.severity.as_str(), "warning");
        assert_eq!(fired.annotations["summary"], "[alerting] Battery voltage");
        assert_eq!(fired.links, ["https://grafana.example.org/d/x?panelId=2"]);
        assert_eq!(fired.payload["evalMatches"][0]["value"], 23.4);
        let over = one(message("ok", json!([])), now() + chrono::TimeDelta::minutes(1));
        assert_eq!((over.status, &over.fingerprint), (Status::Resolved, &fired.fingerprint));
        let again = one(message("alerting", json!(null)), now() + chrono::TimeDelta::minutes(2));
        assert_ne!(again.id, fired.id, "it fires anew within the hour");
        let nothing = one(message("no_data", json!(null)), now());
        assert_eq!(nothing.status, Status::Firing);
    }

    #[test]
    fn a_group_stays_as_it_is() {
        let group = json!({"version": "1", "alerts": [], "ruleName": "x"});
        assert_eq!(as_group(group.clone(), now()), group);
        assert_eq!(as_group(json!([7]), now()), json!([7]));
    }
}
