//! The log on disk: line n is decision n.
//!
//! It is a projection of the ledger, synced once per batch. After a crash the last line
//! tells where to go on; a line that was torn is cut off and written again.

use std::{
    fs::{File, Metadata},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bus::{
    Keys,
    log_chain::{LogChain, chain_of, closed_at},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::view::{LogLine, Status};

use crate::{
    archive::Archive,
    core::{Line, Lines},
    pages::{Gap, Missing},
};

pub(crate) use bus::log_chain::closed_files;

/// When a file of the log is closed and the next one begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rotation {
    /// A file that has grown to this size is closed.
    pub(crate) bytes_max: u64,
    /// A file that was begun so long ago is closed.
    pub(crate) age_max: Duration,
    /// What is kept; older files are removed, unless a restoration needs them.
    pub(crate) keep: Keep,
}

/// How much of the log is kept. 0 keeps all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keep {
    /// Closed files.
    pub(crate) files: usize,
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// Time since a file was closed.
    pub(crate) age: Duration,
}

impl Keep {
    /// Returns whether the oldest of `n_files` closed files may go.
    fn may_go(&self, n_files: usize, bytes: u64, age: Duration) -> bool {
        (0 < self.files && self.files < n_files)
            || (0 < self.bytes && self.bytes < bytes)
            || (Duration::ZERO < self.age && self.age < age)
    }
}

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file cannot be read or written.
    #[error("cannot use the log {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A line in the middle is none of ours.
    #[error("the last whole line of the log {} is not a log line", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
}

/// The log.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    /// Shows that nobody changed the log; see [`bus::log_chain`].
    chain: LogChain,
    /// Length of what is whole and synced.
    len: u64,
    begun_at: SystemTime,
    last: Option<Line>,
    /// The last line is known to be the last one of its message of the ledger. A crash may have
    /// left only the first lines of it.
    ends_whole: bool,
    /// Decisions up to here are not in the log, and are not written any more.
    left_out: u64,
}

impl Journal {
    /// Opens the log, and cuts off a last line that was torn by a crash. `keys` sign its chain.
    ///
    /// # Errors
    ///
    /// [`Error`] when it cannot be read or written, or holds something else.
    pub(crate) fn open(path: &Path, rotation: Rotation, keys: Keys) -> Result<Self, Error> {
        let failed = |source| Error::Io { path: path.to_owned(), source };
        let mut file = open_append(path).map_err(failed)?;
        let len = whole_lines_len(&mut file).map_err(failed)?;
        if len < file.metadata().map_err(failed)?.len() {
            file.set_len(len).and_then(|()| file.sync_all()).map_err(failed)?;
        }
        let mut last = last_line(&mut file, len).map_err(failed)?;
        if last.is_none() {
            // Just rotated: the newest closed file has the last line.
            if let Some(closed) = closed_files(path).map_err(failed)?.pop() {
                let mut closed = File::open(closed).map_err(failed)?;
                let len = closed.metadata().map_err(failed)?.len();
                last = last_line(&mut closed, len).map_err(failed)?;
            }
        }
        let foreign = |source| Error::Foreign { path: path.to_owned(), source };
        let read: Option<LogLine> =
            last.as_deref().map(serde_json::from_slice).transpose().map_err(foreign)?;
        let last = read.zip(last).map(|(line, json)| Line {
            seq: line.seq,
            incident: line.incident_id,
            is_over: line.target.is_some() && line.status.is_some_and(Status::is_over),
            is_of_new: false,
            json: json.into(),
        });
        let created = file.metadata().and_then(|it| it.created().or_else(|_| it.modified()));
        let begun_at = created.unwrap_or_else(|_| SystemTime::now());
        let last_seq = last.as_ref().map_or(0, |it| it.seq);
        let chain = LogChain::open(path, last_seq, keys).map_err(failed)?;
        let (path, ends_whole, left_out) = (path.to_owned(), false, 0);
        let mut journal =
            Self { path, rotation, file, chain, len, begun_at, last, ends_whole, left_out };
        journal.remove_oldest();
        Ok(journal)
    }

