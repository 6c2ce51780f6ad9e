//! Pages of the log: given to other supervisors, and fetched from them.
//!
//! A supervisor whose log ends before the first decision that the ledger still has cannot
//! make the lines in between. It goes on without them, remembers which they are, and asks
//! the others until one has given them.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use bus::{Keys, log_chain};
use serde::{Deserialize, Serialize};

use crate::{
    archive::Archive,
    journal::{closed_files, closed_name},
};

/// Size of a page; one message of the broker holds it.
pub(crate) const PAGE_BYTES: u64 = 512 * 1024;
/// A line is longer than this only by mistake: it would not fit into a message.
const LINE_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Missing lines, in the data directory. An operator who can do without them deletes it.
const MISSING_FILE: &str = "log.missing";
/// What was fetched so far.
const FETCHED_FILE: &str = "log.fetched";

/// A question for lines of the log, on `query.log-<member>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ask {
    /// The first decision that is wanted.
    pub(crate) from: u64,
}

/// Decisions whose lines are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gap {
    /// The first.
    pub(crate) from: u64,
    /// The last.
    pub(crate) to: u64,
}

/// The number of a line, which is all that is looked at here.
#[derive(Deserialize)]
struct Numbered {
    seq: u64,
}

/// What stands in place of lines that are not kept any more, by anybody who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Removed {
    /// The first line that is kept.
    removed_before: u64,
}

/// Returns whether a page says that the lines were removed.
pub(crate) fn is_removed(page: &[u8]) -> bool {
    serde_json::from_slice::<Removed>(page).is_ok()
}

/// What stands in place of a line that is missing here too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lacking {
    /// The first line behind it that is there.
    next_line: u64,
}

/// Returns the next line that the giver of a page has, which lacks the one that was asked for.
pub(crate) fn next_line(page: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Lacking>(page).ok().map(|it| it.next_line)
}

/// Returns lines as they stand in the log, from decision `from` on; nothing when the log ends
/// before it. When it was removed as old, or is missing here too, says so.
///
/// # Errors
///
/// When the log cannot be read.
pub(crate) fn page(log: &Path, from: u64) -> io::Result<Vec<u8>> {
    let mut files = closed_files(log)?;
    files.push(log.to_owned());
    let mut is_first = true;
    for path in files {
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let len = file.metadata()?.len();
        let start = find(&mut file, len, from)?;
        match line_at(&mut file, start, len)? {
            Some((_, seq)) if seq == from => return whole_lines(&mut file, start),
            // The log begins later.
            Some((_, first)) if is_first && start == 0 && is_removed_before(log, first) => {
                return Ok(serde_json::to_vec(&Removed { removed_before: first })?);
            }
            // A later file may have it, unless this one is behind it already.
            Some((_, next_line)) => return Ok(serde_json::to_vec(&Lacking { next_line })?),
            None => is_first &= len == 0,
        }
    }
    Ok(Vec::new())
}

/// Returns whether all lines before one were removed as old, and not left out: a snapshot beside the
/// log stands for them.
fn is_removed_before(log: &Path, first: u64) -> bool {
    let covered = Archive::beside(log).covered(u64::MAX);
    let is_left_out = Missing::of(log).gaps().iter().any(|it| it.from < first);
    covered.is_some_and(|covered| first <= covered + 1) && !is_left_out
}

/// Returns where the first line begins whose number is `from` or more.
fn find(file: &mut File, len: u64, from: u64) -> io::Result<u64> {
    // Everything before `low` is too small; the line at or after `high` is not.
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        let start = if middle == low { low } else { next_start(file, middle, len)? };
        match line_at(file, start, len)? {
            Some((end, seq)) if seq < from => low = end,
            Some(_) | None => high = middle,
        }
    }
    Ok(low)
}

/// Returns where the first line begins at or behind this place.
fn next_start(file: &mut File, place: u64, len: u64) -> io::Result<u64> {
    // The line break before the place makes it a beginning.
    let text = read_line(file, place.saturating_sub(1), len)?;
    Ok(place.saturating_sub(1) + u64::try_from(text.len()).unwrap_or(u64::MAX))
}

