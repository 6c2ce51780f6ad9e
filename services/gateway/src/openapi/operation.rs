//! What the document says of one route.

use std::fmt::Write as _;

use domain::schema::{Forms, inline};
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use crate::{
    access::table::{Load, Need},
    events::KEY_BYTES_MAX,
    routes::Route,
};

/// One route in the making.
pub(crate) struct Operation<'a> {
    forms: &'a mut Forms,
    text: String,
    parameters: Vec<Value>,
    bodies: Map<String, Value>,
    body_required: bool,
    answers: Map<String, Value>,
    is_tokenless: bool,
}

impl<'a> Operation<'a> {
    /// Returns what the document says of a route.
    pub(crate) fn of(route: &Route, group: &str, forms: &'a mut Forms) -> Value {
        let mut operation = Self {
            forms,
            text: String::new(),
            parameters: Vec::new(),
            bodies: Map::new(),
            body_required: false,
            answers: Map::new(),
            is_tokenless: false,
        };
        (route.document)(&mut operation);
        operation.written(route, group)
    }

    fn written(mut self, route: &Route, group: &str) -> Value {
        // What stands around all routes answers at each of them.
        let around = [
            ("400", "Wrong"),
            ("403", "Stranger"),
            ("408", "Slow"),
            ("500", "Defect"),
            ("503", "Later"),
        ];
        let token = (route.need != Need::Open).then_some(("401", "NoToken"));
        let is_limited =
            route.load == Load::Requests && !matches!(route.need, Need::Open | Need::Own);
        let limit = is_limited.then_some(("429", "Often"));
        for (status, name) in around.into_iter().chain(token).chain(limit) {
            let reference = json!({ "$ref": format!("#/components/responses/{name}") });
            self.answers.entry(status).or_insert(reference);
        }
        let mut value = json!({
            "operationId": route.id,
            "summary": route.about,
            "tags": [group],
            "responses": self.answers,
        });
        let Some(fields) = value.as_object_mut() else { return value };
        if let Need::Least(role) = route.need {
            self.tells(&format!("For the role `{role}`, and those that cover it."));
        }
        if !self.text.is_empty() {
            fields.insert("description".to_owned(), self.text.into());
        }
        if !self.parameters.is_empty() {
            fields.insert("parameters".to_owned(), self.parameters.into());
        }
        if !self.bodies.is_empty() {
            let body = json!({ "required": self.body_required, "content": self.bodies });
            fields.insert("requestBody".to_owned(), body);
        }
        let is_tokenless = self.is_tokenless || route.need == Need::Open;
        match route.need {
            Need::Open | Need::Own if is_tokenless => {
                fields.insert("security".to_owned(), json!([]));
            }
            // A token, or what the route itself asks for.
            Need::Own => {
                fields.insert("security".to_owned(), json!([{ "token": [] }, {}]));
            }
            Need::Open | Need::Known | Need::Least(_) => {}
        }
        value
    }

    /// Says more about it.
    pub(crate) fn tells(&mut self, text: &str) {
        // Writing to a string cannot fail.
        let _infallible =
            write!(self.text, "{}{text}", if self.text.is_empty() { "" } else { "\n\n" });
    }

    /// Takes no token, as something else proves the caller.
    pub(crate) fn is_tokenless(&mut self) {
        self.is_tokenless = true;
    }

    /// Returns a reference to the form of a type.
    pub(crate) fn form<T: JsonSchema>(&mut self) -> Value {
        self.forms.of::<T>()
    }

    /// Returns the form of a type that is only read.
    pub(crate) fn inline<T: JsonSchema>(&self) -> Value {
        inline::<T>()
    }

    fn parameter(&mut self, place: &str, name: &str, about: &str, form: &Value) {
        let mut parameter = json!({
            "name": name, "in": place, "description": about, "required": place == "path", "schema": form,
        });
        if form.get("type").is_some_and(|it| it == "array")
            && let Some(fields) = parameter.as_object_mut()
        {
            // Separated by commas.
            fields.insert("explode".to_owned(), false.into());
        }
        self.parameters.push(parameter);
    }

    /// Takes a part of the path.
    pub(crate) fn path(&mut self, name: &str, about: &str, form: &Value) {
        self.parameter("path", name, about, form);
    }

    /// Takes an incident's id as a part of the path.
    pub(crate) fn incident(&mut self) {
        let form = json!({ "type": "string", "format": "uuid" });
        self.path("id", "The incident's id.", &form);
    }

    /// Takes a parameter of the query, which may be absent.
    pub(crate) fn asks(&mut self, name: &str, about: &str, form: &Value) {
        self.parameter("query", name, about, form);
    }

    /// Takes a parameter of the query, which may be there several times.
    pub(crate) fn asks_often(&mut self, name: &str, about: &str, form: &Value) {
        self.asks(name, about, form);
        if let Some(fields) = self.parameters.last_mut().and_then(Value::as_object_mut) {
            fields.insert("explode".to_owned(), true.into());
        }
    }

