//! What a target writes down about itself, and how it is read back.
//!
//! One line for each thing: `<what> <nanoseconds> <process id> <incident> <attempt>`. Each is
//! written at once and appended, so that a kill loses nothing and racing writers stay apart.
//! Starts and mends are also synced.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};

/// What happened to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It was started.
    Start,
    /// It answered that it is well.
    Well,
    /// It answered that it is sick.
    Sick,
    /// It ended by itself, or as it was asked to.
    End,
    /// An action was carried out upon it.
    Mend,
}

impl What {
    const ALL: [Self; 5] = [Self::Start, Self::Well, Self::Sick, Self::End, Self::Mend];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Well => "well",
            Self::Sick => "sick",
            Self::End => "end",
            Self::Mend => "mend",
        }
    }
}

/// One line of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What happened.
    pub what: What,
    /// When, by the clock of the host.
    pub at: DateTime<Utc>,
    /// The process that wrote it.
    pub pid: u32,
    /// For which incident and attempt, if it was a fix.
    pub fix: Option<(String, u32)>,
}

/// Returns the record of a target.
#[must_use]
pub fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.record"))
}

/// Writes a record.
#[derive(Debug)]
pub struct Recorder {
    file: File,
    fix: Option<(String, u32)>,
}

impl Recorder {
    /// Opens the record of a target. The environment says whether this is a fix.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn open(dir: &Path, name: &str) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path(dir, name))?;
        let text = |name| std::env::var_os(name).and_then(|it| it.into_string().ok());
        let incident = text("SELFHEAL_INCIDENT");
        let attempt = text("SELFHEAL_ATTEMPT").and_then(|it| it.parse().ok());
        Ok(Self { file, fix: incident.zip(attempt) })
    }

    /// Writes one line.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&mut self, what: What) -> io::Result<()> {
        let at = Utc::now();
        let entry = Entry { what, at, pid: std::process::id(), fix: self.fix.clone() };
        self.file.write_all(line(&entry).as_bytes())?;
        match what {
            What::Start | What::Mend => self.file.sync_data(),
            What::Well | What::Sick | What::End => Ok(()),
        }
    }
}

fn line(entry: &Entry) -> String {
    let at = entry.at.timestamp_nanos_opt().unwrap_or_default();
    let (incident, attempt) = entry.fix.clone().unwrap_or_else(|| ("-".to_owned(), 0));
    format!("{} {at} {} {incident} {attempt}\n", entry.what.as_str(), entry.pid)
}

/// Reads a record; a line that cannot be read is an error.
///
/// # Errors
///
/// When there is none, or it holds something else.
pub fn read(dir: &Path, name: &str) -> anyhow::Result<Vec<Entry>> {
    let text = std::fs::read_to_string(path(dir, name))?;
    let entry = |line| parse(line).ok_or_else(|| anyhow::anyhow!("record of {name}: `{line}`"));
    text.lines().map(entry).collect()
}

fn parse(line: &str) -> Option<Entry> {
    let mut words = line.split(' ');
    let name = words.next()?;
    let what = What::ALL.into_iter().find(|it| it.as_str() == name)?;
    let at = DateTime::from_timestamp_nanos(words.next()?.parse().ok()?);
    let pid = words.next()?.parse().ok()?;
    let (incident, attempt) = (words.next()?, words.next()?.parse().ok()?);
    let fix = (incident != "-").then(|| (incident.to_owned(), attempt));
    Some(Entry { what, at, pid, fix })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for what in What::ALL {
            for fix in [None, Some(("0199-4c".to_owned(), 2))] {
                let at = DateTime::from_timestamp_nanos(1_700_000_000_123_456_789);
                let entry = Entry { what, at, pid: 7, fix };
                assert_eq!(parse(line(&entry).trim_end()), Some(entry));
            }
        }
        assert_eq!(parse("well 1 2"), None);
        assert_eq!(parse("odd 1 2 - 0"), None);
    }
}