/// Returns the end and the number of the line that begins here; `None` at the end.
fn line_at(file: &mut File, start: u64, len: u64) -> io::Result<Option<(u64, u64)>> {
    let text = read_line(file, start, len)?;
    if text.last() != Some(&b'\n') {
        return Ok(None);
    }
    let line: Numbered = serde_json::from_slice(&text)?;
    Ok(Some((start + u64::try_from(text.len()).unwrap_or(u64::MAX), line.seq)))
}

/// Reads up to and with the next line break.
fn read_line(file: &mut File, start: u64, len: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut text = Vec::new();
    let rest = len.saturating_sub(start).min(LINE_BYTES_MAX);
    io::BufRead::read_until(&mut io::BufReader::new(file.take(rest)), b'\n', &mut text)?;
    Ok(text)
}

/// Returns as many whole lines as fit a page, but one at least.
fn whole_lines(file: &mut File, start: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut text = Vec::new();
    Read::by_ref(file).take(PAGE_BYTES).read_to_end(&mut text)?;
    match text.iter().rposition(|byte| *byte == b'\n') {
        Some(idx) => {
            text.truncate(idx + 1);
            Ok(text)
        }
        None => read_line(file, start, u64::MAX),
    }
}

/// Lines that our log lacks.
#[derive(Clone, Debug)]
pub(crate) struct Missing {
    log: PathBuf,
}

impl Missing {
    /// Names the log.
    #[must_use]
    pub(crate) fn of(log: &Path) -> Self {
        Self { log: log.to_owned() }
    }

    /// Returns what is missing, the first lines first.
    #[must_use]
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        let text = std::fs::read(self.log.with_file_name(MISSING_FILE)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Remembers that lines are missing.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(crate) fn add(&self, gap: Gap) -> io::Result<()> {
        let mut gaps = self.gaps();
        if !gaps.contains(&gap) {
            gaps.push(gap);
        }
        self.write(&gaps)
    }

    /// Makes two gaps of one, the second from this decision on: one supervisor may have lines of
    /// it that another lacks as well.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(crate) fn split(&self, gap: Gap, at: u64) -> io::Result<()> {
        let mut gaps = self.gaps();
        let place = gaps.iter().position(|it| *it == gap);
        if let Some(place) = place.filter(|_| gap.from < at && at <= gap.to) {
            let parts = [Gap { to: at - 1, ..gap }, Gap { from: at, ..gap }];
            gaps.splice(place..=place, parts);
            self.write(&gaps)?;
        }
        Ok(())
    }

    fn write(&self, gaps: &[Gap]) -> io::Result<()> {
        let path = self.log.with_file_name(MISSING_FILE);
        if gaps.is_empty() {
            return std::fs::remove_file(path);
        }
        let mut file = private::create(&path)?;
        file.write_all(&serde_json::to_vec(gaps)?)?;
        file.sync_all()
    }

    /// Begins to fill a gap.
    ///
    /// # Errors
    ///
    /// When the disk takes nothing.
    pub(crate) fn fill(&self, gap: Gap) -> io::Result<Filling> {
        let path = self.log.with_file_name(FETCHED_FILE);
        Ok(Filling {
            missing: self.clone(),
            gap,
            file: private::create(&path)?,
            path,
            next: gap.from,
        })
    }
}

/// A gap that is being filled.
#[derive(Debug)]
pub(crate) struct Filling {
    missing: Missing,
    gap: Gap,
    file: File,
    path: PathBuf,
    next: u64,
}

impl Filling {
    /// Returns the next decision that is wanted; `None` when all are there.
    #[must_use]
    pub(crate) fn wants(&self) -> Option<u64> {
        (self.next <= self.gap.to).then_some(self.next)
    }

