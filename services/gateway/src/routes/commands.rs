//! Routes by which people say what they want done.

use axum::routing::post;
use domain::wire::Answer;
use serde_json::json;

use super::{Group, Route, Served};
use crate::{
    commands::{self, Wish},
    openapi::Operation,
};

pub(super) const GROUP: Group = Group {
    name: "commands",
    about: "What people want done. Each is a line of the log, with who asked.",
    routes: &[
        Route {
            at: "POST /api/v1/incidents/{id}/{verb}",
            id: "decide",
            about: "approve, reject, acknowledge, close or retry; body: plan_hash, reason, by",
            served: Served::Here(|| post(commands::incident)),
            document: incident,
        },
        Route {
            at: "POST /api/v1/pause",
            id: "pause",
            about: "start no new fix; body: reason, by",
            served: Served::Here(|| post(commands::pause)),
            document: whole_system,
        },
        Route {
            at: "POST /api/v1/resume",
            id: "resume",
            about: "start fixes again; body: by",
            served: Served::Here(|| post(commands::resume)),
            document: whole_system,
        },
    ],
};

fn incident(operation: &mut Operation<'_>) {
    operation.tells(
        "`approve`: carry the plan out; `plan_hash` names it, without it the plan of this moment is meant. \
         `reject`: do not carry it out. `acknowledge`: somebody is looking at it. `close`: it is over. \
         `retry`: seek the cause anew.",
    );
    operation.incident();
    let verbs = json!({"enum": ["approve", "reject", "acknowledge", "close", "retry"]});
    operation.path("verb", "What is wanted.", &verbs);
    said(operation);
    operation.refuses(404, "There is no such incident.");
    operation.refuses(409, "Refused; the message says why.");
}

fn whole_system(operation: &mut Operation<'_>) {
    said(operation);
    operation.refuses(409, "Refused; the message says why.");
}

fn said(operation: &mut Operation<'_>) {
    operation.key();
    let wish = operation.inline::<Wish>();
    let example = json!({"by": "ada", "reason": "deployment"});
    operation.takes_perhaps("application/json", &wish, &[("reason", example)]);
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
