//! `restore`: rebuilds the ledger of a broker that lost its disk, from the log of decisions.
//!
//! The log is a second, independent copy of the truth. It is read twice: once to see that it is whole and
//! that every decision can follow the ones before, and once to write. Each append names the sequence
//! that it expects, so that nothing is mixed with what somebody else writes meanwhile.

mod book;

use std::{
    fs::{File, TryLockError},
    path::Path,
    time::Duration,
};

use bus::{AppendError, Bus, Error, Ledger, LedgerItem};
use bytes::Bytes;
use domain::{
    desk::Desk,
    fact::Decision,
    id::Position,
    wire::{LedgerEntry, SCHEMA},
};
use serde_json::json;

use self::book::{Book, Bookmark, Message};
use crate::{
    args::{Global, Restore},
    connection::{System, of_bus},
    exit::{Exit, Failure},
    terminal::{Terminal, Tone, toned},
    up,
};

/// The supervisor's log in its data directory.
const LOG_FILE: &str = "incident_logs.jsonl";

/// The file that a living supervisor holds locked.
const LOCK_FILE: &str = "supervisor.lock";

/// How long to look for living supervisors.
const MEMBERS_WAIT: Duration = Duration::from_secs(1);

/// How long to wait for the next message of the inbox before it is taken to be at its end.
const INBOX_WAIT: Duration = Duration::from_secs(1);

/// Messages of the inbox that are looked at in one go.
const INBOX_BATCH: usize = 500;

/// What the log holds.
#[derive(Clone, Copy, Debug)]
struct Found {
    n_decisions: u64,
    n_messages: u64,
    n_incidents: usize,
    bookmark: Bookmark,
}

/// What the ledger holds before the restoration.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    n_decisions: u64,
    covers: Position,
}

/// Rebuilds the ledger.
///
/// # Errors
///
/// When the log is not whole, the ledger is not empty, or a supervisor runs.
pub(crate) async fn run(
    args: &Restore,
    global: &Global,
    terminal: Terminal,
) -> Result<(), Failure> {
    let log = args.log.clone().unwrap_or_else(|| args.data_dir.join(LOG_FILE));
    let _lock = lock(&args.data_dir)?;
    let found = survey(&log)?;
    if global.broker.is_given() || !up::has_own_broker(&args.data_dir) {
        return rebuild(args, global, terminal, &log, found).await;
    }
    let rebuild = async |url: String| {
        let mut global = global.clone();
        global.broker.nats_url = Some(url);
        rebuild(args, &global, terminal, &log, found).await
    };
    up::with_broker(&args.own, &args.data_dir, terminal, rebuild).await
}

async fn rebuild(
    args: &Restore,
    global: &Global,
    terminal: Terminal,
    log: &Path,
    found: Found,
) -> Result<(), Failure> {
    // It does what supervisors do; where users have permissions, theirs is needed.
    let system = System::connect_as("supervisor", global, terminal).await?;
    refuse_living(&system).await?;
    let bus = &system.bus;
    if !args.dry_run {
        let made = Box::pin(bus.ensure_topology()).await;
        made.map_err(|error| of_bus("cannot set up the broker", error))?;
    }
    let ledger = bus.ledger();
    let last = match ledger.last_seq().await {
        Ok(last) => last,
        // Without streams there is nothing in them.
        Err(_) if args.dry_run => 0,
        Err(error) => return Err(of_bus("cannot look at the ledger", error)),
    };
    let known = match (last, args.append) {
        (0, _) => Known::default(),
        (_, true) => compare(&ledger, log).await?,
        (_, false) => {
            let message = format!("the ledger is not empty: it holds {last} messages");
            return Err(Failure::new(Exit::Refused, message)
                .hint("if it has only lost its end, --append adds what is missing"));
        }
    };
    let n_missing = found.n_decisions.saturating_sub(known.n_decisions);
    if !args.dry_run {
        forget_snapshots(bus, &ledger).await?;
    }
    // A restoration that was interrupted may have written all but the word about the inbox.
    if !args.dry_run && (0 < n_missing || known.covers == found.bookmark.covers) {
        let last = write(&ledger, log, last, known.n_decisions).await?;
        reposition(bus, &ledger, last, found.bookmark).await?;
    }
    report(terminal, args.dry_run, found, n_missing)
}