    /// Takes a page. What is not the next line in order ends it.
    ///
    /// # Errors
    ///
    /// When the page is no part of a log, or the disk takes nothing.
    pub(crate) fn take(&mut self, page: &[u8]) -> io::Result<()> {
        if let Ok(Removed { removed_before }) = serde_json::from_slice(page) {
            if self.next != self.gap.from || removed_before <= self.next {
                let text = format!("decision {} is wanted, it was removed meanwhile", self.next);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            self.next = removed_before;
            return Ok(());
        }
        let mut good = 0;
        for line in page.split_inclusive(|byte| *byte == b'\n') {
            let Numbered { seq } = serde_json::from_slice(line)?;
            if self.gap.to < seq {
                break;
            }
            if seq != self.next || line.last() != Some(&b'\n') {
                let text = format!("decision {} is wanted, {seq} was given", self.next);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            self.next += 1;
            good += line.len();
        }
        self.file.write_all(page.get(..good).unwrap_or_default())
    }

    /// Puts the lines where they belong: a closed file of the log, with its chain.
    ///
    /// # Errors
    ///
    /// When the disk does not take it.
    pub(crate) fn finish(self, keys: &Keys) -> io::Result<()> {
        self.file.sync_all()?;
        if self.file.metadata()?.len() == 0 {
            // All of it was removed.
            std::fs::remove_file(&self.path)?;
        } else {
            let part = closed_name(&self.missing.log, self.gap.to);
            std::fs::rename(&self.path, &part)?;
            log_chain::fetched(&part, self.gap.from, self.gap.to, keys)?;
        }
        if let Some(dir) = self.missing.log.parent() {
            File::open(dir)?.sync_all()?;
        }
        let mut gaps = self.missing.gaps();
        gaps.retain(|it| *it != self.gap);
        self.missing.write(&gaps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::tests_lines::lines,
        journal::{
            Journal, Rotation,
            tests::{KEEP, seqs},
        },
    };

    fn numbers(page: &[u8]) -> Vec<u64> {
        let lines = page.split(|it| *it == b'\n').filter(|it| !it.is_empty());
        lines.map(|it| serde_json::from_slice::<Numbered>(it).unwrap().seq).collect()
    }

    #[test]
    fn every_line_is_found_whichever_file_it_is_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("incident_logs.jsonl");
        let rotation = Rotation { bytes_max: 3000, ..KEEP };
        let mut journal = Journal::open(&path, rotation, Keys::default()).unwrap();
        for seq in 1..=40 {
            journal.append(&[lines([seq])]).unwrap();
        }
        for seq in 1..=40 {
            let page = page(&path, seq).unwrap();
            let found = numbers(&page);
            assert_eq!(found[0], seq);
            assert!(found.windows(2).all(|two| two[0] + 1 == two[1]), "{found:?}");
        }
        assert!(page(&path, 41).unwrap().is_empty());
        assert_eq!(next_line(&page(&path, 0).unwrap()), Some(1));
    }

    /// A gap, and what is left of the other's log: lines that nobody keeps are not missing.
    #[test]
    fn lines_that_were_removed_as_old_are_not_missing() {
        for (left, is_archived, other_lacks, filled) in [
            (1, true, false, Some(vec![1, 2, 3, 4, 5, 6])),
            (3, true, false, Some(vec![3, 4, 5, 6])),
            (5, true, false, Some(vec![5, 6])),
            (3, false, false, None),
            (3, true, true, None),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let (other, path) = (dir.path().join("a/log.jsonl"), dir.path().join("b/log.jsonl"));
            std::fs::create_dir_all(dir.path().join("a/snapshots")).unwrap();
            std::fs::create_dir(dir.path().join("b")).unwrap();
            if is_archived {
                let name = domain::desk::ArchivedSnapshot { n_decisions: 6, ledger_seq: 6 };
                std::fs::write(dir.path().join("a/snapshots").join(name.file_name()), "").unwrap();
            }
            let mut journal = Journal::open(&other, KEEP, Keys::default()).unwrap();
            if other_lacks {
                journal.leave_out(left - 1).unwrap();
            }
            journal.append(&[lines(left..=6)]).unwrap();
            let mut journal = Journal::open(&path, KEEP, Keys::default()).unwrap();
            journal.leave_out(4).unwrap();
            journal.append(&[lines([5, 6])]).unwrap();

            let missing = Missing::of(&path);
            let mut filling = missing.fill(missing.gaps()[0]).unwrap();
            let mut is_whole = true;
            while let Some(from) = filling.wants() {
                let page = page(&other, from).unwrap();
                assert_eq!(is_removed(&page), 1 < left && from == 1 && filled.is_some());
                if next_line(&page).is_some() {
                    is_whole = false;
                    break;
                }
                filling.take(&page).unwrap();
            }
            assert_eq!(is_whole, filled.is_some(), "{left} {is_archived} {other_lacks}");
            let Some(filled) = filled else { continue };
            filling.finish(&Keys::default()).unwrap();
            assert_eq!(missing.gaps(), []);
            let files = closed_files(&path).unwrap();
            let mut all: Vec<_> = files.iter().flat_map(|file| seqs(file)).collect();
            all.extend(seqs(&path));
            assert_eq!(all, filled);
        }
    }

    /// Two others each lack a part of what we lack.
    #[test]
    fn a_gap_is_split_where_another_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (other, path) = (dir.path().join("a/log.jsonl"), dir.path().join("b/log.jsonl"));
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::create_dir(dir.path().join("b")).unwrap();
        let mut journal = Journal::open(&other, KEEP, Keys::default()).unwrap();
        journal.append(&[lines([1, 2])]).unwrap();
        journal.leave_out(4).unwrap();
        journal.append(&[lines([5, 6])]).unwrap();
        assert_eq!(next_line(&page(&other, 3).unwrap()), Some(5));
        assert_eq!(next_line(&page(&other, 2).unwrap()), None);

        Journal::open(&path, KEEP, Keys::default()).unwrap().leave_out(6).unwrap();
        let missing = Missing::of(&path);
        let gap = |from, to| Gap { from, to };
        missing.split(gap(1, 6), 7).unwrap();
        missing.split(gap(1, 6), 1).unwrap();
        missing.split(gap(1, 5), 3).unwrap();
        assert_eq!(missing.gaps(), [gap(1, 6)], "nothing is split there");
        missing.split(gap(1, 6), 5).unwrap();
        assert_eq!(missing.gaps(), [gap(1, 4), gap(5, 6)]);
        let mut filling = missing.fill(gap(5, 6)).unwrap();
        filling.take(&page(&other, 5).unwrap()).unwrap();
        filling.finish(&Keys::default()).unwrap();
        assert_eq!(missing.gaps(), [gap(1, 4)]);
    }

    #[test]
    fn a_log_that_lacks_lines_is_made_whole_by_pages_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, path) = (dir.path().join("a/log.jsonl"), dir.path().join("b/log.jsonl"));
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::create_dir(dir.path().join("b")).unwrap();
        Journal::open(&whole, KEEP, Keys::default()).unwrap().append(&[lines(1..=5000)]).unwrap();

