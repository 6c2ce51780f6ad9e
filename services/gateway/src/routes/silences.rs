//! Routes about what people want kept quiet.

use axum::routing::{delete, get, post};
use domain::view::SilencesView;
use serde_json::json;

use super::{Group, Route, Served, commands};
use crate::{
    access::table::{Load, OPERATOR, VIEWER},
    openapi::Operation,
    silences::{self, NewSilence},
};

pub(super) const GROUP: Group = Group {
    name: "silences",
    about: "Suppression: no incident is opened, no fix starts and no notification is sent.",
    routes: &[
        Route {
            at: "GET /api/v1/silences",
            id: "listSilences",
            about: "silences, maintenance windows, and what is suppressed",
            need: VIEWER,
            load: Load::Requests,
            served: Served::Here(|| get(silences::list)),
            document: list,
        },
        Route {
            at: "POST /api/v1/silences",
            id: "silence",
            about: "add a silence; body: matchers, for or until, comment, by",
            need: OPERATOR,
            load: Load::Requests,
            served: Served::Here(|| post(silences::create)),
            document: create,
        },
        Route {
            at: "DELETE /api/v1/silences/{id}",
            id: "endSilence",
            about: "end a silence; body: by",
            need: OPERATOR,
            load: Load::Requests,
            served: Served::Here(|| delete(silences::end)),
            document: end,
        },
    ],
};

fn list(operation: &mut Operation<'_>) {
    let view = operation.form::<SilencesView>();
    operation.answers(200, "What is suppressed.", &view);
    operation.refuses(502, "The answer of a supervisor cannot be read.");
}

fn create(operation: &mut Operation<'_>) {
    operation.tells(
        "Exactly one of `for` and `until` is given: a silence always ends, at most 31 days after it begins. \
         A matcher is a label, one of `=`, `!=`, `=~`, `!~`, and a value or an expression.",
    );
    operation.key();
    let form = operation.inline::<NewSilence>();
    let example = json!({"matchers": ["target=database"], "for": "2h", "comment": "an upgrade"});
    operation.takes("application/json", &form, &[("twoHours", example)]);
    commands::decided(operation);
    operation.refuses(409, "Refused; the message says why.");
}

fn end(operation: &mut Operation<'_>) {
    operation.path("id", "The silence's id.", &json!({"type": "string", "minLength": 1}));
    commands::said(operation, json!({"by": "ada"}));
    operation.refuses(404, "There is no such silence.");
    operation.refuses(409, "Refused; the message says why.");
}
