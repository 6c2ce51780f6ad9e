//! The logs of what runs, kept within a limit while it runs.
//!
//! A program that was started here appends to its log and keeps it open, so the log cannot be
//! renamed: its content is copied and cut off. What is written between the two is lost.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Record, ThisHost, files::Error};

/// Size from which a log is set aside.
pub const LOG_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Logs that are kept besides the one that is written.
const LOGS_KEPT: u32 = 3;

/// Records that are looked at in one round.
const RECORDS_MAX: usize = 10_000;

/// Sets a log aside if it has grown too large.
///
/// # Errors
///
/// When that cannot be done.
pub fn cut(path: &Path) -> Result<bool, Error> {
    cut_at(path, LOG_BYTES_MAX)
}

fn cut_at(path: &Path, bytes_max: u64) -> Result<bool, Error> {
    let is_large = fs::metadata(path).is_ok_and(|it| it.is_file() && bytes_max < it.len());
    if is_large {
        set_aside(path).map_err(|source| Error::Write { path: path.to_path_buf(), source })?;
    }
    Ok(is_large)
}

fn set_aside(path: &Path) -> io::Result<()> {
    let numbered = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    for n in (1..LOGS_KEPT).rev() {
        match fs::rename(numbered(n), numbered(n + 1)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let mut from = private::append_to(path)?;
    let mut to = private::create(&numbered(1))?;
    io::copy(&mut from, &mut to)?;
    from.set_len(0)
}

/// Sets aside the logs of all targets of a state directory that have grown too large; returns
/// which, and which could not be.
#[must_use]
pub fn cut_all(state_dir: &Path) -> Vec<Result<PathBuf, Error>> {
    let entries = fs::read_dir(state_dir).into_iter().flatten().flatten();
    let logs = entries.take(RECORDS_MAX).filter_map(|entry| {
        let path = entry.path();
        let is_record = path.to_str().is_some_and(|it| it.ends_with(".run.json"));
        Record::read(&path).filter(|it| is_record && it.living(&ThisHost).is_some())?.log
    });
    let cut = |log: PathBuf| match cut(&log) {
        Ok(true) => Some(Ok(log)),
        Ok(false) => None,
        Err(error) => Some(Err(error)),
    };
    logs.filter_map(cut).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write as _};

    use super::*;

    #[test]
    fn a_log_that_is_still_written_is_cut_and_its_last_parts_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.log");
        let mut writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        for n in 1..=6 {
            write!(writer, "part {n}").unwrap();
            assert!(!cut_at(&path, 6).unwrap(), "it is small");
            assert!(cut_at(&path, 5).unwrap());
            assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        }
        let kept = |n: u32| fs::read_to_string(dir.path().join(format!("shop.log.{n}")));
        assert_eq!(kept(1).unwrap(), "part 6");
        assert_eq!(kept(3).unwrap(), "part 4");
        assert!(kept(4).is_err(), "there is a limit");
        write!(writer, "goes on").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "goes on");
    }
}