        let mut journal = Journal::open(&path, KEEP, Keys::default()).unwrap();
        journal.append(&[lines([1, 2])]).unwrap();
        journal.leave_out(4000).unwrap();
        assert_eq!(journal.last_seq(), 4000);
        journal.append(&[lines([4000, 4001])]).unwrap();
        drop(journal);
        assert_eq!(Journal::open(&path, KEEP, Keys::default()).unwrap().last_seq(), 4001);

        let missing = Missing::of(&path);
        assert_eq!(missing.gaps(), [Gap { from: 3, to: 4000 }]);
        let mut filling = missing.fill(missing.gaps()[0]).unwrap();
        assert!(filling.take(&page(&whole, 7).unwrap()).is_err(), "not the next line");
        let mut n_pages = 0;
        while let Some(from) = filling.wants() {
            filling.take(&page(&whole, from).unwrap()).unwrap();
            n_pages += 1;
        }
        assert!(1 < n_pages);
        filling.finish(&Keys::default()).unwrap();
        assert_eq!(missing.gaps(), []);
        let mut all = Vec::new();
        for file in closed_files(&path).unwrap() {
            all.extend(seqs(&file));
        }
        all.extend(seqs(&path));
        assert_eq!(all, (1..=4001).collect::<Vec<_>>());
    }
}
