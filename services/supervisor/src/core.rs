//! Everything that a supervisor decides without touching bus, disk or clock.
//!
//! The shell (`following`, `reign`) only moves bytes between the broker, the disk and a
//! [`Core`]; the simulation drives the same core with a model of both. What happens, in
//! this order:
//!
//! 1. [`Core::new`], or [`Core::resume`] from a snapshot; [`Core::fold`] for each message
//!    of the ledger behind it. Standbys go on folding.
//! 2. The leader reads the inbox from [`Core::read_after`] and [`Core::offer`]s messages.
//! 3. [`Core::decide`] decides what waits; also while the batch before is being appended.
//! 4. [`Core::seal`] makes one [`Batch`] of what was decided, when the one before is stored.
//! 5. The shell appends [`Batch::append`] behind [`Batch::expected_last`], one append at a
//!    time.
//! 6. [`Core::stored`] gives the [`Consequences`]: wishes go out at once, lines to the
//!    log; answers and news when the lines are synced.
//! 7. When an append was refused or nobody knows: [`Core::reset`], and begin with 1. The
//!    core has decided ahead of the ledger, so nothing of it may be used any more.
//!
//! [`recovery`] tells with which snapshot to begin, [`Wheel`] which deadlines have come,
//! [`Presence`] whether a leader was away, [`Snapshots`] when a snapshot is due and what
//! may be forgotten, and [`agents::Vigil`] which of our own processes are missed.

pub mod agents;
mod batch;
pub mod decode;
mod lines;
pub mod outcomes;
mod presence;
mod published;
pub mod recovery;
mod snapshots;
#[cfg(test)]
mod tests;
mod wheel;

use std::{collections::VecDeque, sync::Arc};

use bus::{InboxMessage, Subjects};
use domain::{
    desk::{Desk, FOLD, Snapshot, Tokens, Wish},
    fact::Decision,
    id::{IncidentId, Position},
    wire::LedgerEntry,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use self::{batch::Draft, decode::Part, lines::Composer};
pub use self::{
    batch::{Batch, Consequences, Traced},
    decode::Rejection,
    lines::{Line, Lines},
    presence::Presence,
    published::Published,
    snapshots::{Fill, Forgettable, Room, Snapshots},
    wheel::Wheel,
};

/// Inbox messages that are kept behind the last decided one, for people who look.
const INBOX_KEPT: u64 = 1000;
/// Inputs that wait to be decided before no more should be offered.
const WAITING_MAX: usize = 20_000;
/// Positions whose decisions the ledger could not take. Each costs a reign, and is
/// forgotten when the inbox is covered beyond it, so there is hardly ever more than one.
const POISON_MAX: usize = 16;
/// One message of the ledger holds fewer decisions than this. While the log is further
/// ahead, what is folded needs no lines, and is read the quick way.
const ENTRY_DECISIONS_MAX: u64 = 10_000;

/// Why the ledger cannot be folded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A message is none of ours.
    #[error("message {seq} of the ledger cannot be read")]
    Unreadable {
        /// The message.
        seq: u64,
        /// The cause.
        source: serde_json::Error,
    },
    /// A decision cannot follow the ones before.
    #[error("message {seq} of the ledger is corrupt")]
    Corrupt {
        /// The message.
        seq: u64,
        /// The cause.
        source: domain::incident::Corrupt,
    },
    /// A newer version has written a message: ours would fold it into another state.
    #[error(
        "message {seq} of the ledger was written by the rules {found}, this version has the rules {FOLD}"
    )]
    Newer {
        /// The message.
        seq: u64,
        /// Its rules.
        found: u32,
    },
    /// The log has decisions that the ledger does not have, or others.
    #[error("the log and the ledger differ at decision {seq}: {what}")]
    Differ {
        /// The decision.
        seq: u64,
        /// How.
        what: &'static str,
    },
    /// An append was stored elsewhere than it was wanted: the broker breaks its word.
    #[error("the ledger stored a batch at {got} that belongs to {wanted}")]
    Misplaced {
        /// Where it belongs.
        wanted: u64,
        /// Where it is.
        got: u64,
    },
}

/// The folded state of a supervisor, and what it has decided ahead of the ledger.
#[derive(Clone, Debug)]
pub struct Core {
    subjects: Subjects,
    desk: Desk,
    /// Inputs that wait to be decided, in order.
    parts: VecDeque<Part>,
    /// The last part that was offered.
    offered: Position,
    /// The last message of the ledger, when all that was decided is stored.
    tail: u64,
    /// The last message of the ledger that is stored.
    ledger_seq: u64,
    /// Inputs up to here need not be read again after a crash, once `tail` is stored.
    covers: Position,
    /// Inputs up to here need not be read again after a crash.
    covered: Position,
    /// Decisions in the ledger.
    n_stored: u64,
    /// What was decided since the last batch.
    draft: Draft,
    /// Batches that are sealed and not yet stored.
    n_ahead: usize,
    snapshots: Snapshots,
    wished: batch::Wished,
    /// Inputs whose decisions are larger than the ledger takes: rejected when met again.
    poison: Vec<Position>,
    /// Up to here one input makes a batch: one of them is too large, nobody knows which.
    one_by_one: Position,
    n_rejected: u64,
    /// Messages of the ledger that no supervisor has written.
    n_foreign: u64,
}

