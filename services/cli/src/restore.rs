//! `restore`: rebuilds the ledger of a broker that lost its disk, from the log of decisions.
//!
//! The log is a second, independent copy of the truth. It is read twice: once to see that it is whole and
//! that every decision can follow the ones before, and once to write. A snapshot that the supervisor has
//! kept beside the log stands for all that was before it, so that old parts of the log may be gone. Each append names the sequence
//! that it expects, so that nothing is mixed with what somebody else writes meanwhile.

mod base;
mod book;

use std::{
    fs::{File, TryLockError},
    path::Path,
    time::Duration,
};

use bus::{AppendError, Bus, Error, InboxMessage, Ledger, LedgerItem, StreamState};
use bytes::Bytes;
use domain::{
    desk::{Desk, FOLD},
    fact::Decision,
    id::Position,
    wire::{LedgerEntry, SCHEMA},
};
use serde_json::json;

use self::{
    base::Base,
    book::{Book, Bookmark, Message, Torn},
};
use crate::{
    args::{Global, Restore},
    connection::{System, of_bus},
    exit::{Exit, Failure},
    terminal::{Terminal, Tone, toned},
    up,
};

/// The supervisor's log in its data directory.
pub(crate) const LOG_FILE: &str = "incident_logs.jsonl";

/// The file that a living supervisor holds locked.
const LOCK_FILE: &str = "supervisor.lock";

/// How long to look for living supervisors.
const MEMBERS_WAIT: Duration = Duration::from_secs(1);

/// How long to wait for the next message of the inbox before it is taken to be at its end.
const INBOX_WAIT: Duration = Duration::from_secs(1);

/// Messages of the inbox that are looked at in one go.
const INBOX_BATCH: usize = 500;

/// What the log holds.
#[derive(Clone, Debug)]
struct Found {
    /// What stands for its beginning.
    base: Option<Base>,
    /// The inputs that are decided in `base`.
    base_covers: Position,
    n_decisions: u64,
    n_messages: u64,
    n_incidents: usize,
    bookmark: Bookmark,
    torn: Option<Torn>,
}

impl Found {
    /// Returns the number of decisions that the snapshot holds.
    fn n_in_base(&self) -> u64 {
        self.base.as_ref().map_or(0, |it| it.name.n_decisions)
    }
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
    let log = args.log.clone().unwrap_or_else(|| global.data_dir.join(LOG_FILE));
    let _lock = lock(&global.data_dir)?;
    let found = survey(&log, args.append, terminal)?;
    if let Some(Torn { path, n_bytes }) = &found.torn {
        terminal.remark(&format!(
            "the last line of `{}` was cut off by a crash: its {n_bytes} bytes are left out",
            path.display()
        ));
    }
    if global.broker.is_given() || !up::has_own_broker(&global.data_dir) {
        return rebuild(args, global, terminal, &log, &found).await;
    }
    let rebuild = async |url: String| {
        let mut global = global.clone();
        global.broker.nats_url = Some(url);
        if let Some(signing) = up::keys::of(&global.data_dir.join("run"))? {
            global.broker.signing_key = Some(signing.seed.display().to_string());
            global.broker.trusted_keys = Some(signing.public);
        }
        rebuild(args, &global, terminal, &log, &found).await
    };
    up::with_broker(&args.own, global, terminal, rebuild).await
}

async fn rebuild(
    args: &Restore,
    global: &Global,
    terminal: Terminal,
    log: &Path,
    found: &Found,
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
    let state = match ledger.state().await {
        Ok(state) => state,
        // Without streams there is nothing in them.
        Err(_) if args.dry_run => StreamState::default(),
        Err(error) => return Err(of_bus("cannot inspect the ledger", error)),
    };
    let known = match (state.messages, args.append) {
        (0, _) => Known { n_decisions: found.n_in_base(), covers: found.base_covers },
        (_, true) => compare(&ledger, log).await?,
        (n_messages, false) => {
            let message = format!("the ledger is not empty: it holds {n_messages} messages");
            return Err(Failure::new(Exit::Refused, message)
                .hint("if it has only lost its end, --append adds what is missing"));
        }
    };
    let n_missing = found.n_decisions.saturating_sub(known.n_decisions);
    if args.dry_run {
        return report(terminal, true, found, n_missing);
    }
    let last = match &found.base {
        Some(base) if state.messages == 0 => base.put(bus, &ledger, state.last_seq).await?,
        Some(_) | None => {
            begins_at_first(&state)?;
            forget_snapshots(bus, &ledger).await?;
            state.last_seq
        }
    };
    // A restoration that was interrupted may have written all but the word about the inbox.
    let is_fresh = state.messages == 0;
    if is_fresh || 0 < n_missing || known.covers == found.bookmark.covers {
        let last = write(&ledger, log, last, known).await?;
        reposition(bus, &ledger, last, found.bookmark).await?;
    }
    report(terminal, false, found, n_missing)
}

