//! The leader's lease: one key that ends by itself, renewed by whoever leads.
//!
//! It is for speed alone. A leader that was frozen and does not know that another leads
//! is refused by the ledger. So a lease is kept through an outage of the broker, in which
//! nobody else could have taken it, and is lost when another is seen in its place.
//!
//! Whoever waits does not wait for the end of the entry: when a leader is silent for
//! [`LEASE_SILENCE`] while the broker answers, it is taken for dead, and its very entry is
//! replaced. See [`vigil`](crate::vigil).

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use async_nats::{
    HeaderMap,
    jetstream::{ErrorCode, message::PublishMessage, stream::LastRawMessageErrorKind},
};
use bytes::Bytes;
use chrono::Utc;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{info, warn};

use crate::{
    Bus, Error,
    core::Core,
    link::{Backoff, CONNECTION_LOST},
    publish::{self, Fault},
    signing::SIGNATURE,
    topology::{BucketId, LEASE_RENEWAL, LEASE_SILENCE, LEASE_TTL},
    vigil::{Deposed, Vacancy, Vigil},
};

/// How long one renewal may take: when the broker's servers have elected a leader, one that
/// was lost before must be made good before anybody takes us for dead.
const RENEWAL_TIMEOUT: Duration = Duration::from_millis(500);

/// First and last wait between tries.
const RETRY_FIRST: Duration = Duration::from_millis(25);
const RETRY_LAST: Duration = Duration::from_millis(500);

/// In place of the number of a renewal, when the lease is given back: the mark of that is a header,
/// which no signature covers.
const GIVEN_BACK: u64 = u64::MAX;

/// What stands in the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// The data directory's node.
    pub(crate) node: String,
    /// Random; tells one's own entry after an answer was lost.
    id: String,
    pub(crate) epoch: u64,
    /// Which renewal: one that is stored once more is no sign of life.
    #[serde(default)]
    pub(crate) n: u64,
}

/// How a renewal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Renewed {
    Done,
    /// Nobody else was seen, but the broker has not taken it.
    NotYet,
    /// Another leads.
    Lost,
}

/// What was found in the key.
pub(crate) enum Found {
    /// Nobody; to be written with this expected sequence.
    Free(u64),
    Held(u64, Holder),
    /// What no supervisor has written. It says nothing, and is written over.
    Foreign,
    /// The bucket is not there (yet).
    NoBucket,
}

/// The right to lead. Dropping it silences it, as death does; [`Self::release`] ends it at once.
#[derive(Debug)]
pub struct Lease {
    core: Core,
    holder: Holder,
    seq: watch::Receiver<u64>,
    lost: CancellationToken,
    stop: CancellationToken,
    renewal: AbortOnDropHandle<()>,
}

impl Lease {
    /// Returns a number that grows with every change of the leader.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.holder.epoch
    }

    /// Tells whether no other leader has been seen.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.lost.is_cancelled()
    }

    /// Resolves when another leads.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Gives the lease back, so that another takes over at once.
    pub async fn release(self) {
        self.stop.cancel();
        // A renewal under way would write behind our back.
        if timeout(RENEWAL_TIMEOUT, self.renewal).await.is_err() || self.lost.is_cancelled() {
            return;
        }
        let holder = Holder { n: GIVEN_BACK, ..self.holder.clone() };
        let Ok((payload, mut headers)) = signed(&self.core, &holder) else { return };
        headers.insert("KV-Operation", "DEL");
        let seq = *self.seq.borrow();
        let message = PublishMessage::build()
            .payload(payload)
            .headers(headers)
            .expected_last_subject_sequence(seq);
        let deadline = Instant::now() + RENEWAL_TIMEOUT;
        let key = self.core.subjects.leader_key();
        if let Err(fault) = publish::once(&self.core, &key, message, deadline).await {
            info!(%fault, "the lease could not be given back, it ends by itself");
        }
    }
}

/// Waits until the lease is ours; see [`Bus::lead`].
pub(crate) async fn lead(
    bus: &Bus,
    core: Core,
    node: &str,
    deposed: &Deposed,
) -> Result<Lease, Error> {
    let mut vigil: Option<Vigil> = None;
    let mut former = Former::default();
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
    loop {
        let (seq, before) = match look(&core).await {
            Ok(Found::NoBucket) => {
                bus.ensure_topology().await?;
                continue;
            }
            Ok(Found::Free(seq)) => (Some(seq), 0),
            // The caller holds the lock of the data directory: who has the same node is dead.
            Ok(Found::Held(seq, held)) if held.node == node => (Some(seq), held.epoch),
            Ok(Found::Held(..) | Found::Foreign) => {
                let vigil = vigil.get_or_insert_with(|| Vigil::open(&core));
                match vigil.wait(deposed.patience()).await {
                    Vacancy::Look => continue,
                    Vacancy::Silent { seq, epoch } => (seq, epoch),
                }
            }
            Err(_) => {
                backoff.wait().await;
                continue;
            }
        };
        if former.leads(&core, node).await {
            sleep(LEASE_RENEWAL).await;
            continue;
        }
        let now = u64::try_from(Utc::now().timestamp_millis()).unwrap_or(0);
        let holder = Holder {
            node: node.to_owned(),
            id: uuid::Uuid::new_v4().simple().to_string(),
            // By the clock, since the bucket forgets with the broker's memory.
            epoch: now.max(before + 1),
            n: 0,
        };
        // Whatever went wrong, a look at the key tells who has it.
        let seq = match write(&core, &holder, seq).await {
            Ok(seq) => seq,
            Err(_) => match look(&core).await {
                Ok(Found::Held(seq, held)) if held.id == holder.id => seq,
                Ok(Found::Free(_) | Found::Held(..) | Found::Foreign | Found::NoBucket)
                | Err(_) => {
                    backoff.wait().await;
                    continue;
                }
            },
        };
        info!(node, epoch = holder.epoch, "leading");
        return Ok(start(bus.clone(), core, holder, seq, deposed.clone()));
    }
}

