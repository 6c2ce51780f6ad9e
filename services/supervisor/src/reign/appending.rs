//! The one append that is under way.

use std::{pin::Pin, time::Duration};

use bus::{AppendError, ForeignMessage, Ledger};
use service::Chain;
use tracing::{error, warn};

use super::scribe::Scribe;
use crate::core::{Batch, Room};

/// Wait before an append that found no room is tried again.
const FULL_WAIT: Duration = Duration::from_secs(1);
/// Tries before the state is folded anew, to shorten the ledger behind a snapshot of it. When
/// that was in vain it costs much and helps nobody soon.
const FULL_TRIES: u32 = 60;

/// The append that is under way. Dropping it leaves open whether it is stored.
pub(super) struct Appending(Pin<Box<dyn Future<Output = Outcome> + Send>>);

/// What became of a batch.
pub(super) enum Outcome {
    /// It is stored as this message.
    Stored(Batch, u64),
    /// It needed no append, and all before it are stored.
    NothingToStore(Batch),
    /// These messages, which no supervisor has written, took its place: it is to go behind them.
    Overtaken(Batch, Vec<ForeignMessage>),
    /// Another one leads, or nobody knows what is stored.
    Deposed,
    /// The ledger takes no batch of this size.
    TooLarge(Batch),
    /// The ledger has no room, beside what it had before: it is to be shortened.
    Full(Room),
    /// The broker refuses what a leader must do.
    Refused(AppendError),
}

impl Appending {
    /// Begins an append, once the log has room for its lines.
    pub(super) fn begin(ledger: &Ledger, batch: Batch, room: Room, scribe: &Scribe) -> Self {
        let (ledger, log_room) = (ledger.clone(), scribe.room());
        Self(Box::pin(async move {
            log_room.await;
            append(&ledger, batch, room).await
        }))
    }
}

/// Waits for the append that is under way, and takes it; for ever when none is.
pub(super) async fn outcome(appending: &mut Option<Appending>) -> Outcome {
    let Some(Appending(under_way)) = appending else { return std::future::pending().await };
    let outcome = under_way.await;
    *appending = None;
    outcome
}

async fn append(ledger: &Ledger, batch: Batch, room: Room) -> Outcome {
    let full_tries = if room.was_full { FULL_TRIES } else { 1 };
    let payload = batch.append.clone().unwrap_or_default();
    let mut n_full = 0;
    loop {
        match ledger.append(batch.expected_last, payload.clone(), &[]).await {
            Ok(seq) => return Outcome::Stored(batch, seq),
            Err(failure @ AppendError::Fenced { .. }) => {
                // Whoever is not a supervisor may not end a leader.
                if let Ok(Some(foreign)) = ledger.foreign_behind(batch.expected_last).await {
                    return Outcome::Overtaken(batch, foreign);
                }
                warn!(error = %Chain(&failure), "the batch was not stored by us");
                return Outcome::Deposed;
            }
            Err(failure @ AppendError::Unknown { .. }) => {
                warn!(error = %Chain(&failure), "the batch was not stored by us");
                return Outcome::Deposed;
            }
            Err(failure @ AppendError::TooLarge { .. }) => {
                error!(error = %Chain(&failure), first = %batch.first, covers = %batch.covers, inputs = batch.n_inputs(), "inputs give more decisions than the ledger takes; they are decided one by one, and one that is too large is rejected");
                return Outcome::TooLarge(batch);
            }
            Err(failure @ AppendError::Full { .. }) => {
                error!(error = %Chain(&failure), hint = "give JetStream more room (max_file_store, or the limits of the account)", "nothing can be decided");
                n_full += 1;
                if full_tries <= n_full {
                    return Outcome::Full(room);
                }
                tokio::time::sleep(FULL_WAIT).await;
            }
            Err(failure @ AppendError::Refused { .. }) => return Outcome::Refused(failure),
        }
    }
}
