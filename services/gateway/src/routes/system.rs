//! Routes about the system and about the gateway itself.

use axum::{http::StatusCode, routing::get};
use serde_json::json;

use super::{Group, Route, Served};
use crate::{
    access::table::{Load, Need, VIEWER},
    openapi::{self, Operation},
    status,
};

pub(super) const GROUP: Group = Group {
    name: "system",
    about: "How the system does, and what can be asked here.",
    routes: &[
        Route {
            at: "GET /api/v1/status",
            id: "getStatus",
            about: "the system, its agents, the broker",
            need: VIEWER,
            load: Load::Requests,
            served: Served::Here(|| get(status::status)),
            document: system_status,
        },
        Route {
            at: "GET /healthz",
            id: "getHealth",
            about: "whether this process lives",
            need: Need::Open,
            load: Load::Requests,
            served: Served::ByProbe,
            document: health,
        },
        Route {
            at: "GET /readyz",
            id: "getReadiness",
            about: "whether this process may be given work",
            need: Need::Open,
            load: Load::Requests,
            served: Served::ByProbe,
            document: readiness,
        },
        Route {
            at: "GET /metrics",
            id: "getMetrics",
            about: "metrics in the format of Prometheus",
            need: Need::Open,
            load: Load::Requests,
            served: Served::ByProbe,
            document: metrics,
        },
        Route {
            at: "GET /openapi.json",
            id: "getDocument",
            about: "these paths as an OpenAPI 3.1 document",
            need: Need::Open,
            load: Load::Requests,
            served: Served::Here(|| get(openapi::document)),
            document,
        },
        Route {
            at: "GET /docs",
            id: "getPage",
            about: "the same as a page to read",
            need: Need::Open,
            load: Load::Requests,
            served: Served::Here(|| get(openapi::page)),
            document: page,
        },
        Route {
            at: "GET /docs/style.css",
            id: "getStyle",
            about: "how that page looks",
            need: Need::Open,
            load: Load::Requests,
            served: Served::Here(|| get(openapi::style)),
            document: style,
        },
        Route {
            at: "GET /favicon.ico",
            id: "getIcon",
            about: "nothing, so that browsers are content",
            need: Need::Known,
            load: Load::Requests,
            served: Served::Here(|| get(async || StatusCode::NO_CONTENT)),
            document: |operation| operation.answers_nothing(204, "Nothing."),
        },
        Route {
            at: "GET /",
            id: "getIndex",
            about: "this list",
            need: Need::Known,
            load: Load::Requests,
            served: Served::Here(|| get(super::index)),
            document: index,
        },
    ],
};

fn system_status(operation: &mut Operation<'_>) {
    operation.tells("Answers always: what is missing is what one asks for.");
    let status = operation.form::<status::Status>();
    operation.answers(200, "The system at a glance.", &status);
}

fn health(operation: &mut Operation<'_>) {
    let alive = json!({
        "type": "object",
        "required": ["status", "service"],
        "properties": {"status": {"const": "alive"}, "service": {"type": "string"}},
    });
    operation.answers(200, "It lives.", &alive);
}

fn readiness(operation: &mut Operation<'_>) {
    let form = |status: &str, required: &[&str]| {
        json!({
            "type": "object",
            "required": required,
            "properties": {
                "status": {"const": status},
                "service": {"type": "string"},
                "reason": {"description": "What it waits for.", "type": "string"},
            },
        })
    };
    operation.answers(200, "It may be given work.", &form("ready", &["status", "service"]));
    let not = form("not ready", &["status", "service", "reason"]);
    operation.answers_or_problem(503, "Not now, or too many requests are under way.", &not);
}

fn metrics(operation: &mut Operation<'_>) {
    let media = "text/plain; version=0.0.4; charset=utf-8";
    operation.answers_text(200, "The metrics.", media, "selfheal_ready 1\n");
}

fn document(operation: &mut Operation<'_>) {
    let form = json!({"type": "object", "required": ["openapi", "info", "paths"]});
    operation.answers(200, "The document.", &form);
}

fn page(operation: &mut Operation<'_>) {
    operation.answers_text(200, "The page.", "text/html; charset=utf-8", "<!doctype html>");
}

fn style(operation: &mut Operation<'_>) {
    operation.answers_text(200, "The style.", "text/css; charset=utf-8", "body { margin: 0 }");
}

fn index(operation: &mut Operation<'_>) {
    let form = json!({
        "type": "object",
        "required": ["name", "routes"],
        "properties": {
            "name": {"const": "selfheal-gateway"},
            "routes": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    });
    operation.answers(200, "All paths with their methods.", &form);
}