/// A leader of an older version, which has its lease in the bucket of the members. It leads as
/// long as it renews it, so that supervisors can be upgraded one after the other.
#[derive(Debug, Default)]
struct Former {
    /// The last renewal, and when it was seen first.
    seen: Option<((u64, u64), Instant)>,
}

impl Former {
    async fn leads(&mut self, core: &Core, node: &str) -> bool {
        let key = core.subjects.former_leader_key();
        let Ok(Found::Held(seq, held)) = look_at(core, BucketId::Members, &key).await else {
            return false;
        };
        // The caller holds the lock of the data directory: who has the same node is dead.
        if held.node == node {
            return false;
        }
        let is_signed = core.keys.are_required();
        let renewal = if is_signed { (held.epoch, held.n) } else { (seq, 0) };
        match self.seen {
            // One that is stored once more is no sign of life.
            Some((last, at)) if renewal <= last => at.elapsed() < LEASE_SILENCE,
            Some(_) | None => {
                self.seen = Some((renewal, Instant::now()));
                true
            }
        }
    }
}

/// Tells whether a message of a bucket marks the end of a key.
pub(crate) fn is_mark(headers: Option<&HeaderMap>) -> bool {
    headers.is_some_and(|headers| {
        headers.get("KV-Operation").is_some() || headers.get("Nats-Marker-Reason").is_some()
    })
}

/// Looks at the key by way of the stream's leader: a copy may lag behind.
pub(crate) async fn look(core: &Core) -> Result<Found, Error> {
    look_at(core, BucketId::Lease, &core.subjects.leader_key()).await
}

async fn look_at(core: &Core, bucket: BucketId, key: &str) -> Result<Found, Error> {
    let seen = core.link.while_it_lasts(try_look(core, bucket, key)).await;
    seen.unwrap_or_else(|| Err(Error::client("look at the lease", CONNECTION_LOST)))
}

async fn try_look(core: &Core, bucket: BucketId, key: &str) -> Result<Found, Error> {
    let failed = |error: crate::error::Cause| Error::client("look at the lease", error);
    let name = core.subjects.bucket_stream(bucket);
    let stream = core.js.get_stream_no_info(name).await.map_err(|e| failed(e.into()))?;
    match stream.get_last_raw_message_by_subject(key).await {
        Ok(message) => Ok(read(core, key, message.sequence, &message.headers, &message.payload)),
        Err(error) => match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(Found::Free(0)),
            LastRawMessageErrorKind::JetStream(told) => match told.error_code() {
                ErrorCode::NO_MESSAGE_FOUND => Ok(Found::Free(0)),
                ErrorCode::STREAM_NOT_FOUND => Ok(Found::NoBucket),
                _ => Err(failed(error.into())),
            },
            LastRawMessageErrorKind::InvalidSubject | LastRawMessageErrorKind::Other => {
                Err(failed(error.into()))
            }
        },
    }
}

/// Reads what stands in the key.
pub(crate) fn read(core: &Core, key: &str, seq: u64, headers: &HeaderMap, payload: &[u8]) -> Found {
    let is_mark = is_mark(Some(headers));
    // With keys only a leader that gives it back ends it. What the broker writes when its time
    // is over, others can write, too: whoever waits finds the leader silent long before.
    if is_mark && !core.keys.are_required() {
        return Found::Free(seq);
    }
    let Ok(holder) = serde_json::from_slice::<Holder>(payload) else { return Found::Foreign };
    match core.keys.judge(key, holder.epoch, Some(headers), payload) {
        Err(_) => Found::Foreign,
        Ok(()) if is_mark && holder.n == GIVEN_BACK => Found::Free(seq),
        Ok(()) => Found::Held(seq, holder),
    }
}

/// Writes the key, with an end. The client's own way to make a key forgets the end when
/// the key was there before, so this is done by hand.
///
/// Without an expectation over whatever stands there: what no supervisor has written may be
/// written again faster than it is looked at. Should two do so at once, the ledger takes the
/// decisions of one.
async fn write(core: &Core, holder: &Holder, expected: Option<u64>) -> Result<u64, Fault> {
    let (payload, headers) = signed(core, holder).map_err(|e| Fault::Refused(e.to_string()))?;
    let mut message = PublishMessage::build().payload(payload).headers(headers).ttl(LEASE_TTL);
    if let Some(expected) = expected {
        message = message.expected_last_subject_sequence(expected);
    }
    let deadline = Instant::now() + RENEWAL_TIMEOUT;
    let ack = publish::once(core, &core.subjects.leader_key(), message, deadline).await?;
    Ok(ack.sequence)
}