    /// Returns the number of the last decision in the log; 0 when it is empty.
    #[must_use]
    pub(crate) fn last_seq(&self) -> u64 {
        self.last.as_ref().map_or(0, |line| line.seq).max(self.left_out)
    }

    /// Returns the message of the ledger that holds the last decision; 0 when it is empty.
    #[must_use]
    pub(crate) fn last_entry(&self) -> u64 {
        let last = self.last.as_ref().filter(|it| self.left_out < it.seq);
        let read = last.and_then(|it| serde_json::from_slice::<LogLine>(&it.json).ok());
        read.map_or(0, |it| it.entry)
    }

    /// Returns the last message of the ledger whose lines are all in the log, as far as is known.
    #[must_use]
    pub(crate) fn whole_entry(&self) -> u64 {
        self.last_entry().saturating_sub(u64::from(!self.ends_whole))
    }

    /// Notes that the log has all lines of the messages up to this one, as a snapshot tells.
    pub(crate) fn has_whole(&mut self, entry: u64) {
        self.ends_whole |= self.last_entry() <= entry;
    }

    /// Leaves out the decisions up to `seq`, whose lines nobody can make any more, and
    /// remembers that they are missing.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub(crate) fn leave_out(&mut self, seq: u64) -> Result<(), Error> {
        let gap = Gap { from: self.last_seq() + 1, to: seq };
        if seq < gap.from {
            return Ok(());
        }
        Missing::of(&self.path).add(gap).map_err(|source| self.failed(source))?;
        if 0 < self.len {
            self.close()?;
        }
        self.chain.leave_out(gap.from, gap.to).map_err(|source| self.failed(source))?;
        self.last = None;
        self.left_out = seq;
        Ok(())
    }

    /// Returns the last line.
    #[must_use]
    pub(crate) const fn last(&self) -> Option<&Line> {
        self.last.as_ref()
    }

    /// Appends lines and syncs them once. Lines that are there already are left out.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], such as when the disk is full. Nothing of these lines is in the log
    /// then; the caller tries again later with the same ones.
    pub(crate) fn append(&mut self, all: &[Lines]) -> Result<(), Error> {
        let mut last_seq = self.last_seq();
        let (mut new, mut chained) = (Vec::with_capacity(all.len()), Vec::new());
        for lines in all {
            new.push(lines.text_from(last_seq + 1));
            let is_new = |it: &Line| last_seq < it.seq;
            chained.extend(lines.iter().filter(is_new).map(|it| (it.seq, it.json)));
            last_seq = last_seq.max(lines.last_seq().unwrap_or(0));
        }
        // Those of one message come together.
        let reaches = all.iter().any(|it| it.last_seq() == Some(last_seq));
        if last_seq == self.last_seq() {
            self.ends_whole |= reaches;
            return Ok(());
        }
        let (before, chain_before) = (self.len, self.chain.mark());
        self.chain.append(chained).map_err(|source| self.failed(source))?;
        if let Err(source) = self.write(&new) {
            // A part may have got through; what follows must not stick to it.
            self.len = before;
            if let Err(error) = self.file.set_len(self.len) {
                tracing::error!(%error, "cannot cut off a half-written batch of the log");
            }
            if let Err(error) = self.chain.back_to(chain_before) {
                tracing::error!(%error, "cannot cut off a batch of the chain that is not in the log");
            }
            return Err(self.failed(source));
        }
        self.last = all.iter().rev().find_map(|it| it.find(last_seq));
        self.ends_whole = true;
        self.rotate_if_due()
    }

    fn write(&mut self, texts: &[Bytes]) -> io::Result<()> {
        for text in texts {
            self.file.write_all(text)?;
            self.len += u64::try_from(text.len()).unwrap_or(u64::MAX);
        }
        self.file.sync_data()
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Io { path: self.path.clone(), source }
    }

    /// Closes the file between two batches, never within a line.
    fn rotate_if_due(&mut self) -> Result<(), Error> {
        let age = self.begun_at.elapsed().unwrap_or_default();
        if self.len < self.rotation.bytes_max && age < self.rotation.age_max {
            return Ok(());
        }
        self.close()
    }

    fn close(&mut self) -> Result<(), Error> {
        let name = closed_name(&self.path, self.last_seq());
        std::fs::rename(&self.path, &name).map_err(|source| self.failed(source))?;
        self.chain.rotate(&name).map_err(|source| self.failed(source))?;
        self.file = open_append(&self.path).map_err(|source| self.failed(source))?;
        self.len = 0;
        self.begun_at = SystemTime::now();
        if let Some(dir) = self.path.parent() {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| self.failed(source))?;
        }
        self.remove_oldest();
        Ok(())
    }

    /// Removes files that are not kept any more. Those behind the oldest archived snapshot are: a
    /// restoration begins with a snapshot, and needs all lines behind it.
    fn remove_oldest(&mut self) {
        let Some(covered) = Archive::beside(&self.path).covered(self.last_seq()) else { return };
        let Ok(closed) = closed_files(&self.path) else { return };
        let look = |file: &PathBuf| file.metadata().ok();
        let looks: Vec<_> = closed.iter().map(look).collect();
        let len = |it: &Option<Metadata>| it.as_ref().map_or(0, Metadata::len);
        let mut bytes = self.len + looks.iter().map(len).sum::<u64>();
        let mut n_files = closed.len();
        for (file, look) in closed.iter().zip(&looks) {
            let modified = look.as_ref().and_then(|it| it.modified().ok());
            let age = modified.and_then(|it| it.elapsed().ok()).unwrap_or_default();
            let last = closed_at(file).unwrap_or(u64::MAX);
            if covered < last || !self.rotation.keep.may_go(n_files, bytes, age) {
                return;
            }
            if let Err(error) = self.chain.removing(last).and_then(|()| remove_part(file)) {
                tracing::warn!(file = %file.display(), %error, "cannot remove an old log file");
                return;
            }
            tracing::info!(file = %file.display(), "an old log file is removed");
            n_files -= 1;
            bytes = bytes.saturating_sub(len(look));
        }
    }
}

