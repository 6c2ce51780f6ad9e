//! Where a start begins: with a snapshot, or with the first message of the ledger.

/// What is known at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// First message that the ledger still has; of an empty one, the one that comes next.
    pub ledger_first: u64,
    /// Last message of the ledger.
    pub ledger_last: u64,
    /// Messages that the snapshots stand behind.
    pub snapshots: Vec<u64>,
    /// The message of the ledger that holds the last decision of our log; 0 when it is empty.
    pub log_entry: u64,
}

/// One way to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// With the first message of the ledger.
    Start,
    /// With a snapshot behind this message. It must not hold more decisions than our log.
    Snapshot(u64),
    /// With a snapshot behind this message, though our log lacks lines that it covers: they
    /// are missing until another supervisor gives them.
    WithGap(u64),
}

/// Returns the ways to begin, the best first. Empty when the ledger has lost its beginning
/// and no snapshot stands for it.
///
/// The newest snapshot is best, unless our log ends before it: its lines can only be made
/// from a state before them.
#[must_use]
pub fn beginnings(found: &Found) -> Vec<Beginning> {
    let is_usable = |seq: &&u64| found.ledger_first <= **seq + 1 && **seq <= found.ledger_last;
    let mut usable: Vec<u64> = found.snapshots.iter().filter(is_usable).copied().collect();
    usable.sort_unstable_by(|a, b| b.cmp(a));
    let covered = usable.iter().filter(|seq| **seq <= found.log_entry);
    let mut ways: Vec<_> = covered.map(|seq| Beginning::Snapshot(*seq)).collect();
    if found.ledger_first <= 1 {
        ways.push(Beginning::Start);
    } else {
        // The oldest leaves the smallest gap.
        ways.extend(usable.iter().rev().map(|seq| Beginning::WithGap(*seq)));
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::{Beginning::*, *};

    fn ways(first: u64, last: u64, snapshots: &[u64], log_entry: u64) -> Vec<Beginning> {
        let snapshots = snapshots.to_vec();
        beginnings(&Found { ledger_first: first, ledger_last: last, snapshots, log_entry })
    }

    #[test]
    fn the_newest_snapshot_that_the_log_reaches_is_first_and_the_start_last() {
        assert_eq!(ways(1, 0, &[], 0), [Start]);
        assert_eq!(ways(1, 90, &[40, 80], 90), [Snapshot(80), Snapshot(40), Start]);
        assert_eq!(ways(1, 90, &[40, 80], 60), [Snapshot(40), Start]);
        assert_eq!(ways(1, 90, &[40, 80], 0), [Start], "a new log is written from the start");
    }

    #[test]
    fn where_the_ledger_has_lost_its_beginning_a_snapshot_must_stand_for_it() {
        let all = [Snapshot(80), Snapshot(40), WithGap(40), WithGap(80)];
        assert_eq!(ways(35, 90, &[40, 80], 90), all);
        assert_eq!(ways(35, 90, &[40, 80], 20), [WithGap(40), WithGap(80)]);
        assert_eq!(ways(41, 90, &[40], 40)[0], Snapshot(40), "nothing is missing in between");
        assert_eq!(ways(42, 90, &[40], 90), [], "message 41 is missing");
        assert_eq!(ways(35, 90, &[], 90), []);
    }

    #[test]
    fn a_snapshot_beyond_the_end_of_the_ledger_is_of_another_ledger() {
        assert_eq!(ways(1, 50, &[40, 80], 90), [Snapshot(40), Start]);
    }
}
