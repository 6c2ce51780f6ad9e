use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
};

use super::*;
use crate::Keys;

const N_LINES: u64 = 30;
/// Lines of each closed part.
const OF_PART: u64 = 10;

fn line(seq: u64) -> String {
    format!(r#"{{"incident_id":"i{seq}","seq":{seq},"reason":"because"}}"#)
}

/// A log with its chain, written as the supervisor writes it.
struct Written {
    dir: tempfile::TempDir,
    seed: PathBuf,
    trusted: Keys,
}

impl Written {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (seed, public) = crate::new_key().unwrap();
        let file = dir.path().join("signing.key");
        private::write(&file, seed.as_bytes()).unwrap();
        let trusted = Keys::new(None, &[public]).unwrap();
        Self { dir, seed: file, trusted }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("incident_logs.jsonl")
    }

    fn part(&self, last: u64) -> PathBuf {
        self.dir.path().join(format!("incident_logs.20260101T000000Z.{last:012}.jsonl"))
    }

    fn open(&self, last: u64) -> LogChain {
        LogChain::open(&self.log(), last, Keys::new(Some(&self.seed), &[]).unwrap()).unwrap()
    }

    fn append(&self, chain: &mut LogChain, seqs: impl Iterator<Item = u64> + Clone) {
        chain.append(seqs.clone().map(|it| (it, line(it)))).unwrap();
        let mut log = OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        seqs.for_each(|it| writeln!(log, "{}", line(it)).unwrap());
    }

    fn rotate(&self, chain: &mut LogChain, last: u64) {
        fs::rename(self.log(), self.part(last)).unwrap();
        fs::write(self.log(), "").unwrap();
        chain.rotate(&self.part(last)).unwrap();
    }

    /// Two closed parts of ten lines, and ten lines in the newest.
    fn three_parts() -> Self {
        let written = Self::new();
        let mut chain = written.open(0);
        for first in (1..=N_LINES).step_by(5) {
            written.append(&mut chain, first..first + 5);
            let last = first + 4;
            if last % OF_PART == 0 && last < N_LINES {
                written.rotate(&mut chain, last);
            }
        }
        written
    }

    fn verify(&self) -> Report {
        verify(&self.log(), &[], &self.trusted, None).unwrap()
    }
}

fn edit(file: &Path, change: impl FnOnce(&mut Vec<String>)) {
    let text = fs::read_to_string(file).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    change(&mut lines);
    let text: String = lines.iter().map(|it| format!("{it}\n")).collect();
    fs::write(file, text).unwrap();
}

fn cut_bytes(file: &Path, n: usize) {
    let text = fs::read(file).unwrap();
    fs::write(file, &text[..text.len() - n]).unwrap();
}

#[test]
fn a_log_that_nobody_changed_is_as_it_was_written() {
    let written = Written::three_parts();
    let report = written.verify();
    assert_eq!(report.problems, []);
    assert_eq!((report.n_parts, report.n_lines, report.last_seq), (3, 30, N_LINES));
    assert!(matches!(report.proof, Proof::Signed(_)), "{:?}", report.proof);
    let unchecked = verify(&written.log(), &[], &Keys::default(), Some(&report.head)).unwrap();
    assert!(matches!(unchecked.proof, Proof::Unchecked(_)), "{unchecked:?}");
    assert_eq!((unchecked.problems, unchecked.has_head), (Vec::new(), Some(true)));
}

/// What is done to a log, what is said about it, and in which of its lines.
type Case = (&'static str, fn(&Written), &'static str, Option<u64>);

