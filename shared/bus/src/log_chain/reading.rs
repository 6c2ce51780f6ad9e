//! Reading a chain back, to verify a part of the log with it.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::Path,
};

use super::{
    SEAL,
    record::{Hash, Record},
    verify::{Problem, Remark},
};
use crate::{Keys, Unbelieved};

/// The chain of one part, up to its last seal.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// The last decision before it, and the head of the part before.
    pub(super) begins: (u64, Hash),
    /// Its lines came from another supervisor.
    pub(super) is_fetched: bool,
    /// Decisions and hashes of the lines.
    pub(super) lines: Vec<(u64, Hash)>,
    /// Parts up to this decision were removed, as the retention of the log says.
    pub(super) removed_to: u64,
    pub(super) seals: Vec<Seal>,
    pub(super) problems: Vec<Problem>,
    pub(super) remarks: Vec<Remark>,
}

/// A seal, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Seal {
    pub(super) n_line: u64,
    /// The lines of the part that it covers.
    pub(super) n_covered: usize,
    pub(super) seq: u64,
    pub(super) head: Hash,
    pub(super) signature: Option<String>,
}

impl Seal {
    /// Judges the signature.
    pub(super) fn judge(&self, keys: &Keys) -> Result<(), Unbelieved> {
        keys.judge_value(SEAL, self.seq, self.signature.as_deref(), self.head.bytes())
    }

    /// Returns the key that is named.
    pub(super) fn key(&self) -> Option<&str> {
        self.signature.as_deref()?.split(' ').next()
    }
}

impl Chain {
    /// Reads a chain; `None` when there is none.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut chain = Self::default();
        let mut head = None;
        for (n_line, line) in (1..).zip(BufReader::new(file).split(b'\n')) {
            chain.take(path, n_line, &line?, &mut head);
        }
        let n_sealed = chain.seals.last().map_or(0, |it| it.n_covered);
        chain.lines.truncate(n_sealed);
        if chain.seals.is_empty() {
            chain.problems.push(Problem::of_file(path, "no seal is left in this chain"));
        }
        Ok(Some(chain))
    }

    fn take(&mut self, path: &Path, n_line: u64, line: &[u8], head: &mut Option<Hash>) {
        let changed = |what: &str| Problem::of_line(path, n_line, what);
        let Ok(record) = serde_json::from_slice::<Record>(line) else {
            self.problems.push(changed("this record of the chain cannot be read: it was changed"));
            return;
        };
        let mut remark = |what: String| {
            self.remarks.push(Remark { file: path.to_owned(), what });
        };
        match &record {
            Record::Begins { after, head: before, fetched, at } => {
                if head.is_some() {
                    self.problems.push(changed("the chain begins a second time in this file"));
                }
                (self.begins, self.is_fetched) = ((*after, *before), *fetched);
                *head = Some(*before);
                if before.is_first() && !fetched {
                    remark(format!(
                        "the chain begins here, at {at}: what was before is not covered"
                    ));
                }
            }
            Record::Line(seq, hash) => self.lines.push((*seq, *hash)),
            Record::Missing { from, to } => {
                remark(format!(
                    "decisions {from} to {to} are not in this log: no ledger had them any more"
                ));
            }
            Record::Removed { to, at } => {
                self.removed_to = self.removed_to.max(*to);
                remark(format!(
                    "the parts up to decision {to} were removed at {at}, as the retention of the log says"
                ));
            }
            Record::Found { from, to, at } if !self.is_fetched => {
                remark(format!(
                    "decisions {from} to {to} were in the log and not in the chain when the supervisor started at {at}: they are covered from then on"
                ));
            }
            Record::Found { from, to, at } => {
                remark(format!("decisions {from} to {to} came from another supervisor at {at}"));
            }
            Record::Rewound { to, at } => {
                self.lines.retain(|(seq, _)| seq <= to);
                remark(format!(
                    "the log ended with decision {to} when the supervisor started at {at}, before the chain did: what followed was written again"
                ));
            }
            Record::Sealed { seq, head: sealed, signature, lines: _ } => {
                if *head != Some(*sealed) {
                    let before = self.seals.last().map_or(0, |it| it.n_line);
                    let what = format!(
                        "a record of the chain was changed, removed or inserted behind its line {before} and before this seal"
                    );
                    self.problems.push(changed(&what));
                }
                *head = Some(*sealed);
                let (n_covered, signature) = (self.lines.len(), signature.clone());
                self.seals.push(Seal { n_line, n_covered, seq: *seq, head: *sealed, signature });
                return;
            }
        }
        if let Some(head) = head {
            *head = head.then(line);
        }
    }

    /// Returns the last seal.
    pub(super) fn end(&self) -> Option<&Seal> {
        self.seals.last()
    }
}
