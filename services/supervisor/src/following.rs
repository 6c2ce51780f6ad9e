//! Following the ledger, until it is our turn to lead.

use std::time::Duration;

use bus::{Bus, Lease, LedgerItem, LedgerReader};
use service::{BoxError, Chain, ConfigError};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    core::{Error, Lines},
    recovery,
    state::{self, Log, Shared, State, Stored, Written},
};

/// Lines that are written to the log at once while the past is folded.
const LINES_MAX: usize = 2000;
/// Messages of the ledger that are folded before their lines are written.
const MESSAGES_MAX: usize = 64;
/// Times that reading begins anew because the ledger was shortened meanwhile.
const TRIES_MAX: u32 = 3;
/// How often a disk that took no lines is tried again.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// Folds all that is stored, and returns the state and the reader of what comes.
///
/// # Errors
///
/// When the ledger cannot be read or folded, or the log has more than the ledger.
pub(crate) async fn catch_up(bus: &Bus, log: Log) -> Result<(State, LedgerReader), BoxError> {
    let mut n_tries = 0;
    loop {
        n_tries += 1;
        match fold_all(bus, log.clone()).await {
            // A leader has shortened the ledger while we read it: there is a newer snapshot.
            Err(failure) if n_tries < TRIES_MAX && is_purged(&*failure) => {}
            folded => return folded,
        }
    }
}

fn is_purged(failure: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    matches!(failure.downcast_ref(), Some(bus::Error::LogPurged { .. }))
}

async fn fold_all(bus: &Bus, log: Log) -> Result<(State, LedgerReader), BoxError> {
    log.forget_backlog();
    let started = Instant::now();
    let core = recovery::begin(bus, &log).await?;
    let mut reader = bus.ledger().read(core.ledger_seq());
    let mut state = State::new(core, log);
    let mut lines: Vec<Lines> = Vec::new();
    let mut n_lines = 0;
    loop {
        let message = match reader.next().await? {
            LedgerItem::Message(message) => message,
            LedgerItem::Foreign(foreign) => {
                state.pass_over(&foreign);
                continue;
            }
            LedgerItem::CaughtUp => break,
        };
        let new = state.fold(&message).map_err(refused)?;
        if new.is_empty() {
            continue;
        }
        n_lines += new.len();
        lines.push(new);
        if LINES_MAX <= n_lines {
            n_lines = 0;
            write(&state.log, std::mem::take(&mut lines)).await?;
        }
    }
    write(&state.log, lines).await?;
    let (in_log, in_ledger) = (state.log.last_seq(), state.core.n_stored());
    if in_ledger < in_log {
        let what =
            "the log has more: the broker has lost the end of the ledger, or it is another broker";
        return Err(refused(Error::Differ { seq: in_log, what }));
    }
    let entry = state.core.ledger_seq();
    info!(decisions = in_ledger, entry, took = ?started.elapsed(), "the ledger is folded");
    metrics::gauge!("selfheal_supervisor_recovery_seconds").set(started.elapsed().as_secs_f64());
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
    stored: &watch::Sender<Stored>,
    mut reader: LedgerReader,
    node: &str,
    stop: &CancellationToken,
) -> Result<Turn, BoxError> {
    let mut lead = Box::pin(bus.lead(node));
    let log = state.read().await.log.clone();
    let lease = loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(Turn::Stop),
            lease = &mut lead => break lease?,
            // Lines that a full disk did not take must not wait for the next decision.
            () = tokio::time::sleep(WRITE_AGAIN), if 0 < log.n_waiting() => {
                if write(&log, Vec::new()).await? == Written::Incomplete {
                    return Ok(Turn::Refold);
                }
            }
            item = reader.next() => {
                if !take(state, stored, item, &mut reader).await? {
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
                if !take(state, stored, item, &mut reader).await? {
                    return Ok(Turn::Refold);
                }
            }
        }
    }
    Ok(Turn::Lead(Box::new(lease)))
}

/// Folds a message and those that are here already, and writes their lines with one sync.
/// Returns whether to go on.
async fn take(
    state: &Shared,
    stored: &watch::Sender<Stored>,
    first: Result<LedgerItem, bus::Error>,
    reader: &mut LedgerReader,
) -> Result<bool, BoxError> {
    let first = match first {
        Ok(item) => item,
        Err(failure @ bus::Error::LogPurged { .. }) => {
            warn!(error = %Chain(&failure), "the ledger was shortened before we had read it, a snapshot is taken up");
            return Ok(false);
        }
        Err(failure) => return Err(failure.into()),
    };
    let mut next = Some(first);
    let mut lines = Vec::new();
    let log = {
        let mut state = state.write().await;
        while let Some(item) = next {
            match item {
                LedgerItem::Message(message) => lines.push(state.fold(&message).map_err(refused)?),
                LedgerItem::Foreign(foreign) => state.pass_over(&foreign),
                LedgerItem::CaughtUp => {}
            }
            next =
                if lines.len() < MESSAGES_MAX { reader.try_next().unwrap_or(None) } else { None };
        }
        state.log.clone()
    };
    let last = lines.iter().rev().find_map(Lines::last_seq);
    let written = write(&log, lines).await?;
    state::told(stored, last);
    Ok(written != Written::Incomplete)
}

/// Writes to the log on a thread of its own. Not in place: all other tasks would go on on
/// another thread each time, and what they keep would lie scattered over the allocator's
/// arenas of all these threads (measured: a standby of 88 MiB in place of 68).
async fn write(log: &Log, lines: Vec<Lines>) -> Result<Written, BoxError> {
    let log = log.clone();
    Ok(tokio::task::spawn_blocking(move || log.write(lines)).await?)
}

fn refused(error: Error) -> BoxError {
    match error {
        Error::Differ { .. } => {
            let hint = "is this the right broker for this data directory? If its disk was lost, `selfheal restore` rebuilds the ledger from the log";
            ConfigError::new("the log does not fit the ledger", hint).because(error).into()
        }
        Error::Newer { .. } => {
            let hint =
                "upgrade this supervisor to the version of the one that leads; nothing is lost";
            ConfigError::new("the ledger was written by a newer version", hint)
                .because(error)
                .into()
        }
        Error::Unreadable { .. } | Error::Corrupt { .. } | Error::Misplaced { .. } => error.into(),
    }
}
