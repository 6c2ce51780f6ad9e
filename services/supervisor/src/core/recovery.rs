//! Where a start begins: with a snapshot, or with the first message of the ledger.

use std::{io::BufRead as _, time::Duration};

use domain::desk::SnapshotError;

/// Longest line of a snapshot: many times what a message of the broker may hold.
pub const LINE_MAX: usize = 32 * 1024 * 1024;

/// Rounds through all ways before a start leaves lines of the log out, or is given up: what the
/// broker does not give now, it may give a little later.
const ROUNDS: u32 = 5;
/// Wait between these rounds.
pub const AGAIN: Duration = Duration::from_secs(2);

/// Why the content of a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// Another version has written it, or it is damaged.
    #[error("it is none that this version can take up")]
    Content(#[source] SnapshotError),
    /// A line does not end.
    #[error("a line of it is longer than {0} bytes")]
    Endless(usize),
}

/// Finds the lines of a snapshot in the parts that the broker gives, which end anywhere.
#[derive(Debug)]
pub struct LineReader {
    /// The beginning of a line whose end was not in the parts so far.
    rest: Vec<u8>,
    line_max: usize,
}

impl LineReader {
    /// Begins to read lines of at most so many bytes, usually [`LINE_MAX`].
    #[must_use]
    pub const fn new(line_max: usize) -> Self {
        Self { rest: Vec::new(), line_max }
    }

    /// Takes the next part, and gives the lines that end in it.
    ///
    /// # Errors
    ///
    /// [`Unreadable`].
    pub fn part(
        &mut self,
        part: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), SnapshotError>,
    ) -> Result<(), Unreadable> {
        let mut left = part;
        // To read from memory does not fail. What follows the last line break is the beginning of
        // a line.
        while left.read_until(b'\n', &mut self.rest).is_ok() && self.rest.last() == Some(&b'\n') {
            self.rest.pop();
            take(&self.rest).map_err(Unreadable::Content)?;
            self.rest.clear();
        }
        if self.line_max < self.rest.len() {
            Err(Unreadable::Endless(self.line_max))
        } else {
            Ok(())
        }
    }
}

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

/// What is to be done next to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look what there is, [`AGAIN`] after the last time; then [`Search::look`].
    Look,
    /// Begin without a snapshot.
    Start,
    /// Read the snapshot behind this message; then [`Search::read`] or [`Search::unreadable`].
    Read(u64),
    /// Nothing stands for what the ledger has lost.
    GiveUp,
    /// The broker does not give what it has.
    NotGiven,
}

/// What becomes of a snapshot that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Our log has all lines that it covers: begin with it.
    Whole,
    /// Leave the decisions up to this one out of our log, then begin with it.
    LeaveOut(u64),
    /// Another way is better.
    Pass,
}

/// The search for a beginning: which way is tried when.
#[derive(Debug, Default)]
pub struct Search {
    n_rounds: u32,
    /// Those that are left in this round, the best last.
    ways: Vec<Beginning>,
    /// That of the snapshot that is being read.
    way: Option<Beginning>,
    /// In this round, the broker did not give a snapshot.
    is_unsure: bool,
}

impl Search {
    /// Begins a round with what there is.
    pub fn look(&mut self, found: &Found) {
        self.n_rounds += 1;
        self.ways = beginnings(found);
        self.ways.reverse();
        (self.way, self.is_unsure) = (None, false);
    }

    /// Returns what is to be done next.
    pub fn step(&mut self) -> Step {
        let is_last = ROUNDS <= self.n_rounds;
        self.way = self.ways.pop();
        match self.way {
            Some(Beginning::Start) => Step::Start,
            // Lines would be left out only because the broker did not give a better snapshot.
            Some(Beginning::WithGap(_)) if self.is_unsure && !is_last => Step::Look,
            Some(Beginning::Snapshot(seq) | Beginning::WithGap(seq)) => Step::Read(seq),
            None if !is_last => Step::Look,
            None if self.is_unsure => Step::NotGiven,
            None => Step::GiveUp,
        }
    }

    /// Takes how many decisions the snapshot covers that was read, and how many our log has.
    #[must_use]
    pub const fn read(&self, covered: u64, in_log: u64) -> Use {
        match self.way {
            Some(Beginning::Snapshot(_) | Beginning::WithGap(_)) if covered <= in_log => Use::Whole,
            Some(Beginning::WithGap(_)) => Use::LeaveOut(covered),
            Some(Beginning::Snapshot(_) | Beginning::Start) | None => Use::Pass,
        }
    }

    /// Notes that the snapshot could not be read; `is_unsure` when the broker did not give it.
    pub const fn unreadable(&mut self, is_unsure: bool) {
        self.is_unsure |= is_unsure;
    }
}

#[cfg(test)]
mod tests {
    use super::{Beginning::*, *};

    /// A ledger that has lost its beginning, with two snapshots; our log ends between them.
    fn searching(n_rounds: u32) -> Search {
        let mut search = Search::default();
        let snapshots = vec![40, 80];
        let found = Found { ledger_first: 35, ledger_last: 90, snapshots, log_entry: 60 };
        (0..n_rounds).for_each(|_| search.look(&found));
        search
    }

    #[test]
    fn lines_are_left_out_only_when_the_broker_gives_no_better_snapshot_in_any_round() {
        assert_eq!(Search::default().step(), Step::Look);
        for n in 1..=ROUNDS {
            let mut search = searching(n);
            assert_eq!(search.step(), Step::Read(40));
            search.unreadable(true);
            if n < ROUNDS {
                assert_eq!(search.step(), Step::Look, "round {n}");
                continue;
            }
            assert_eq!(search.step(), Step::Read(40), "the smallest gap first");
            search.unreadable(true);
            assert_eq!(search.step(), Step::Read(80));
            assert_eq!(search.read(700, 600), Use::LeaveOut(700));
            search.unreadable(true);
            assert_eq!(search.step(), Step::NotGiven, "it may still have them");
        }
        let mut search = searching(1);
        assert_eq!(search.step(), Step::Read(40));
        assert_eq!(search.read(400, 600), Use::Whole);
        assert_eq!(search.read(601, 600), Use::Pass, "of another ledger");
        search.unreadable(false);
        assert_eq!(search.step(), Step::Read(40), "it is damaged, and stays so");
        search.unreadable(false);
        assert_eq!(search.step(), Step::Read(80));
        search.unreadable(false);
        assert_eq!(search.step(), Step::Look);
        let mut last = searching(ROUNDS);
        assert!((0..3).all(|_| matches!(last.step(), Step::Read(_))));
        assert_eq!(last.step(), Step::GiveUp);
    }

    fn ways(first: u64, last: u64, snapshots: &[u64], log_entry: u64) -> Vec<Beginning> {
        let snapshots = snapshots.to_vec();
        beginnings(&Found { ledger_first: first, ledger_last: last, snapshots, log_entry })
    }

    #[test]
    fn lines_are_found_wherever_the_parts_end() {
        let text = b"one\n\nthree is long\n";
        for n in 1..=text.len() {
            let (mut reader, mut lines) = (LineReader::new(13), Vec::new());
            for part in text.chunks(n) {
                let take = |line: &[u8]| {
                    lines.push(String::from_utf8_lossy(line).into_owned());
                    Ok(())
                };
                reader.part(part, take).unwrap();
            }
            assert_eq!(lines, ["one", "", "three is long"], "parts of {n} bytes");
        }
        let endless = LineReader::new(3).part(b"four", |_| Ok(()));
        assert_eq!(endless.unwrap_err().to_string(), "a line of it is longer than 3 bytes");
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
