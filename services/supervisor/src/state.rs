//! The folded state of a supervisor, leading or not, and the log beside it.

use std::sync::{Arc, Mutex, PoisonError};

use bus::LedgerMessage;
use domain::{
    desk::{Desk, Recorded},
    id::Position,
    view::LogLine,
    wire::LedgerEntry,
};
use service::Chain;
use tokio::sync::RwLock;
use tracing::{error, info};

use crate::journal::Journal;

/// Lines that wait for a disk that takes none; when there are more, the ledger is read
/// again later instead.
const BACKLOG_MAX: usize = 50_000;

/// What all tasks of a supervisor share.
pub(crate) type Shared = Arc<RwLock<State>>;

/// The folded state.
#[derive(Debug)]
pub(crate) struct State {
    /// All incidents.
    pub(crate) desk: Desk,
    /// The last message of the ledger that was folded.
    pub(crate) ledger_seq: u64,
    /// Inputs up to here need not be read again after a crash.
    pub(crate) covered: Position,
    /// The log.
    pub(crate) log: Log,
    /// Whether we decide.
    pub(crate) leading: bool,
    /// Inputs that could not be understood since we started.
    pub(crate) n_rejected: u64,
}

/// Why the ledger cannot be folded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
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
    /// The log has decisions that the ledger does not have, or others.
    #[error("the log and the ledger differ at decision {seq}: {what}")]
    Differ {
        /// The decision.
        seq: u64,
        /// How.
        what: &'static str,
    },
}

impl State {
    /// Returns the state before the first decision. What waited for the disk is forgotten:
    /// it is folded again.
    #[must_use]
    pub(crate) fn new(log: Log) -> Self {
        log.forget_backlog();
        Self {
            desk: Desk::default(),
            ledger_seq: 0,
            covered: Position::default(),
            log,
            leading: false,
            n_rejected: 0,
        }
    }

    /// Folds one message of the ledger and returns its lines, for the log.
    ///
    /// # Errors
    ///
    /// [`Error`]: nobody can go on from there without a person.
    pub(crate) fn fold(&mut self, message: &LedgerMessage) -> Result<Vec<LogLine>, Error> {
        let seq = message.seq;
        let entry: LedgerEntry = serde_json::from_slice(&message.payload)
            .map_err(|source| Error::Unreadable { seq, source })?;
        let mut lines = Vec::with_capacity(entry.decisions.len());
        for decision in &entry.decisions {
            let recorded =
                self.desk.apply(decision).map_err(|source| Error::Corrupt { seq, source })?;
            lines.push(recorded.line(seq, entry.covers));
        }
        self.desk.cover(entry.covers);
        self.covered = entry.covers;
        self.ledger_seq = seq;
        self.log.compare(&lines)?;
        Ok(lines)
    }

    /// Returns the lines of decisions that were just stored as message `entry`.
    #[must_use]
    pub(crate) fn lines(recorded: &[Recorded], entry: u64, covers: Position) -> Vec<LogLine> {
        recorded.iter().map(|it| it.line(entry, covers)).collect()
    }
}

/// The log, and what could not be written to it yet.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    journal: Arc<Mutex<Journal>>,
    backlog: Arc<Mutex<Backlog>>,
}

#[derive(Debug, Default)]
struct Backlog {
    lines: Vec<LogLine>,
    /// Lines were dropped: the ledger must be read again once the disk takes lines.
    overflowed: bool,
    failing: bool,
}

/// What became of lines that were given to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// They are on disk.
    Synced,
    /// They are on disk, and so are those that had waited.
    Recovered,
    /// They wait: the disk takes none. Said once per trouble.
    Failing,
    /// They wait, as others before.
    Waiting,
    /// The disk takes lines again, but the ledger must be read anew for those that were dropped.
    Incomplete,
}

impl Log {
    /// Shares the log with all who write it.
    #[must_use]
    pub(crate) fn new(journal: Journal) -> Self {
        Self { journal: Arc::new(Mutex::new(journal)), backlog: Arc::default() }
    }

    /// Returns the number of the last decision on disk.
    #[must_use]
    pub(crate) fn last_seq(&self) -> u64 {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).last_seq()
    }

    /// Returns the number of lines that wait for the disk.
    #[must_use]
    pub(crate) fn n_waiting(&self) -> usize {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner).lines.len()
    }

    fn forget_backlog(&self) {
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        backlog.lines.clear();
        backlog.overflowed = false;
        backlog.failing = false;
    }

    /// Compares folded lines with the last one on disk.
    fn compare(&self, lines: &[LogLine]) -> Result<(), Error> {
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = journal.last() else { return Ok(()) };
        let same = lines.iter().find(|it| it.seq == last.seq);
        match same {
            Some(line) if line.detail != last.detail => Err(Error::Differ {
                seq: last.seq,
                what: "they tell different decisions; the log is of another installation",
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Writes and syncs lines, after those that wait. Blocks while it does.
    pub(crate) fn write(&self, lines: Vec<LogLine>) -> Written {
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let had_waited = backlog.failing;
        if had_waited {
            // The oldest stay: they are what is tried again. The others are in the ledger.
            if BACKLOG_MAX < backlog.lines.len() + lines.len() {
                backlog.overflowed = true;
            }
            if !backlog.overflowed {
                backlog.lines.extend(lines);
            }
            return Self::retry(&mut journal, &mut backlog);
        }
        match journal.append(&lines) {
            Ok(()) => Written::Synced,
            Err(failure) => {
                error!(error = %Chain(&failure), hint = "free some space; the lines are kept and written later", "cannot write the log");
                backlog.lines = lines;
                backlog.failing = true;
                Written::Failing
            }
        }
    }

    fn retry(journal: &mut Journal, backlog: &mut Backlog) -> Written {
        if journal.append(&backlog.lines).is_err() {
            return Written::Waiting;
        }
        backlog.lines.clear();
        backlog.failing = false;
        if std::mem::take(&mut backlog.overflowed) {
            info!("the log can be written again; the ledger is read anew for what is missing");
            return Written::Incomplete;
        }
        info!("the log can be written again");
        Written::Recovered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::tests::{KEEP, line, seqs};

    #[test]
    fn lines_wait_for_a_full_disk_and_too_many_are_read_from_the_ledger_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("incident_logs.jsonl");
        let log = Log::new(Journal::open(&path, KEEP).unwrap());
        assert_eq!(log.write(vec![line(1)]), Written::Synced);
        let file = log.journal.lock().unwrap().fill_disk();
        assert_eq!(log.write(vec![line(2)]), Written::Failing);
        assert_eq!(log.write(vec![line(3)]), Written::Waiting);
        assert_eq!(log.n_waiting(), 2);
        log.journal.lock().unwrap().free_disk(file);
        assert_eq!(log.write(vec![line(4)]), Written::Recovered);
        assert_eq!(seqs(&path), [1, 2, 3, 4]);

        let file = log.journal.lock().unwrap().fill_disk();
        assert_eq!(log.write(vec![line(5)]), Written::Failing);
        let many = (6..6 + u64::try_from(BACKLOG_MAX).unwrap()).map(line).collect();
        assert_eq!(log.write(many), Written::Waiting);
        assert_eq!(log.write(Vec::new()), Written::Waiting, "the disk is still full");
        log.journal.lock().unwrap().free_disk(file);
        assert_eq!(log.write(Vec::new()), Written::Incomplete);
        assert_eq!(seqs(&path), [1, 2, 3, 4, 5], "a prefix; the rest comes from the ledger");
    }
}
