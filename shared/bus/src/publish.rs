//! Publishing into a stream, with every way it can end told apart.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    jetstream::{
        self, ErrorCode,
        context::{PublishError, PublishErrorKind},
        message::PublishMessage,
        publish::PublishAck,
    },
};
use bytes::Bytes;
use domain::id::Position;
use tokio::time::{Instant, sleep};

use crate::{
    Error,
    core::Core,
    link::{Backoff, CONNECTION_LOST},
};

/// How long one publish may take before it is sent again: no longer than a cluster needs
/// for another leader of the stream when the former one was asked to end. Nothing tells
/// that what was sent to the former one went down with it.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);

/// First and last wait between tries.
const RETRY_FIRST: Duration = Duration::from_millis(25);
const RETRY_LAST: Duration = Duration::from_secs(1);

/// How long to try when nobody else says so.
pub(crate) const GIVE_UP: Duration = Duration::from_secs(10);

/// Longest reason that is put into a header.
const WHY_BYTES_MAX: usize = 1024;

/// Why one publish was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The stream is not where it was expected: nothing was stored by this publish.
    #[error("wrong last sequence")]
    WrongSequence,
    /// The stream is full: nothing was stored.
    #[error("the stream is full: {0}")]
    Full(String),
    /// The message is too large: nothing was stored.
    #[error("the message is too large: {0}")]
    TooLarge(String),
    /// There is no such stream (yet): nothing was stored.
    #[error("there is no stream for it")]
    NoStream,
    /// Nothing was heard. It may be stored, or be stored later.
    #[error("no acknowledgement: {0}")]
    Unknown(String),
    /// The broker refused it: nothing was stored.
    #[error("refused by the broker: {0}")]
    Refused(String),
}

/// Publishes once, not before there is a connection.
pub(crate) async fn once(
    core: &Core,
    subject: &str,
    message: PublishMessage,
    deadline: Instant,
) -> Result<PublishAck, Fault> {
    // Without a connection the client would keep the message and send it much later.
    if !core.link.connected_by(deadline).await {
        return Err(Fault::Unknown("no connection".to_owned()));
    }
    let until = deadline.min(Instant::now() + ATTEMPT_TIMEOUT);
    let acked = core
        .link
        .while_it_lasts(async { core.js.send_publish(subject.to_owned(), message).await?.await });
    match tokio::time::timeout_at(until, acked).await {
        Ok(Some(acked)) => acked.map_err(|error| fault(&error)),
        Ok(None) => Err(Fault::Unknown(CONNECTION_LOST.to_owned())),
        Err(_elapsed) => Err(Fault::Unknown("timed out".to_owned())),
    }
}

/// Publishes until it is acknowledged or refused. The message must carry an id, or be
/// harmless when it is stored twice.
pub(crate) async fn until_acked(
    core: &Core,
    subject: &str,
    message: impl Fn() -> PublishMessage,
    give_up: Duration,
) -> Result<PublishAck, Fault> {
    let deadline = Instant::now() + give_up;
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
    loop {
        let fault = match once(core, subject, message(), deadline).await {
            Ok(ack) => return Ok(ack),
            Err(fault @ (Fault::Unknown(_) | Fault::NoStream)) => fault,
            Err(
                fault @ (Fault::WrongSequence
                | Fault::Full(_)
                | Fault::TooLarge(_)
                | Fault::Refused(_)),
            ) => return Err(fault),
        };
        let wait = backoff.step();
        if deadline <= Instant::now() + wait {
            return Err(fault);
        }
        sleep(wait).await;
    }
}

fn fault(error: &PublishError) -> Fault {
    match error.kind() {
        PublishErrorKind::WrongLastSequence | PublishErrorKind::WrongLastMessageId => {
            Fault::WrongSequence
        }
        PublishErrorKind::StreamNotFound => Fault::NoStream,
        PublishErrorKind::MaxPayloadExceeded => Fault::TooLarge(error.to_string()),
        PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending => Fault::Unknown(error.to_string()),
        PublishErrorKind::Other => told(error),
    }
}

fn told(error: &PublishError) -> Fault {
    let source = std::error::Error::source(error);
    let Some(told) = source.and_then(|source| source.downcast_ref::<jetstream::Error>()) else {
        return Fault::Unknown(error.to_string());
    };
    let code = told.error_code();
    let full = [
        ErrorCode::STREAM_STORE_FAILED,
        ErrorCode::INSUFFICIENT_RESOURCES,
        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ErrorCode::MEMORY_RESOURCES_EXCEEDED,
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ];
    if full.contains(&code) {
        Fault::Full(told.to_string())
    } else if code == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM {
        Fault::TooLarge(told.to_string())
    } else if told.code() == 503 || told.code() == 500 {
        // The broker has trouble of its own, such as an election: it may pass.
        Fault::Unknown(told.to_string())
    } else {
        Fault::Refused(told.to_string())
    }
}

/// Stores input that was not understood; see [`crate::Bus::reject`].
pub(crate) async fn reject(
    core: &Core,
    reason: &str,
    position: Position,
    raw: Bytes,
    why: &str,
) -> Result<(), Error> {
    let subject = core.subjects.rejected(reason);
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", format!("rejected/{position}"));
    headers.insert("Selfheal-Position", position.to_string());
    headers.insert("Selfheal-Why", one_line(why));
    let message = || PublishMessage::build().payload(raw.clone()).headers(headers.clone());
    let stored = until_acked(core, &subject, message, GIVE_UP).await;
    stored
        .map(drop)
        .map_err(|fault| Error::NotStored { what: "rejected input", source: fault.into() })
}

/// Makes text fit for a header.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(WHY_BYTES_MAX));
    for c in text.chars() {
        if WHY_BYTES_MAX < line.len() + c.len_utf8() {
            break;
        }
        line.push(if c.is_control() { ' ' } else { c });
    }
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_becomes_one_short_line() {
        assert_eq!(one_line(" a\r\nb "), "a  b");
        assert_eq!(one_line(&"ä".repeat(2000)).len(), WHY_BYTES_MAX);
    }
}