const CHANGES: [Case; 14] = [
    (
        "a byte",
        |it| edit(&it.log(), |l| l[3] = l[3].replace("because", "becauze")),
        "decision 24 was changed",
        Some(4),
    ),
    (
        "a byte of a closed part",
        |it| edit(&it.part(10), |l| l[0] = l[0].replace("i1", "i2")),
        "decision 1 was changed",
        Some(1),
    ),
    (
        "its number",
        |it| edit(&it.part(20), |l| l[9] = l[9].replace("\"seq\":20", "\"seq\":21")),
        "decision 20 was changed",
        Some(10),
    ),
    (
        "no JSON",
        |it| edit(&it.log(), |l| l[9] = "x".to_owned()),
        "decision 30 was changed",
        Some(10),
    ),
    (
        "a line removed",
        |it| edit(&it.part(20), |l| drop(l.remove(4))),
        "decision 15 was removed",
        Some(5),
    ),
    (
        "a line inserted",
        |it| edit(&it.log(), |l| l.insert(2, line(99))),
        "decision 99 was inserted",
        Some(3),
    ),
    (
        "a copy inserted",
        |it| edit(&it.log(), |l| l.insert(5, line(21))),
        "decision 21 was inserted",
        Some(6),
    ),
    (
        "two lines swapped",
        |it| edit(&it.log(), |l| l.swap(3, 4)),
        "decision 25 was moved here, where decision 24",
        Some(4),
    ),
    (
        "lines added",
        |it| edit(&it.log(), |l| l.extend([line(31), line(32)])),
        "2 lines from here on, from decision 31",
        Some(11),
    ),
    (
        "the end cut",
        |it| edit(&it.log(), |l| l.truncate(7)),
        "the end is cut: decisions 28 to 30 (3)",
        Some(8),
    ),
    ("half a line", |it| cut_bytes(&it.log(), 20), "bytes of a line that was cut off", Some(10)),
    ("all of the newest", |it| fs::write(it.log(), "").unwrap(), "decisions 21 to 30", Some(1)),
    (
        "a part removed",
        |it| fs::remove_file(it.part(20)).unwrap(),
        "this part of the log is missing",
        None,
    ),
    (
        "the newest removed",
        |it| fs::remove_file(it.log()).unwrap(),
        "this part of the log is missing",
        None,
    ),
];

#[test]
fn whatever_is_changed_is_named() {
    for (name, change, what, line) in CHANGES {
        let written = Written::three_parts();
        change(&written);
        let report = written.verify();
        let found = report.problems.iter().find(|it| it.what.contains(what));
        let found = found.unwrap_or_else(|| panic!("{name}: {:#?}", report.problems));
        assert_eq!(found.line, line, "{name}");
        assert_eq!(report.problems.len(), 1, "{name}: {:#?}", report.problems);
    }
}

/// What is done to a log and its chain, and what is said about it.
type ChainCase = (&'static str, fn(&Written), &'static str);

fn forge_seal(written: &Written) {
    edit(&chain_of(&written.log()), |lines| {
        let last = lines.last_mut().unwrap();
        *last = last.replace(' ', " A");
    });
}

const CHAIN_CHANGES: [ChainCase; 8] = [
    (
        "a record",
        |it| edit(&chain_of(&it.log()), |l| l[2] = l[2].replace("[21,", "[41,")),
        "a record of the chain was changed",
    ),
    (
        "a record removed",
        |it| edit(&chain_of(&it.part(10)), |l| drop(l.remove(3))),
        "a record of the chain was changed",
    ),
    ("a seal", forge_seal, "this seal is not believed"),
    (
        "a part with its chain",
        |it| {
            fs::remove_file(it.part(20)).unwrap();
            fs::remove_file(chain_of(&it.part(20))).unwrap();
        },
        "does not follow the one before",
    ),
    (
        "the oldest with its chain",
        |it| {
            fs::remove_file(it.part(10)).unwrap();
            fs::remove_file(chain_of(&it.part(10))).unwrap();
        },
        "up to decision 10, are missing",
    ),
    (
        "the newest with its chain",
        |it| {
            fs::remove_file(it.log()).unwrap();
            fs::remove_file(chain_of(&it.log())).unwrap();
        },
        "the end is cut",
    ),
    (
        "a chain",
        |it| fs::remove_file(chain_of(&it.part(20))).unwrap(),
        "the chain of this part is missing",
    ),
    (
        "the newest chain",
        |it| fs::remove_file(chain_of(&it.log())).unwrap(),
        "the chain of this part is missing",
    ),
];

#[test]
fn a_chain_that_was_changed_as_well_is_not_believed() {
    for (name, change, what) in CHAIN_CHANGES {
        let written = Written::three_parts();
        change(&written);
        let problems = written.verify().problems;
        assert!(problems.iter().any(|it| it.what.contains(what)), "{name}: {problems:#?}");
    }
}

/// Somebody without a key changes a line and computes the whole chain anew.
#[test]
fn a_chain_that_was_made_anew_without_the_key_is_not_believed() {
    let written = Written::three_parts();
    let head = written.verify().head;
    let (forger, other) = (Written::new(), Written::new());
    for (keys, what) in [
        (Keys::default(), "it is not signed"),
        (Keys::new(Some(&other.seed), &[]).unwrap(), "not trusted"),
    ] {
        let _gone = fs::remove_file(forger.log());
        let _gone = fs::remove_file(chain_of(&forger.log()));
        let mut chain = LogChain::open(&forger.log(), 0, keys).unwrap();
        forger.append(&mut chain, 1..=N_LINES);
        let report = verify(&forger.log(), &[], &written.trusted, Some(&head)).unwrap();
        assert!(report.problems[0].what.contains(what), "{report:#?}");
        assert_eq!(report.has_head, Some(false));
    }
}

