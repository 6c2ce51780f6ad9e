//! A claim that is kept alive, and that is asked before each step whether it still is.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::message::PublishMessage;
use domain::wire::Claim;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{debug, warn};

use super::{Claims, payload};
use crate::{
    clock::since_boot,
    core::Core,
    link::Backoff,
    publish::{self, Fault},
    topology::{CLAIM_RENEWAL, CLAIM_TTL, StreamId},
};

/// A renewal that was sent so shortly before a step counts as made for it, if it announced
/// enough time: the first step need not wait for the disk a second time.
const FRESH: Duration = Duration::from_millis(250);

/// How long one renewal may take before it is looked what became of it.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// First and last wait between tries.
const RETRY_FIRST: Duration = Duration::from_millis(25);
const RETRY_LAST: Duration = Duration::from_millis(500);

/// Why a step must not be begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Another record stands in the place of ours.
    #[error("the claim was lost: {0}")]
    Taken(String),
    /// The broker has not acknowledged a renewal in time.
    #[error("the claim was lost: the broker did not acknowledge its renewal in time ({0})")]
    Unrenewed(String),
}

/// The last record that the broker has acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) claim: Claim,
    pub(super) seq: u64,
    /// When it was sent, since the start of the host.
    pub(super) sent: Duration,
    /// Until when a step may act that has been announced, likewise.
    pub(super) acts_until: Duration,
    /// Renewals that were sent. No two have the same number: one whose answer was lost may be
    /// stored later, and announces less than the next one.
    pub(super) n_sent: u64,
}

/// The claim of an attempt, kept alive until it is dropped.
#[derive(Debug)]
pub struct Holding {
    lease: Arc<Lease>,
    _renewal: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Lease {
    core: Core,
    subject: String,
    record: Mutex<Record>,
    lost: CancellationToken,
}

/// How one renewal ended.
enum Renewed {
    Done,
    /// It is not known yet.
    NotYet(String),
    Lost(Lost),
}

/// Returns a claim that tells for how long its holder may act.
pub(super) fn announcing(claim: Claim, acts_for: Duration) -> Claim {
    let lease = (CLAIM_TTL + acts_for).as_millis();
    Claim { lease_ms: Some(u64::try_from(lease).unwrap_or(u64::MAX)), ..claim }
}

impl Holding {
    pub(super) fn begin(core: Core, subject: String, record: Record) -> Self {
        let lost = CancellationToken::new();
        let lease = Arc::new(Lease { core, subject, record: Mutex::new(record), lost });
        let task = tokio::spawn(keep(Arc::clone(&lease)));
        Self { lease, _renewal: AbortOnDropHandle::new(task) }
    }

    /// Makes sure, immediately before a step, that nobody can take over while it lasts: the
    /// broker has acknowledged, less than [`CLAIM_TTL`] ago, that we act for so long from now.
    /// A process that was stopped since it asked sees that here, and asks again.
    ///
    /// # Errors
    ///
    /// [`Lost`] when another record stands, or the broker does not answer until `give_up`. The
    /// step must not be begun then.
    pub async fn assure(&self, acts_for: Duration, give_up: Instant) -> Result<(), Lost> {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
        loop {
            let why = match self.lease.announce(acts_for).await {
                Renewed::Done => return Ok(()),
                Renewed::Lost(lost) => return Err(lost),
                Renewed::NotYet(why) => why,
            };
            let wait = backoff.step();
            if give_up <= Instant::now() + wait {
                return Err(Lost::Unrenewed(why));
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = self.lease.lost.cancelled() => {}
            }
        }
    }

