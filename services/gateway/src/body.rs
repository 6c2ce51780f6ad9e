//! Reading a request's body, up to a limit.

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// Longest body that is taken.
pub(crate) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// How much of a body that is too long is still read and thrown away, so that the
/// sender hears our answer instead of a broken connection.
const DISCARD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A whole body.
#[derive(Debug)]
pub(crate) struct Whole(pub(crate) Bytes);

impl<S: Sync> FromRequest<S> for Whole {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let length = request.headers().get(header::CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| DISCARD_BYTES_MAX < length) {
            return Err(too_large());
        }
        read(request.into_body()).await.map(Self)
    }
}

async fn read(body: Body) -> Result<Bytes, Problem> {
    let mut parts = body.into_data_stream();
    let mut whole = BytesMut::new();
    let mut n_bytes = 0_usize;
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| {
            Problem::bad(
                "body_incomplete",
                format!("the body ended early: {error}"),
                "send it again",
            )
        })?;
        n_bytes = n_bytes.saturating_add(part.len());
        if DISCARD_BYTES_MAX < n_bytes {
            return Err(too_large());
        }
        if n_bytes <= BODY_BYTES_MAX {
            whole.extend_from_slice(&part);
        }
    }
    if BODY_BYTES_MAX < n_bytes { Err(too_large()) } else { Ok(whole.freeze()) }
}

/// 413, with the limit.
pub(crate) fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!("the body is longer than {BODY_BYTES_MAX} bytes"),
        "send the part that matters, and a link to the rest",
    )
}

impl Whole {
    /// Reads the body as a small JSON object of known fields; an empty one has none.
    pub(crate) fn fields<T: DeserializeOwned + Default>(&self, hint: &str) -> Result<T, Problem> {
        if self.0.iter().all(u8::is_ascii_whitespace) {
            return Ok(T::default());
        }
        let value = domain::event::json(&self.0)?;
        serde_json::from_value(value).map_err(|error| {
            Problem::bad("invalid_body", format!("the body is refused: {error}"), hint)
        })
    }
}
