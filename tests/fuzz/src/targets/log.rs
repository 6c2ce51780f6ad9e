//! The log of decisions on disk, whole or not.

use std::path::Path;

use domain::{desk::Desk, view::LogLine};

use super::{Form, Target, Verdict, config::in_file};
use crate::seeds::{bytes, story};

pub(super) const JOURNAL: Target = Target {
    name: "log_journal",
    about: "the supervisor opens a log that a crash, or somebody else, left behind; opening it twice changes nothing",
    form: Form::Lines,
    seeds: logs,
    run: |input| {
        let path = in_file(input);
        let first = supervisor::edges::open_log(&path);
        let after = std::fs::read(&path).unwrap();
        assert!(input.starts_with(&after), "only a torn end is cut off");
        assert!(input.len() - after.len() <= 4_096.max(input.len()), "{}", after.len());
        let lost = &input[after.len()..];
        assert!(
            !lost.contains(&b'\n'),
            "no whole line is cut off: {}",
            String::from_utf8_lossy(lost)
        );
        let second = supervisor::edges::open_log(&path);
        assert_eq!(first, second);
        assert_eq!(std::fs::read(&path).unwrap(), after);
        first.map_or_else(Verdict::Refused, |_| Verdict::Taken)
    },
};

pub(super) const RESTORE: Target = Target {
    name: "log_restore",
    about: "`selfheal restore` reads a log: what it takes can be folded, or is refused with its place",
    form: Form::Lines,
    seeds: logs,
    run: |input| {
        let path = in_file(input);
        match cli::edges::read_log(Path::new(&path)) {
            Ok(entries) => {
                let mut desk = Desk::default();
                for entry in &entries {
                    for decision in &entry.decisions {
                        if let Err(corrupt) = desk.apply(decision) {
                            return Verdict::Refused(corrupt.to_string());
                        }
                    }
                }
                Verdict::Taken
            }
            Err(words) => Verdict::Refused(words),
        }
    },
};

fn logs() -> Vec<Vec<u8>> {
    let text = |lines: &[LogLine]| {
        let mut text = lines.iter().map(bytes).collect::<Vec<_>>().join(&b'\n');
        text.push(b'\n');
        text
    };
    let lines = &story().lines;
    let whole = text(lines);
    let torn = whole[..whole.len() - 40].to_vec();
    vec![text(&lines[..3]), torn, whole, Vec::new(), b"\n\n".to_vec(), b"{\"seq\":1}\n".to_vec()]
}
