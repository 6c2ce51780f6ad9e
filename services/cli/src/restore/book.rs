//! The log of decisions on disk, read back as the messages of the ledger that it came from.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    vec,
};

use bus::InboxMessage;
use domain::{
    desk::{FOLD, LastDecision},
    id::{IncidentId, Position},
    view::LogLine,
    wire::{LedgerEntry, SCHEMA},
};

use crate::exit::{Exit, Failure};

/// One message of the ledger, as the log tells it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    /// Its number in the ledger.
    pub(super) seq: u64,
    /// What it says.
    pub(super) entry: LedgerEntry,
}

/// Reads all parts of a log, the oldest first.
#[derive(Debug)]
pub(super) struct Book {
    files: vec::IntoIter<PathBuf>,
    lines: Option<(PathBuf, BufReader<File>)>,
    n_line: u64,
    /// The first line behind the last message that was returned.
    next: Option<LogLine>,
    /// Decisions up to here are left out; `None` when the log may begin anywhere.
    after: Option<u64>,
    last_seq: u64,
    bookmark: Option<Bookmark>,
    left_out: LeftOut,
    torn: Option<Torn>,
}

/// What lines say that are left out, since something else stands for them.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    /// The very last of them, and the message of the ledger that held it.
    pub(super) last: Option<(LastDecision, u64)>,
    /// Incidents that these lines are about and that are open behind them.
    pub(super) open: BTreeSet<IncidentId>,
}

/// The end of a log that a crash has left without a line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Torn {
    /// The file.
    pub(super) path: PathBuf,
    /// Bytes behind its last whole line.
    pub(super) n_bytes: usize,
}

impl Book {
    /// Opens a log and what was rotated away from it. Decisions up to `after` are left out, and
    /// need not be there; with `None` the log may begin anywhere.
    ///
    /// # Errors
    ///
    /// [`Exit::NotFound`] without a log.
    pub(super) fn open(path: &Path, after: Option<u64>) -> Result<Self, Failure> {
        let mut files = closed_files(path).map_err(|error| {
            Failure::new(Exit::NotFound, format!("cannot look for the log `{}`", path.display()))
                .hint("name the supervisor's data directory with --data-dir, or the log with --log")
                .because(error)
        })?;
        // Closed files that hold nothing behind it are not read.
        let is_left_out = |it: &PathBuf| closed_at(it).zip(after).is_some_and(|(a, b)| a < b);
        let n_left_out = files.iter().take_while(|it| is_left_out(it)).count();
        files.drain(..n_left_out);
        if path.is_file() {
            files.push(path.to_owned());
        }
        if files.is_empty() {
            let message = format!("there is no log `{}`", path.display());
            return Err(Failure::new(Exit::NotFound, message).hint(
                "name the supervisor's data directory with --data-dir, or the log with --log",
            ));
        }
        Ok(Self {
            files: files.into_iter(),
            lines: None,
            n_line: 0,
            next: None,
            after,
            last_seq: 0,
            bookmark: None,
            left_out: LeftOut::default(),
            torn: None,
        })
    }

    /// Returns the last decision that was read, left out or not; 0 before the first.
    pub(super) const fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Returns what the lines say that were left out. Whole once a message was asked for.
    pub(super) const fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// Returns what was passed over at the end, once it was reached.
    pub(super) const fn torn(&self) -> Option<&Torn> {
        self.torn.as_ref()
    }

    /// Returns where the inbox stood at the last decision that was read.
    pub(super) const fn bookmark(&self) -> Option<Bookmark> {
        self.bookmark
    }

