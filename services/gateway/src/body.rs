//! Reading a request's body, up to a limit.

use std::{future::poll_fn, pin::Pin};

use axum::{
    body::HttpBody,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// Longest body that is taken.
pub(crate) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Longest body of a message that holds many alerts, and says how long it is: most senders of
/// alerts drop what is refused as too long. That of others is as for all.
pub(crate) const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How much of a body that is too long is still read and thrown away, so that the
/// sender hears our answer instead of a broken connection.
const DISCARD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A whole body.
#[derive(Debug)]
pub(crate) struct Whole(pub(crate) Bytes);

impl<S: Sync> FromRequest<S> for Whole {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let (head, body) = request.into_parts();
        read(&head.headers, body).await.map(Self)
    }
}

/// The whole body of a message that may hold many alerts.
#[derive(Debug)]
pub(crate) struct Group(pub(crate) Bytes);

impl<S: Sync> FromRequest<S> for Group {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let (head, body) = request.into_parts();
        let has_length = head.headers.contains_key(header::CONTENT_LENGTH);
        let bytes_max = if has_length { GROUP_BYTES_MAX } else { BODY_BYTES_MAX };
        read_up_to(&head.headers, body, bytes_max).await.map(Self)
    }
}

/// Reads a body whole. One that comes in one piece is not copied.
pub(crate) async fn read<B>(headers: &HeaderMap, body: B) -> Result<Bytes, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    read_up_to(headers, body, BODY_BYTES_MAX).await
}

async fn read_up_to<B>(headers: &HeaderMap, mut body: B, bytes_max: usize) -> Result<Bytes, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let too_large = || too_large(bytes_max);
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| DISCARD_BYTES_MAX < length) {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut n_bytes = 0_usize;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| {
            let message = format!("the body ended early: {error}");
            Problem::bad("body_incomplete", message, "send it again")
        })?;
        let Ok(part) = frame.into_data() else { continue };
        n_bytes = n_bytes.saturating_add(part.len());
        if DISCARD_BYTES_MAX < n_bytes {
            return Err(too_large());
        }
        if bytes_max < n_bytes {
            (first, rest) = Default::default();
        } else if n_bytes == part.len() {
            first = part;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&part);
        }
    }
    match () {
        () if bytes_max < n_bytes => Err(too_large()),
        () if rest.is_empty() => Ok(first),
        () => Ok(rest.freeze()),
    }
}

/// 413, with the limit.
fn too_large(bytes_max: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!("the body is longer than {bytes_max} bytes"),
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
        // A list would be read as the fields in their order.
        if !value.is_object() {
            return Err(Problem::bad("invalid_body", "the body is not a JSON object", hint));
        }
        serde_json::from_value(value).map_err(|error| {
            Problem::bad("invalid_body", format!("the body is refused: {error}"), hint)
        })
    }
}