impl Core {
    /// Returns the state before the first decision.
    #[must_use]
    pub fn new(subjects: Subjects) -> Self {
        Self::resume(subjects, Desk::default(), 0)
    }

    /// Returns the state of a snapshot that was taken when `ledger_seq` was the last message.
    #[must_use]
    pub fn resume(subjects: Subjects, desk: Desk, ledger_seq: u64) -> Self {
        let position = desk.position();
        Self {
            subjects,
            n_stored: desk.n_decisions(),
            desk,
            parts: VecDeque::new(),
            offered: position,
            tail: ledger_seq,
            ledger_seq,
            covers: position,
            covered: position,
            draft: Draft::default(),
            n_ahead: 0,
            snapshots: Snapshots::default(),
            wished: batch::Wished::default(),
            poison: Vec::new(),
            one_by_one: Position::default(),
            n_rejected: 0,
            n_foreign: 0,
        }
    }

    /// Throws the state away: what was decided and not stored never happened. What belongs
    /// to the process and not to the ledger stays. Goes on with `desk` of a snapshot, or
    /// from the start with `(Desk::default(), 0)`.
    pub fn reset(&mut self, desk: Desk, ledger_seq: u64) {
        let mut fresh = Self::resume(self.subjects.clone(), desk, ledger_seq);
        fresh.inherit(self);
        *self = fresh;
    }

    /// Takes over what belongs to the process and not to the ledger, when this core takes
    /// the place of a former one.
    pub fn inherit(&mut self, former: &Self) {
        self.poison.clone_from(&former.poison);
        self.one_by_one = former.one_by_one;
        self.n_rejected = former.n_rejected;
        if former.snapshots.is_full() {
            self.snapshots.full(former.snapshots.room());
        }
    }

    /// Folds message `seq` of the ledger and returns its lines for the log, from decision
    /// number `lines_from` on.
    ///
    /// # Errors
    ///
    /// [`Error`]: nobody can go on from there without a person.
    pub fn fold(&mut self, seq: u64, payload: &[u8], lines_from: u64) -> Result<Lines, Error> {
        // What follows other rules may also hold what we cannot read.
        let unreadable = |source| newer(seq, payload).unwrap_or(Error::Unreadable { seq, source });
        let corrupt = |source| Error::Corrupt { seq, source };
        let mut lines = Composer::default();
        if self.desk.n_decisions() + ENTRY_DECISIONS_MAX < lines_from {
            let entry: LedgerEntry = serde_json::from_slice(payload).map_err(unreadable)?;
            by_our_rules(seq, entry.fold)?;
            for decision in &entry.decisions {
                self.follows(decision.seq)?;
                self.desk.apply(decision).map_err(corrupt)?;
            }
            self.folded(seq, entry.covers, payload.len());
            return Ok(lines.finish());
        }
        // The text of a decision becomes a part of its line as it stands, also what a
        // newer version has written that we do not understand.
        let entry: RawEntry<'_> = serde_json::from_slice(payload).map_err(unreadable)?;
        by_our_rules(seq, entry.fold)?;
        for raw in entry.decisions {
            let decision: Decision = serde_json::from_str(raw.get()).map_err(unreadable)?;
            self.follows(decision.seq)?;
            let recorded = self.desk.apply(&decision).map_err(corrupt)?;
            if lines_from <= recorded.decision.seq {
                lines
                    .line(&recorded, raw.get().as_bytes(), seq, entry.covers)
                    .map_err(unreadable)?;
            }
        }
        self.folded(seq, entry.covers, payload.len());
        Ok(lines.finish())
    }

    /// Passes over message `seq` of the ledger, which no supervisor has written: it decides
    /// nothing.
    pub fn pass_over(&mut self, seq: u64, bytes: usize) {
        (self.tail, self.ledger_seq) = (seq, seq);
        self.n_foreign += 1;
        self.snapshots.grown(seq, bytes);
    }

