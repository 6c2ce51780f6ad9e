//! Routes by which others send what they see, each in its own form.

use axum::routing::{get, post};
use serde_json::{Value, json};

use super::{Group, Route, Served};
use crate::{
    access::table::{Load, Need, VIEWER},
    incidents::TEXT_BYTES_MAX,
    integrations::{
        alertmanager, alerts_api,
        alerts_list::{self, ListedAlert},
        generic, grafana, pagerduty,
    },
    openapi::Operation,
};

pub(super) const GROUP: Group = Group {
    name: "integrations",
    about: "Doors for what others send, in their forms, and answered as they expect. Each takes a secret of its own, or a token.",
    routes: &[
        Route {
            at: "POST /integrations/alertmanager",
            id: "alertmanagerWebhook",
            about: "the webhook of Alertmanager, version 4",
            need: Need::Own,
            load: Load::Events,
            served: Served::Here(|| post(alertmanager::webhook)),
            document: group,
        },
        Route {
            at: "POST /integrations/grafana",
            id: "grafanaWebhook",
            about: "the webhook of Grafana's alerting",
            need: Need::Own,
            load: Load::Events,
            served: Served::Here(|| post(grafana::webhook)),
            document: group,
        },
        Route {
            at: "POST /integrations/{name}",
            id: "webhook",
            about: "any other sender, by a mapping of the configuration or a ready one",
            need: Need::Own,
            load: Load::Events,
            served: Served::Here(|| post(generic::webhook)),
            document: any,
        },
        Route {
            at: "POST /api/v2/alerts",
            id: "postAlerts",
            about: "alerts, as Prometheus sends them to an Alertmanager",
            need: Need::Own,
            load: Load::Events,
            served: Served::Here(|| post(alerts_api::alerts)),
            document: alerts,
        },
        Route {
            at: "GET /api/v2/alerts",
            id: "listAlerts",
            about: "what there is, as an Alertmanager lists it",
            need: VIEWER,
            load: Load::Requests,
            served: Served::Here(|| get(alerts_list::list)),
            document: list,
        },
        Route {
            at: "GET /api/v2/status",
            id: "getAlertmanagerStatus",
            about: "what clients of an Alertmanager ask first",
            need: Need::Known,
            load: Load::Requests,
            served: Served::Here(|| get(alerts_api::status)),
            document: status,
        },
        Route {
            at: "POST /v2/enqueue",
            id: "enqueueAlert",
            about: "alerts of clients of PagerDuty (Events API v2)",
            need: Need::Own,
            load: Load::Events,
            served: Served::Here(|| post(pagerduty::enqueue)),
            document: enqueue,
        },
        Route {
            at: "POST /v2/change/enqueue",
            id: "enqueueChange",
            about: "changes of clients of PagerDuty: evidence",
            need: Need::Own,
            load: Load::Events,
            served: Served::Here(|| post(pagerduty::change)),
            document: change,
        },
        Route {
            at: "GET /-/healthy",
            id: "getAlertmanagerHealth",
            about: "whether this process lives, as an Alertmanager says it",
            need: Need::Open,
            load: Load::Requests,
            served: Served::Here(|| get(async || "OK")),
            document: well,
        },
        Route {
            at: "GET /-/ready",
            id: "getAlertmanagerReadiness",
            about: "whether this process answers, as an Alertmanager says it",
            need: Need::Open,
            load: Load::Requests,
            served: Served::Here(|| get(async || "OK")),
            document: well,
        },
    ],
};

/// What all doors share: the body is for the sender's own documentation to describe.
fn door(operation: &mut Operation<'_>) {
    operation.refuses(401, "Neither the secret of this integration nor a token.");
    operation.refuses(413, "More than 8 MiB, or more than 1 MiB without `content-length`.");
}

fn accepted(operation: &mut Operation<'_>) {
    let accepted = json!({
        "type": "object",
        "required": ["status", "n_events"],
        "properties": {
            "status": {"const": "accepted"},
            "n_events": {"description": "Events that were stored.", "type": "integer", "minimum": 0},
        },
    });
    operation.answers(202, "Stored; it will be handled.", &accepted);
}

fn group(operation: &mut Operation<'_>) {
    door(operation);
    let form = json!({
        "type": "object",
        "required": ["alerts"],
        "properties": {"alerts": {"type": "array", "items": true}},
    });
    let example = json!({
        "version": "4", "status": "firing", "receiver": "selfheal",
        "alerts": [{
            "status": "firing", "startsAt": "2026-01-02T02:59:00Z", "fingerprint": "0e63eea17fc3fb5d",
            "labels": {"alertname": "InstanceDown", "service": "db", "severity": "critical"},
            "annotations": {"summary": "it is down"},
        }],
    });
    operation.takes("application/json", &form, &[("firing", example)]);
    accepted(operation);
}

fn any(operation: &mut Operation<'_>) {
    operation.tells(
        "JSON, a form, or a text, as the sender sends it; what it means is said by the integration's mapping: see \
         `docs/integrations.md`.",
    );
    operation.key();
    let name = json!({"type": "string", "minLength": 1});
    operation.path("name", "The integration, as in the configuration, or a ready mapping.", &name);
    door(operation);
    operation.takes_perhaps("application/json", &json!({}), &[]);
    let fields = json!({"type": "object"});
    operation.takes_perhaps("application/x-www-form-urlencoded", &fields, &[]);
    operation.takes_perhaps("text/plain", &json!({"type": "string"}), &[]);
    accepted(operation);
    operation.refuses(404, "There is no such integration.");
}