/// As after kill -9 at each place between the chain, the log, and the two renames of a rotation.
#[test]
fn a_crash_at_any_place_leaves_a_chain_that_holds() {
    type Case = (&'static str, fn(&Written, LogChain), u64, &'static str);
    let cases: [Case; 6] = [
        ("whole", |_, _| {}, 5, ""),
        (
            "the chain is ahead",
            |_, mut chain| chain.append([(6, line(6)), (7, line(7))]).unwrap(),
            5,
            "ended with decision 5",
        ),
        (
            "a record is torn",
            |it, _| {
                let mut file = OpenOptions::new().append(true).open(chain_of(&it.log())).unwrap();
                write!(file, "{{\"line\":[6,\"abc").unwrap();
            },
            5,
            "",
        ),
        (
            "the log is ahead",
            |it, mut chain| {
                let mark = chain.mark();
                it.append(&mut chain, 6..8);
                chain.back_to(mark).unwrap();
            },
            7,
            "decisions 6 to 7 were in the log",
        ),
        (
            "between the renames",
            |it, _| {
                fs::rename(it.log(), it.part(5)).unwrap();
                fs::write(it.log(), "").unwrap();
            },
            5,
            "",
        ),
        (
            "before the next chain",
            |it, mut chain| {
                it.rotate(&mut chain, 5);
                fs::remove_file(chain_of(&it.log())).unwrap();
            },
            5,
            "",
        ),
    ];
    for (name, crash, last, remark) in cases {
        let written = Written::new();
        let mut chain = written.open(0);
        written.append(&mut chain, 1..6);
        crash(&written, chain);
        let mut chain = written.open(last);
        written.append(&mut chain, last + 1..last + 4);
        let report = written.verify();
        assert_eq!((report.problems, report.last_seq), (Vec::new(), last + 3), "{name}");
        let is_told = report.remarks.iter().any(|it| it.what.contains(remark));
        assert!(remark.is_empty() || is_told, "{name}: {:#?}", report.remarks);
    }
}

#[test]
fn what_retention_removes_a_gap_and_what_another_lends_are_no_forgery() {
    let written = Written::three_parts();
    let mut chain = written.open(N_LINES);
    chain.removing(10).unwrap();
    fs::remove_file(written.part(10)).unwrap();
    fs::remove_file(chain_of(&written.part(10))).unwrap();
    written.rotate(&mut chain, N_LINES);
    chain.leave_out(31, 40).unwrap();
    written.append(&mut chain, 41..43);
    assert_eq!(written.verify().problems, []);
    let lent: String = (31..=40).map(|it| format!("{}\n", line(it))).collect();
    fs::write(written.part(40), lent).unwrap();
    fetched(&written.part(40), 31, 40, &Keys::new(Some(&written.seed), &[]).unwrap()).unwrap();
    let report = written.verify();
    assert_eq!((report.problems, report.n_lines), (Vec::new(), 32));
    assert_eq!(written.open(42).mark(), written.open(42).mark(), "nothing is added");
    edit(&written.part(40), |lines| lines[0] = line(1));
    assert_eq!(written.verify().problems.len(), 1);
}

#[test]
fn a_log_of_an_older_version_is_covered_from_the_upgrade_on() {
    let written = Written::new();
    let old: String = (1..=10).map(|it| format!("{}\n", line(it))).collect();
    fs::write(written.part(10), old).unwrap();
    fs::write(written.log(), format!("{}\n{}\n", line(11), line(12))).unwrap();
    let mut chain = written.open(12);
    written.append(&mut chain, 13..15);
    let report = written.verify();
    assert_eq!((report.problems, report.n_lines), (Vec::new(), 4));
    assert!(report.remarks.iter().any(|it| it.what.contains("no chain of this part")));
    edit(&written.log(), |lines| lines[0] = line(10));
    assert_eq!(written.verify().problems.len(), 1);
}

#[test]
fn one_key_may_take_the_place_of_another() {
    let written = Written::new();
    let mut chain = written.open(0);
    written.append(&mut chain, 1..6);
    written.rotate(&mut chain, 5);
    let other = Written::new();
    let keys = Keys::new(Some(&other.seed), &[]).unwrap();
    let mut chain = LogChain::open(&written.log(), 5, keys).unwrap();
    written.append(&mut chain, 6..9);
    let report = verify(&written.log(), &[], &other.trusted, None).unwrap();
    assert_eq!(report.problems, [], "the newest seal covers what the former key has signed");
    assert_eq!(written.verify().problems.len(), 1, "the new key is not trusted by all");
}
