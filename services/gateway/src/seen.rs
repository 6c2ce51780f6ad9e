//! What a caller may see of what supervisors tell: only admins see headers, environments, bodies,
//! credentials and the configuration; approvers see what they decide about.

use bytes::Bytes;
use domain::{
    access::Role,
    redact::{Reader, Redactor},
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    access::{Caller, Principal},
    app::App,
    backend::defect,
    problem::Problem,
};

/// Returns what is left out for somebody; `None`: nothing is.
pub(crate) fn reader(principal: &Principal) -> Option<Reader> {
    match principal.role {
        Role::Admin => None,
        Role::Approver => Some(Reader::Approver),
        Role::Operator | Role::Viewer | Role::Publisher => Some(Reader::Viewer),
    }
}

/// Returns an answer of a supervisor as the caller may see it.
pub(crate) fn bytes(app: &App, caller: &Caller, answer: Bytes) -> Result<Bytes, Problem> {
    let Some(reader) = reader(caller.require_any()?) else { return Ok(answer) };
    let value = serde_json::from_slice(&answer).map_err(|error| defect(&error))?;
    redacted(&app.redactor(), value, reader)
}

/// Returns what the caller may see of something.
pub(crate) fn value<T: Serialize>(
    app: &App,
    caller: &Caller,
    answer: &T,
) -> Result<Value, Problem> {
    let mut value = serde_json::to_value(answer).map_err(|error| defect(&error))?;
    if let Some(reader) = reader(caller.require_any()?) {
        app.redactor().json(&mut value, reader);
    }
    Ok(value)
}

/// Returns what is told live as everybody may see it but admins. What is no JSON is not shown.
pub(crate) fn live(redactor: &Redactor, data: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(data) else { return "{}".to_owned() };
    redactor.json(&mut value, Reader::Viewer);
    value.to_string()
}

fn redacted(redactor: &Redactor, mut value: Value, reader: Reader) -> Result<Bytes, Problem> {
    redactor.json(&mut value, reader);
    serde_json::to_vec(&value).map(Bytes::from).map_err(|error| defect(&error))
}
