//! The log on a supervisor's disk: what is synced stays, of the rest a prefix. For a while the
//! disk may take nothing, and a log whose lines nobody can make any more has a gap.

use bytes::Bytes;
use domain::view::LogLine;
use supervisor::core::Lines;

use crate::{clock::Micros, rng::Rng};

/// The file `incident_logs.jsonl`, and what a crash would leave of it.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// The lines, by their numbers; the first is 1. `None` for those that are missing.
    lines: Vec<Option<Bytes>>,
    /// So many of them are synced.
    n_synced: usize,
    /// The last line is known to be the last one of its message, as in the product's journal.
    ends_whole: bool,
    /// It takes nothing until then.
    pub(crate) full_until: Micros,
    /// In the memory of its supervisor: lines that wait for room.
    backlog: Vec<Lines>,
}

impl Disk {
    pub(crate) fn last_seq(&self) -> u64 {
        u64::try_from(self.lines.len()).unwrap_or(0)
    }

    pub(crate) fn n_synced(&self) -> u64 {
        u64::try_from(self.n_synced).unwrap_or(0)
    }

    pub(crate) fn lines(&self) -> &[Option<Bytes>] {
        &self.lines
    }

    /// Returns the message of the ledger that holds the last decision that is on disk; 0 when
    /// that was left out.
    pub(crate) fn last_entry(&self) -> u64 {
        self.n_synced.checked_sub(1).map_or(0, |idx| self.entry(idx))
    }

    /// Returns the last message of the ledger whose lines are all synced, as far as is known.
    pub(crate) fn whole_entry(&self) -> u64 {
        let last = self.last_entry();
        let is_whole = if self.n_synced < self.lines.len() {
            last < self.entry(self.n_synced)
        } else {
            self.ends_whole
        };
        last.saturating_sub(u64::from(!is_whole))
    }

    /// Notes that all lines of the messages up to this one are there, as a snapshot tells.
    pub(crate) fn has_whole(&mut self, entry: u64) {
        self.ends_whole |= self.last_entry() <= entry;
    }

    fn entry(&self, idx: usize) -> u64 {
        let line = self.lines[idx].as_ref().map(|it| serde_json::from_slice::<LogLine>(it));
        line.map_or(0, |it| it.expect("a log can be read").entry)
    }

    /// Returns whether it takes something.
    pub(crate) fn has_room(&self, now: Micros) -> bool {
        self.full_until <= now
    }

    /// Returns whether lines wait for room.
    pub(crate) fn is_failing(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Forgets what waits for room: it is folded again.
    pub(crate) fn forget_backlog(&mut self) {
        self.backlog.clear();
    }

    /// Writes lines behind those that wait, without syncing them. Those that are there already
    /// are left out. Returns the number of a line that does not fit, if one does not.
    pub(crate) fn write(&mut self, now: Micros, lines: &Lines) -> Result<(), u64> {
        if !lines.is_empty() {
            self.backlog.push(lines.clone());
        }
        if !self.has_room(now) {
            return Ok(());
        }
        for lines in std::mem::take(&mut self.backlog) {
            self.append(&lines)?;
        }
        Ok(())
    }

    fn append(&mut self, lines: &Lines) -> Result<(), u64> {
        for line in lines.iter() {
            if line.seq <= self.last_seq() {
                continue;
            }
            if line.seq != self.last_seq() + 1 {
                return Err(line.seq);
            }
            self.lines.push(Some(line.json));
            self.ends_whole = false;
        }
        self.ends_whole |= lines.last_seq() == Some(self.last_seq());
        Ok(())
    }

    pub(crate) fn sync(&mut self, up_to: u64) {
        let up_to = usize::try_from(up_to).unwrap_or(usize::MAX).min(self.lines.len());
        self.n_synced = self.n_synced.max(up_to);
    }

    /// Leaves out lines that nobody can make any more, and remembers that at once.
    pub(crate) fn leave_out(&mut self, up_to: u64) {
        let n_lines = usize::try_from(up_to).unwrap_or(usize::MAX);
        if self.lines.len() < n_lines {
            self.lines.resize(n_lines, None);
            self.n_synced = n_lines;
        }
    }

    /// Returns the numbers of the lines that are missing.
    pub(crate) fn missing(&self) -> impl Iterator<Item = u64> + '_ {
        (1_u64..).zip(&self.lines).filter(|(_, it)| it.is_none()).map(|(seq, _)| seq)
    }

    /// Returns a line that is synced.
    pub(crate) fn line(&self, seq: u64) -> Option<Bytes> {
        let idx = usize::try_from(seq).ok()?.checked_sub(1).filter(|it| *it < self.n_synced)?;
        self.lines.get(idx)?.clone()
    }

    /// Takes a missing line that another supervisor has given.
    pub(crate) fn give(&mut self, seq: u64, line: Bytes) {
        let idx = usize::try_from(seq).ok().and_then(|it| it.checked_sub(1));
        if let Some(place) = idx.and_then(|idx| self.lines.get_mut(idx)) {
            place.get_or_insert(line);
        }
    }

    /// Keeps what is synced, and as much of the rest as the kernel happened to write. A
    /// torn last line is cut off when the file is opened.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let unsynced = self.lines.len().saturating_sub(self.n_synced);
        let kept = self.n_synced + rng.index(unsynced + 1);
        self.lines.truncate(kept);
        self.n_synced = kept;
        self.ends_whole = false;
        self.backlog.clear();
    }
}
