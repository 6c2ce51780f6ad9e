//! The document about the HTTP interface, in OpenAPI 3.1, made from the table of routes and from
//! the types that are read and written; and the same as a page.
//!
//! Source of the format: the OpenAPI Specification 3.1.1.

mod operation;
mod page;

use std::sync::LazyLock;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use domain::schema::Forms;
use serde_json::{Map, Value, json};

use crate::{
    app::App,
    routes::{GROUPS, Group},
};

pub(crate) use operation::Operation;

/// The version of the specification.
const OPENAPI: &str = "3.1.1";

const ABOUT: &str = "Events in, incidents and decisions out. A gateway that asks for tokens does so at all paths that \
    say so; one that does not serves only requests to a loopback name of its own host, and refuses all others \
    with 403. A path that is not here is answered with 404, another method with 405 and the header `allow`. Errors have \
    one form. Every answer has the header `x-request-id`; a request may bring one.";

/// What the page may load: its own style, and nothing else.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Written once: it says the same as long as the process lives.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi().into());
static WITHOUT_TOKEN: LazyLock<Bytes> = LazyLock::new(|| {
    let mut document = document_value();
    // Nobody is asked for one here, and the document must not claim so.
    if let Some(fields) = document.as_object_mut() {
        fields.insert("security".to_owned(), json!([]));
    }
    format!("{document:#}\n").into()
});
static PAGE: LazyLock<Bytes> = LazyLock::new(|| page::write(&document_value()).into());

/// Returns the document, as `GET /openapi.json` answers it.
#[must_use]
pub fn openapi() -> String {
    format!("{:#}\n", document_value())
}

/// `GET /openapi.json`.
pub(crate) async fn document(State(app): State<App>) -> Response {
    let document = if app.asks_for_token() { &DOCUMENT } else { &WITHOUT_TOKEN };
    answer("application/json", Bytes::clone(document))
}

/// `GET /docs`.
pub(crate) async fn page() -> Response {
    let mut response = answer("text/html; charset=utf-8", PAGE.clone());
    let policy = HeaderValue::from_static(PAGE_POLICY);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// `GET /docs/style.css`.
pub(crate) async fn style() -> Response {
    answer("text/css; charset=utf-8", Bytes::from_static(include_bytes!("openapi/page.css")))
}

fn answer(media: &'static str, body: Bytes) -> Response {
    let no_sniffing = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    ([(header::CONTENT_TYPE, media), no_sniffing], Body::from(body)).into_response()
}

fn document_value() -> Value {
    let mut forms = Forms::written();
    let mut paths: Map<String, Value> = Map::new();
    for group in GROUPS {
        for route in group.routes {
            let (method, path) = route.method_and_path();
            let operation = Operation::of(route, group.name, &mut forms);
            let methods = paths.entry(path).or_insert_with(|| json!({}));
            if let Some(methods) = methods.as_object_mut() {
                methods.insert(method.to_ascii_lowercase(), operation);
            }
        }
    }
    let tag = |group: &Group| json!({ "name": group.name, "description": group.about });
    json!({
        "openapi": OPENAPI,
        "info": {
            "title": "Self-Heal ITOps",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        // Where the document came from.
        "servers": [{ "url": "/" }],
        "tags": GROUPS.map(tag),
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas(forms),
            "responses": operation::common_answers(),
            "headers": operation::headers(),
            "securitySchemes": { "token": {
                "type": "http", "scheme": "bearer",
                "description": "What `SELFHEAL_API_TOKEN` says, a token of `selfheal token create`, or one of the configured provider. Not asked for when the gateway was started to ask for none.",
            } },
        },
    })
}

fn schemas(forms: Forms) -> Map<String, Value> {
    let mut schemas = forms.all();
    let text = |about: &str| json!({ "description": about, "type": "string" });
    let problem = json!({
        "description": "Why a request was not served.",
        "type": "object",
        "required": ["error"],
        "properties": { "error": {
            "type": "object",
            "required": ["code", "message", "hint"],
            "properties": {
                "code": text("Short name of the reason, for programs."),
                "message": text("What is wrong, and where."),
                "hint": text("What to do."),
            },
        } },
    });
    schemas.insert("Problem".to_owned(), problem);
    schemas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::table::Need;

    #[test]
    fn the_checked_in_document_is_that_of_the_routes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schemas/openapi.json");
        let checked_in = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            checked_in == openapi(),
            "docs/schemas/openapi.json does not follow from services/gateway/src/routes.rs: run `cargo xtask docs`"
        );
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(fields) => {
                    found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    fields.values().for_each(|it| references(it, found));
                }
                Value::Array(list) => list.iter().for_each(|it| references(it, found)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        let document = document_value();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(50 < found.len(), "is the test blind?");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn the_document_says_which_paths_never_ask_for_a_token() {
        let document = document_value();
        let mut n_open = 0;
        for route in crate::routes::all() {
            let (method, path) = route.method_and_path();
            let security = &document["paths"][path][method.to_lowercase()]["security"];
            match route.need {
                Need::Open => assert_eq!(*security, json!([]), "{}", route.at),
                Need::Own => assert!(security.is_array(), "{}: {security}", route.at),
                Need::Known | Need::Least(_) => assert!(security.is_null(), "{}", route.at),
            }
            n_open += usize::from(route.need == Need::Open);
        }
        assert_eq!(n_open, 8);
    }

    #[test]
    fn the_page_shows_every_route_and_runs_nothing() {
        let page = page::write(&document_value());
        for route in crate::routes::all() {
            let (_, path) = route.method_and_path();
            assert!(page.contains(&format!("id=\"{}\"", route.id)), "{}", route.at);
            assert!(page.contains(path), "{path}");
        }
        assert!(!page.contains("<script") && !page.contains("://cdn"), "it is complete in itself");
    }
}