/// Returns what stands in the key, and its signature. It is bound to the epoch, since its place
/// is known only when it is stored.
fn signed(core: &Core, holder: &Holder) -> Result<(Bytes, HeaderMap), serde_json::Error> {
    let payload = serde_json::to_vec(holder)?;
    let mut headers = HeaderMap::new();
    let key = core.subjects.leader_key();
    if let Some(signature) = core.keys.sign(&key, holder.epoch, &payload) {
        headers.insert(SIGNATURE, signature.as_str());
    }
    Ok((payload.into(), headers))
}

fn start(bus: Bus, core: Core, holder: Holder, seq: u64, deposed: Deposed) -> Lease {
    let (lost, stop) = (CancellationToken::new(), CancellationToken::new());
    let (told, seq) = watch::channel(seq);
    let renewal = Renewal {
        bus,
        core: core.clone(),
        holder: holder.clone(),
        told,
        lost: lost.clone(),
        stop: stop.clone(),
        deposed,
        n_written: AtomicU64::new(0),
    };
    let renewal = AbortOnDropHandle::new(tokio::spawn(renewal.run()));
    Lease { core, holder, seq, lost, stop, renewal }
}

struct Renewal {
    bus: Bus,
    core: Core,
    holder: Holder,
    told: watch::Sender<u64>,
    lost: CancellationToken,
    stop: CancellationToken,
    deposed: Deposed,
    n_written: AtomicU64,
}

impl Renewal {
    async fn run(self) {
        let mut backoff = Backoff::new(RETRY_FIRST, LEASE_RENEWAL);
        let mut wait = LEASE_RENEWAL;
        loop {
            let generation = self.core.link.generation();
            tokio::select! {
                () = sleep(wait) => {}
                // A broker that was started anew may have forgotten us: say at once that we lead.
                () = self.core.link.newer_than(generation) => {}
                () = self.stop.cancelled() => return,
            }
            match self.renew().await {
                Renewed::Done => {
                    backoff = Backoff::new(RETRY_FIRST, LEASE_RENEWAL);
                    wait = LEASE_RENEWAL;
                }
                Renewed::NotYet => wait = backoff.step(),
                Renewed::Lost => {
                    self.deposed.now();
                    self.lost.cancel();
                    warn!(epoch = self.holder.epoch, "the lease is lost: another supervisor leads");
                    return;
                }
            }
        }
    }

    async fn renew(&self) -> Renewed {
        let seq = *self.told.borrow();
        if self.write(Some(seq)).await {
            return Renewed::Done;
        }
        // Nothing is certain but what stands in the key now.
        match self.look().await {
            // It ended, or was forgotten, while nobody else wanted it.
            Ok(Found::Free(seq)) => self.regain(seq).await,
            Ok(Found::Foreign) if self.write(None).await => Renewed::Done,
            Ok(Found::NoBucket) => {
                if let Err(error) = self.bus.ensure_topology().await {
                    warn!(%error, "cannot make the bucket of the lease");
                    return Renewed::NotYet;
                }
                self.regain(0).await
            }
            found => self.judge(seq, found),
        }
    }

    async fn regain(&self, seq: u64) -> Renewed {
        if self.write(Some(seq)).await {
            return Renewed::Done;
        }
        let found = self.look().await;
        self.judge(seq, found)
    }

    async fn write(&self, expected: Option<u64>) -> bool {
        let n = self.n_written.fetch_add(1, Ordering::Relaxed) + 1;
        let holder = Holder { n, ..self.holder.clone() };
        let written = write(&self.core, &holder, expected).await;
        if let Ok(seq) = written {
            self.told.send_replace(seq);
        }
        written.is_ok()
    }

    async fn look(&self) -> Result<Found, Error> {
        match timeout(RENEWAL_TIMEOUT, look(&self.core)).await {
            Ok(found) => found,
            Err(elapsed) => Err(Error::client("look at the lease", elapsed)),
        }
    }

    fn judge(&self, before: u64, found: Result<Found, Error>) -> Renewed {
        match found {
            Ok(Found::Held(seq, held)) => {
                self.told.send_replace(seq);
                // One of before our time, stored once more, is nobody's who leads.
                if held.epoch < self.holder.epoch {
                    return Renewed::NotYet;
                }
                match held.id == self.holder.id {
                    true if seq == before => Renewed::NotYet,
                    // It was stored, and only its answer was lost.
                    true => Renewed::Done,
                    false => Renewed::Lost,
                }
            }
            // The broker is away: so it is for everybody.
            Ok(Found::Free(_) | Found::Foreign | Found::NoBucket) | Err(_) => Renewed::NotYet,
        }
    }
}