    /// Passes over message `seq` of the ledger, which no supervisor has written, and which stands
    /// where a sealed batch was to be stored: the batch goes behind it.
    ///
    /// # Errors
    ///
    /// [`Error::Misplaced`] when the message stands elsewhere; [`Error::Unreadable`] when the
    /// lines of the batch cannot be written anew.
    pub fn make_way(&mut self, batch: &mut Batch, seq: u64, bytes: usize) -> Result<(), Error> {
        let wanted = batch.expected_last + 1;
        if wanted != seq {
            return Err(Error::Misplaced { wanted, got: seq });
        }
        batch.go_behind(seq).map_err(|source| Error::Unreadable { seq, source })?;
        self.pass_over(seq, bytes);
        self.tail = seq + u64::from(batch.append.is_some());
        Ok(())
    }

    /// Returns how many messages were passed over since the snapshot that this began with.
    #[must_use]
    pub const fn n_foreign(&self) -> u64 {
        self.n_foreign
    }

    /// A decision that does not follow the last one belongs to another history than the
    /// snapshot that this began with.
    const fn follows(&self, seq: u64) -> Result<(), Error> {
        if self.desk.n_decisions() + 1 == seq {
            return Ok(());
        }
        let what = "the one before it is missing";
        Err(Error::Differ { seq, what })
    }

    fn folded(&mut self, seq: u64, covers: Position, bytes: usize) {
        self.desk.cover(covers);
        (self.tail, self.ledger_seq) = (seq, seq);
        (self.covers, self.covered, self.offered) = (covers, covers, covers);
        self.n_stored = self.desk.n_decisions();
        self.snapshots.grown(seq, bytes);
    }

    /// Returns behind which message the inbox must be read. The last message may be a frame
    /// that is decided in part: it is read again, and what was decided of it is skipped.
    #[must_use]
    pub const fn read_after(&self) -> u64 {
        self.desk.position().seq.saturating_sub(1)
    }

    /// Takes a message of the inbox. What was offered or decided before is left out.
    pub fn offer(&mut self, message: &InboxMessage) {
        self.take(decode::parts(&self.subjects, message));
    }

    /// Takes the parts of a message, read by [`decode::parts`]. As [`Self::offer`], but
    /// reading them does not need the core.
    pub fn take(&mut self, parts: Vec<Part>) {
        for part in parts {
            if self.offered < part.position {
                self.offered = part.position;
                self.parts.push_back(part);
            }
        }
    }

    /// Returns whether so many inputs wait that no more should be offered.
    #[must_use]
    pub fn is_full(&self) -> bool {
        WAITING_MAX <= self.parts.len()
    }

    /// Tells which tokens of callers there are, for the next decisions; see
    /// [`Desk::know_tokens`].
    pub fn know_tokens(&mut self, tokens: Option<Arc<Tokens>>) {
        self.desk.know_tokens(tokens);
    }

    /// Decides inputs that wait, as many as go into one message of the ledger.
    ///
    /// # Errors
    ///
    /// When a payload holds what JSON cannot.
    pub fn decide(&mut self) -> Result<(), serde_json::Error> {
        while !self.draft.is_full() {
            let Some(part) = self.parts.pop_front() else { break };
            let alone = part.position <= self.one_by_one;
            self.draft.decide(&mut self.desk, part, &self.poison, alone)?;
        }
        Ok(())
    }

    /// Makes a batch of what was decided; `None` when nothing was. It is to be stored
    /// before the next one is sealed, or the core is to be [`Self::reset`].
    ///
    /// # Errors
    ///
    /// When a payload holds what JSON cannot.
    pub fn seal(&mut self, epoch: u64) -> Result<Option<Batch>, serde_json::Error> {
        let mut draft = std::mem::take(&mut self.draft);
        let Some(first) = draft.first() else { return Ok(None) };
        draft.finish(&mut self.desk)?;
        self.n_rejected += draft.n_rejected();
        let covers = self.desk.position();
        let closing = batch::Closing {
            desk: &self.desk,
            epoch,
            first,
            covers,
            covered: self.covers,
            expected_last: self.tail,
        };
        let batch = draft.close(&closing, &mut self.wished)?;
        if batch.append.is_some() {
            self.tail += 1;
            self.covers = covers;
        }
        self.n_ahead += 1;
        Ok(Some(batch))
    }

    /// Notes that a batch is stored as message `seq` of the ledger, or that it has nothing
    /// to store and all before it are. Its consequences may be seen now.
    ///
    /// # Errors
    ///
    /// [`Error::Misplaced`]: nothing of the batch may be used.
    pub fn stored(&mut self, batch: Batch, seq: Option<u64>) -> Result<Consequences, Error> {
        if let Some(payload) = &batch.append {
            let (wanted, got) = (batch.expected_last + 1, seq.unwrap_or(0));
            if wanted != got {
                return Err(Error::Misplaced { wanted, got });
            }
            self.ledger_seq = wanted;
            self.covered = batch.covers;
            self.n_stored = self.n_stored.max(batch.last_decision());
            self.snapshots.grown(wanted, payload.len());
            self.poison.retain(|it| batch.covers < *it);
        }
        self.n_ahead = self.n_ahead.saturating_sub(1);
        Ok(batch.into_consequences())
    }