fn report(terminal: Terminal, dry_run: bool, found: Found, n_missing: u64) -> Result<(), Failure> {
    let Found { n_decisions, n_messages, n_incidents, .. } = found;
    if terminal.is_json() {
        return terminal.print_json(
            &json!({
                "dry_run": dry_run, "decisions": n_decisions, "messages": n_messages,
                "incidents": n_incidents, "restored": n_missing,
            }),
            true,
        );
    }
    let did = if dry_run { "would restore" } else { "restored" };
    let did = toned(Tone::Good, did);
    terminal.print(&format!(
        "{did} {n_missing} of {n_decisions} decisions about {n_incidents} incidents"
    ))?;
    if !dry_run {
        terminal.remark("now start the supervisor again");
    }
    Ok(())
}

/// Takes the supervisor's lock, if there is a supervisor's directory here.
fn lock(data_dir: &Path) -> Result<Option<File>, Failure> {
    let path = data_dir.join(LOCK_FILE);
    let Ok(file) = File::open(&path) else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            Err(supervisor_runs(&format!("on `{}`", data_dir.display())))
        }
        Err(TryLockError::Error(error)) => {
            Err(Failure::new(Exit::Failed, format!("cannot lock `{}`", path.display()))
                .because(error))
        }
    }
}

fn supervisor_runs(place: &str) -> Failure {
    Failure::new(Exit::Refused, format!("a supervisor runs {place}"))
        .hint("end all supervisors first: what they decide meanwhile would be lost")
}

async fn refuse_living(system: &System) -> Result<(), Failure> {
    let mut living = system.bus.members().watch();
    let somebody = living.wait_for(|living| living.values().any(|it| it.kind == "supervisor"));
    match tokio::time::timeout(MEMBERS_WAIT, somebody).await {
        Ok(Ok(_)) => Err(supervisor_runs("on this broker")),
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

/// Reads the whole log, and tries whether a supervisor could fold it.
fn survey(log: &Path) -> Result<Found, Failure> {
    let mut book = Book::open(log)?;
    let mut desk = Desk::default();
    let mut incidents = std::collections::BTreeSet::new();
    let (mut n_decisions, mut n_messages, mut bookmark) = (0, 0, None);
    while let Some(message) = book.next()? {
        n_messages += 1;
        for decision in &message.entry.decisions {
            n_decisions += 1;
            incidents.extend(decision.incident);
            desk.apply(decision).map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    format!("decision {} of the log cannot follow the ones before", decision.seq),
                )
                .hint("was the log changed? It must be as the supervisor wrote it")
                .because(error)
            })?;
            bookmark = Some(Bookmark {
                covers: message.entry.covers,
                cause: decision.cause,
                at: decision.at,
            });
        }
    }
    let Some(bookmark) = bookmark else {
        return Err(Failure::new(Exit::NotFound, format!("the log `{}` is empty", log.display())));
    };
    Ok(Found { n_decisions, n_messages, n_incidents: incidents.len(), bookmark })
}

/// Deletes the snapshots, which stand for a ledger that is lost. Where the ledger has kept its
/// end but not its beginning, they are what a supervisor begins with, and stay.
async fn forget_snapshots(bus: &Bus, ledger: &Ledger) -> Result<(), Failure> {
    let failed = |error| of_bus("cannot delete the snapshots of the lost ledger", error);
    if 1 < ledger.first_seq().await.map_err(failed)? {
        return Ok(());
    }
    bus.snapshots().keep_newest(0).await.map_err(failed)
}

/// Returns what the ledger holds, all of which must be the log's. It may have forgotten its
/// beginning, for which a snapshot stands.
async fn compare(ledger: &Ledger, log: &Path) -> Result<Known, Failure> {
    let first = ledger.first_seq().await;
    let first = first.map_err(|error| of_bus("cannot look at the ledger", error))?;
    let mut reader = ledger.read(first.saturating_sub(1));
    let mut book = Book::open(log)?;
    let mut wanted = Vec::<Decision>::new().into_iter();
    let mut known = Known::default();
    loop {
        let item = reader.next().await.map_err(|error| of_bus("cannot read the ledger", error))?;
        let LedgerItem::Message(message) = item else { return Ok(known) };
        let entry: LedgerEntry = serde_json::from_slice(&message.payload).map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("message {} of the ledger cannot be read", message.seq),
            )
            .because(error)
        })?;
        known.covers = entry.covers;
        for decision in entry.decisions {
            let in_log = loop {
                match wanted.next() {
                    Some(it) if known.n_decisions == 0 && it.seq < decision.seq => {}
                    Some(it) => break Some(it),
                    None => match book.next()? {
                        Some(message) => wanted = message.entry.decisions.into_iter(),
                        None => break None,
                    },
                }
            };
            if in_log.as_ref() != Some(&decision) {
                let message = format!(
                    "the ledger holds decision {} otherwise than the log, or the log does not hold it",
                    decision.seq
                );
                return Err(Failure::new(Exit::Refused, message)
                    .hint("this log does not belong to this broker"));
            }
            known.n_decisions = decision.seq;
        }
    }
}

