//! Verifying a log with its chain.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use super::{
    compare::{Lines, compare},
    parts::{chain_of, closed_at, closed_or_lost},
    reading::{Chain, Seal},
    record::Hash,
};
use crate::Keys;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In which file.
    pub file: PathBuf,
    /// In which of its lines; the first is 1.
    pub line: Option<u64>,
    /// What.
    pub what: String,
}

/// What is not wrong, and worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// About which file.
    pub file: PathBuf,
    /// What.
    pub what: String,
}

/// What the signature of the newest seal proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A supervisor with this key has written all that is covered.
    Signed(String),
    /// It names this key, and nobody has said which keys are trusted.
    Unchecked(String),
    /// The supervisor has no key: the chain shows accidents, and no forgery.
    Unsigned,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What is wrong; nothing when the log is as it was written.
    pub problems: Vec<Problem>,
    /// What is worth knowing.
    pub remarks: Vec<Remark>,
    /// Parts that were verified.
    pub n_parts: usize,
    /// Lines that the chain covers.
    pub n_lines: usize,
    /// The last decision.
    pub last_seq: u64,
    /// The newest head. Noted elsewhere, it shows later that the end was not cut.
    pub head: String,
    /// Whether a head that was asked for is part of the chain.
    pub has_head: Option<bool>,
    /// What the newest seal proves.
    pub proof: Proof,
}

impl Problem {
    pub(super) fn of_line(file: &Path, line: u64, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: Some(line), what: what.into() }
    }

    pub(super) fn of_file(file: &Path, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: None, what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        match self.line {
            Some(line) => write!(f, ":{line}: {}", self.what),
            None => write!(f, ": {}", self.what),
        }
    }
}

/// What is known so far.
struct Survey<'a> {
    keys: &'a Keys,
    wanted_head: Option<&'a str>,
    report: Report,
    /// The chain of the part before.
    before: Option<(PathBuf, Chain)>,
    /// The log begins behind this decision, and parts before it were there.
    lost_to: Option<(PathBuf, u64)>,
    removed_to: u64,
}

/// Verifies parts of a log, the oldest first, and the chain from each to the next. Without parts,
/// all of the log: then nothing may be missing at the beginning and at the end.
///
/// # Errors
///
/// When a file cannot be read.
pub fn verify(log: &Path, some: &[PathBuf], keys: &Keys, head: Option<&str>) -> io::Result<Report> {
    let mut parts = some.to_vec();
    if some.is_empty() {
        parts = closed_or_lost(log)?;
        parts.push(log.to_owned());
    }
    let report = Report {
        problems: Vec::new(),
        remarks: Vec::new(),
        n_parts: 0,
        n_lines: 0,
        last_seq: 0,
        head: Hash::default().to_string(),
        has_head: head.map(|_| false),
        proof: Proof::Unsigned,
    };
    let (before, lost_to, removed_to) = (None, None, 0);
    let mut survey = Survey { keys, wanted_head: head, report, before, lost_to, removed_to };
    for part in &parts {
        survey.part(part)?;
    }
    survey.report.proof = survey.end_of_run();
    if let Some((part, to)) = survey.lost_to.take()
        && some.is_empty()
        && survey.removed_to < to
    {
        let what = format!(
            "the parts before this one, up to decision {to}, are missing, and no retention has removed them"
        );
        survey.report.problems.push(Problem::of_file(&part, what));
    }
    Ok(survey.report)
}

impl Survey<'_> {
    fn part(&mut self, part: &Path) -> io::Result<()> {
        let path = chain_of(part);
        // The log first: what a supervisor writes meanwhile is in the chain before it is in the log.
        let lines = Lines::read(part)?;
        let chain = Chain::read(&path)?;
        let problem = |what: &str| Problem::of_file(part, what);
        let (lines, chain) = match (lines, chain) {
            (Some(lines), Some(chain)) => (lines, chain),
            (None, Some(chain)) => {
                self.report
                    .problems
                    .push(problem("this part of the log is missing; its chain is there"));
                self.follow(&path, chain);
                return Ok(());
            }
            (Some(_), None) if self.before.is_none() && closed_at(part).is_some() => {
                let what = "there is no chain of this part: nothing shows whether it was changed";
                self.report.remarks.push(Remark { file: part.to_owned(), what: what.to_owned() });
                return Ok(());
            }
            (Some(_), None) => {
                self.report.problems.push(problem("the chain of this part is missing"));
                return Ok(());
            }
            (None, None) => {
                self.report.problems.push(problem(
                    "the newest part of the log and its chain are missing: the end is cut",
                ));
                return Ok(());
            }
        };
        self.report.n_parts += 1;
        self.report.n_lines += chain.lines.len();
        self.report.problems.extend(compare(part, &lines, &chain.lines));
        self.follow(&path, chain);
        Ok(())
    }

    /// Checks a chain, and that it follows the one before.
    fn follow(&mut self, path: &Path, chain: Chain) {
        self.report.problems.extend(chain.problems.iter().cloned());
        self.report.remarks.extend(chain.remarks.iter().cloned());
        self.removed_to = self.removed_to.max(chain.removed_to);
        let has = |it: &Seal| self.wanted_head == Some(it.head.to_string().as_str());
        if chain.seals.iter().any(has) {
            self.report.has_head = Some(true);
        }
        if chain.is_fetched {
            self.judge(path, &chain);
            return;
        }
        let (after, head) = chain.begins;
        let ends = self.before.as_ref().map(|(_, it)| it.end().map(|it| (it.seq, it.head)));
        match ends {
            Some(Some((_, ended))) if ended == head => {}
            Some(ended) => {
                let seq = ended.map_or(0, |(seq, _)| seq);
                let what = format!(
                    "this part does not follow the one before, whose chain ends with decision {seq}: a part between them, or the end of that one, is missing or was changed"
                );
                self.report.problems.push(Problem::of_file(path, what));
                self.end_of_run();
            }
            None if head.is_first() => {}
            None => self.lost_to = Some((path.to_owned(), after)),
        }
        if let Some(end) = chain.end() {
            self.report.last_seq = end.seq;
            self.report.head = end.head.to_string();
        }
        self.before = Some((path.to_owned(), chain));
    }

    /// Judges the newest chain that no other follows: its last seal covers all before it, also
    /// what was signed with a key that has been replaced.
    fn end_of_run(&mut self) -> Proof {
        self.before.take().map_or(Proof::Unsigned, |(path, chain)| self.judge(&path, &chain))
    }

    /// Judges the last seal of a part: it covers all before it.
    fn judge(&mut self, path: &Path, chain: &Chain) -> Proof {
        let Some(end) = chain.end() else { return Proof::Unsigned };
        let named = end.key().map(str::to_owned);
        if !self.keys.are_required() {
            return named.map_or(Proof::Unsigned, Proof::Unchecked);
        }
        match end.judge(self.keys) {
            Ok(()) => named.map_or(Proof::Unsigned, Proof::Signed),
            Err(why) => {
                // The first one that is not valid is nearest to what was changed.
                let first = chain.seals.iter().find(|it| it.judge(self.keys).is_err());
                let (n_line, from) = first.map_or((end.n_line, 0), |first| {
                    let before = chain.seals.iter().take_while(|it| it.n_line < first.n_line);
                    (first.n_line, before.last().map_or(0, |it| it.n_covered))
                });
                let what = format!(
                    "this seal is not believed, nor is what it covers, from line {} of the log on: {why}",
                    from + 1
                );
                self.report.problems.push(Problem::of_line(path, n_line, what));
                Proof::Unsigned
            }
        }
    }
}