/// Removes a closed part and its chain; one of an older version has none.
fn remove_part(file: &Path) -> io::Result<()> {
    std::fs::remove_file(file)?;
    match std::fs::remove_file(chain_of(file)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn open_append(path: &Path) -> io::Result<File> {
    // Decisions hold the configuration, and what senders said: nobody else's to read.
    private::append_to(path)
}

/// `incident_logs.jsonl` closed at decision 42 is `incident_logs.<time>.000000000042.jsonl`.
pub(crate) fn closed_name(path: &Path, seq: u64) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let now: DateTime<Utc> = SystemTime::now().into();
    path.with_file_name(format!("{stem}.{}.{seq:012}.jsonl", now.format("%Y%m%dT%H%M%SZ")))
}

/// Returns the length up to and with the last line feed.
fn whole_lines_len(file: &mut File) -> io::Result<u64> {
    const BLOCK: u64 = 64 * 1024;
    let mut end = file.metadata()?.len();
    while 0 < end {
        let start = end.saturating_sub(BLOCK);
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        Read::by_ref(file).take(end - start).read_to_end(&mut block)?;
        if let Some(idx) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + u64::try_from(idx).unwrap_or(0) + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Returns the last of the whole lines in the first `len` bytes.
fn last_line(file: &mut File, len: u64) -> io::Result<Option<Vec<u8>>> {
    if len == 0 {
        return Ok(None);
    }
    // Lines are at most as long as a message of the broker, twice for escaping.
    const LONGEST: u64 = 4 * 1024 * 1024;
    let start = len.saturating_sub(LONGEST);
    file.seek(SeekFrom::Start(start))?;
    let mut last = None;
    for line in BufReader::new(Read::by_ref(file).take(len - start)).split(b'\n') {
        last = Some(line?);
    }
    Ok(last)
}

#[cfg(test)]
impl Journal {
    /// Puts a disk that takes nothing (`/dev/full`) in place of the file; returns the file.
    pub(crate) fn fill_disk(&mut self) -> File {
        let full = File::options().write(true).open("/dev/full").unwrap();
        std::mem::replace(&mut self.file, full)
    }

    /// Puts the file back.
    pub(crate) fn free_disk(&mut self, file: File) {
        self.file = file;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::core::tests_lines::{lines, lines_of, recorded};

    pub(crate) const KEEP: Rotation = Rotation {
        bytes_max: u64::MAX,
        age_max: Duration::MAX,
        keep: Keep { files: 0, bytes: 0, age: Duration::ZERO },
    };

    pub(crate) fn open(path: &Path, rotation: Rotation) -> Result<Journal, Error> {
        Journal::open(path, rotation, Keys::default())
    }

    pub(crate) fn seqs(path: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|it| serde_json::from_str::<LogLine>(it).unwrap().seq).collect()
    }

    #[test]
    fn each_line_has_the_five_fields_and_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("incident_logs.jsonl");
        open(&path, KEEP).unwrap().append(&[lines([1])]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let value: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        for field in ["incident_id", "timestamp", "incident_type", "analysis", "resolution"] {
            assert!(value.get(field).is_some(), "{field} is missing in {value}");
        }
        let line = recorded(1).line(1, recorded(1).decision.cause);
        assert_eq!(serde_json::from_str::<LogLine>(text.trim()).unwrap(), line);
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_the_log_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("incident_logs.jsonl");
        open(&path, KEEP).unwrap().append(&[lines([1, 2])]).unwrap();
        let whole = std::fs::metadata(&path).unwrap().len();
        for torn in [1, 40, 200] {
            let text = String::from_utf8(lines([3]).text_from(0).to_vec()).unwrap();
            let mut file = File::options().append(true).open(&path).unwrap();
            file.write_all(&text.as_bytes()[..torn]).unwrap();
            let journal = open(&path, KEEP).unwrap();
            assert_eq!(journal.last_seq(), 2);
            assert_eq!(std::fs::metadata(&path).unwrap().len(), whole);
        }
        let mut journal = open(&path, KEEP).unwrap();
        journal.append(&[lines([2, 3, 4])]).unwrap();
        assert_eq!(seqs(&path), [1, 2, 3, 4], "no gap and no duplicate");
    }

    #[test]
    fn a_message_whose_lines_may_be_cut_off_does_not_count_as_logged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("incident_logs.jsonl");
        let mut journal = open(&path, KEEP).unwrap();
        assert_eq!(journal.whole_entry(), 0, "nothing is there");
        journal.append(&[lines_of(8, [1]), lines_of(9, [2, 3])]).unwrap();
        assert_eq!(journal.whole_entry(), 9);
        // As after a crash: whether there was one more line in the same message is not known.
        let mut journal = open(&path, KEEP).unwrap();
        assert_eq!((journal.last_entry(), journal.whole_entry()), (9, 8));
        journal.append(&[lines_of(8, [1])]).unwrap();
        assert_eq!(journal.whole_entry(), 8, "that one was whole before");
        journal.append(&[lines_of(9, [3])]).unwrap();
        assert_eq!(journal.whole_entry(), 9, "the ledger has no more");
        let mut journal = open(&path, KEEP).unwrap();
        journal.append(&[lines_of(9, [3, 4])]).unwrap();
        assert_eq!(journal.whole_entry(), 9, "one more was missing");
        let mut journal = open(&path, KEEP).unwrap();
        journal.has_whole(8);
        assert_eq!(journal.whole_entry(), 8, "that snapshot does not reach it");
        journal.has_whole(9);
        assert_eq!(journal.whole_entry(), 9, "the snapshot behind it has no more");
    }

    #[test]
    fn rotation_keeps_every_line_once_and_goes_on_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("incident_logs.jsonl");
        let rotation = Rotation { bytes_max: 1000, ..KEEP };
        for seq in 1..=20 {
            // Opened anew each time: as after a crash at every line.
            open(&path, rotation).unwrap().append(&[lines([seq])]).unwrap();
        }
        let mut all = Vec::new();
        let closed = closed_files(&path).unwrap();
        assert!(3 < closed.len(), "{closed:?}");
        for file in closed {
            all.extend(seqs(&file));
        }
        all.extend(seqs(&path));
        assert_eq!(all, (1..=20).collect::<Vec<_>>());
    }

    /// Writes five lines, each into a file of its own, and returns what is left.
    fn kept(dir: &Path, keep: Keep) -> Vec<u64> {
        let path = dir.join("incident_logs.jsonl");
        let rotation = Rotation { bytes_max: 1, keep, ..KEEP };
        let mut journal = open(&path, rotation).unwrap();
        for seq in 1..=5 {
            journal.append(&[lines([seq])]).unwrap();
        }
        let files = closed_files(&path).unwrap();
        files.iter().flat_map(|file| seqs(file)).collect()
    }

    fn archived(dir: &Path, n_decisions: u64) {
        let name = domain::desk::ArchivedSnapshot { n_decisions, ledger_seq: 1 }.file_name();
        std::fs::create_dir_all(dir.join("snapshots")).unwrap();
        std::fs::write(dir.join("snapshots").join(name), "").unwrap();
    }

    #[test]
    fn old_files_go_when_a_limit_is_set_and_snapshots_stand_for_them() {
        let line = u64::try_from(lines([1]).text_from(0).len()).unwrap();
        let files = Keep { files: 2, ..Keep::default() };
        let bytes = Keep { bytes: 2 * line + line / 2, ..Keep::default() };
        let age = Keep { age: Duration::from_nanos(1), ..Keep::default() };
        let long = Keep { age: Duration::from_secs(3600), ..Keep::default() };
        for (what, keep, snapshots, left) in [
            ("no limit", Keep::default(), &[5][..], &[1, 2, 3, 4, 5][..]),
            ("no snapshot", files, &[], &[1, 2, 3, 4, 5]),
            ("files", files, &[5], &[4, 5]),
            ("bytes", bytes, &[5], &[4, 5]),
            ("age", age, &[5], &[]),
            ("young", long, &[5], &[1, 2, 3, 4, 5]),
            ("the snapshot needs 3", files, &[2], &[3, 4, 5]),
            ("the older snapshot needs 2", age, &[1, 4], &[2, 3, 4, 5]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            snapshots.iter().for_each(|it| archived(dir.path(), *it));
            assert_eq!(kept(dir.path(), keep), left, "{what}");
        }
    }

    #[test]
    fn a_foreign_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("incident_logs.jsonl");
        std::fs::write(&path, "hello\n").unwrap();
        let error = open(&path, KEEP).unwrap_err();
        assert!(error.to_string().contains("not a log line"), "{error}");
    }

    #[test]
    fn a_full_disk_loses_no_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("incident_logs.jsonl");
        let mut journal = open(&path, KEEP).unwrap();
        journal.append(&[lines([1])]).unwrap();
        let good = journal.fill_disk();
        assert!(journal.append(&[lines([2])]).is_err());
        assert_eq!(journal.last_seq(), 1);
        journal.free_disk(good);
        journal.append(&[lines([2, 3])]).unwrap();
        assert_eq!(seqs(&path), [1, 2, 3]);
    }
}
