//! What is kept for how long: the ledger has room for what is decided, nothing is forgotten that a
//! log lacks, and a snapshot stands for what is.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use bytes::Bytes;
use domain::id::Position;

use super::Laws;
use crate::{
    agents::supervisor::archive,
    clock::{Micros, SECOND},
    sim::NodeId,
    world::World,
};

/// A leader that is not disturbed makes room so soon: it tries for a minute, folds the ledger
/// anew, and stores a snapshot.
const FULL_MAX: Micros = 180 * SECOND;
/// So full, in percent, the ledger may be shortened although the log lacks the lines. A leader
/// counts a little otherwise than the broker.
const URGENT_PERCENT: u64 = 88;

/// So often batches that begin with the same input may be too large: each leader tries it with
/// others and then alone, and rejects it; who is started anew does not know.
const TOO_LARGE_MAX: u32 = 12;

/// What is kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The number of the last decision after each message of the ledger.
    decisions: Vec<u64>,
    /// How often batches were too large, by their first input.
    too_large: BTreeMap<Position, u32>,
    /// Since when the ledger takes nothing for want of room.
    full_since: Option<Micros>,
    /// It has taken nothing for want of room since it was shortened.
    was_refused: bool,
    /// Up to where it was shortened.
    purged: u64,
    /// The newest snapshot that was written.
    snapshot: u64,
    /// Lines that were forgotten because there was no room at all.
    excused: BTreeSet<u64>,
}

impl Kept {
    /// A message of the ledger was stored.
    pub(super) fn appended(&mut self, n_decisions: u64) {
        self.decisions.push(n_decisions);
        self.full_since = None;
    }

    /// The broker has lost all that it stored.
    pub(super) fn lost(&mut self) {
        *self = Self::default();
    }

    /// The ledger does not take a batch because of its size.
    pub(crate) fn too_large(&mut self, world: &Rc<World>, first: Position) {
        let n = self.too_large.entry(first).or_default();
        *n += 1;
        if TOO_LARGE_MAX < *n {
            let why = format!("what begins with input {first} was refused {n} times");
            world.fail("what is too large stops nothing else", why);
        }
    }

    /// The ledger has refused a message for want of room.
    pub(crate) fn refused(&mut self, world: &Rc<World>) {
        self.was_refused = true;
        let now = world.sim.now();
        let since = *self.full_since.get_or_insert(now);
        let since = since.max(world.disturbed_at.get());
        if since + FULL_MAX < now {
            let why = format!("it takes nothing since {} s", (now - since) / SECOND);
            world.fail("a full ledger is shortened", why);
        }
    }

    fn last_decision(&self, seq: u64) -> u64 {
        let idx = usize::try_from(seq).ok().and_then(|it| it.checked_sub(1));
        let last = idx.and_then(|idx| self.decisions.get(idx).or_else(|| self.decisions.last()));
        last.copied().unwrap_or(0)
    }

    /// A supervisor has the ledger shortened.
    pub(super) fn purge(&mut self, world: &Rc<World>, up_to: u64, by: NodeId) {
        let fill = world.broker.borrow().ledger_fill();
        let up_to = up_to.min(fill.last_seq);
        if up_to <= self.purged {
            return;
        }
        if self.snapshot < up_to {
            let why = format!("up to message {up_to}, the newest is behind {}", self.snapshot);
            return world.fail("a snapshot stands for what is forgotten", why);
        }
        let is_full = |max| max * URGENT_PERCENT <= fill.bytes * 100;
        let is_urgent = self.was_refused || fill.bytes_max.is_some_and(is_full);
        let disk = world.node(by).disk.borrow();
        let forgotten = self.last_decision(self.purged) + 1..=self.last_decision(up_to);
        // A gap cannot be made good from the ledger: its lines come from other supervisors.
        let lacking = forgotten.filter(|seq| disk.n_synced() < *seq);
        let lacking: Vec<u64> = lacking.collect();
        if let Some(first) = lacking.first().filter(|_| !is_urgent) {
            let why = format!("line {first} is not in the log of {}", world.member(by));
            return world.fail("what a log lacks is not forgotten", why);
        }
        self.excused.extend(lacking);
        self.purged = up_to;
        self.was_refused = false;
    }

    /// Returns whether a line may be missing for good.
    pub(super) fn is_excused(&self, seq: u64) -> bool {
        self.excused.contains(&seq)
    }

    pub(super) fn at_the_end(&self, world: &Rc<World>) {
        if let Some(since) = self.full_since {
            let why = format!("it takes nothing since {} s", (world.sim.now() - since) / SECOND);
            world.fail("a full ledger is shortened", why);
        }
    }
}

impl Laws {
    /// A snapshot is about to be stored: whoever begins with it must have the same state as who
    /// folds the ledger.
    pub(super) fn snapshot_is_written(&mut self, world: &Rc<World>, seq: u64, parts: &[Bytes]) {
        self.kept.snapshot = self.kept.snapshot.max(seq);
        let desk = match archive::desk(world, parts) {
            Ok(desk) => desk,
            Err(error) => return world.fail("a snapshot can be read", error.to_string()),
        };
        if self.core.ledger_seq() != seq {
            return;
        }
        let mut folded = self.core.desk().clone();
        folded.cover(desk.position());
        if folded != desk {
            world.fail("a snapshot is the desk", format!("behind message {seq}"));
        }
    }
}