    /// Notes that the ledger does not take a batch because of its size. The core is to be
    /// [`Self::reset`] next; then its inputs are decided one by one, and one that is too
    /// large by itself is rejected.
    pub fn too_large(&mut self, batch: &Batch) {
        if 1 < batch.n_inputs() {
            self.one_by_one = self.one_by_one.max(batch.covers);
        } else if self.poison.len() < POISON_MAX {
            self.poison.push(batch.first);
        }
    }

    /// Returns whether all that was decided is stored. Only then is what the desk says
    /// true, and only then may [`Self::republish`] or a snapshot be made.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.n_ahead == 0 && self.draft.first().is_none()
    }

    /// Returns all work that is wanted, to be published again: a queue may have lost it.
    /// Nothing while something is decided ahead of the ledger.
    #[must_use]
    pub fn republish(&self) -> Vec<Wish> {
        if self.is_settled() { self.desk.pending() } else { Vec::new() }
    }

    /// Returns the work that some incidents want, to be published again in portions; see
    /// [`Desk::wanting`]. Nothing while something is decided ahead of the ledger.
    pub fn wishes_of(&self, ids: impl IntoIterator<Item = IncidentId>) -> Vec<Wish> {
        if !self.is_settled() {
            return Vec::new();
        }
        ids.into_iter().flat_map(|id| self.desk.wishes_of(id)).collect()
    }

    /// Begins a snapshot although none is due, since the ledger is nearly full; `None` while
    /// something is decided ahead of the ledger, one is under way, or nothing has happened since.
    pub fn snapshot_for_room(&mut self) -> Option<(u64, Snapshot)> {
        if !self.is_settled() || self.ledger_seq == 0 || !self.snapshots.may_begin() {
            return None;
        }
        self.snapshots.begun();
        Some((self.ledger_seq, self.desk.snapshot()))
    }

    /// Begins a snapshot, and returns the message of the ledger that it stands behind;
    /// `None` when none is due, or while something is decided ahead of the ledger.
    pub fn snapshot(&mut self) -> Option<(u64, Snapshot)> {
        if !self.is_settled() || !self.snapshots.is_due() {
            return None;
        }
        self.snapshots.begun();
        Some((self.ledger_seq, self.desk.snapshot()))
    }

    /// Returns up to which message the inbox may be forgotten. Not up to the last decided
    /// one: only what the ledger covers is never read again.
    #[must_use]
    pub fn inbox_forgettable(&self) -> Option<u64> {
        self.covered.seq.checked_sub(INBOX_KEPT).filter(|it| 0 < *it)
    }

    /// Returns the desk. It may be ahead of the ledger: what is read from it may be told when [`Self::n_stored`] has reached its number of decisions.
    #[must_use]
    pub const fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Returns the number of decisions that are in the ledger.
    #[must_use]
    pub const fn n_stored(&self) -> u64 {
        self.n_stored
    }

    /// Returns the last message of the ledger that is folded or was stored by us.
    #[must_use]
    pub const fn ledger_seq(&self) -> u64 {
        self.ledger_seq
    }

    /// Returns up to where the ledger covers the inbox.
    #[must_use]
    pub const fn covered(&self) -> Position {
        self.covered
    }

    /// Returns how many inputs could not be understood since the process started.
    #[must_use]
    pub const fn n_rejected(&self) -> u64 {
        self.n_rejected
    }

    /// Returns the bookkeeping of snapshots.
    #[must_use]
    pub const fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    /// Returns the bookkeeping of snapshots, to be told what was stored.
    pub const fn snapshots_mut(&mut self) -> &mut Snapshots {
        &mut self.snapshots
    }
}

#[cfg(test)]
pub(crate) use lines::tests as tests_lines;

fn by_our_rules(seq: u64, found: u32) -> Result<(), Error> {
    if FOLD < found { Err(Error::Newer { seq, found }) } else { Ok(()) }
}

/// Returns why a message cannot be read, when that is since a newer version has written it.
fn newer(seq: u64, payload: &[u8]) -> Option<Error> {
    #[derive(Deserialize)]
    struct Rules {
        #[serde(default)]
        fold: u32,
    }
    let rules: Rules = serde_json::from_slice(payload).ok()?;
    by_our_rules(seq, rules.fold).err()
}

/// A message of the ledger whose decisions are not read yet.
#[derive(Deserialize)]
struct RawEntry<'a> {
    covers: Position,
    #[serde(default)]
    fold: u32,
    #[serde(borrow)]
    decisions: Vec<&'a RawValue>,
}
