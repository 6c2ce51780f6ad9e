//! Routes by which people answer notices: links and buttons.

use axum::routing::{get, post};
use serde_json::json;

use super::{Group, Route, Served};
use crate::{
    access::table::{Load, Need},
    approvals,
    openapi::Operation,
    slack_actions,
};

pub(super) const GROUP: Group = Group {
    name: "answers",
    about: "What people answer to notices. The link or the signature is the permission.",
    routes: &[
        Route {
            at: "POST /integrations/slack/actions",
            id: "slackAction",
            about: "a button of Slack was pressed; signed by Slack",
            need: Need::Own,
            load: Load::Requests,
            served: Served::Here(|| post(slack_actions::pressed)),
            document: pressed,
        },
        Route {
            at: "GET /approve/{token}",
            id: "showApproval",
            about: "the plan behind an approval link, as a page",
            need: Need::Own,
            load: Load::Requests,
            served: Served::Here(|| get(approvals::show)),
            document: show,
        },
        Route {
            at: "POST /approve/{token}",
            id: "decideApproval",
            about: "decides about it, once; fields decision (approve, reject), name, reason",
            need: Need::Own,
            load: Load::Requests,
            served: Served::Here(|| post(approvals::decide)),
            document: decide,
        },
    ],
};

const FORM: &str = "application/x-www-form-urlencoded";

fn pressed(operation: &mut Operation<'_>) {
    operation.is_tokenless();
    operation.tells(
        "Slack sends it, with the headers `x-slack-request-timestamp` and `x-slack-signature`. A signature counts \
         once, for 5 minutes. Without the field `payload` nothing is done.",
    );
    let form = json!({
        "type": "object",
        "properties": {"payload": {"description": "What was pressed, as JSON.", "type": "string"}},
    });
    operation.takes(FORM, &form, &[]);
    operation.answers_nothing(200, "Seen; who pressed is told in Slack what became of it.");
    operation.refuses(401, "The signature is missing, wrong, too old, or came before.");
    operation.refuses(404, "No Slack app is configured.");
    operation.refuses(413, "More than 1 MiB.");
}

fn link(operation: &mut Operation<'_>) {
    operation.is_tokenless();
    let form = json!({"type": "string", "minLength": 1});
    operation.path("token", "What the link ends with.", &form);
    operation.answers_page_or_problem(403, "The link is none of ours; or not from here.");
    operation.answers_page(404, "There is no such incident, or there are no approval links.");
    operation.answers_page(409, "There is nothing to decide, or the link was used before.");
    operation.answers_page(410, "The link has expired.");
    operation.answers_page(502, "The answer of a supervisor cannot be read.");
    operation.answers_page_or_problem(503, "Not now: nothing was decided. Try again.");
}

fn show(operation: &mut Operation<'_>) {
    operation.tells("Looking changes nothing: programs that read mail follow links.");
    link(operation);
    operation.answers_page(200, "The plan, why, and what it may break, with two buttons.");
}

fn decide(operation: &mut Operation<'_>) {
    link(operation);
    let text = |about: &str| json!({"description": about, "type": "string"});
    let form = json!({
        "type": "object",
        "required": ["decision"],
        "properties": {
            "decision": {"enum": ["approve", "reject"]},
            "name": text("Who decides, for the log."),
            "reason": text("Why it is rejected."),
        },
    });
    operation.takes(FORM, &form, &[]);
    operation.answers_page(200, "It is decided.");
    operation.answers_page(202, "Stored, and will be done; no supervisor answered in time.");
    operation.answers_page_or_problem(400, "The form says neither yes nor no, or is cut off.");
    operation.refuses(413, "More than 1 MiB.");
}