    /// Resolves when another record stands in the place of ours.
    pub async fn lost(&self) {
        self.lease.lost.cancelled().await;
    }
}

/// Renews the claim until it is dropped or lost.
async fn keep(lease: Arc<Lease>) {
    let mut wait = CLAIM_RENEWAL;
    loop {
        let generation = lease.core.link.generation();
        tokio::select! {
            () = sleep(wait) => {}
            () = lease.core.link.newer_than(generation) => {}
        }
        let mut record = lease.record.lock().await;
        let acts_until = record.acts_until;
        wait = match lease.renew(&mut record, acts_until).await {
            Renewed::Done => CLAIM_RENEWAL,
            Renewed::NotYet(why) => {
                debug!(why, "a claim was not renewed, trying again");
                RETRY_LAST
            }
            Renewed::Lost(lost) => {
                warn!(by = record.claim.by, %lost, "a claim is lost");
                return;
            }
        };
    }
}

impl Lease {
    async fn announce(&self, acts_for: Duration) -> Renewed {
        let mut record = self.record.lock().await;
        let now = since_boot();
        if now < record.sent + FRESH && now + acts_for <= record.acts_until + FRESH {
            return self.still(&record);
        }
        match self.renew(&mut record, now + acts_for).await {
            // Also when this process was stopped between its question and the answer.
            Renewed::Done => self.still(&record),
            renewed @ (Renewed::NotYet(_) | Renewed::Lost(_)) => renewed,
        }
    }

    /// Judges the last acknowledged record by the time that has passed.
    fn still(&self, record: &Record) -> Renewed {
        if self.lost.is_cancelled() {
            return Renewed::Lost(Lost::Taken("it was taken over".to_owned()));
        }
        let age = since_boot().saturating_sub(record.sent);
        if age < CLAIM_TTL {
            return Renewed::Done;
        }
        Renewed::NotYet(format!("the last renewal is {} s old", age.as_secs()))
    }

    /// Writes the record again, behind the last one.
    async fn renew(&self, record: &mut Record, acts_until: Duration) -> Renewed {
        let sent = since_boot();
        let acts_for = acts_until.saturating_sub(sent);
        record.n_sent += 1;
        let renewal = record.n_sent;
        let claim = announcing(Claim { renewal, ..record.claim.clone() }, acts_for);
        let payload = match payload(&claim) {
            Ok(payload) => payload,
            Err(error) => return Renewed::NotYet(error.to_string()),
        };
        let deadline = Instant::now() + ANSWER_WITHIN;
        let message =
            PublishMessage::build().payload(payload).expected_last_subject_sequence(record.seq);
        let fault = match publish::once(&self.core, &self.subject, message, deadline).await {
            Ok(ack) => {
                *record = Record { claim, seq: ack.sequence, sent, acts_until, n_sent: renewal };
                return Renewed::Done;
            }
            Err(fault) => fault,
        };
        match fault {
            Fault::WrongSequence | Fault::Unknown(_) => {}
            Fault::NoStream | Fault::Full(_) | Fault::TooLarge(_) | Fault::Refused(_) => {
                return Renewed::NotYet(fault.to_string());
            }
        }
        // Nothing is certain but what stands there now.
        let claims = Claims { core: self.core.clone() };
        let deadline = Instant::now() + ANSWER_WITHIN;
        let look = claims.holder((StreamId::Claims, &self.subject), deadline);
        match timeout_at(deadline, look).await {
            Ok(Ok(Some(found))) if found.claim.id == record.claim.id => {
                // One of our own, whose answer was lost. What it announced is known from it.
                if found.claim.renewal == renewal {
                    *record = Record { claim, seq: found.seq, sent, acts_until, n_sent: renewal };
                    return Renewed::Done;
                }
                record.seq = found.seq;
                Renewed::NotYet(fault.to_string())
            }
            Ok(Ok(Some(found))) => self.taken(format!("{} took it over", found.claim.by)),
            Ok(Ok(None)) => self.taken("the broker does not have it any more".to_owned()),
            Ok(Err(_)) | Err(_) => Renewed::NotYet(fault.to_string()),
        }
    }

    fn taken(&self, by: String) -> Renewed {
        self.lost.cancel();
        Renewed::Lost(Lost::Taken(by))
    }
}
