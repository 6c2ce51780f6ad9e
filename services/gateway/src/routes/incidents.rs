//! Routes by which incidents are read.

use axum::routing::get;
use domain::{
    event::Severity,
    view::{Filter, IncidentDetail, Page, Status},
};
use serde_json::{Value, json};

use super::{Group, Route, Served};
use crate::{
    access::table::{Load, VIEWER},
    incidents,
    openapi::Operation,
    stream,
};

pub(super) const GROUP: Group = Group {
    name: "incidents",
    about: "What is known about incidents.",
    routes: &[
        Route {
            at: "GET /api/v1/incidents",
            id: "listIncidents",
            about: "incidents, the newest first; filters status, open, target, type, severity, q, since; limit, cursor",
            need: VIEWER,
            load: Load::Requests,
            served: Served::Here(|| get(incidents::list)),
            document: list,
        },
        Route {
            at: "GET /api/v1/incidents/{id}",
            id: "getIncident",
            about: "one incident, whole",
            need: VIEWER,
            load: Load::Requests,
            served: Served::Here(|| get(incidents::one)),
            document: one,
        },
        Route {
            at: "GET /api/v1/stream",
            id: "followIncidents",
            about: "server-sent events: every decision, and progress; filter incident",
            need: VIEWER,
            load: Load::Requests,
            served: Served::Here(|| get(stream::stream)),
            document: follow,
        },
    ],
};

fn list(operation: &mut Operation<'_>) {
    operation.tells("A parameter that is empty does not count. One that is not known is refused.");
    let text = json!({"type": "string", "maxLength": incidents::TEXT_BYTES_MAX});
    let id = json!({"type": "string", "format": "uuid"});
    let status = json!({"type": "array", "items": operation.form::<Status>()});
    let severity = operation.form::<Severity>();
    let since = json!({"anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": "string", "pattern": "^(0|([0-9]{1,9}(d|h|ms|m|s))+)$"},
    ]});
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": Filter::LIMIT_MAX });
    operation.asks("status", "Any of these states, separated by commas.", &status);
    operation.asks("open", "`true`: only open incidents.", &or_empty(&json!({"type": "boolean"})));
    operation.asks("target", "About this target.", &text);
    operation.asks("type", "Of this type.", &text);
    operation.asks("severity", "Minimum severity.", &or_empty(&severity));
    operation.asks(
        "q",
        "Whose id, type, source, target, analysis or resolution contains this text.",
        &text,
    );
    operation.asks(
        "since",
        "Opened at this time or later; or within a span before now, such as `2h`.",
        &or_empty(&since),
    );
    let many = format!("At most so many; {} when absent.", Filter::LIMIT_DEFAULT);
    operation.asks("limit", &many, &or_empty(&limit));
    operation.asks("cursor", "The `next` of the page before.", &or_empty(&id));
    let page = operation.form::<Page>();
    operation.answers(200, "A page of the list.", &page);
    operation.refuses(502, "The answer of a supervisor cannot be read.");
}

/// Forms of a page send what was left empty, too.
fn or_empty(form: &Value) -> Value {
    json!({"anyOf": [form, {"const": ""}]})
}

fn one(operation: &mut Operation<'_>) {
    operation.incident();
    operation.tells(
        "Who is no admin sees `[redacted]` in place of credentials, headers, environments and bodies; an approver \
         sees of a plan what is decided about.",
    );
    let detail = operation.form::<IncidentDetail>();
    operation.answers(200, "The incident.", &detail);
    operation.refuses(404, "There is no such incident.");
    operation.refuses(502, "The answer of a supervisor cannot be read.");
}

fn follow(operation: &mut Operation<'_>) {
    operation.tells(
        "A stream without an end. `hello` comes first. `decision` carries a line of the log \
         (`docs/schemas/log-line.schema.json`), with its number as id. `progress` carries what an analyzer \
         or a fixer says meanwhile. `missed` says how many a slow reader has missed (`n_missed`). It is \
         live: what came before is in the list and in the log. Who is no admin does not see the \
         configuration, and `[redacted]` in place of credentials, headers, environments and bodies.",
    );
    let id = json!({"type": "string", "format": "uuid"});
    operation.asks("incident", "Only this one.", &id);
    let example = "event: hello\ndata: {\"incident\":null,\"message\":\"following\"}\n\n";
    operation.answers_text(200, "What happens, as it happens.", "text/event-stream", example);
}
