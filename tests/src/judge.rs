//! What must be true of a log, whatever was killed.

use std::{collections::BTreeMap, path::Path};

use domain::view::LogLine;

use crate::{eventually, load::Sent, supervisor::log};

/// Waits until the logs of all supervisors are whole and the same, and have opened exactly one
/// incident for each accepted event. Returns the log.
///
/// # Panics
///
/// When they do not come so far in time, or tell of an event that nobody sent.
pub async fn logs_agree(dirs: &[&Path], sent: &Sent) -> Vec<LogLine> {
    eventually("all logs are whole and the same", || async {
        let logs: Vec<_> = dirs.iter().map(|dir| log(dir)).collect();
        let Some((first, others)) = logs.split_first() else { return Ok(Vec::new()) };
        for (line, seq) in first.iter().zip(1..) {
            if line.seq != seq {
                return Err(format!("line {seq} has number {}", line.seq));
            }
        }
        if let Some(other) = others.iter().find(|other| *other != first) {
            return Err(format!("{} and {} lines", first.len(), other.len()));
        }
        match misses(first, sent) {
            Some(missing) => Err(missing),
            None => Ok(first.clone()),
        }
    })
    .await
}

/// Tells what is missing or doubled.
fn misses(log: &[LogLine], sent: &Sent) -> Option<String> {
    let opened = log.iter().filter(|line| line.decision == "opened");
    counted(opened.map(|line| line.incident_type.as_str()), sent)
}

fn counted<'a>(opened_types: impl Iterator<Item = &'a str>, sent: &Sent) -> Option<String> {
    let mut opened: BTreeMap<&str, usize> = BTreeMap::new();
    for name in opened_types {
        *opened.entry(name).or_default() += 1;
    }
    let wrong = |name: &&String| opened.get(name.as_str()).copied() != Some(1);
    let wrong: Vec<_> = sent.types.iter().filter(wrong).take(5).collect();
    if wrong.is_empty() {
        return None;
    }
    let n: Vec<_> =
        wrong.iter().map(|name| opened.get(name.as_str()).copied().unwrap_or(0)).collect();
    Some(format!("of {} accepted, such as {wrong:?} were opened {n:?} times", sent.types.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_doubled_is_told() {
        let sent = Sent { types: vec!["a".to_owned(), "b".to_owned()], ..Sent::default() };
        assert_eq!(counted(["a", "b", "other"].into_iter(), &sent), None);
        let lost = counted(["a"].into_iter(), &sent).unwrap();
        assert!(lost.contains("\"b\"") && lost.contains("[0]"), "{lost}");
        let doubled = counted(["a", "b", "a"].into_iter(), &sent).unwrap();
        assert!(doubled.contains("\"a\"") && doubled.contains("[2]"), "{doubled}");
    }
}
