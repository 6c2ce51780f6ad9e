//! A snapshot beside the log, which stands for the log from its beginning.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use bus::{Bus, Ledger};
use domain::desk::{ARCHIVE_DIR, ArchivedSnapshot, Desk, SnapshotReader};

use super::book::{LeftOut, Message};
use crate::{
    connection::of_bus,
    exit::{Exit, Failure},
};

/// A snapshot beside the log.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub(super) name: ArchivedSnapshot,
    path: PathBuf,
}

/// Lines of a snapshot that is being read.
struct Lines {
    file: BufReader<File>,
    line: Vec<u8>,
}

/// Returns the snapshots beside a log, the newest first.
pub(super) fn newest_first(log: &Path) -> Vec<Base> {
    let Ok(files) = std::fs::read_dir(log.with_file_name(ARCHIVE_DIR)) else { return Vec::new() };
    let read = |path: PathBuf| {
        let name = ArchivedSnapshot::of_file_name(path.file_name()?.to_str()?)?;
        Some(Base { name, path })
    };
    let mut all: Vec<_> = files.flatten().filter_map(|it| read(it.path())).collect();
    all.sort_by_key(|it| std::cmp::Reverse(it.name));
    all
}

impl Base {
    /// Reads it as a supervisor would.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or taken up by this version.
    pub(super) fn desk(&self) -> Result<Desk, Failure> {
        let mut reader = SnapshotReader::default();
        let mut lines = self.open()?;
        while let Some(line) = self.next(&mut lines)? {
            reader.line(line).map_err(|error| self.unusable().because(error))?;
        }
        let desk = reader.finish().map_err(|error| self.unusable().because(error))?;
        if desk.n_decisions() == self.name.n_decisions {
            return Ok(desk);
        }
        Err(self.unusable())
    }

    /// Tells whether the snapshot, which gave `desk`, is known to belong to a log; `false` when
    /// neither that nor the contrary is known. `next` is what the log holds behind it.
    ///
    /// # Errors
    ///
    /// When it is of another history: another installation, or one before a restoration.
    pub(super) fn belongs(
        &self,
        desk: &Desk,
        left_out: &LeftOut,
        next: Option<&Message>,
    ) -> Result<bool, Failure> {
        let (n, seq) = (self.name.n_decisions, self.name.ledger_seq);
        let foreign = |why: String| {
            let place = self.path.display();
            Failure::new(Exit::Failed, format!("`{place}` does not belong to this log: {why}"))
                .hint("put the snapshots of the supervisor beside the log that wrote it")
        };
        let is_before = left_out.last.is_none_or(|(_, entry)| entry <= seq);
        if !is_before || next.is_some_and(|it| it.seq <= seq) {
            return Err(foreign(format!(
                "decision {n} is elsewhere in the ledger than message {seq}"
            )));
        }
        match (desk.last_decision(), left_out.last) {
            (Some(ours), Some((theirs, _))) if ours == theirs => return Ok(true),
            (Some(ours), Some((theirs, _))) => {
                return Err(foreign(format!(
                    "its decision {n} was made at {}, that of the log at {}",
                    ours.at.to_rfc3339(),
                    theirs.at.to_rfc3339()
                )));
            }
            (Some(_), None) | (None, _) => {}
        }
        let is_open = |id| desk.incident(id).is_some_and(|it| !it.status().is_over());
        if let Some(id) = left_out.open.iter().find(|id| !is_open(**id)) {
            return Err(foreign(format!("it does not hold the incident {id} as open")));
        }
        let first = next.and_then(|it| it.entry.decisions.first());
        if let Some((ours, first)) = desk.last_decision().zip(first) {
            if first.at < ours.at {
                return Err(foreign(format!(
                    "its decision {n} was made at {}, decision {} of the log before that",
                    ours.at.to_rfc3339(),
                    first.seq
                )));
            }
            return Ok(true);
        }
        Ok(!left_out.open.is_empty())
    }

    fn unusable(&self) -> Failure {
        Failure::new(Exit::Failed, format!("cannot use the snapshot `{}`", self.path.display()))
    }

    fn open(&self) -> Result<Lines, Failure> {
        let file = File::open(&self.path).map_err(|error| self.unusable().because(error))?;
        Ok(Lines { file: BufReader::new(file), line: Vec::new() })
    }

    fn next<'a>(&self, lines: &'a mut Lines) -> Result<Option<&'a [u8]>, Failure> {
        lines.line.clear();
        let n_bytes = lines.file.read_until(b'\n', &mut lines.line);
        if n_bytes.map_err(|error| self.unusable().because(error))? == 0 {
            return Ok(None);
        }
        Ok(Some(lines.line.strip_suffix(b"\n").unwrap_or(&lines.line)))
    }

    /// Puts it onto the broker, and lets an empty ledger, whose last message was `last_seq`, go on
    /// behind it. Returns the message that it goes on behind.
    ///
    /// # Errors
    ///
    /// When the broker does not take it, or the ledger has gone on further.
    pub(super) async fn put(
        &self,
        bus: &Bus,
        ledger: &Ledger,
        last_seq: u64,
    ) -> Result<u64, Failure> {
        let seq = self.name.ledger_seq;
        if seq < last_seq {
            let message = format!(
                "the ledger is empty but goes on behind message {last_seq}, and the snapshot stands behind {seq}"
            );
            return Err(Failure::new(Exit::Refused, message)
                .hint("remove the stream of the ledger, then restore again"));
        }
        let failed = |error| of_bus("cannot put the snapshot onto the broker", error);
        let snapshots = bus.snapshots();
        snapshots.keep_newest(0).await.map_err(failed)?;
        let mut writer = snapshots.create(seq);
        let mut lines = self.open()?;
        while let Some(line) = self.next(&mut lines)? {
            writer.write(line).await.map_err(failed)?;
            writer.write(b"\n").await.map_err(failed)?;
        }
        writer.finish().await.map_err(failed)?;
        ledger.purge_to(seq).await.map_err(failed)?;
        Ok(seq)
    }
}