    /// Returns the next message; `None` at the end.
    ///
    /// # Errors
    ///
    /// When a line cannot be read, or is not the one that must follow.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Failure> {
        let first = match self.next.take() {
            Some(line) => line,
            None => match self.line()? {
                Some(line) => line,
                None => return Ok(None),
            },
        };
        let (seq, covers) = (first.entry, first.covers);
        let mut decisions = vec![first.detail];
        while let Some(line) = self.line()? {
            if line.entry != seq {
                self.next = Some(line);
                break;
            }
            decisions.push(line.detail);
        }
        let entry = LedgerEntry { v: SCHEMA, epoch: 0, covers, decisions, fold: FOLD };
        Ok(Some(Message { seq, entry }))
    }

    fn line(&mut self) -> Result<Option<LogLine>, Failure> {
        loop {
            let Some((path, lines)) = &mut self.lines else {
                let Some(path) = self.files.next() else { return Ok(None) };
                let file = File::open(&path).map_err(|error| {
                    Failure::new(Exit::Failed, format!("cannot read `{}`", path.display()))
                        .because(error)
                })?;
                self.n_line = 0;
                self.lines = Some((path, BufReader::new(file)));
                continue;
            };
            self.n_line += 1;
            let place = format!("{}:{}", path.display(), self.n_line);
            let mut text = Vec::new();
            let n_bytes = lines.read_until(b'\n', &mut text).map_err(|error| {
                Failure::new(Exit::Failed, format!("cannot read {place}")).because(error)
            })?;
            if n_bytes == 0 {
                self.lines = None;
                continue;
            }
            if text.last() != Some(&b'\n') && self.files.len() == 0 {
                // A crash tears the very last line, and a power cut may leave zeros of it. A
                // supervisor cuts off the same, and has told nobody of its decision.
                self.torn = Some(Torn { path: path.clone(), n_bytes });
                self.lines = None;
                continue;
            }
            let line = serde_json::from_slice::<LogLine>(&text).map_err(|error| {
                Failure::new(Exit::Failed, format!("{place} is not a line of the log"))
                    .because(error)
            })?;
            self.check(&line, &place)?;
            let (covers, cause, at) = (line.covers, line.cause, line.timestamp);
            self.bookmark = Some(Bookmark { covers, cause, at });
            if self.after.is_none_or(|after| after < line.seq) {
                return Ok(Some(line));
            }
            self.leave_out(&line);
        }
    }

    fn leave_out(&mut self, line: &LogLine) {
        if self.after == Some(line.seq) {
            self.left_out.last = Some((LastDecision::of(&line.detail), line.entry));
        }
        let Some(id) = line.detail.incident else { return };
        if line.status.is_some_and(|it| !it.is_over()) {
            self.left_out.open.insert(id);
        } else {
            self.left_out.open.remove(&id);
        }
    }

    /// Line n is decision n, over all files; but for those that are left out.
    fn check(&mut self, line: &LogLine, place: &str) -> Result<(), Failure> {
        let first = self.last_seq == 0;
        let wanted = match self.after {
            None if first => line.seq,
            Some(after) if line.seq <= after => line.seq,
            Some(after) => self.last_seq.max(after) + 1,
            None => self.last_seq + 1,
        };
        if line.seq == wanted && line.detail.seq == line.seq {
            self.last_seq = line.seq;
            return Ok(());
        }
        let message =
            format!("{place} holds decision {}, but decision {wanted} must follow", line.seq);
        let hint = if first {
            "older parts of the log are missing: put them beside it, or the directory `snapshots` of its supervisor"
        } else {
            "a part of the log is missing or was changed"
        };
        Err(Failure::new(Exit::Failed, message).hint(hint))
    }
}

/// Returns the closed parts of a log, the oldest first: `<stem>.<time>.<decision>.jsonl`.
fn closed_files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir.unwrap_or_else(|| Path::new(".")))? {
        let file = entry?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let middle =
            name.strip_prefix(&format!("{stem}.")).and_then(|it| it.strip_suffix(".jsonl"));
        let seq = middle.and_then(|it| it.rsplit('.').next()).and_then(|it| it.parse::<u64>().ok());
        found.extend(seq.map(|seq| (seq, file)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, file)| file).collect())
}

/// Returns the last decision of a closed part, by its name.
fn closed_at(file: &Path) -> Option<u64> {
    file.file_stem()?.to_str()?.rsplit('.').next()?.parse().ok()
}

/// Where the inbox stood, and by which input that can be recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bookmark {
    /// All inputs up to here were decided.
    pub(super) covers: Position,
    /// The input that caused the last decision, and the broker's time of it.
    pub(super) cause: Position,
    /// That time.
    pub(super) at: chrono::DateTime<chrono::Utc>,
}

impl Bookmark {
    /// Returns whether a message of the inbox is the one that caused the last decision.
    pub(super) fn is_of(&self, message: &InboxMessage) -> bool {
        message.seq == self.cause.seq && message.at == self.at
    }

