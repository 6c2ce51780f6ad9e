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
    let mut opened: BTreeMap<String, usize> = BTreeMap::new();
    for line in log.iter().filter(|line| line.decision == "opened") {
        *opened.entry(line.incident_type.clone()).or_default() += 1;
    }
    let wrong = |name: &&String| opened.get(*name).copied() != Some(1);
    let wrong: Vec<_> = sent.types.iter().filter(wrong).take(5).collect();
    if wrong.is_empty() {
        return None;
    }
    let n: Vec<_> = wrong.iter().map(|name| opened.get(*name).copied().unwrap_or(0)).collect();
    Some(format!("of {} accepted, such as {wrong:?} were opened {n:?} times", sent.types.len()))
}