fn alerts(operation: &mut Operation<'_>) {
    door(operation);
    let form = json!({"type": "array", "items": true});
    let example = json!([{
        "labels": {"alertname": "InstanceDown", "service": "db"},
        "startsAt": "2026-01-02T02:59:00Z", "generatorURL": "http://prometheus/graph",
    }]);
    operation.takes("application/json", &form, &[("firing", example)]);
    operation.answers_nothing(200, "Stored; it will be handled.");
}

fn list(operation: &mut Operation<'_>) {
    operation.tells(
        "Open incidents, and what is kept quiet. Parameters that are not known do not count. More than 10 000 are \
         not shown; then the answer has the header `x-selfheal-left-out`.",
    );
    let yes = json!({"type": "boolean", "default": true});
    operation.asks("active", "Whether to include those that are not suppressed.", &yes);
    operation.asks(
        "silenced",
        "Whether to include those that a silence, a window or flapping suppresses.",
        &yes,
    );
    operation.asks("inhibited", "Whether those that wait for their cause.", &yes);
    operation.asks("unprocessed", "There are none.", &yes);
    let text = json!({"type": "string", "maxLength": TEXT_BYTES_MAX});
    let expression = json!({"type": "string", "maxLength": alerts_list::RECEIVER_BYTES_MAX});
    let about = "An expression that the name of one who was called fits.";
    operation.asks("receiver", about, &expression);
    let matchers = json!({"type": "array", "items": text, "maxItems": alerts_list::FILTERS_MAX});
    operation.asks_often(
        "filter",
        "A matcher, such as `severity=\"critical\"`. All must fit.",
        &matchers,
    );
    let alert = operation.form::<ListedAlert>();
    operation.answers(
        200,
        "As an Alertmanager answers.",
        &json!({"type": "array", "items": alert}),
    );
    operation.refuses(502, "The answer of a supervisor cannot be read.");
}

fn status(operation: &mut Operation<'_>) {
    let text = json!({"type": "string"});
    let object = |fields: Value| json!({"type": "object", "properties": fields});
    let form = json!({
        "type": "object",
        "required": ["cluster", "versionInfo", "config", "uptime"],
        "properties": {
            "cluster": object(json!({"status": {"const": "disabled"}, "peers": {"type": "array"}})),
            "versionInfo": object(json!({"version": text})),
            "config": object(json!({"original": text})),
            "uptime": {"description": "Since when.", "type": "string", "format": "date-time"},
        },
    });
    operation.answers(200, "As an Alertmanager answers.", &form);
}

/// A text that says something.
fn said() -> Value {
    json!({"type": "string", "pattern": r"\S"})
}

fn routing_key() -> Value {
    json!({"type": "string", "maxLength": 255, "pattern": r"\S"})
}

fn enqueue(operation: &mut Operation<'_>) {
    let payload = json!({
        "type": "object",
        "required": ["summary", "source", "severity"],
        "properties": {
            "summary": said(), "source": said(),
            "severity": {"enum": ["critical", "error", "warning", "info"]},
        },
    });
    let form = json!({
        "type": "object",
        "required": ["routing_key", "event_action"],
        "properties": {"routing_key": routing_key()},
        "anyOf": [
            {
                "required": ["payload"],
                "properties": {
                    "event_action": {"const": "trigger"},
                    "payload": payload,
                    "dedup_key": {"maxLength": 255},
                },
            },
            {
                "required": ["dedup_key"],
                "properties": {
                    "event_action": {"enum": ["acknowledge", "resolve"]},
                    "dedup_key": {"type": "string", "maxLength": 255, "pattern": r"\S"},
                },
            },
        ],
    });
    let example = json!({
        "routing_key": "0123456789abcdef0123456789abcdef", "event_action": "trigger",
        "payload": {"summary": "the database is down", "source": "db-1", "severity": "critical"},
    });
    processed(operation, &form, &[("trigger", example)]);
}

fn change(operation: &mut Operation<'_>) {
    let payload = json!({
        "type": "object", "required": ["summary"], "properties": {"summary": said()},
    });
    let form = json!({
        "type": "object",
        "required": ["routing_key", "payload"],
        "properties": {"routing_key": routing_key(), "payload": payload},
    });
    let example = json!({
        "routing_key": "0123456789abcdef0123456789abcdef",
        "payload": {"summary": "release 1.2 of the shop", "source": "ci"},
    });
    processed(operation, &form, &[("release", example)]);
}

fn processed(operation: &mut Operation<'_>, form: &Value, examples: &[(&str, Value)]) {
    operation.tells("More about the body: the reference of PagerDuty's Events API v2.");
    door(operation);
    operation.takes("application/json", form, examples);
    let text = json!({"type": "string"});
    let success = json!({
        "type": "object",
        "required": ["status", "message"],
        "properties": {"status": {"const": "success"}, "message": text, "dedup_key": text},
    });
    operation.answers(202, "Stored; it will be handled.", &success);
    let invalid = json!({
        "type": "object",
        "required": ["status", "message", "errors"],
        "properties": {
            "status": {"const": "invalid event"},
            "message": text,
            "errors": {"description": "For people.", "type": "array", "items": text},
        },
    });
    operation.answers_or_problem(400, "The event is wrong; as PagerDuty says it.", &invalid);
}

fn well(operation: &mut Operation<'_>) {
    operation.answers_text(200, "It does.", "text/plain", "OK");
}
