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
pub const KEPT: usize = 2;

/// The bookkeeping of snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshots {
    /// Messages of the ledger that kept snapshots stand behind, the oldest first.
    kept: Vec<u64>,
    /// Size of the newest.
    bytes: u64,
    bytes_since: u64,
    entries_since: u64,
    under_way: bool,
}

impl Snapshots {
    /// Notes that the ledger has grown by a message of so many bytes.
    pub fn grown(&mut self, bytes: usize) {
        self.bytes_since += u64::try_from(bytes).unwrap_or(u64::MAX);
        self.entries_since += 1;
    }

    /// Returns whether a snapshot should be taken now.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let grown = BYTES_MIN.max(self.bytes) <= self.bytes_since;
        let many = ENTRIES_MAX <= self.entries_since && self.bytes / 4 <= self.bytes_since;
        !self.under_way && (grown || many)
    }

    /// Notes that one is being taken of the present state.
    pub fn begun(&mut self) {
        self.under_way = true;
        self.bytes_since = 0;
        self.entries_since = 0;
    }

    /// Notes that one could not be stored. The next is taken when the ledger has grown
    /// again, since what keeps it from being stored may last.
    pub fn failed(&mut self) {
        self.under_way = false;
    }

    /// Notes that one is stored, taken when `seq` was the last message, of so many bytes.
    pub fn stored(&mut self, seq: u64, bytes: u64) {
        self.under_way = false;
        self.bytes = bytes;
        self.kept.push(seq);
        self.kept.sort_unstable();
        self.kept.dedup();
        let n_old = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..n_old);
    }

    /// Notes which snapshots there are when one begins to lead, and the size of the newest;
    /// `ledger_seq` is the last message. A standby has counted the growth since it began.
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
        let n_old = seqs.len().saturating_sub(KEPT);
        seqs.drain(..n_old);
        self.kept = seqs;
    }

    /// Returns up to which message the ledger may be forgotten: behind the oldest of the
    /// kept snapshots, so that when the newest cannot be read the one before is enough.
    #[must_use]
    pub fn ledger_forgettable(&self) -> Option<u64> {
        if self.kept.len() < KEPT {
            return None;
        }
        let oldest = self.kept.iter().rev().nth(KEPT - 1)?;
        oldest.checked_sub(ENTRIES_KEPT).filter(|it| 0 < *it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_due_when_the_ledger_has_grown_by_as_much() {
        let mut snapshots = Snapshots::default();
        snapshots.grown(1000);
        assert!(!snapshots.is_due());
        snapshots.grown(16 * 1024 * 1024);
        assert!(snapshots.is_due());
        snapshots.begun();
        snapshots.grown(17 * 1024 * 1024);
        assert!(!snapshots.is_due(), "one is under way");
        snapshots.stored(2, 64 * 1024 * 1024);
        assert!(!snapshots.is_due(), "the ledger has grown by less than the snapshot's size");
        snapshots.grown(48 * 1024 * 1024);
        assert!(snapshots.is_due());
    }

    #[test]
    fn many_small_messages_make_one_due_too() {
        let mut snapshots = Snapshots::default();
        for _ in 0..ENTRIES_MAX {
            assert!(!snapshots.is_due());
            snapshots.grown(10);
        }
        assert!(snapshots.is_due());
        snapshots.begun();
        snapshots.failed();
        assert!(!snapshots.is_due(), "not at once again");
    }

    #[test]
    fn the_ledger_is_kept_behind_the_snapshot_before_the_newest() {
        let mut snapshots = Snapshots::default();
        snapshots.stored(10_000, 1);
        assert_eq!(snapshots.ledger_forgettable(), None, "the only one may be unreadable");
        snapshots.stored(20_000, 1);
        assert_eq!(snapshots.ledger_forgettable(), Some(10_000 - ENTRIES_KEPT));
        snapshots.stored(30_000, 1);
        assert_eq!(snapshots.ledger_forgettable(), Some(20_000 - ENTRIES_KEPT));
        let mut again = Snapshots::default();
        for _ in 0..40 {
            again.grown(1024 * 1024);
        }
        again.found(vec![30_000, 20_000, 10_000], 1, 30_002);
        assert_eq!(again.ledger_forgettable(), snapshots.ledger_forgettable());
        assert!(!again.is_due(), "the former leader has taken one just now");
    }
}
