//! Snapshots beside the log: with the lines behind one of them the ledger can be rebuilt, however
//! long ago the log began. So old parts of the log may go.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use bus::Bus;
use domain::desk::{ARCHIVE_DIR, ArchivedSnapshot, SnapshotCheck};
use service::{BoxError, Chain};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::recovery;

/// Archived snapshots that are kept: the newest, and the one before in case it cannot be read.
const KEPT: usize = 2;
/// How often it is looked whether a leader has stored a newer one.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// A file that is being written ends with this.
const PART: &str = "part";

/// The archived snapshots beside a log.
#[derive(Clone, Debug)]
pub(crate) struct Archive {
    dir: PathBuf,
}

impl Archive {
    /// Names the archive beside a log.
    pub(crate) fn beside(log: &Path) -> Self {
        Self { dir: log.with_file_name(ARCHIVE_DIR) }
    }

    /// Returns the archived snapshots, the oldest first.
    fn all(&self) -> Vec<ArchivedSnapshot> {
        let Ok(files) = fs::read_dir(&self.dir) else { return Vec::new() };
        let names = files.flatten().map(|it| it.file_name());
        let read = |name: std::ffi::OsString| ArchivedSnapshot::of_file_name(name.to_str()?);
        let mut all: Vec<_> = names.filter_map(read).collect();
        all.sort_unstable();
        all
    }

    /// Returns the number of decisions whose lines no restoration needs: those that all archived
    /// snapshots hold, as far as the log, which ends with `last_seq`, reaches them. `None` while
    /// there is none.
    pub(crate) fn covered(&self, last_seq: u64) -> Option<u64> {
        self.all().iter().map(|it| it.n_decisions).find(|it| *it <= last_seq)
    }

    /// Reads a snapshot back from the broker and keeps a copy of it. A copy that cannot be written
    /// is no failure of the snapshot, but is told.
    ///
    /// # Errors
    ///
    /// Why the snapshot cannot be used.
    pub(crate) async fn keep(&self, bus: &Bus, seq: u64) -> Result<(), BoxError> {
        let mut check = SnapshotCheck::default();
        let mut copy = self.begin();
        recovery::read(bus, seq, |line| {
            check.line(line)?;
            if let Ok(copy) = &mut copy
                && let Err(failure) = copy.line(line)
            {
                warn!(error = %failure, dir = %self.dir.display(), "a snapshot cannot be copied beside the log");
                copy.is_broken = true;
            }
            Ok(())
        })
        .await?;
        let n_decisions = check.n_decisions();
        check.finish()?;
        let (archive, name) = (self.clone(), ArchivedSnapshot { n_decisions, ledger_seq: seq });
        let kept = tokio::task::spawn_blocking(move || archive.finish(copy?, name)).await?;
        match kept {
            Ok(true) => info!(snapshot = seq, "a snapshot is copied beside the log"),
            Ok(false) => {}
            Err(failure) => {
                warn!(error = %failure, dir = %self.dir.display(), "a snapshot cannot be copied beside the log");
            }
        }
        Ok(())
    }

    fn begin(&self) -> io::Result<Copying> {
        private::create_dir(&self.dir)?;
        let path = self.dir.join(format!("{}.{PART}", uuid::Uuid::new_v4()));
        Ok(Copying { file: BufWriter::new(private::create_new(&path)?), path, is_broken: false })
    }

    /// Gives a copy its name once it is on disk, and removes the oldest ones.
    fn finish(&self, mut copy: Copying, name: ArchivedSnapshot) -> io::Result<bool> {
        if copy.is_broken {
            return Ok(false);
        }
        copy.file.flush()?;
        copy.file.get_ref().sync_all()?;
        fs::rename(&copy.path, self.dir.join(name.file_name()))?;
        File::open(&self.dir)?.sync_all()?;
        let all = self.all();
        for old in all.iter().take(all.len().saturating_sub(KEPT)) {
            fs::remove_file(self.dir.join(old.file_name()))?;
        }
        Ok(true)
    }

