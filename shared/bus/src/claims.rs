//! Claims: of all who want to run an attempt, or to send a notice, one may.

use std::time::Duration;

use async_nats::jetstream::{
    ErrorCode,
    message::PublishMessage,
    stream::{LastRawMessageError, LastRawMessageErrorKind},
};
use bytes::Bytes;
use domain::{id::IncidentId, wire::Claim};
use tokio::time::Instant;

use crate::{
    Error,
    core::Core,
    link::{Backoff, CONNECTION_LOST},
    publish::{self, Fault, GIVE_UP},
    topology::StreamId,
};

/// First and last wait between tries of one claim.
const RETRY_FIRST: Duration = Duration::from_millis(25);
const RETRY_LAST: Duration = Duration::from_millis(500);

/// The claims.
#[derive(Clone, Debug)]
pub struct Claims {
    core: Core,
}

/// How a claim ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Claimed {
    /// The attempt is ours: nobody else will ever run it.
    Won,
    /// It is another's, with this claim.
    Lost(Claim),
}

/// Why a claim was neither won nor lost. The attempt must not be run then.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unsettled(String);

impl Claims {
    pub(crate) fn new(core: &Core) -> Self {
        Self { core: core.clone() }
    }

    /// Claims an attempt; the first wins, for good. `claim.id` must be random.
    ///
    /// # Errors
    ///
    /// [`Error::ClaimUnknown`] when the broker did not settle it in time: the attempt must
    /// **not** be run, although the claim may have been stored.
    pub async fn claim(
        &self,
        incident: &IncidentId,
        attempt: &str,
        claim: &Claim,
    ) -> Result<Claimed, Error> {
        self.claim_at((StreamId::Claims, &self.core.subjects.claim(incident, attempt)), claim).await
    }

    /// Claims what a gateway does once, such as sending one notice; the first wins, for good.
    /// `claim.id` must be random.
    ///
    /// # Errors
    ///
    /// [`Error::ClaimUnknown`] as with [`Claims::claim`]: it must **not** be done.
    pub async fn claim_once(&self, key: &str, claim: &Claim) -> Result<Claimed, Error> {
        self.claim_at((StreamId::Once, &self.core.subjects.once(key)), claim).await
    }

    async fn claim_at(
        &self,
        at @ (_, subject): (StreamId, &str),
        claim: &Claim,
    ) -> Result<Claimed, Error> {
        let payload = serde_json::to_vec(claim)
            .map(Bytes::from)
            .map_err(|error| Error::client("write the claim", error))?;
        let deadline = Instant::now() + GIVE_UP;
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        loop {
            let message =
                PublishMessage::build().payload(payload.clone()).expected_last_subject_sequence(0);
            let sent = publish::once(&self.core, subject, message, deadline).await;
            let Err(fault) = sent else { return Ok(Claimed::Won) };
            match fault {
                // Taken: by another, or by our own try whose answer was lost.
                Fault::WrongSequence | Fault::Unknown(_) | Fault::NoStream => {}
                Fault::Full(_) | Fault::TooLarge(_) | Fault::Refused(_) => {
                    return Err(Error::ClaimUnknown(Unsettled(fault.to_string())));
                }
            }
            match self.holder(at, deadline).await? {
                Some(holder) if holder.id == claim.id => return Ok(Claimed::Won),
                Some(holder) => return Ok(Claimed::Lost(holder)),
                None if deadline <= Instant::now() => {
                    return Err(Error::ClaimUnknown(Unsettled(fault.to_string())));
                }
                None => backoff.wait().await,
            }
        }
    }

    /// Returns who has claimed an attempt, if anybody.
    ///
    /// # Errors
    ///
    /// [`Error::ClaimUnknown`] when the broker does not tell in time.
    pub async fn find(&self, incident: &IncidentId, attempt: &str) -> Result<Option<Claim>, Error> {
        let subject = self.core.subjects.claim(incident, attempt);
        self.holder((StreamId::Claims, &subject), Instant::now() + GIVE_UP).await
    }

    /// Asks the stream's leader, never a copy of it, which may lag behind.
    async fn holder(
        &self,
        (id, subject): (StreamId, &str),
        deadline: Instant,
    ) -> Result<Option<Claim>, Error> {
        let unsettled = |why: String| Error::ClaimUnknown(Unsettled(why));
        let name = self.core.subjects.stream(id);
        let stream = self.core.js.get_stream_no_info(name).await;
        let stream = stream.map_err(|error| unsettled(error.to_string()))?;
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        loop {
            if !self.core.link.connected_by(deadline).await {
                return Err(unsettled("no connection".to_owned()));
            }
            let look = stream.get_last_raw_message_by_subject(subject);
            let error = match self.core.link.while_it_lasts(look).await {
                Some(Ok(found)) => {
                    let claim = serde_json::from_slice(&found.payload);
                    return claim.map(Some).map_err(|error| unsettled(error.to_string()));
                }
                Some(Err(error)) if is_nothing(&error) => return Ok(None),
                Some(Err(error)) => error.to_string(),
                None => CONNECTION_LOST.to_owned(),
            };
            if deadline <= Instant::now() {
                return Err(unsettled(error));
            }
            backoff.wait().await;
        }
    }
}

fn is_nothing(error: &LastRawMessageError) -> bool {
    match error.kind() {
        LastRawMessageErrorKind::NoMessageFound => true,
        LastRawMessageErrorKind::JetStream(told) => {
            told.error_code() == ErrorCode::NO_MESSAGE_FOUND
        }
        LastRawMessageErrorKind::InvalidSubject | LastRawMessageErrorKind::Other => false,
    }
}
