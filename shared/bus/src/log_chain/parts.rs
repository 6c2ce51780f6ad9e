//! The files of a log.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Returns the chain beside a part of the log.
#[must_use]
pub fn chain_of(part: &Path) -> PathBuf {
    part.with_extension("chain")
}

/// Returns the last decision of a closed part, by its name.
#[must_use]
pub fn closed_at(part: &Path) -> Option<u64> {
    part.file_stem()?.to_str()?.rsplit('.').next()?.parse().ok()
}

/// Returns the closed parts of a log, the oldest first: by the number in their names.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn closed_files(log: &Path) -> io::Result<Vec<PathBuf>> {
    of_kind(log, ".jsonl")
}

/// Returns the closed parts of which the log, or only the chain, is there.
pub(super) fn closed_or_lost(log: &Path) -> io::Result<Vec<PathBuf>> {
    let mut parts = closed_files(log)?;
    parts.extend(of_kind(log, ".chain")?.into_iter().map(|it| it.with_extension("jsonl")));
    parts.sort_by_cached_key(|it| (closed_at(it), it.clone()));
    parts.dedup();
    Ok(parts)
}

fn of_kind(log: &Path, end: &str) -> io::Result<Vec<PathBuf>> {
    let stem = log.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let dir = log.parent().filter(|dir| !dir.as_os_str().is_empty());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir.unwrap_or_else(|| Path::new(".")))? {
        let file = entry?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let middle = name.strip_prefix(&format!("{stem}.")).and_then(|it| it.strip_suffix(end));
        let seq = middle.and_then(|it| it.rsplit('.').next()).and_then(|it| it.parse::<u64>().ok());
        found.extend(seq.map(|seq| (seq, file)));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, file)| file).collect())
}
