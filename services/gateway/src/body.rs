//! Reading a request's body, up to a limit, and no slower than a limit.

use std::{future::poll_fn, pin::Pin, sync::Arc};

use axum::{
    body::HttpBody,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::{access::Principal, layers::too_slow_body, permits::Permit, problem::Problem};

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
        read(&head.headers, body, head.extensions.get()).await.map(Self)
    }
}

/// The whole body of a message that may hold many alerts, and who sent it, if the head of the
/// request proved that already.
#[derive(Debug)]
pub(crate) struct Group(pub(crate) Bytes, pub(crate) Option<Arc<Principal>>);

/// Who the head of a request proved to be its sender, at a route with a secret of its own.
#[derive(Clone, Debug)]
pub(crate) struct ProvenBy(pub(crate) Arc<Principal>);

impl<S: Sync> FromRequest<S> for Group {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let (head, body) = request.into_parts();
        let has_length = head.headers.contains_key(header::CONTENT_LENGTH);
        let bytes_max = if has_length { GROUP_BYTES_MAX } else { BODY_BYTES_MAX };
        let proven = head.extensions.get().map(|ProvenBy(principal)| Arc::clone(principal));
        let read = read_up_to(&head.headers, body, bytes_max, head.extensions.get()).await;
        read.map(|body| Self(body, proven))
    }
}

/// Reads a body whole. One that comes in one piece is not copied.
pub(crate) async fn read<B>(
    headers: &HeaderMap,
    body: B,
    permit: Option<&Permit>,
) -> Result<Bytes, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    read_up_to(headers, body, BODY_BYTES_MAX, permit).await
}

async fn read_up_to<B>(
    headers: &HeaderMap,
    mut body: B,
    bytes_max: usize,
    permit: Option<&Permit>,
) -> Result<Bytes, Problem>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let bytes_max = permit.map_or(bytes_max, |it| it.body_bytes_max().min(bytes_max));
    let too_large = || too_large(bytes_max);
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| DISCARD_BYTES_MAX < length) {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut n_bytes = 0_usize;
    let begun = Instant::now();
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let frame = match permit.map(Permit::pace) {
            None => frame.await,
            Some(pace) => timeout_at(begun + pace.allowed(n_bytes), frame)
                .await
                .map_err(|_elapsed| too_slow_body(n_bytes))?,
        };
        let Some(frame) = frame else { break };
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
            if let Some(permit) = permit {
                permit.forget_body();
            }
            continue;
        }
        if let Some(permit) = permit {
            permit.grow(part.len())?;
        }
        if n_bytes == part.len() {
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