    /// Returns whether a message of an inbox is not newer than the last decision.
    pub(super) fn is_behind(&self, message: &InboxMessage) -> bool {
        message.at <= self.at
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write as _;

    use chrono::{DateTime, Utc};
    use domain::fact::{Decision, Fact};

    use super::*;

    pub(in crate::restore) fn line(seq: u64, entry: u64) -> LogLine {
        let at = DateTime::<Utc>::from_timestamp(1_700_000_000, 0).unwrap();
        let cause = Position::new(seq, 0);
        let fact = Fact::Paused { by: "ann".to_owned() };
        let reason = "storm".to_owned();
        let detail = Decision { seq, at, cause, incident: None, fact, reason: reason.clone() };
        LogLine {
            incident_id: IncidentId::NONE,
            timestamp: at,
            incident_type: "selfheal.paused".to_owned(),
            analysis: None,
            resolution: None,
            seq,
            status: None,
            decision: "paused".to_owned(),
            cause,
            reason,
            target: None,
            entry,
            covers: cause,
            detail,
        }
    }

    fn directory() -> PathBuf {
        let path = std::env::temp_dir().join(format!("selfheal-book-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn write(path: &Path, lines: &[LogLine]) {
        let text: String =
            lines.iter().map(|line| serde_json::to_string(line).unwrap() + "\n").collect();
        std::fs::write(path, text).unwrap();
    }

    fn read(path: &Path) -> Result<Vec<(u64, Vec<u64>)>, Failure> {
        read_after(path, Some(0))
    }

    fn read_after(path: &Path, after: Option<u64>) -> Result<Vec<(u64, Vec<u64>)>, Failure> {
        let mut book = Book::open(path, after)?;
        let mut all = Vec::new();
        while let Some(message) = book.next()? {
            let seqs = message.entry.decisions.iter().map(|it| it.seq).collect();
            all.push((message.seq, seqs));
        }
        Ok(all)
    }

    #[test]
    fn rotated_parts_are_one_book_and_lines_of_one_message_belong_together() {
        let path = directory().join("incident_logs.jsonl");
        let older = path.with_file_name("incident_logs.20260101T000000Z.000000000003.jsonl");
        write(&older, &[line(1, 1), line(2, 3), line(3, 3)]);
        write(&path, &[line(4, 3), line(5, 4)]);
        assert_eq!(read(&path).unwrap(), [(1, vec![1]), (3, vec![2, 3, 4]), (4, vec![5])]);
    }

    #[test]
    fn a_torn_last_line_is_left_out_and_a_torn_middle_one_is_refused() {
        let path = directory().join("incident_logs.jsonl");
        write(&path, &[line(1, 1), line(2, 2)]);
        let text = serde_json::to_string(&line(3, 3)).unwrap();
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(&text.as_bytes()[..60]).unwrap();
        assert_eq!(read(&path).unwrap(), [(1, vec![1]), (2, vec![2])]);
        // As some file systems leave it after a power cut.
        file.write_all(&[0; 4096]).unwrap();
        let mut book = Book::open(&path, Some(0)).unwrap();
        while book.next().unwrap().is_some() {}
        assert_eq!(book.torn(), Some(&Torn { path: path.clone(), n_bytes: 60 + 4096 }));
        file.write_all(b"\n{}\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("jsonl:3"));
    }

    #[test]
    fn a_gap_is_refused_with_its_place() {
        let path = directory().join("incident_logs.jsonl");
        write(&path, &[line(1, 1), line(3, 2)]);
        let failure = read(&path).unwrap_err();
        assert!(failure.to_string().contains(":2 holds decision 3, but decision 2"), "{failure}");
        write(&path, &[line(7, 7)]);
        assert!(read(&path).unwrap_err().hint_text().unwrap().contains("older parts"));
    }

    #[test]
    fn behind_a_snapshot_older_parts_may_be_missing_or_have_gaps() {
        let path = directory().join("incident_logs.jsonl");
        let closed = |seq: u64| path.with_file_name(format!("incident_logs.2026.{seq:012}.jsonl"));
        write(&closed(3), &[line(1, 1), line(3, 3)]);
        write(&closed(6), &[line(4, 4), line(5, 5), line(6, 5)]);
        write(&path, &[line(7, 6), line(8, 7)]);
        assert_eq!(read_after(&path, Some(5)).unwrap()[0], (5, vec![6]));
        assert_eq!(read_after(&path, Some(6)).unwrap().len(), 2);
        assert_eq!(read_after(&path, Some(8)).unwrap(), []);
        std::fs::remove_file(closed(3)).unwrap();
        for (after, is_whole) in [(Some(0), false), (Some(2), false), (Some(3), true), (None, true)]
        {
            let read = read_after(&path, after);
            assert_eq!(read.is_ok(), is_whole, "{after:?}: {read:?}");
        }
        std::fs::remove_file(closed(6)).unwrap();
        assert!(read_after(&path, Some(5)).is_err(), "decision 6 is missing");
        let mut book = Book::open(&path, Some(9)).unwrap();
        assert!(book.next().unwrap().is_none());
        assert_eq!((book.last_seq(), book.bookmark().unwrap().cause), (8, Position::new(8, 0)));
    }

    #[test]
    fn without_a_log_nothing_is_restored() {
        let failure = read(&directory().join("incident_logs.jsonl")).unwrap_err();
        assert_eq!(failure.exit(), Exit::NotFound);
    }
}
