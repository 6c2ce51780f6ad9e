//! What a target leaves in files: its output, and when it was started.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use chrono::{DateTime, Utc};
use serde::Deserialize;

/// So much of the end of a log is evidence; more would fill the inbox.
const TAIL_BYTES: u64 = 4 * 1024;

/// So much of the end of the list of starts is read; about a hundred starts.
const STARTS_BYTES: u64 = 16 * 1024;

/// Starts that are told.
const N_STARTS_MAX: usize = 50;

/// Returns the last lines of a file, at most `n_lines` and [`TAIL_BYTES`].
pub(super) fn last_lines(path: &Path, n_lines: usize) -> Vec<String> {
    lines_of(path, TAIL_BYTES, n_lines)
}

/// Returns the times in a list of starts, the newest last.
pub(super) fn recent_starts(path: &Path) -> Vec<DateTime<Utc>> {
    #[derive(Deserialize)]
    struct Start {
        at: DateTime<Utc>,
    }
    let lines = lines_of(path, STARTS_BYTES, N_STARTS_MAX);
    let starts = lines.iter().filter_map(|line| serde_json::from_str::<Start>(line).ok());
    starts.map(|start| start.at).collect()
}

fn lines_of(path: &Path, bytes_max: u64, n_lines: usize) -> Vec<String> {
    let Some((text, is_cut)) = end_of(path, bytes_max) else { return Vec::new() };
    // The first line is whole only when the file begins with it.
    let lines: Vec<&str> = text.lines().skip(usize::from(is_cut && text.contains('\n'))).collect();
    let from = lines.len().saturating_sub(n_lines);
    lines.iter().skip(from).map(|line| (*line).to_owned()).collect()
}

fn end_of(path: &Path, bytes_max: u64) -> Option<(String, bool)> {
    let mut file = File::open(path).ok()?;
    // A pipe or a device would never end.
    let meta = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let from = meta.len().saturating_sub(bytes_max);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes).ok()?;
    Some((String::from_utf8_lossy(&bytes).into_owned(), 0 < from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("selfheal-record-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn only_the_last_whole_lines_are_evidence() {
        let path = file("a.log", "one\ntwo\nthree\n");
        assert_eq!(last_lines(&path, 2), ["two", "three"]);
        assert_eq!(last_lines(&path, 9), ["one", "two", "three"]);
        let long: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        let lines = last_lines(&file("b.log", &long), 9999);
        assert!(lines.len() < 1000);
        assert_eq!(lines.last().unwrap(), "line 999");
        assert!(lines.first().unwrap().starts_with("line "), "a cut line was told");
        assert!(last_lines(Path::new("/nowhere/at/all"), 3).is_empty());
        assert!(last_lines(Path::new("/dev/zero"), 3).is_empty());
    }

    #[test]
    fn starts_are_read_and_what_is_torn_is_left_out() {
        let path = file(
            "a.starts.jsonl",
            "{\"pid\":1,\"at\":\"2026-01-01T00:00:00Z\",\"incident\":null}\n\
             {\"pid\":2,\"at\":\"2026-01-01T00:00:05Z\"}\n{\"pid\":3,\"at\":\"20",
        );
        let starts = recent_starts(&path);
        assert_eq!(starts.len(), 2);
        assert_eq!(starts[1].to_rfc3339(), "2026-01-01T00:00:05+00:00");
    }
}