/// An empty ledger that does not begin with its first message belongs to a restoration that was
/// interrupted, with a snapshot that is gone.
fn begins_at_first(state: &StreamState) -> Result<(), Failure> {
    if 0 < state.messages || state.last_seq == 0 {
        return Ok(());
    }
    let message = format!("the ledger is empty but goes on behind message {}", state.last_seq);
    Err(Failure::new(Exit::Refused, message)
        .hint("remove the stream of the ledger, then restore again"))
}

fn report(terminal: Terminal, dry_run: bool, found: &Found, n_missing: u64) -> Result<(), Failure> {
    let Found { n_decisions, n_messages, n_incidents, .. } = found;
    let n_in_base = found.n_in_base();
    if terminal.is_json() {
        return terminal.print_json(
            &json!({
                "dry_run": dry_run, "decisions": n_decisions, "messages": n_messages,
                "incidents": n_incidents, "restored": n_missing, "in_snapshot": n_in_base,
            }),
            true,
        );
    }
    let did = if dry_run { "would restore" } else { "restored" };
    let did = toned(Tone::Good, did);
    terminal.print(&format!(
        "{did} {n_missing} of {n_decisions} decisions about {n_incidents} incidents"
    ))?;
    if 0 < n_in_base {
        terminal.remark(&format!("a snapshot holds the first {n_in_base} decisions"));
    }
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

/// Reads the log from a beginning that it is whole from: the newest archived snapshot that can be
/// used, else its first decision. To append, the first decision is better: the ledger may have lost
/// what is behind the snapshot.
fn survey(log: &Path, append: bool, terminal: Terminal) -> Result<Found, Failure> {
    if append && let Ok(found) = survey_from(log, None) {
        return Ok(found);
    }
    for base in base::newest_first(log) {
        let name = base.name.file_name();
        match survey_from(log, Some(base)) {
            Ok(found) => return Ok(found),
            Err(failure) => {
                terminal.remark(&format!("the snapshot {name} is not used: {}", failure.chain()));
            }
        }
    }
    survey_from(log, None)
}

/// Reads the log behind a beginning, and tries whether a supervisor could fold it.
fn survey_from(log: &Path, base: Option<Base>) -> Result<Found, Failure> {
    let mut desk = base.as_ref().map_or_else(|| Ok(Desk::default()), Base::desk)?;
    let base_covers = desk.position();
    let n_in_base = desk.n_decisions();
    let mut book = Book::open(log, Some(n_in_base))?;
    let mut incidents = std::collections::BTreeSet::new();
    let mut n_messages = 0;
    let mut next = book.next()?;
    let mut is_ours = match &base {
        Some(base) => base.belongs(&desk, book.left_out(), next.as_ref())?,
        None => true,
    };
    while let Some(message) = next {
        n_messages += 1;
        for decision in &message.entry.decisions {
            if let Some(id) = decision.incident {
                // The log goes on with an incident that the snapshot holds.
                is_ours |= incidents.insert(id) && desk.incident(id).is_some();
            }
            desk.apply(decision).map_err(|error| {
                Failure::new(
                    Exit::Failed,
                    format!("decision {} of the log cannot follow the ones before", decision.seq),
                )
                .hint("was the log changed? It must be as the supervisor wrote it")
                .because(error)
            })?;
        }
        next = book.next()?;
    }
    let Some(bookmark) = book.bookmark() else {
        return Err(Failure::new(Exit::NotFound, format!("the log `{}` is empty", log.display())));
    };
    if book.last_seq() < n_in_base {
        let message = format!(
            "the log ends with decision {}, before the snapshot of {n_in_base}",
            book.last_seq()
        );
        return Err(Failure::new(Exit::Failed, message));
    }
    if !is_ours {
        let message = "nothing in the log tells whether the snapshot belongs to it";
        return Err(Failure::new(Exit::Failed, message));
    }
    let (n_decisions, n_incidents) = (desk.n_decisions(), incidents.len());
    let torn = book.torn().cloned();
    Ok(Found { base, base_covers, n_decisions, n_messages, n_incidents, bookmark, torn })
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
    let first = first.map_err(|error| of_bus("cannot inspect the ledger", error))?;
    let mut reader = ledger.read(first.saturating_sub(1));
    let mut book = Book::open(log, None)?;
    let mut wanted = Vec::<Decision>::new().into_iter().peekable();
    let mut known = Known::default();
    // Whether a decision of the ledger was found in the log.
    let mut has_met = false;
    loop {
        let item = reader.next().await.map_err(|error| of_bus("cannot read the ledger", error))?;
        let message = match item {
            LedgerItem::Message(message) => message,
            // It decides nothing.
            LedgerItem::Foreign(_) => continue,
            LedgerItem::CaughtUp => return Ok(known),
        };
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
                match wanted.peek() {
                    Some(it) if known.n_decisions == 0 && it.seq < decision.seq => {
                        wanted.next();
                    }
                    Some(_) => break wanted.next_if(|it| it.seq == decision.seq),
                    None => match book.next()? {
                        Some(message) => wanted = message.entry.decisions.into_iter().peekable(),
                        None => break None,
                    },
                }
            };
            let begins_later = wanted.peek().is_some_and(|it| decision.seq < it.seq);
            if in_log.is_none() && begins_later && !has_met {
                // Old parts of the log are gone.
                known.n_decisions = decision.seq;
                continue;
            }
            has_met = true;
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

/// Appends what lies behind what is known, and returns the last sequence of the ledger.
async fn write(ledger: &Ledger, log: &Path, last: u64, known: Known) -> Result<u64, Failure> {
    let mut entries = Entries::open(log, last, known)?;
    let mut last = last;
    while let Some(entry) = entries.next()? {
        last = append(ledger, last, &entry).await?;
    }
    Ok(last)
}

/// What the log holds behind what is known, message by message of the ledger.
struct Entries {
    book: Book,
    /// The last message of the ledger.
    last: u64,
    covers: Position,
    /// A message of the log that does not come next yet.
    waiting: Option<Message>,
}

impl Entries {
    fn open(log: &Path, last: u64, known: Known) -> Result<Self, Failure> {
        let book = Book::open(log, Some(known.n_decisions))?;
        Ok(Self { book, last, covers: known.covers, waiting: None })
    }

    /// Returns the next message; `None` at the end. Messages without decisions are not in the log;
    /// they are filled in, so that its numbers fit the ledger's.
    fn next(&mut self) -> Result<Option<LedgerEntry>, Failure> {
        let next = match self.waiting.take() {
            Some(message) => Some(message),
            None => self.book.next()?,
        };
        let Some(message) = next else { return Ok(None) };
        self.last += 1;
        if self.last < message.seq {
            self.waiting = Some(message);
            return Ok(Some(no_decision(self.covers)));
        }
        self.covers = message.entry.covers;
        Ok(Some(message.entry))
    }
}

const fn no_decision(covers: Position) -> LedgerEntry {
    LedgerEntry { v: SCHEMA, epoch: 0, covers, decisions: Vec::new(), fold: FOLD }
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
    append(ledger, last, &no_decision(covers)).await.map(|_seq| ())
}

/// Tells whether the input that caused the last decision is where the log says, or was there.
async fn is_same_inbox(bus: &Bus, mark: Bookmark) -> Result<bool, Failure> {
    let after = mark.cause.seq.saturating_sub(1);
    let mut inbox = bus.read_inbox(after).await.map_err(unreadable)?;
    match inbox.next_batch(1, INBOX_WAIT).await {
        Ok(batch) => Ok(batch.first().is_some_and(|it| mark.is_of(it))),
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
            if !mark.is_behind(&message) {
                return Ok(decided);
            }
            decided = Position::new(message.seq, u32::MAX);
        }
    }
}

fn unreadable(error: Error) -> Failure {
    of_bus("cannot read the inbox", error)
}

/// Returns the messages that an empty ledger is given of a log, beside this inbox, for the
/// simulation.
pub(crate) fn rebuilt(log: &Path, inbox: &[InboxMessage]) -> Result<Vec<LedgerEntry>, Failure> {
    let mark = survey_from(log, None)?.bookmark;
    let mut log = Entries::open(log, 0, Known::default())?;
    let mut entries = Vec::new();
    while let Some(entry) = log.next()? {
        entries.push(entry);
    }
    if !inbox.iter().any(|it| mark.is_of(it)) {
        let decided = inbox.iter().take_while(|it| mark.is_behind(it)).last();
        let covers = decided.map_or_else(Position::default, |it| Position::new(it.seq, u32::MAX));
        entries.push(no_decision(covers));
    }
    Ok(entries)
}

/// Reads a log back as messages of the ledger, for the fuzz targets.
pub(crate) fn read_log(path: &Path) -> Result<Vec<LedgerEntry>, Failure> {
    let mut book = Book::open(path, Some(0))?;
    std::iter::from_fn(|| book.next().transpose()).map(|it| it.map(|it| it.entry)).collect()
}