    /// Takes the header `idempotency-key`.
    pub(crate) fn key(&mut self) {
        let form = json!({
            "type": "string", "pattern": "^[!-~]*[!#-~][!-~]*$", "minLength": 1, "maxLength": KEY_BYTES_MAX,
        });
        let about =
            "Names this very request: sent again, it counts once. Stands for a missing `id`.";
        self.parameter("header", "idempotency-key", about, &form);
    }

    /// Takes a body, which must be there.
    pub(crate) fn takes(&mut self, media: &str, form: &Value, examples: &[(&str, Value)]) {
        self.body_required = true;
        self.takes_perhaps(media, form, examples);
    }

    /// Takes a body, which may be empty.
    pub(crate) fn takes_perhaps(&mut self, media: &str, form: &Value, examples: &[(&str, Value)]) {
        let named = |(name, value): &(&str, Value)| ((*name).to_owned(), json!({ "value": value }));
        let examples: Map<_, _> = examples.iter().map(named).collect();
        self.bodies.insert(media.to_owned(), json!({ "schema": form, "examples": examples }));
    }

    /// Answers with JSON.
    pub(crate) fn answers(&mut self, status: u16, about: &str, form: &Value) {
        self.answer(status, about, Some(json!({ "application/json": { "schema": form } })));
    }

    /// Answers with JSON of its own, or as everywhere.
    pub(crate) fn answers_or_problem(&mut self, status: u16, about: &str, form: &Value) {
        self.answers(status, about, &json!({ "anyOf": [form, problem()] }));
    }

    /// Answers with text.
    pub(crate) fn answers_text(&mut self, status: u16, about: &str, media: &str, example: &str) {
        let text = json!({ "schema": { "type": "string" }, "example": example });
        let media = media.split(';').next().unwrap_or(media);
        self.answer(status, about, Some(json!({ media: text })));
    }

    /// Answers with a page.
    pub(crate) fn answers_page(&mut self, status: u16, about: &str) {
        self.answers_text(status, about, "text/html", "<!doctype html>");
    }

    /// Answers with a page, or as everywhere.
    pub(crate) fn answers_page_or_problem(&mut self, status: u16, about: &str) {
        let page = json!({ "schema": { "type": "string" } });
        let content = json!({ "text/html": page, "application/json": { "schema": problem() } });
        self.answer(status, about, Some(content));
    }

    /// Answers without a body.
    pub(crate) fn answers_nothing(&mut self, status: u16, about: &str) {
        self.answer(status, about, None);
    }

    /// Answers with a problem.
    pub(crate) fn refuses(&mut self, status: u16, about: &str) {
        self.answers(status, about, &problem());
    }

    /// Says that a field of an answer is the incident of another route.
    pub(crate) fn leads_to(&mut self, status: u16, operation: &str, field: &str) {
        let link = json!({ operation: {
            "operationId": operation,
            "parameters": { "id": format!("$response.body#{field}") },
        } });
        if let Some(Value::Object(answer)) = self.answers.get_mut(&status.to_string()) {
            answer.insert("links".to_owned(), link);
        }
    }

    fn answer(&mut self, status: u16, about: &str, content: Option<Value>) {
        self.answers.insert(status.to_string(), answer(about, content, &["x-request-id"]));
    }
}

fn problem() -> Value {
    json!({ "$ref": "#/components/schemas/Problem" })
}

fn answer(about: &str, content: Option<Value>, headers: &[&str]) -> Value {
    let header = |name: &&str| {
        ((*name).to_owned(), json!({ "$ref": format!("#/components/headers/{name}") }))
    };
    let headers: Map<_, _> = headers.iter().map(header).collect();
    let mut answer = json!({ "description": about, "headers": headers });
    if let (Some(content), Some(fields)) = (content, answer.as_object_mut()) {
        fields.insert("content".to_owned(), content);
    }
    answer
}

/// Returns what the layers around all routes answer: see [`crate::access`] and [`crate::layers`].
pub(super) fn common_answers() -> Value {
    let one = |about: &str, more: &[&str]| {
        let headers: Vec<_> = ["x-request-id"].iter().chain(more).copied().collect();
        answer(about, Some(json!({ "application/json": { "schema": problem() } })), &headers)
    };
    json!({
        "Wrong": one("The request is wrong; `error.message` names what. Sending it again is useless.", &[]),
        "NoToken": one("The token is missing or not known.", &["www-authenticate"]),
        "Stranger": one("The role is too low; or, where no token is asked for: only this host is served, and no page of another site.", &[]),
        "Often": one("The caller comes more often than `access.rate` or its token allows.", &["retry-after"]),
        "Slow": one("The request did not come whole within 30 s.", &[]),
        "Defect": one("The gateway has a defect here.", &[]),
        "Later": one("Not now: nothing is promised. Send it again after `retry-after`.", &["retry-after"]),
    })
}

/// Returns the headers of answers.
pub(super) fn headers() -> Value {
    let header = |about: &str, form: &Value| json!({ "description": about, "required": true, "schema": form });
    let text = json!({ "type": "string" });
    json!({
        "x-request-id": header("Names the request in the log: the sender's, or a new one.", &text),
        "retry-after": header("Seconds to wait.", &json!({ "type": "integer", "minimum": 0 })),
        "www-authenticate": header("How to authenticate: a bearer token.", &text),
    })
}
