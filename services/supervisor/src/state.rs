//! The folded state of a supervisor, leading or not, and the log beside it.

use std::sync::{Arc, Mutex, PoisonError};

use bus::{ForeignMessage, LedgerMessage};
use domain::view::{ForeignInLedger, LogLine};
use service::Chain;
use tokio::sync::{RwLock, watch};
use tracing::{error, info};

use crate::{
    core::{Batch, Core, Error, Lines},
    journal::Journal,
};

/// Lines that wait for a disk that takes none; when there are more, the ledger is read
/// again later instead.
const BACKLOG_MAX: usize = 50_000;
/// The same in bytes, since a line may be long.
const BACKLOG_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What all tasks of a supervisor share.
pub(crate) type Shared = Arc<RwLock<State>>;

/// How far what was decided may be told to those who read the state, which may be ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// How often the state was thrown away.
    pub(crate) n_resets: u64,
    /// Decisions in the ledger and in the log; or only in the ledger, while the disk takes
    /// no lines.
    pub(crate) n_decisions: u64,
}

/// Notes that decisions up to `seq` may be told.
pub(crate) fn told(stored: &watch::Sender<Stored>, seq: Option<u64>) {
    if let Some(seq) = seq {
        stored.send_modify(|it| it.n_decisions = it.n_decisions.max(seq));
    }
}

/// The folded state.
#[derive(Debug)]
pub(crate) struct State {
    /// All that is decided.
    pub(crate) core: Core,
    /// The log.
    pub(crate) log: Log,
    /// Whether we decide.
    pub(crate) leading: bool,
    /// What somebody else has put into the ledger, since the snapshot that this began with.
    pub(crate) foreign: Option<ForeignInLedger>,
}

impl State {
    /// Puts a state together.
    #[must_use]
    pub(crate) const fn new(core: Core, log: Log) -> Self {
        Self { core, log, leading: false, foreign: None }
    }

    /// Folds one message of the ledger and returns its lines, for the log.
    ///
    /// # Errors
    ///
    /// [`Error`]: nobody can go on from there without a person.
    pub(crate) fn fold(&mut self, message: &LedgerMessage) -> Result<Lines, Error> {
        if message.is_cut_off {
            metrics::counter!("selfheal_supervisor_ledger_cut_total").increment(1);
            error!(
                seq = message.seq,
                hint = "see who may delete messages of the broker's streams; the log on each supervisor's disk tells what was decided: compare it, and if need be end the supervisors and rebuild the ledger with `selfheal restore`",
                "the message of the ledger before this one was removed or replaced"
            );
        }
        // The last line of the log is compared with what the ledger says about it.
        let lines = self.core.fold(message.seq, &message.payload, self.log.last_seq())?;
        self.log.compare(&lines)?;
        Ok(lines)
    }

    /// Passes over a message that no supervisor has written.
    pub(crate) fn pass_over(&mut self, foreign: &ForeignMessage) {
        self.tell(foreign);
        self.core.pass_over(foreign.seq, foreign.bytes);
    }

    /// Passes over one that stands where a batch was to be stored.
    ///
    /// # Errors
    ///
    /// See [`Core::make_way`].
    pub(crate) fn make_way(
        &mut self,
        batch: &mut Batch,
        foreign: &ForeignMessage,
    ) -> Result<(), Error> {
        self.tell(foreign);
        self.core.make_way(batch, foreign.seq, foreign.bytes)
    }

    fn tell(&mut self, foreign: &ForeignMessage) {
        let ForeignMessage { seq, at, subject, why, bytes } = foreign;
        metrics::counter!("selfheal_supervisor_ledger_foreign_total").increment(1);
        error!(seq, %at, subject, reason = %why, bytes, hint = "see who may publish to the broker: only supervisors may write the ledger", "a message of the ledger was written by no supervisor: it is passed over");
        let newest = ForeignInLedger { n: 1, seq: *seq, at: *at, subject: subject.clone() };
        match &mut self.foreign {
            Some(known) if *seq <= known.seq => {}
            Some(known) => *known = ForeignInLedger { n: known.n + 1, ..newest },
            known @ None => *known = Some(newest),
        }
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
    lines: Vec<Lines>,
    /// Lines were dropped: the ledger must be read again once the disk takes lines.
    overflowed: bool,
    failing: bool,
    /// The disk takes lines, but those that were dropped must be written first.
    incomplete: bool,
    n_lines: usize,
    n_bytes: usize,
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

    /// Returns the message of the ledger that holds the last decision on disk.
    #[must_use]
    pub(crate) fn last_entry(&self) -> u64 {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).last_entry()
    }

