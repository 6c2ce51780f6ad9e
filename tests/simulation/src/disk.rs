//! The log on a supervisor's disk: what is synced stays, of the rest a prefix.

use bytes::Bytes;
use supervisor::core::Lines;

use crate::rng::Rng;

/// The file `incident_logs.jsonl`, and what a crash would leave of it.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// The lines, by their numbers; the first is 1.
    lines: Vec<Bytes>,
    /// So many of them are synced.
    n_synced: usize,
}

impl Disk {
    pub(crate) fn last_seq(&self) -> u64 {
        u64::try_from(self.lines.len()).unwrap_or(0)
    }

    pub(crate) fn n_synced(&self) -> u64 {
        u64::try_from(self.n_synced).unwrap_or(0)
    }

    pub(crate) fn lines(&self) -> &[Bytes] {
        &self.lines
    }

    /// Writes lines, without syncing them. Those that are there already are left out.
    /// Returns the number of a line that does not fit, if one does not.
    pub(crate) fn write(&mut self, lines: &Lines) -> Result<(), u64> {
        for line in lines.iter() {
            if line.seq <= self.last_seq() {
                continue;
            }
            if line.seq != self.last_seq() + 1 {
                return Err(line.seq);
            }
            self.lines.push(line.json);
        }
        Ok(())
    }

    pub(crate) fn sync(&mut self, up_to: u64) {
        let up_to = usize::try_from(up_to).unwrap_or(usize::MAX).min(self.lines.len());
        self.n_synced = self.n_synced.max(up_to);
    }

    /// Keeps what is synced, and as much of the rest as the kernel happened to write. A
    /// torn last line is cut off when the file is opened.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let unsynced = self.lines.len().saturating_sub(self.n_synced);
        let kept = self.n_synced + rng.index(unsynced + 1);
        self.lines.truncate(kept);
        self.n_synced = kept;
    }
}
