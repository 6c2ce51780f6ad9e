//! Waiting for a leader to fall silent.
//!
//! Renewals come by a watch. When they stay away, that alone says little: the watch may
//! have broken, the broker may stand still for all, we ourselves may have been frozen. So a
//! silence counts only while the broker answers our own questions for the key, promptly and
//! with the same revision: then a leader that lives would have been heard, too.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout, timeout_at};
use tracing::info;

use crate::{
    core::Core,
    lease::{Found, look, read},
    log::{LogItem, LogReader, Start},
    topology::{BucketId, LEASE_RENEWAL, LEASE_SILENCE},
};

/// Silence after which the broker is asked for the key: a renewal is overdue.
const OVERDUE: Duration = LEASE_RENEWAL.saturating_add(Duration::from_millis(100));

/// How often it is asked from then on.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// An answer that takes longer says that the broker stands still, also for the leader.
const PROMPT: Duration = Duration::from_millis(400);

/// Patience of one who was deposed although it lived: on a machine so busy that leaders
/// fall silent, they shall not depose each other in turns.
const PATIENCE_OF_DEPOSED: Duration = LEASE_SILENCE.saturating_mul(2);

/// How long it stays so patient.
const DEPOSED_MEMORY: Duration = Duration::from_secs(30);

/// Whether this process was deposed a short while ago.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deposed {
    at: Arc<Mutex<Option<Instant>>>,
}

impl Deposed {
    pub(crate) fn now(&self) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Returns how long a leader may be silent before this process takes its place.
    pub(crate) fn patience(&self) -> Duration {
        let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
        match at {
            Some(at) if at.elapsed() < DEPOSED_MEMORY => PATIENCE_OF_DEPOSED,
            Some(_) | None => LEASE_SILENCE,
        }
    }
}

/// How waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vacancy {
    /// The key has changed: look at it.
    Look,
    /// The leader is silent; its entry is this one, or none where a foreign message stands.
    Silent { seq: Option<u64>, epoch: u64 },
}

/// Watches the key.
#[derive(Debug)]
pub(crate) struct Vigil {
    core: Core,
    watch: LogReader,
}

impl Vigil {
    pub(crate) fn open(core: &Core) -> Self {
        Self { core: core.clone(), watch: open(core) }
    }

    /// Waits for a mark in place of the leader, or for a leader that is silent for longer
    /// than `patience` while the broker answers.
    pub(crate) async fn wait(&mut self, patience: Duration) -> Vacancy {
        let key = self.core.subjects.leader_key();
        let mut heard = Instant::now();
        let mut looked = heard;
        let (mut last_seq, mut last) = (None, (0, 0));
        loop {
            let next = (heard + OVERDUE).max(looked + ASK_EVERY);
            match timeout_at(next, self.watch.next()).await {
                Ok(Ok(LogItem::Message(message))) => {
                    let headers = message.headers.unwrap_or_default();
                    match read(&self.core, &key, message.seq, &headers, &message.payload) {
                        Found::Free(_) | Found::NoBucket => return Vacancy::Look,
                        Found::Held(seq, held) => {
                            // A watch that was opened anew tells what it has told before, and
                            // others may store once more what a leader has written.
                            let is_told =
                                self.core.keys.are_required() && (held.epoch, held.n) <= last;
                            if last_seq != Some(seq) && !is_told {
                                heard = Instant::now();
                                last = (held.epoch, held.n);
                            }
                            last_seq = Some(seq);
                            continue;
                        }
                        // It is no sign of the leader's life, and must not keep us from looking.
                        Found::Foreign if next <= Instant::now() => {}
                        Found::Foreign => continue,
                    }
                }
                Ok(Ok(LogItem::Opened | LogItem::CaughtUp)) => continue,
                Ok(Err(_)) => {
                    self.watch = open(&self.core);
                    return Vacancy::Look;
                }
                Err(_elapsed) => {}
            }
            looked = Instant::now();
            match timeout(PROMPT, look(&self.core)).await {
                Ok(Ok(Found::Held(seq, held))) if last_seq == Some(seq) => {
                    if patience <= heard.elapsed() {
                        info!(silent = ?heard.elapsed(), epoch = held.epoch, "the leader is silent, taking over");
                        return Vacancy::Silent { seq: Some(seq), epoch: held.epoch };
                    }
                }
                // A renewal that the watch has not (yet) told.
                Ok(Ok(Found::Held(seq, held))) => {
                    let new = (held.epoch, held.n);
                    if last < new || !self.core.keys.are_required() {
                        heard = Instant::now();
                        last = new;
                    }
                    last_seq = Some(seq);
                }
                // A leader that lives writes over it.
                Ok(Ok(Found::Foreign)) => {
                    if patience <= heard.elapsed() {
                        info!(silent = ?heard.elapsed(), "the leader is silent, taking over");
                        return Vacancy::Silent { seq: None, epoch: last.0 };
                    }
                }
                // Forgotten with the broker's memory: who led may say so first.
                Ok(Ok(Found::Free(0) | Found::NoBucket)) if heard.elapsed() < patience => {}
                Ok(Ok(Found::Free(_) | Found::NoBucket)) => return Vacancy::Look,
                // The broker hears nobody now.
                Ok(Err(_)) | Err(_) => heard = Instant::now(),
            }
        }
    }
}

fn open(core: &Core) -> LogReader {
    let stream = core.subjects.bucket_stream(BucketId::Lease);
    LogReader::open(core.clone(), stream, core.subjects.leader_key(), Start::LastPerSubject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_who_was_deposed_is_more_patient_for_a_while() {
        let deposed = Deposed::default();
        assert_eq!(deposed.patience(), LEASE_SILENCE);
        deposed.now();
        assert_eq!(deposed.patience(), PATIENCE_OF_DEPOSED);
        tokio::time::advance(DEPOSED_MEMORY).await;
        assert_eq!(deposed.patience(), LEASE_SILENCE);
    }
}
