//! Following the ledger, until it is our turn to lead.

use bus::{Bus, Lease, LedgerItem, LedgerReader};
use service::{BoxError, ConfigError};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    core::{Core, Error, Lines},
    state::{Log, Shared, State, Written},
};

/// Lines that are written to the log at once while the past is folded.
const LINES_MAX: usize = 2000;

/// Folds all that is stored, and returns the state and the reader of what comes.
///
/// # Errors
///
/// When the ledger cannot be read or folded, or the log has more than the ledger.
pub(crate) async fn catch_up(bus: &Bus, log: Log) -> Result<(State, LedgerReader), BoxError> {
    let mut state = State::new(Core::new(bus.subjects().clone()), log);
    let mut reader = bus.ledger().read(0);
    let mut lines: Vec<Lines> = Vec::new();
    while let LedgerItem::Message(message) = reader.next().await? {
        lines.push(state.fold(&message).map_err(refused)?);
        if LINES_MAX <= lines.iter().map(Lines::len).sum() {
            write(&state.log, std::mem::take(&mut lines));
        }
    }
    write(&state.log, lines);
    let (in_log, in_ledger) = (state.log.last_seq(), state.core.n_stored());
    if in_ledger < in_log {
        let what =
            "the log has more: the broker has lost the end of the ledger, or it is another broker";
        return Err(refused(Error::Differ { seq: in_log, what }));
    }
    info!(decisions = in_ledger, entry = state.core.ledger_seq(), "the ledger is folded");
    Ok((state, reader))
}

/// Why following ended.
#[derive(Debug)]
pub(crate) enum Turn {
    /// The lease is ours, and all is folded that was decided before.
    Lead(Box<Lease>),
    /// The log lacks lines that only the ledger has: it is to be folded anew.
    Refold,
    /// Told to stop.
    Stop,
}

/// Follows until it is our turn.
///
/// # Errors
///
/// When the ledger cannot be read or folded.
pub(crate) async fn follow(
    bus: &Bus,
    state: &Shared,
    mut reader: LedgerReader,
    node: &str,
    stop: &CancellationToken,
) -> Result<Turn, BoxError> {
    let mut lead = std::pin::pin!(bus.lead(node));
    let lease = loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(Turn::Stop),
            lease = &mut lead => break lease?,
            item = reader.next() => {
                if take(state, item?).await? == Written::Incomplete {
                    return Ok(Turn::Refold);
                }
            }
        }
    };
    // What the former leader has appended up to now is decided; what it appends from now
    // on is refused, since ours comes first or its expectation is wrong.
    let last = bus.ledger().last_seq().await?;
    while state.read().await.core.ledger_seq() < last {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(Turn::Stop),
            item = reader.next() => {
                if take(state, item?).await? == Written::Incomplete {
                    return Ok(Turn::Refold);
                }
            }
        }
    }
    Ok(Turn::Lead(Box::new(lease)))
}

async fn take(state: &Shared, item: LedgerItem) -> Result<Written, BoxError> {
    let LedgerItem::Message(message) = item else { return Ok(Written::Synced) };
    let mut state = state.write().await;
    let lines = state.fold(&message).map_err(refused)?;
    Ok(write(&state.log, vec![lines]))
}

/// Writes to the log without keeping other tasks from running.
pub(crate) fn write(log: &Log, lines: Vec<Lines>) -> Written {
    tokio::task::block_in_place(|| log.write(lines))
}

fn refused(error: Error) -> BoxError {
    match error {
        Error::Differ { .. } => {
            let hint = "is this the right broker for this data directory? If its disk was lost, `selfheal restore` rebuilds the ledger from the log";
            ConfigError::new("the log does not fit the ledger", hint).because(error).into()
        }
        Error::Unreadable { .. } | Error::Corrupt { .. } | Error::Misplaced { .. } => error.into(),
    }
}
