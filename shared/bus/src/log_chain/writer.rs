//! Writing the chain of a log.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use chrono::Utc;
use serde::Deserialize;
use tracing::warn;

use super::{
    SEAL,
    parts::{chain_of, closed_at, closed_files},
    record::{Hash, Record},
};
use crate::Keys;

/// A long batch is sealed after so many lines, so that the last seal is near the end of the file.
const SEAL_EVERY: usize = 1024;

/// Where the last seal must be, counted from the end: more than the records between two seals take.
const TAIL: u64 = 512 * 1024;

/// How often the chain is synced while lines come. It is written before the log, so this counts
/// only when the power fails, and the chain then says which lines it did not know.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// The chain of the part of a log that is being written.
#[derive(Debug)]
pub struct LogChain {
    log: PathBuf,
    keys: Keys,
    file: File,
    synced_at: Instant,
    end: Mark,
}

/// A place in a chain, to which it can be taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    len: u64,
    head: Hash,
    /// Lines of this part.
    lines: u64,
    /// The last decision.
    seq: u64,
}

/// The number of a line.
#[derive(Deserialize)]
struct Numbered {
    seq: u64,
}

/// Records that are written at once.
struct Draft<'a> {
    keys: &'a Keys,
    text: Vec<u8>,
    end: Mark,
}

impl LogChain {
    /// Opens the chain of a log that ends with decision `last_seq`, and makes it fit the log.
    ///
    /// # Errors
    ///
    /// When files cannot be read or written.
    pub fn open(log: &Path, last_seq: u64, keys: Keys) -> io::Result<Self> {
        finish_rotation(log)?;
        let path = chain_of(log);
        let mut file = open_append(&path)?;
        let end = match last_seal(&mut file)? {
            Tail::Sealed(end) => Some(end),
            Tail::Empty => None,
            Tail::Unreadable => {
                let aside = path.with_extension("chain.unreadable");
                warn!(file = %path.display(), aside = %aside.display(), "the chain of the log cannot be read: it is put aside, and a new one begins");
                fs::rename(&path, aside)?;
                file = open_append(&path)?;
                None
            }
        };
        let synced_at = Instant::now();
        let mut chain = Self { log: log.to_owned(), keys, file, synced_at, end: Mark::default() };
        match end {
            Some(end) => {
                chain.file.set_len(end.len)?;
                chain.end = end;
            }
            None => {
                chain.file.set_len(0)?;
                let before = ending_of_closed(log)?;
                chain.begin(before.unwrap_or_default())?;
            }
        }
        chain.fit(last_seq)?;
        chain.file.sync_all()?;
        Ok(chain)
    }

    /// Makes the chain end where the log ends.
    fn fit(&mut self, last_seq: u64) -> io::Result<()> {
        let known = self.end.seq;
        if last_seq < known {
            warn!(
                log = last_seq,
                chain = known,
                "the log has lost its end: what is missing comes from the ledger again, and the chain says so"
            );
            return self
                .write(|draft| draft.push(&Record::Rewound { to: last_seq, at: Utc::now() }));
        }
        if known == last_seq {
            return Ok(());
        }
        let lines = lines_behind(&self.log, known)?;
        let Some((from, _)) = lines.first().copied() else {
            // They are in a part that was closed, by a version that kept no chain.
            return self.write(|draft| {
                draft.end.seq = last_seq;
                Ok(())
            });
        };
        warn!(
            from,
            to = last_seq,
            "the log has lines that its chain does not know: they are taken into it, and the chain says so"
        );
        self.write(|draft| {
            draft.push(&Record::Found { from, to: last_seq, at: Utc::now() })?;
            lines.iter().try_for_each(|(seq, hash)| draft.line(*seq, *hash))
        })
    }

    /// Begins a file behind the end of the one before.
    fn begin(&mut self, before: Mark) -> io::Result<()> {
        self.end = Mark { len: 0, lines: 0, ..before };
        let Mark { head, seq, .. } = before;
        let begins = Record::Begins { after: seq, head, at: Utc::now(), fetched: false };
        self.write(|draft| draft.push(&begins))
    }

