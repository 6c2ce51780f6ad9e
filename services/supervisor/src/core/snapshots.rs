//! When a snapshot is due, and what may be forgotten behind it.

/// The ledger grows at least so much between two snapshots. Folding so much takes well
/// under a second.
const BYTES_MIN: u64 = 16 * 1024 * 1024;
/// Messages of the ledger after which a snapshot is due, however small they are; but not
/// before a quarter of the last snapshot's size, or a large one would be written all the time.
const ENTRIES_MAX: u64 = 100_000;
/// Messages that stay behind the oldest kept snapshot, for standbys that lag.
const ENTRIES_KEPT: u64 = 5_000;
/// Snapshots that are kept: the newest, and the one before in case it cannot be read.
const KEPT: usize = 2;
/// Of a ledger with a limit, a snapshot is due after this part of it: one that is full before
/// there is a snapshot can never be shortened.
const PART_OF_LEDGER: u64 = 8;
/// What the broker keeps of a message besides its payload, about.
const MESSAGE_EXTRA: u64 = 160;
/// Percent of its limit above which the ledger is shortened as far as one good snapshot allows.
const PRESSED_PERCENT: u64 = 80;
/// Percent above which it is shortened although our own log lacks the lines: a full ledger
/// stops all decisions, and the lines may be with another supervisor.
const URGENT_PERCENT: u64 = 90;

/// What is in the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// The first message that is kept.
    pub first_seq: u64,
    /// The last message.
    pub last_seq: u64,
    /// Bytes kept.
    pub bytes: u64,
    /// Bytes at which it is full; `None` without a limit.
    pub bytes_max: Option<u64>,
}

/// Up to where the ledger may be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgettable {
    /// The last message that may be forgotten.
    pub up_to: u64,
    /// Our own log has no lines for what is behind this message; `None` when it has all.
    pub unlogged_after: Option<u64>,
}

/// The room that the ledger had when an append began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// It had taken no message before, and was not shortened since.
    pub was_full: bool,
    first_seq: u64,
}

impl Fill {
    /// Returns how full it is.
    fn percent(&self) -> u64 {
        match self.bytes_max {
            Some(max) if 0 < max => self.bytes.saturating_mul(100) / max,
            Some(_) | None => 0,
        }
    }

    /// Returns how many messages make a part of the limit; all without a limit.
    fn messages_of_a_part(&self) -> u64 {
        let n = (self.last_seq + 1).saturating_sub(self.first_seq).max(1);
        let each = (self.bytes / n).max(1);
        self.bytes_max.map_or(u64::MAX, |max| max / PART_OF_LEDGER / each)
    }
}

/// A snapshot on the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept {
    /// The message of the ledger that it stands behind.
    seq: u64,
    /// Whether we have read it back.
    is_verified: bool,
}

/// The bookkeeping of snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshots {
    /// The oldest first.
    kept: Vec<Kept>,
    /// Size of the newest.
    bytes: u64,
    bytes_since: u64,
    entries_since: u64,
    under_way: bool,
    /// As the broker has told it, with what was appended since.
    fill: Fill,
    /// The broker has refused a message for want of room, whatever it says of its limits.
    is_full: bool,
}

impl Snapshots {
    /// Notes that the ledger has grown by message `seq` of so many bytes. What the broker says of
    /// the ledger may hold it before we hear that it is stored.
    pub fn grown(&mut self, seq: u64, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes_since = self.bytes_since.saturating_add(bytes);
        self.entries_since += 1;
        if self.fill.last_seq < seq {
            self.fill.bytes = self.fill.bytes.saturating_add(bytes.saturating_add(MESSAGE_EXTRA));
            self.fill.last_seq = seq;
        }
    }

    /// Notes what the broker says of the ledger.
    pub fn filled(&mut self, fill: Fill) {
        self.fill = fill;
    }

    /// Returns the room that there is for an append.
    #[must_use]
    pub fn room(&self) -> Room {
        Room { was_full: self.is_full, first_seq: self.fill.first_seq.max(1) }
    }

    /// Notes that the ledger has taken no message for want of room, which it had when the append
    /// began. When it was shortened meanwhile, the next append will tell.
    pub fn full(&mut self, room: Room) {
        self.is_full |= room.was_full || self.fill.first_seq <= room.first_seq;
    }

