//! Claims: of all who want to run an attempt, or to send a notice, one may.
//!
//! The claim of an attempt is a lease. The first record is written with expected sequence 0: the
//! first wins. Its holder renews it, each time behind its own last record ([`Holding`]). Whoever
//! takes over writes behind the last record that it saw ([`Claims::take_over`]): from then on the
//! former holder's renewals are refused, for good.

mod holding;

use std::time::Duration;

use async_nats::jetstream::{
    ErrorCode,
    message::PublishMessage,
    stream::{LastRawMessageError, LastRawMessageErrorKind},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::{
    id::IncidentId,
    wire::{Claim, ClaimState},
};
use futures_util::TryStreamExt as _;
use tokio::time::Instant;

pub use self::holding::{Holding, Lost};
use crate::{
    Error, clock,
    core::{Core, utc},
    link::{Backoff, CONNECTION_LOST},
    publish::{self, Fault, GIVE_UP},
    topology::{CLAIM_KEPT_OVER, StreamId},
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

/// A claim as it stands on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRecord {
    /// The claim.
    pub claim: Claim,
    /// Its place in the stream.
    pub seq: u64,
    /// When the broker stored it.
    pub stored_at: DateTime<Utc>,
}

/// Which record stands after a write.
enum Stands {
    /// The one that was to be written, at this place.
    Ours(u64),
    /// The one that was first.
    Other(ClaimRecord),
}

/// How a claim of an attempt ended.
#[derive(Debug)]
#[must_use]
pub enum Held {
    /// The attempt is ours for as long as this is kept.
    Ours(Holding),
    /// It is another's, or was withdrawn.
    Other(ClaimRecord),
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
        let subject = self.core.subjects.claim(incident, attempt);
        self.claim_at((StreamId::Claims, &subject), claim).await
    }

    /// Claims an attempt and keeps the claim alive. The first wins. `claim.id` must be random;
    /// `acts_for` is how long its first step may take.
    ///
    /// # Errors
    ///
    /// As [`Self::claim`].
    pub async fn hold(
        &self,
        incident: &IncidentId,
        attempt: &str,
        claim: Claim,
        acts_for: Duration,
    ) -> Result<Held, Error> {
        let subject = self.core.subjects.claim(incident, attempt);
        let claim = holding::announcing(claim, acts_for);
        let sent = clock::since_boot();
        match self.write_behind((StreamId::Claims, &subject), 0, &claim).await? {
            Stands::Ours(seq) => {
                let core = self.core.clone();
                let lease =
                    holding::Record { claim, seq, sent, acts_until: sent + acts_for, n_sent: 0 };
                Ok(Held::Ours(Holding::begin(core, subject, lease)))
            }
            Stands::Other(record) => Ok(Held::Other(record)),
        }
    }

    /// Writes `claim` in the place of a record that was seen. `false` when another record stands
    /// there: the holder has renewed it, or somebody else was first.
    ///
    /// # Errors
    ///
    /// [`Error::ClaimUnknown`] when the broker did not settle it in time.
    pub async fn take_over(
        &self,
        incident: &IncidentId,
        attempt: &str,
        seen: &ClaimRecord,
        claim: &Claim,
    ) -> Result<bool, Error> {
        let subject = self.core.subjects.claim(incident, attempt);
        let stands = self.write_behind((StreamId::Claims, &subject), seen.seq, claim).await?;
        Ok(matches!(stands, Stands::Ours(_)))
    }

    /// Withdraws an order that no fixer has claimed: claims its attempt, so that none can.
    /// `None` when it is withdrawn, now or by an earlier call; else the record that stands.
    ///
    /// # Errors
    ///
    /// [`Error::ClaimUnknown`] when the broker did not settle it in time.
    pub async fn recall(
        &self,
        incident: &IncidentId,
        attempt: &str,
        claim: Claim,
    ) -> Result<Option<ClaimRecord>, Error> {
        let subject = self.core.subjects.claim(incident, attempt);
        let claim = Claim { state: ClaimState::Recalled, lease_ms: Some(0), ..claim };
        match self.write_behind((StreamId::Claims, &subject), 0, &claim).await? {
            Stands::Ours(_) => Ok(None),
            Stands::Other(other) => match other.claim.state {
                ClaimState::Recalled => Ok(None),
                ClaimState::Held | ClaimState::Expired => Ok(Some(other)),
            },
        }
    }

    /// Lets the claims of an incident that is over leave soon: writes `last`, which nobody can
    /// renew, behind each. A fixer that still holds one is refused from then on. Returns how many.
    ///
    /// # Errors
    ///
    /// [`Error::ClaimUnknown`] when the broker did not take it in time. They leave by their age
    /// then.
    pub async fn end(&self, incident: &IncidentId, last: &Claim) -> Result<usize, Error> {
        let last = Claim { state: ClaimState::Expired, lease_ms: Some(0), ..last.clone() };
        let payload = payload(&last)?;
        let subjects = self.subjects_of(incident).await?;
        for subject in &subjects {
            self.end_one(subject, payload.clone()).await?;
        }
        Ok(subjects.len())
    }

    async fn end_one(&self, subject: &str, payload: Bytes) -> Result<(), Error> {
        let deadline = Instant::now() + GIVE_UP;
        loop {
            let Some(found) = self.holder((StreamId::Claims, subject), deadline).await? else {
                return Ok(());
            };
            let message = PublishMessage::build()
                .payload(payload.clone())
                .ttl(CLAIM_KEPT_OVER)
                .expected_last_subject_sequence(found.seq);
            match publish::once(&self.core, subject, message, deadline).await {
                Ok(_) => return Ok(()),
                // Its holder has renewed it meanwhile.
                Err(Fault::WrongSequence) if Instant::now() < deadline => {}
                Err(fault) => return Err(Error::ClaimUnknown(Unsettled(fault.to_string()))),
            }
        }
    }

    /// Returns the subjects of all claims of an incident.
    async fn subjects_of(&self, incident: &IncidentId) -> Result<Vec<String>, Error> {
        let unsettled = |why: String| Error::ClaimUnknown(Unsettled(why));
        let name = self.core.subjects.stream(StreamId::Claims);
        let filter = self.core.subjects.claim_all(incident);
        let look = async {
            let stream = self.core.js.get_stream_no_info(name).await;
            let stream = stream.map_err(|error| unsettled(error.to_string()))?;
            let found = stream.info_with_subjects(filter).await;
            let found = found.map_err(|error| unsettled(error.to_string()))?;
            let subjects: Vec<_> = found
                .map_ok(|(subject, _)| subject)
                .try_collect()
                .await
                .map_err(|error| unsettled(error.to_string()))?;
            Ok(subjects)
        };
        let looked = self.core.link.while_it_lasts(look).await;
        looked.unwrap_or_else(|| Err(unsettled(CONNECTION_LOST.to_owned())))
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

    async fn claim_at(&self, at: (StreamId, &str), claim: &Claim) -> Result<Claimed, Error> {
        match self.write_behind(at, 0, claim).await? {
            Stands::Ours(_) => Ok(Claimed::Won),
            Stands::Other(record) => Ok(Claimed::Lost(record.claim)),
        }
    }

    /// Writes a record behind the one of sequence `expected`, and returns the one that stands
    /// then: ours, or the one that was there first.
    async fn write_behind(
        &self,
        at @ (_, subject): (StreamId, &str),
        expected: u64,
        claim: &Claim,
    ) -> Result<Stands, Error> {
        let payload = payload(claim)?;
        let deadline = Instant::now() + GIVE_UP;
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        loop {
            let message = PublishMessage::build()
                .payload(payload.clone())
                .expected_last_subject_sequence(expected);
            let fault = match publish::once(&self.core, subject, message, deadline).await {
                Ok(ack) => return Ok(Stands::Ours(ack.sequence)),
                Err(fault) => fault,
            };
            match fault {
                // Taken: by another, or by our own try whose answer was lost.
                Fault::WrongSequence | Fault::Unknown(_) | Fault::NoStream => {}
                Fault::Full(_) | Fault::TooLarge(_) | Fault::Refused(_) => {
                    return Err(Error::ClaimUnknown(Unsettled(fault.to_string())));
                }
            }
            match self.holder(at, deadline).await? {
                Some(record) if record.claim.id == claim.id => return Ok(Stands::Ours(record.seq)),
                Some(record) if record.seq != expected => return Ok(Stands::Other(record)),
                Some(_) | None if deadline <= Instant::now() => {
                    return Err(Error::ClaimUnknown(Unsettled(fault.to_string())));
                }
                Some(_) | None => backoff.wait().await,
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
        let found = self.holder((StreamId::Claims, &subject), Instant::now() + GIVE_UP).await?;
        Ok(found.map(|it| it.claim))
    }

    /// Asks the stream's leader, never a copy of it, which may lag behind.
    async fn holder(
        &self,
        (id, subject): (StreamId, &str),
        deadline: Instant,
    ) -> Result<Option<ClaimRecord>, Error> {
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
                    let claim = claim.map_err(|error| unsettled(error.to_string()))?;
                    let (seq, stored_at) = (found.sequence, utc(found.time));
                    return Ok(Some(ClaimRecord { claim, seq, stored_at }));
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

fn payload(claim: &Claim) -> Result<Bytes, Error> {
    serde_json::to_vec(claim)
        .map(Bytes::from)
        .map_err(|error| Error::client("write the claim", error))
}

pub(crate) fn is_nothing(error: &LastRawMessageError) -> bool {
    match error.kind() {
        LastRawMessageErrorKind::NoMessageFound => true,
        LastRawMessageErrorKind::JetStream(told) => {
            told.error_code() == ErrorCode::NO_MESSAGE_FOUND
        }
        LastRawMessageErrorKind::InvalidSubject | LastRawMessageErrorKind::Other => false,
    }
}