    /// Returns the last message of the ledger whose lines are all on disk, as far as is known; see
    /// [`Journal::whole_entry`].
    #[must_use]
    pub(crate) fn whole_entry(&self) -> u64 {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).whole_entry()
    }

    /// Notes that the log has all lines of the messages up to this one.
    pub(crate) fn has_whole(&self, entry: u64) {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).has_whole(entry);
    }

    /// Leaves out the decisions up to `seq`; see [`Journal::leave_out`].
    ///
    /// # Errors
    ///
    /// When it cannot be remembered.
    pub(crate) fn leave_out(&self, seq: u64) -> Result<(), crate::journal::Error> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).leave_out(seq)
    }

    /// Returns the number of lines that wait for the disk.
    #[must_use]
    pub(crate) fn n_waiting(&self) -> usize {
        let backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        backlog.lines.iter().map(Lines::len).sum()
    }

    /// Forgets what waited for the disk: it is folded again.
    pub(crate) fn forget_backlog(&self) {
        *self.backlog.lock().unwrap_or_else(PoisonError::into_inner) = Backlog::default();
    }

    /// Compares folded lines with the last one on disk.
    fn compare(&self, lines: &Lines) -> Result<(), Error> {
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = journal.last() else { return Ok(()) };
        let Some(line) = lines.find(last.seq) else { return Ok(()) };
        // What both are, read: another version may have written it with other blanks.
        let detail = |json: &[u8]| serde_json::from_slice::<LogLine>(json).map(|it| it.detail);
        match (detail(&line.json), detail(&last.json)) {
            (Ok(in_ledger), Ok(in_log)) if in_ledger == in_log => Ok(()),
            (Ok(_) | Err(_), Ok(_) | Err(_)) => Err(Error::Differ {
                seq: last.seq,
                what: "they tell different decisions; the log is of another installation",
            }),
        }
    }

    /// Writes and syncs lines, after those that wait. Blocks while it does.
    pub(crate) fn write(&self, lines: Vec<Lines>) -> Written {
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        if backlog.incomplete {
            // A line behind those that are missing would leave a gap.
            return Written::Incomplete;
        }
        if backlog.failing {
            backlog.keep(lines);
            return Self::retry(&mut journal, &mut backlog);
        }
        match journal.append(&lines) {
            Ok(()) => Written::Synced,
            Err(failure) => {
                error!(error = %Chain(&failure), hint = "free some space; the lines are kept and written later", "cannot write the log");
                backlog.keep(lines);
                backlog.failing = true;
                Written::Failing
            }
        }
    }

    fn retry(journal: &mut Journal, backlog: &mut Backlog) -> Written {
        if journal.append(&backlog.lines).is_err() {
            return Written::Waiting;
        }
        if std::mem::take(backlog).overflowed {
            info!("the log can be written again; the ledger is read anew for what is missing");
            backlog.incomplete = true;
            return Written::Incomplete;
        }
        info!("the log can be written again");
        Written::Recovered
    }
}

impl Backlog {
    /// Keeps lines until the disk takes them. The oldest stay when they become too many:
    /// they are what is tried again. The others are in the ledger.
    fn keep(&mut self, lines: Vec<Lines>) {
        for lines in lines {
            self.n_lines += lines.len();
            self.n_bytes += lines.text_from(0).len();
            self.overflowed |= BACKLOG_MAX < self.n_lines || BACKLOG_BYTES_MAX < self.n_bytes;
            if !self.overflowed {
                self.lines.push(lines);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bus::Keys;

    use super::*;
    use crate::{
        core::tests_lines::lines,
        journal::tests::{KEEP, seqs},
    };

    #[test]
    fn lines_wait_for_a_full_disk_and_too_many_are_read_from_the_ledger_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("incident_logs.jsonl");
        let log = Log::new(Journal::open(&path, KEEP, Keys::default()).unwrap());
        assert_eq!(log.write(vec![lines([1])]), Written::Synced);
        let file = log.journal.lock().unwrap().fill_disk();
        assert_eq!(log.write(vec![lines([2])]), Written::Failing);
        assert_eq!(log.write(vec![lines([3])]), Written::Waiting);
        assert_eq!(log.n_waiting(), 2);
        log.journal.lock().unwrap().free_disk(file);
        assert_eq!(log.write(vec![lines([4])]), Written::Recovered);
        assert_eq!(seqs(&path), [1, 2, 3, 4]);

        let file = log.journal.lock().unwrap().fill_disk();
        assert_eq!(log.write(vec![lines([5])]), Written::Failing);
        let many = lines(6..=6 + u64::try_from(BACKLOG_MAX).unwrap());
        assert_eq!(log.write(vec![many]), Written::Waiting);
        assert_eq!(log.write(Vec::new()), Written::Waiting, "the disk is still full");
        log.journal.lock().unwrap().free_disk(file);
        assert_eq!(log.write(Vec::new()), Written::Incomplete);
        assert_eq!(seqs(&path), [1, 2, 3, 4, 5], "a prefix; the rest comes from the ledger");
    }
}