    /// Removes what a process that died has left half written, and snapshots of another history:
    /// those of more decisions than our log has.
    pub(crate) fn clear(&self, last_seq: u64) {
        let Ok(files) = fs::read_dir(&self.dir) else { return };
        for path in files.flatten().map(|it| it.path()) {
            let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
            let is_half = path.extension().is_some_and(|it| it == PART);
            let is_beyond = |it: ArchivedSnapshot| last_seq < it.n_decisions;
            if !is_half && !ArchivedSnapshot::of_file_name(name).is_some_and(is_beyond) {
                continue;
            }
            if let Err(error) = fs::remove_file(&path) {
                warn!(file = %path.display(), %error, "cannot remove a snapshot that is of no use");
            }
        }
    }
}

/// A copy that is being written. Dropped without a name it leaves nothing.
#[derive(Debug)]
struct Copying {
    file: BufWriter<File>,
    path: PathBuf,
    is_broken: bool,
}

impl Copying {
    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_broken {
            return Ok(());
        }
        self.file.write_all(line)?;
        self.file.write_all(b"\n")
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        // Gone when it has got its name.
        if self.path.exists()
            && let Err(error) = fs::remove_file(&self.path)
        {
            debug!(file = %self.path.display(), %error, "cannot remove a half-written snapshot");
        }
    }
}

/// Keeps copies of what leaders store, wherever they run, until told to stop.
pub(crate) async fn follow(bus: Bus, archive: Archive, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        let newest = match bus.snapshots().newest_first().await {
            Ok(seqs) => seqs.first().copied(),
            Err(failure) => {
                debug!(error = %Chain(&failure), "the snapshots cannot be listed");
                continue;
            }
        };
        let Some(seq) = newest.filter(|seq| archive.all().iter().all(|it| it.ledger_seq != *seq))
        else {
            continue;
        };
        if let Err(failure) = archive.keep(&bus, seq).await {
            debug!(snapshot = seq, error = %Chain(&*failure), "a snapshot is not copied");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n_decisions: u64) -> ArchivedSnapshot {
        ArchivedSnapshot { n_decisions, ledger_seq: n_decisions + 1 }
    }

    #[test]
    fn two_are_kept_and_what_is_half_written_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::beside(&dir.path().join("incident_logs.jsonl"));
        assert_eq!(archive.covered(99), None);
        for (n, covered) in [(30, 30), (10, 10), (40, 30), (50, 40)] {
            let mut copy = archive.begin().unwrap();
            copy.line(b"{}").unwrap();
            drop(archive.begin().unwrap());
            let half = archive.begin().unwrap();
            assert!(archive.finish(copy, name(n)).unwrap());
            assert_eq!(archive.covered(99), Some(covered));
            // As after kill -9.
            std::mem::forget(half);
        }
        let n_files = || fs::read_dir(&archive.dir).unwrap().count();
        assert_eq!((archive.all(), n_files()), (vec![name(40), name(50)], 6));
        archive.clear(50);
        assert_eq!((archive.all(), n_files()), (vec![name(40), name(50)], 2));
        let text = fs::read_to_string(archive.dir.join(name(50).file_name())).unwrap();
        assert_eq!(text, "{}\n");
        assert_eq!(archive.covered(39), None, "they are of another history");
        archive.clear(49);
        assert_eq!(archive.all(), [name(40)], "the other is of another history");
    }

    #[test]
    fn a_copy_that_could_not_be_written_gets_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::beside(&dir.path().join("incident_logs.jsonl"));
        let mut copy = archive.begin().unwrap();
        copy.file = BufWriter::with_capacity(0, File::create("/dev/full").unwrap());
        assert!(copy.line(b"{}").is_err());
        copy.is_broken = true;
        assert!(!archive.finish(copy, name(1)).unwrap());
        assert_eq!((archive.all(), fs::read_dir(&archive.dir).unwrap().count()), (vec![], 0));
    }
}