    /// Returns where the chain ends.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        self.end
    }

    /// Takes the chain back to where it was: what was added is not in the log.
    ///
    /// # Errors
    ///
    /// When the disk does not do it.
    pub fn back_to(&mut self, mark: Mark) -> io::Result<()> {
        self.end = mark;
        self.file.set_len(mark.len)
    }

    /// Adds lines of the log, which come next: their decisions and texts, without line feeds.
    ///
    /// # Errors
    ///
    /// When the disk takes nothing: nothing is added.
    pub fn append<T: AsRef<[u8]>>(
        &mut self,
        lines: impl IntoIterator<Item = (u64, T)>,
    ) -> io::Result<()> {
        self.write(|draft| {
            for (idx, (seq, text)) in lines.into_iter().enumerate() {
                if 0 < idx && idx % SEAL_EVERY == 0 {
                    draft.seal()?;
                }
                draft.line(seq, Hash::of(text.as_ref()))?;
            }
            Ok(())
        })?;
        if SYNC_EVERY <= self.synced_at.elapsed() {
            self.synced_at = Instant::now();
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Notes that the log lacks these decisions.
    ///
    /// # Errors
    ///
    /// When the disk takes nothing.
    pub fn leave_out(&mut self, from: u64, to: u64) -> io::Result<()> {
        self.write(|draft| {
            draft.end.seq = to;
            draft.push(&Record::Missing { from, to })
        })
    }

    /// Notes that parts up to this decision are removed, before they are.
    ///
    /// # Errors
    ///
    /// When the disk takes nothing.
    pub fn removing(&mut self, to: u64) -> io::Result<()> {
        self.write(|draft| draft.push(&Record::Removed { to, at: Utc::now() }))?;
        self.file.sync_data()
    }

    /// Closes the file beside a part that was closed, and begins the next one.
    ///
    /// # Errors
    ///
    /// When the disk does not do it.
    pub fn rotate(&mut self, closed: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        let path = chain_of(&self.log);
        fs::rename(&path, chain_of(closed))?;
        self.file = open_append(&path)?;
        self.begin(self.end)
    }

    /// Writes records and their seal at once, or nothing.
    fn write(&mut self, add: impl FnOnce(&mut Draft<'_>) -> io::Result<()>) -> io::Result<()> {
        let mut draft = Draft { keys: &self.keys, text: Vec::new(), end: self.end };
        add(&mut draft)?;
        draft.seal()?;
        if let Err(error) = self.file.write_all(&draft.text) {
            // A part may have got through; what follows must not stick to it.
            self.file.set_len(self.end.len)?;
            return Err(error);
        }
        self.end = draft.end;
        Ok(())
    }
}

impl Draft<'_> {
    fn line(&mut self, seq: u64, hash: Hash) -> io::Result<()> {
        (self.end.seq, self.end.lines) = (seq, self.end.lines + 1);
        self.push(&Record::Line(seq, hash))
    }

    fn push(&mut self, record: &Record) -> io::Result<()> {
        let from = self.text.len();
        serde_json::to_writer(&mut self.text, record)?;
        self.end.head = self.end.head.then(self.text.get(from..).unwrap_or_default());
        if let Record::Rewound { to, .. } = record {
            self.end.seq = *to;
        }
        self.text.push(b'\n');
        self.end.len += u64::try_from(self.text.len() - from).unwrap_or(u64::MAX);
        Ok(())
    }

    fn seal(&mut self) -> io::Result<()> {
        let (from, Mark { head, lines, seq, .. }) = (self.text.len(), self.end);
        let signature = self.keys.sign(SEAL, seq, head.bytes());
        let sealed = Record::Sealed { seq, lines, head, signature };
        serde_json::to_writer(&mut self.text, &sealed)?;
        self.text.push(b'\n');
        self.end.len += u64::try_from(self.text.len() - from).unwrap_or(u64::MAX);
        Ok(())
    }
}

/// Writes the chain of a part that came from another supervisor and fills a gap.
///
/// # Errors
///
/// When files cannot be read or written.
pub fn fetched(part: &Path, from: u64, to: u64, keys: &Keys) -> io::Result<()> {
    let lines = lines_behind(part, 0)?;
    let mut draft = Draft { keys, text: Vec::new(), end: Mark::default() };
    let (at, head) = (Utc::now(), Hash::default());
    let after = from.saturating_sub(1);
    draft.push(&Record::Begins { after, head, at, fetched: true })?;
    draft.push(&Record::Found { from, to, at })?;
    lines.iter().try_for_each(|(seq, hash)| draft.line(*seq, *hash))?;
    draft.seal()?;
    let mut file = open_append(&chain_of(part))?;
    file.set_len(0)?;
    file.write_all(&draft.text)?;
    file.sync_all()
}

fn open_append(path: &Path) -> io::Result<File> {
    // As the log itself: nobody else's to read.
    private::append_to(path)
}

/// What the end of a chain's file says.
enum Tail {
    Empty,
    Sealed(Mark),
    Unreadable,
}

/// Finds the last seal. What is behind it was cut off by a crash.
fn last_seal(file: &mut File) -> io::Result<Tail> {
    let len = file.metadata()?.len();
    let start = len.saturating_sub(TAIL);
    let mut text = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(TAIL).read_to_end(&mut text)?;
    let mut end = text.iter().rposition(|it| *it == b'\n').map_or(0, |idx| idx + 1);
    while 0 < end {
        let line = text.get(..end - 1).unwrap_or_default();
        let from = line.iter().rposition(|it| *it == b'\n').map_or(0, |idx| idx + 1);
        let line = line.get(from..).unwrap_or_default();
        if let Ok(Record::Sealed { seq, lines, head, .. }) = serde_json::from_slice(line) {
            let len = start + u64::try_from(end).unwrap_or(u64::MAX);
            return Ok(Tail::Sealed(Mark { len, head, lines, seq }));
        }
        end = from;
    }
    // A file that is shorter than a seal was just begun.
    Ok(if len < 128 { Tail::Empty } else { Tail::Unreadable })
}

/// Returns how the chain of the newest closed part ends.
fn ending_of_closed(log: &Path) -> io::Result<Option<Mark>> {
    for part in closed_files(log)?.iter().rev() {
        let Ok(mut file) = File::open(chain_of(part)) else { continue };
        if is_fetched(&file)? {
            continue;
        }
        if let Tail::Sealed(end) = last_seal(&mut file)? {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

/// Returns whether a chain is that of lines that came from another supervisor.
fn is_fetched(file: &File) -> io::Result<bool> {
    let mut first = Vec::new();
    BufReader::new(file).take(TAIL).read_until(b'\n', &mut first)?;
    let record = serde_json::from_slice(&first);
    Ok(matches!(record, Ok(Record::Begins { fetched: true, .. })))
}

/// After a crash between the two renames of a rotation: the chain follows its part.
fn finish_rotation(log: &Path) -> io::Result<()> {
    let Some(part) = closed_files(log)?.pop() else { return Ok(()) };
    let (chain, current) = (chain_of(&part), chain_of(log));
    if chain.exists() || !current.exists() {
        return Ok(());
    }
    let Tail::Sealed(end) = last_seal(&mut File::open(&current)?)? else { return Ok(()) };
    let is_of_part = 0 < end.lines && Some(end.seq) == closed_at(&part);
    if is_of_part { fs::rename(current, chain) } else { Ok(()) }
}

/// Returns decisions and hashes of the lines of a part behind a decision.
fn lines_behind(part: &Path, seq: u64) -> io::Result<Vec<(u64, Hash)>> {
    let mut found = Vec::new();
    for line in BufReader::new(File::open(part)?).split(b'\n') {
        let line = line?;
        let Ok(read) = serde_json::from_slice::<Numbered>(&line) else { continue };
        if seq < read.seq {
            found.push((read.seq, Hash::of(&line)));
        }
    }
    Ok(found)
}
