//! Routes by which people say what they want done.

use axum::routing::post;
use domain::wire::Answer;
use serde_json::{Value, json};

use super::{Group, Route, Served};
use crate::{
    access::table::{APPROVER, Load, OPERATOR},
    commands::{self, Wish},
    openapi::Operation,
};

pub(super) const GROUP: Group = Group {
    name: "commands",
    about: "What people want done. Each is a line of the log, with who asked.",
    routes: &[
        Route {
            at: "POST /api/v1/incidents/{id}/approve",
            id: "approve",
            about: "carry the plan out; body: plan_hash, by",
            need: APPROVER,
            load: Load::Requests,
            served: Served::Here(|| post(commands::approve)),
            document: approve,
        },
        Route {
            at: "POST /api/v1/incidents/{id}/reject",
            id: "reject",
            about: "do not carry the plan out; body: reason, by",
            need: APPROVER,
            load: Load::Requests,
            served: Served::Here(|| post(commands::reject)),
            document: incident,
        },
        Route {
            at: "POST /api/v1/incidents/{id}/acknowledge",
            id: "acknowledge",
            about: "acknowledge it; body: by",
            need: OPERATOR,
            load: Load::Requests,
            served: Served::Here(|| post(commands::acknowledge)),
            document: incident,
        },
        Route {
            at: "POST /api/v1/incidents/{id}/close",
            id: "close",
            about: "close it; body: reason, by",
            need: OPERATOR,
            load: Load::Requests,
            served: Served::Here(|| post(commands::close)),
            document: incident,
        },
        Route {
            at: "POST /api/v1/incidents/{id}/retry",
            id: "retry",
            about: "diagnose it again; body: by",
            need: OPERATOR,
            load: Load::Requests,
            served: Served::Here(|| post(commands::retry)),
            document: incident,
        },
        Route {
            at: "POST /api/v1/pause",
            id: "pause",
            about: "start no new fix; body: reason, by",
            need: OPERATOR,
            load: Load::Requests,
            served: Served::Here(|| post(commands::pause)),
            document: whole_system,
        },
        Route {
            at: "POST /api/v1/resume",
            id: "resume",
            about: "start fixes again; body: by",
            need: OPERATOR,
            load: Load::Requests,
            served: Served::Here(|| post(commands::resume)),
            document: whole_system,
        },
    ],
};

fn approve(operation: &mut Operation<'_>) {
    operation.tells("`plan_hash` names the plan; without it the plan of this moment is meant.");
    of_incident(operation);
    said(operation, json!({"by": "ada", "plan_hash": "9f2c1e0b7a64d853"}));
}

fn incident(operation: &mut Operation<'_>) {
    of_incident(operation);
    said(operation, json!({"by": "ada", "reason": "deployment"}));
}

fn of_incident(operation: &mut Operation<'_>) {
    operation.incident();
    operation.refuses(404, "There is no such incident.");
    operation.refuses(409, "Refused; the message says why.");
}

fn whole_system(operation: &mut Operation<'_>) {
    said(operation, json!({"by": "ada", "reason": "deployment"}));
    operation.refuses(409, "Refused; the message says why.");
}

pub(super) fn said(operation: &mut Operation<'_>, example: Value) {
    operation.key();
    let wish = operation.inline::<Wish>();
    operation.takes_perhaps("application/json", &wish, &[("said", example)]);
    decided(operation);
}

/// What became of a command.
pub(super) fn decided(operation: &mut Operation<'_>) {
    let answer = operation.form::<Answer>();
    operation.answers(200, "It is decided.", &answer);
    let accepted = json!({
        "type": "object",
        "required": ["status", "command_id", "message"],
        "properties": {
            "status": {"const": "accepted"},
            "command_id": {"description": "The command's id.", "type": "string"},
            "message": {"description": "One sentence for people.", "type": "string"},
        },
    });
    operation.answers(
        202,
        "Stored, and will be carried out; no supervisor answered in time.",
        &accepted,
    );
    operation.refuses(413, "More than 1 MiB.");
    operation.refuses(502, "The answer of a supervisor cannot be read.");
}
