//! What a caller hears when something is wrong.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::event::DecodeError;
use serde_json::json;

/// Longest message.
const MESSAGE_CHARS_MAX: usize = 1000;

/// An answer that is not a success: `{"error":{"code","message","hint"}}`.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    hint: String,
    retry_after_s: Option<u16>,
}

impl Problem {
    /// Makes an answer.
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let mut message = message.into();
        // What is refused may be repeated in it, and may be as long as a body.
        if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
            message.truncate(end);
            message.push('…');
        }
        Self { status, code, message, hint: hint.into(), retry_after_s: None }
    }

    /// 400: the request itself is wrong, and sending it again is useless.
    pub(crate) fn bad(
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message, hint)
    }

    /// 503: we cannot now. Never 429, which Alertmanager takes for a refusal and drops the alert.
    pub(crate) fn later(
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
        retry_after_s: u16,
    ) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message, hint).after(retry_after_s)
    }

    /// Says when to come again.
    pub(crate) fn after(mut self, seconds: u16) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Says what to do in other words.
    pub(crate) fn hinted(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// Says which part of a batch is meant.
    pub(crate) fn at(mut self, idx: usize) -> Self {
        self.message = format!("event {idx} of the batch: {}", self.message);
        self
    }

    /// Returns what people read.
    pub(crate) fn text(&self) -> String {
        format!("{}: {}", self.message, self.hint)
    }

    /// Returns the status code.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the word for programs.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// Returns what is wrong, in words.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Returns the answer's body.
    pub(crate) fn body(&self) -> serde_json::Value {
        json!({ "error": { "code": self.code, "message": self.message, "hint": self.hint } })
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        Self::bad(error.code, error.message, error.hint)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer realm=\"selfheal\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}
