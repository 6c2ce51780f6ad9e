//! Routes about who may come in, and about the configuration.

use axum::routing::{get, post};
use domain::config::Config;
use serde_json::json;

use super::{Group, Route, Served, commands};
use crate::{
    access::table::{ADMIN, Load, Need, OPERATOR},
    callers::{self, Token, Whoami},
    configs,
    openapi::Operation,
    receivers,
};

pub(super) const GROUP: Group = Group {
    name: "administration",
    about: "The configuration, the tokens of callers, and test notifications.",
    routes: &[
        Route {
            at: "POST /api/v1/config",
            id: "configure",
            about: "a new configuration; body: that of selfheal.yaml",
            need: ADMIN,
            load: Load::Requests,
            served: Served::Here(|| post(configs::configure)),
            document: configure,
        },
        Route {
            at: "GET /api/v1/tokens",
            id: "listTokens",
            about: "the tokens, without the tokens",
            need: ADMIN,
            load: Load::Requests,
            served: Served::Here(|| get(callers::tokens)),
            document: tokens,
        },
        Route {
            at: "GET /api/v1/whoami",
            id: "whoami",
            about: "who the caller is, and what they may do",
            need: Need::Known,
            load: Load::Requests,
            served: Served::Here(|| get(callers::whoami)),
            document: whoami,
        },
        Route {
            at: "POST /api/v1/receivers/{name}/test",
            id: "testReceiver",
            about: "sends a test notification to a receiver",
            need: OPERATOR,
            load: Load::Requests,
            served: Served::Here(|| post(receivers::test)),
            document: test,
        },
    ],
};

fn configure(operation: &mut Operation<'_>) {
    operation.tells(
        "The text of a `selfheal.yaml`, which may be JSON as well, whatever `content-type` says. Mistakes are told \
         with line and column in a 400, and the old configuration stays.",
    );
    operation.key();
    let form = operation.form::<Config>();
    let example = json!({"targets": [{"name": "database", "checks": [{"tcp": "127.0.0.1:5432"}]}]});
    operation.takes("application/json", &form, &[("oneTarget", example)]);
    let text = json!({"description": "The file as it is.", "type": "string"});
    operation.takes("application/yaml", &text, &[]);
    commands::decided(operation);
    operation.refuses(413, "More than 8 MiB, or more than 1 MiB without `content-length`.");
    operation.refuses(409, "Refused; the message says why.");
}

fn tokens(operation: &mut Operation<'_>) {
    let token = operation.form::<Token>();
    let tokens = json!({
        "type": "object",
        "required": ["tokens"],
        "properties": {"tokens": {"type": "array", "items": token}},
    });
    operation.answers(200, "All tokens, also those that have ended.", &tokens);
}

fn whoami(operation: &mut Operation<'_>) {
    let whoami = operation.form::<Whoami>();
    operation.answers(200, "Who the caller is.", &whoami);
}

fn test(operation: &mut Operation<'_>) {
    operation.path("name", "The receiver's name.", &json!({"type": "string", "minLength": 1}));
    let told = json!({
        "type": "object",
        "required": ["receiver", "way", "told"],
        "properties": {
            "receiver": {"description": "Its name.", "type": "string"},
            "way": {"description": "How it is told, such as `slack`.", "type": "string"},
            "told": {"description": "What was answered, for people.", "type": "string"},
        },
    });
    operation.answers(200, "It was sent.", &told);
    operation.refuses(404, "There is no such receiver.");
    operation.refuses(502, "It could not be sent; the message says why.");
}