    /// Returns whether the ledger has taken no message for want of room, and was not shortened
    /// since.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Returns whether the ledger is so full that it must be shortened as far as may be.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.is_full || PRESSED_PERCENT <= self.fill.percent()
    }

    /// Returns whether a snapshot should be taken now.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let part = self.fill.bytes_max.map_or(u64::MAX, |max| max / PART_OF_LEDGER);
        // A snapshot that is large beside the ledger must not keep it from being shortened.
        let growth = BYTES_MIN.max(self.bytes).min(part.max(1));
        let grown = growth <= self.bytes_since;
        let many = ENTRIES_MAX <= self.entries_since && self.bytes / 4 <= self.bytes_since;
        !self.under_way && (grown || many)
    }

    /// Returns whether none is under way.
    #[must_use]
    pub const fn may_begin(&self) -> bool {
        !self.under_way
    }

    /// Notes that one is being taken of the present state.
    pub fn begun(&mut self) {
        self.under_way = true;
        self.bytes_since = 0;
        self.entries_since = 0;
    }

    /// Notes that one could not be stored, or not be read back. The next is taken when the
    /// ledger has grown again, since what keeps it from being stored may last.
    pub fn failed(&mut self) {
        self.under_way = false;
    }

    /// Notes that one is stored and was read back, taken when `seq` was the last message, of so
    /// many bytes.
    pub fn stored(&mut self, seq: u64, bytes: u64) {
        self.under_way = false;
        self.bytes = bytes;
        self.kept.retain(|it| it.seq != seq);
        self.kept.push(Kept { seq, is_verified: true });
        self.kept.sort_unstable_by_key(|it| it.seq);
    }

    /// Returns which snapshots are of no use any more, and forgets them. Only those that we know:
    /// which one a former leader has stored may be unknown, and needed. `logged` is as for
    /// [`Self::ledger_forgettable`]: lines can only be made from a state before them, so the newest
    /// snapshot that our log reaches stays while the ledger goes on behind it, however many are
    /// newer; when it reaches none, the oldest stays, which leaves the smallest gap.
    pub fn take_old(&mut self, logged: u64) -> Vec<u64> {
        let reach = self.reach(logged);
        let mut usable = self.kept.iter().filter(|it| self.fill.first_seq <= it.seq + 1);
        let reached = usable.clone().rev().find(|it| it.seq <= reach);
        let base = reached.or_else(|| usable.next()).map_or(u64::MAX, |it| it.seq);
        let n_needed = self.kept.iter().filter(|it| base <= it.seq).count().max(KEPT);
        let n_old = self.kept.len().saturating_sub(n_needed);
        self.kept.drain(..n_old).map(|it| it.seq).collect()
    }

    /// Returns behind which message the lines are that our log lacks and that can still be made: what
    /// the ledger has forgotten is lost, wherever the log ends.
    fn reach(&self, logged: u64) -> u64 {
        logged.max(self.fill.first_seq.saturating_sub(1))
    }

    /// Returns the newest snapshot that our log reaches; 0 when it reaches none. What is behind it
    /// is not needed to make the lines that our log lacks.
    fn reached(&self, logged: u64) -> u64 {
        let reach = self.reach(logged);
        let reached = self.kept.iter().rev().find(|it| it.seq <= reach);
        reached.map_or(0, |it| it.seq)
    }

    /// Returns whether there is no room at all.
    fn is_urgent(&self) -> bool {
        self.is_full || URGENT_PERCENT < self.fill.percent()
    }

    /// Notes which snapshots the broker has, and the size of the newest; `ledger_seq` is the last
    /// message. A standby has counted the growth since it began.
    pub fn found(&mut self, mut seqs: Vec<u64>, bytes_of_newest: u64, ledger_seq: u64) {
        seqs.sort_unstable();
        if let Some(newest) = seqs.last() {
            let since = ledger_seq.saturating_sub(*newest);
            if since < self.entries_since {
                // Messages are about alike.
                let bytes = self.bytes_since / self.entries_since * since;
                (self.bytes_since, self.entries_since) = (bytes, since);
            }
            self.bytes = bytes_of_newest;
        }
        let is_verified = |seq| self.kept.iter().any(|it| it.seq == seq && it.is_verified);
        self.kept =
            seqs.into_iter().map(|seq| Kept { seq, is_verified: is_verified(seq) }).collect();
    }

    /// Notes that the ledger was shortened up to this message.
    pub fn forgotten(&mut self, up_to: u64) {
        let n = (self.fill.last_seq + 1).saturating_sub(self.fill.first_seq).max(1);
        let each = self.fill.bytes / n;
        let n_gone = (up_to + 1).saturating_sub(self.fill.first_seq);
        self.fill.bytes = self.fill.bytes.saturating_sub(each.saturating_mul(n_gone));
        self.fill.first_seq = self.fill.first_seq.max(up_to + 1);
        self.is_full = false;
    }

    /// Returns up to where the ledger may be forgotten. Behind the oldest of the kept snapshots,
    /// so that when the newest cannot be read the one before is enough; when the ledger is
    /// nearly full, behind the newest that was read back. `logged` is the message of the ledger
    /// whose decisions are the last in our own log: what lies after the newest snapshot that it
    /// reaches stays, until there is no room at all, since its lines are made from there.
    #[must_use]
    pub fn ledger_forgettable(&self, logged: u64) -> Option<Forgettable> {
        let newest = self.kept.last().filter(|it| it.is_verified)?;
        let up_to = if self.is_pressed() {
            newest.seq
        } else {
            let oldest = self.kept.iter().rev().nth(KEPT - 1)?;
            oldest.seq.saturating_sub(ENTRIES_KEPT.min(self.fill.messages_of_a_part()))
        };
        let up_to = if self.is_urgent() { up_to } else { up_to.min(self.reached(logged)) };
        let unlogged_after = (logged < up_to).then_some(logged);
        let is_there = self.fill.first_seq.max(1) <= up_to;
        is_there.then_some(Forgettable { up_to, unlogged_after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_due_when_the_ledger_has_grown_by_as_much() {
        let mut snapshots = Snapshots::default();
        snapshots.grown(1, 1000);
        assert!(!snapshots.is_due());
        snapshots.grown(2, 16 * 1024 * 1024);
        assert!(snapshots.is_due());
        snapshots.begun();
        snapshots.grown(3, 17 * 1024 * 1024);
        assert!(!snapshots.is_due(), "one is under way");
        snapshots.stored(2, 64 * 1024 * 1024);
        assert!(!snapshots.is_due(), "the ledger has grown by less than the snapshot's size");
        snapshots.grown(4, 48 * 1024 * 1024);
        assert!(snapshots.is_due());
    }

    #[test]
    fn many_small_messages_make_one_due_too() {
        let mut snapshots = Snapshots::default();
        for seq in 1..=ENTRIES_MAX {
            assert!(!snapshots.is_due());
            snapshots.grown(seq, 10);
        }
        assert!(snapshots.is_due());
        snapshots.begun();
        snapshots.failed();
        assert!(!snapshots.is_due(), "not at once again");
    }

    fn up_to(snapshots: &Snapshots) -> Option<u64> {
        let found = snapshots.ledger_forgettable(u64::MAX)?;
        assert_eq!(found.unlogged_after, None);
        Some(found.up_to)
    }

    #[test]
    fn the_ledger_is_kept_behind_the_snapshot_before_the_newest() {
        let mut snapshots = Snapshots::default();
        snapshots.stored(10_000, 1);
        assert_eq!(up_to(&snapshots), None, "the only one may be unreadable");
        snapshots.stored(20_000, 1);
        assert_eq!(up_to(&snapshots), Some(10_000 - ENTRIES_KEPT));
        snapshots.stored(30_000, 1);
        assert_eq!(up_to(&snapshots), Some(20_000 - ENTRIES_KEPT));
        let mut again = Snapshots::default();
        for seq in 1..=40 {
            again.grown(seq, 1024 * 1024);
        }
        again.found(vec![30_000, 20_000, 10_000], 1, 30_002);
        assert_eq!(up_to(&again), None, "we have not read it back");
        assert!(!again.is_due(), "the former leader has taken one just now");
    }

    /// A ledger of 64 MiB whose messages have 245 KB each.
    #[test]
    fn a_ledger_of_large_messages_never_fills_up() {
        const MAX: u64 = 64 * 1024 * 1024;
        let mut snapshots = Snapshots::default();
        snapshots.filled(Fill { first_seq: 1, last_seq: 0, bytes: 0, bytes_max: Some(MAX) });
        for seq in 1..=2000 {
            snapshots.grown(seq, 245_000);
            assert!(snapshots.fill.bytes < MAX, "full at message {seq}");
            if snapshots.is_due() {
                snapshots.begun();
                snapshots.stored(seq, 1_000_000);
                if let Some(forgettable) = snapshots.ledger_forgettable(seq) {
                    assert_eq!(forgettable.unlogged_after, None);
                    snapshots.forgotten(forgettable.up_to);
                }
            }
        }
    }

    #[test]
    fn a_nearly_full_ledger_is_shortened_behind_one_good_snapshot() {
        let fill = |percent: u64| Fill {
            first_seq: 1,
            last_seq: 100,
            bytes: percent * 1024,
            bytes_max: Some(100 * 1024),
        };
        let mut snapshots = Snapshots::default();
        snapshots.stored(90, 1);
        snapshots.filled(fill(79));
        assert_eq!(up_to(&snapshots), None, "there is room: two snapshots are wanted");
        snapshots.filled(fill(80));
        assert_eq!(up_to(&snapshots), Some(90));
        let mut found = Snapshots::default();
        found.filled(fill(95));
        found.found(vec![90, 40], 1, 100);
        assert_eq!(up_to(&found), None, "nobody has read it back");
    }

    #[test]
    fn a_message_that_the_broker_has_counted_is_not_counted_again() {
        let mut snapshots = Snapshots::default();
        let fill = Fill { first_seq: 1, last_seq: 7, bytes: 700, bytes_max: Some(1000) };
        snapshots.filled(fill);
        snapshots.grown(7, 200);
        assert_eq!(snapshots.fill, fill, "it was there when the broker was asked");
        snapshots.grown(8, 100);
        assert_eq!(snapshots.fill.bytes, 700 + 100 + MESSAGE_EXTRA);
        assert_eq!(snapshots.fill.last_seq, 8);
    }

    #[test]
    fn what_was_refused_before_the_ledger_was_shortened_says_nothing_about_it() {
        let mut snapshots = Snapshots::default();
        snapshots.filled(Fill { first_seq: 1, last_seq: 99, bytes: 50, bytes_max: Some(100) });
        let room = snapshots.room();
        snapshots.forgotten(90);
        snapshots.full(room);
        assert!(!snapshots.is_full());
        snapshots.full(snapshots.room());
        assert!(snapshots.is_full());
        let many_tries = snapshots.room();
        snapshots.forgotten(95);
        snapshots.full(many_tries);
        assert!(snapshots.is_full(), "the last of them was after it was shortened");
    }

    #[test]
    fn what_our_own_log_lacks_stays_until_there_is_no_room_at_all() {
        let mut snapshots = Snapshots::default();
        for seq in [25, 80, 90] {
            snapshots.stored(seq, 1);
        }
        let bytes_max = Some(100 * 1024);
        let fill =
            |percent: u64| Fill { first_seq: 1, last_seq: 99, bytes: percent * 1024, bytes_max };
        snapshots.filled(fill(85));
        let all = Forgettable { up_to: 25, unlogged_after: None };
        assert!(
            snapshots.take_old(30).is_empty(),
            "the lines behind 30 are made from the state at 25"
        );
        assert_eq!(snapshots.ledger_forgettable(30), Some(all));
        assert_eq!(snapshots.ledger_forgettable(24), None, "no snapshot stands before them");
        assert!(snapshots.take_old(24).is_empty(), "the oldest leaves the smallest gap");
        snapshots.filled(fill(91));
        assert!(snapshots.take_old(30).is_empty(), "the ledger still goes on behind it");
        let lost = Forgettable { up_to: 90, unlogged_after: Some(30) };
        assert_eq!(snapshots.ledger_forgettable(30), Some(lost));
        snapshots.filled(fill(10));
        let room = snapshots.room();
        snapshots.full(room);
        assert_eq!(snapshots.ledger_forgettable(30), Some(lost), "the account is full");
        snapshots.forgotten(90);
        assert_eq!(snapshots.ledger_forgettable(90), None);
        assert_eq!(
            snapshots.take_old(30),
            [25],
            "nothing can be made from the state at 25 any more"
        );
        snapshots.stored(95, 1);
        snapshots.stored(99, 1);
        assert_eq!(snapshots.take_old(30), [80], "lines behind 90 are made from the state there");
    }
}