/// Appends what lies behind the first `n_known` decisions, and returns the last sequence of the ledger.
async fn write(ledger: &Ledger, log: &Path, last: u64, n_known: u64) -> Result<u64, Failure> {
    let mut book = Book::open(log)?;
    let mut last = last;
    let mut covers = Position::default();
    while let Some(Message { seq, mut entry }) = book.next()? {
        entry.decisions.retain(|decision| n_known < decision.seq);
        if entry.decisions.is_empty() {
            covers = entry.covers;
            continue;
        }
        // Messages without decisions are not in the log; filled in, so that its numbers fit the ledger's.
        while last + 1 < seq {
            let empty = LedgerEntry { v: SCHEMA, epoch: 0, covers, decisions: Vec::new() };
            last = append(ledger, last, &empty).await?;
        }
        last = append(ledger, last, &entry).await?;
        covers = entry.covers;
    }
    Ok(last)
}

async fn append(ledger: &Ledger, last: u64, entry: &LedgerEntry) -> Result<u64, Failure> {
    let payload = serde_json::to_vec(entry)
        .map_err(|error| Failure::new(Exit::Failed, "cannot write a decision").because(error))?;
    ledger.append(last, Bytes::from(payload), &[]).await.map_err(|error| {
        let (exit, hint) = match &error {
            AppendError::Fenced { .. } => {
                (Exit::Refused, "a supervisor writes: end it, then use --append")
            }
            AppendError::Unknown { .. } => {
                (Exit::Unavailable, "when the broker is back, go on with --append")
            }
            AppendError::Full { .. } => {
                (Exit::Failed, "give the broker more room, then go on with --append")
            }
            AppendError::TooLarge { .. } | AppendError::Refused { .. } => {
                (Exit::Failed, "see the broker's limits and permissions")
            }
        };
        Failure::new(exit, "the ledger does not take what the log holds").hint(hint).because(error)
    })
}

/// Says from where the inbox must be read, when it is not the one that the log speaks of.
///
/// A new inbox counts from 1 again. What arrived in it before the restoration must be decided, and what the
/// log has decided must not be decided again: the broker's time tells them apart.
async fn reposition(bus: &Bus, ledger: &Ledger, last: u64, mark: Bookmark) -> Result<(), Failure> {
    if is_same_inbox(bus, mark).await? {
        return Ok(());
    }
    let covers = decided_in(bus, mark).await?;
    let entry = LedgerEntry { v: SCHEMA, epoch: 0, covers, decisions: Vec::new() };
    append(ledger, last, &entry).await.map(|_seq| ())
}

/// Tells whether the input that caused the last decision is where the log says, or was there.
async fn is_same_inbox(bus: &Bus, mark: Bookmark) -> Result<bool, Failure> {
    let after = mark.cause.seq.saturating_sub(1);
    let mut inbox = bus.read_inbox(after).await.map_err(unreadable)?;
    match inbox.next_batch(1, INBOX_WAIT).await {
        Ok(batch) => {
            Ok(batch.first().is_some_and(|it| it.seq == mark.cause.seq && it.at == mark.at))
        }
        // Forgotten because it had been decided; a new inbox has all from the first on.
        Err(Error::LogPurged { .. }) => Ok(true),
        Err(Error::LogLost { .. }) => Ok(false),
        Err(error) => Err(unreadable(error)),
    }
}

/// Returns the last message of this inbox that is not newer than the last decision.
async fn decided_in(bus: &Bus, mark: Bookmark) -> Result<Position, Failure> {
    let mut inbox = bus.read_inbox(0).await.map_err(unreadable)?;
    let mut decided = Position::default();
    loop {
        let batch = inbox.next_batch(INBOX_BATCH, INBOX_WAIT).await.map_err(unreadable)?;
        if batch.is_empty() {
            return Ok(decided);
        }
        for message in batch {
            if mark.at < message.at {
                return Ok(decided);
            }
            decided = Position::new(message.seq, u32::MAX);
        }
    }
}

fn unreadable(error: Error) -> Failure {
    of_bus("cannot read the inbox", error)
}

/// Reads a log back as messages of the ledger, for the fuzz targets.
pub(crate) fn read_log(path: &Path) -> Result<Vec<LedgerEntry>, Failure> {
    let mut book = Book::open(path)?;
    std::iter::from_fn(|| book.next().transpose()).map(|it| it.map(|it| it.entry)).collect()
}
