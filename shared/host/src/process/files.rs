//! The files beside a process: who it is, how it ended, how often it was started.
//!
//! In the state directory, for a target `shop`:
//!
//! | file | content | written |
//! |---|---|---|
//! | `shop.run.json` | which run was started or adopted: id and start time, see [`Record`] | before the program itself begins; when a run is adopted |
//! | `shop.pid` | the process id, as a decimal line, for people | at each start; not where the handle names another file |
//! | `shop.log` | what it prints | appended by the process itself |
//! | `shop.exit.json` | `{"pid":1,"exit_code":null,"signal":9,"at":"RFC 3339"}` | when it ends while its fixer lives |
//! | `shop.starts.jsonl` | `{"pid":1,"at":"RFC 3339","incident":"…","attempt":1}` a line | at each start; the last 200 are kept |
//! | `shop.starting` | the mark of the run | there from before a start until its record is written |
//! | `shop~1-2.run.json` | the record of a run that is another target's since the configuration has changed | when the target gets another run |
//! | `shop.unclear.json` | processes of which it was not known whether one is the target, see [`Doubt`] | when a monitor finds them |
//! | `shop.lock` | nothing | locked while a fixer works on the target, or an adoption is recorded |
//!
//! All but `shop.starting` and `shop.lock` are read by others, such as monitors, as evidence.
//!
//! All are made for our own user alone, and no link is followed when they are written: others may
//! write into a directory that a configuration names.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use domain::target::ProcessHandle;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use super::{Doubt, Record, Run, ThisHost, find::history::ASIDE, logs, pid_file::Content};

/// Records of other targets that are read to see whether one was renamed.
const RECORDS_MAX: usize = 10_000;

/// Starts that are remembered of one target: days of a target that crashes each hour.
const STARTS_MAX: usize = 200;

/// How long a target may be taken before a fixer gives it up to another one.
const LOCKED_MAX: Duration = Duration::from_millis(500);

/// How often it is tried meanwhile.
const LOCK_STEP: Duration = Duration::from_millis(5);

/// Why the files of a process cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name cannot be part of a file name.
    #[error("`{0}` cannot be part of a file name")]
    Name(String),
    /// A file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another one works on the target.
    #[error("another fixer works on `{0}` at this moment")]
    Locked(String),
}

impl Error {
    /// Returns what the reader can do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Name(_) => "name the target with letters, digits, `-`, `_` and `.`",
            Self::Write { .. } => {
                "see that the directory exists, has room and is writable, or name another with --state-dir or SELFHEAL_STATE_DIR"
            }
            Self::Locked(_) => "let it end; the next attempt will find the target free",
        }
    }
}

/// How a process ended.
#[derive(Debug, Serialize)]
pub struct Exit {
    /// The process.
    pub pid: i32,
    /// Its exit code, when it ended by itself.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// When.
    pub at: String,
}

/// That a process was started.
#[derive(Debug, Serialize)]
pub struct Start<'a> {
    /// The process.
    pub pid: i32,
    /// When.
    pub at: String,
    /// The incident.
    pub incident: &'a str,
    /// The attempt.
    pub attempt: u32,
}

/// The files of one target.
#[derive(Clone, Debug)]
pub struct Files {
    target: String,
    state_dir: PathBuf,
    pid: PathBuf,
    pid_is_named: bool,
    log: PathBuf,
}

/// Held while one works on a target; freed when dropped, also by death.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it is not enough: a process that was just started may not have closed
        // its copy yet.
        if let Err(error) = flock(&self.file, FlockOperation::Unlock) {
            tracing::warn!(%error, "a target could not be unlocked");
        }
    }
}

impl Files {
    /// Names the files. Relative paths of the handle count from our working directory.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn new(state_dir: &Path, target: &str, handle: &ProcessHandle) -> Result<Self, Error> {
        let plain = |it: char| it.is_alphanumeric() || matches!(it, '-' | '_' | '.');
        if target.is_empty() || target.starts_with('.') || !target.chars().all(plain) {
            return Err(Error::Name(target.to_owned()));
        }
        let state_dir = std::path::absolute(state_dir)
            .map_err(|source| Error::Write { path: state_dir.to_path_buf(), source })?;
        let own = |path: &Option<String>, ending: &str| {
            path.as_ref()
                .map_or_else(|| state_dir.join(format!("{target}.{ending}")), PathBuf::from)
        };
        Ok(Self {
            target: target.to_owned(),
            pid: own(&handle.pid_file, "pid"),
            pid_is_named: handle.pid_file.is_some(),
            log: own(&handle.log, "log"),
            state_dir,
        })
    }

    /// Returns the name of the target.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Returns the directory, as a whole path.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    fn beside(&self, ending: &str) -> PathBuf {
        self.state_dir.join(format!("{}.{ending}", self.target))
    }

    /// Takes the target, or says that another one has it.
    ///
    /// Blocks for [`LOCKED_MAX`] at most: a monitor has it for the moment that it takes to record
    /// an adoption.
    ///
    /// # Errors
    ///
    /// [`Error`].
    #[expect(clippy::disallowed_methods, reason = "nothing tells when a lock is free in time")]
    pub fn lock(&self) -> Result<Lock, Error> {
        let deadline = Instant::now() + LOCKED_MAX;
        loop {
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
            if deadline <= Instant::now() {
                return Err(Error::Locked(self.target.clone()));
            }
            std::thread::sleep(LOCK_STEP);
        }
    }

    /// Takes the target if nobody has it.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn try_lock(&self) -> Result<Option<Lock>, Error> {
        create_dir(&self.state_dir)?;
        let path = self.beside("lock");
        let refused = |source| Error::Write { path: path.clone(), source };
        let file = private::append(&path).map_err(refused)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock { file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(source) => Err(refused(source.into())),
        }
    }

    /// Returns where the pid file is.
    #[must_use]
    pub fn pid_path(&self) -> &Path {
        &self.pid
    }

    /// Returns whether the handle names the pid file, so that the program may write it.
    #[must_use]
    pub const fn has_named_pid_file(&self) -> bool {
        self.pid_is_named
    }

    /// Returns where the log is.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Reads the pid file.
    #[must_use]
    pub fn read_pid(&self) -> Option<Content> {
        Content::read(&self.pid)
    }

    /// Reads what was noted at the last start.
    #[must_use]
    pub fn read_record(&self) -> Option<Record> {
        Record::read(&self.beside("run.json"))
    }

    /// Notes which run was started or adopted, and that no start is under way any more. The record
    /// of another run that lives, which is another target's since the configuration has changed,
    /// is set aside if it is kept nowhere else.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_record(&self, record: &Record) -> Result<(), Error> {
        let is_anothers = |it: &Record| {
            it.run != record.run
                && it.living(&ThisHost).is_some()
                && self.other_records(|_| true).iter().all(|(_, other)| other.run != it.run)
        };
        if let Some(others) = self.read_record().filter(is_anothers) {
            self.set_aside(&others)?;
        }
        replace(&self.beside("run.json"), json(record).as_bytes())?;
        self.end_start();
        Ok(())
    }

    /// Reads which processes may have been the target.
    #[must_use]
    pub fn read_doubts(&self) -> Vec<Doubt> {
        let text = fs::read(self.beside("unclear.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Notes which processes may have been the target.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write_doubts(&self, doubts: &[Doubt]) -> Result<(), Error> {
        replace(&self.beside("unclear.json"), json(&doubts).as_bytes())
    }

    fn set_aside(&self, record: &Record) -> Result<(), Error> {
        let Run { pid, start_ticks } = record.run;
        let name = format!("{}{ASIDE}{pid}-{start_ticks}", self.target);
        let started_as = record.started_as.clone().unwrap_or_else(|| self.target.clone());
        let record = Record { started_as: Some(started_as), ..record.clone() };
        replace(&self.record_of(&name), json(&record).as_bytes())
    }

    /// Removes the records of a run that are kept under names that are not configured any more,
    /// and those that were set aside and whose run has ended.
    pub fn forget_former(&self, run: &Run, is_configured: impl Fn(&str) -> bool) {
        for (name, record) in self.other_records(|it| it.contains(ASIDE) || !is_configured(it)) {
            let is_over = name.contains(ASIDE) && record.living(&ThisHost).is_none();
            if record.run != *run && !is_over {
                continue;
            }
            if let Err(error) = fs::remove_file(self.record_of(&name)) {
                tracing::debug!(%error, name, "a record of a former name cannot be removed");
            }
        }
    }

    fn record_of(&self, name: &str) -> PathBuf {
        self.state_dir.join(format!("{name}.run.json"))
    }

    /// Reads the records of other targets in the same directory whose names are `wanted`, with
    /// their names.
    #[must_use]
    pub fn other_records(&self, wanted: impl Fn(&str) -> bool) -> Vec<(String, Record)> {
        let entries = fs::read_dir(&self.state_dir).into_iter().flatten().flatten();
        let other = |entry: fs::DirEntry| {
            let file = entry.file_name();
            let name = file.to_str()?.strip_suffix(".run.json")?;
            if name == self.target || !wanted(name) {
                return None;
            }
            Some((name.to_owned(), Record::read(&entry.path())?))
        };
        entries.take(RECORDS_MAX).filter_map(other).collect()
    }

    /// Reads how the last run of a target in the same directory ended, if its fixer has seen it.
    #[must_use]
    pub fn read_exit_of(&self, target: &str) -> Option<super::Ending> {
        super::Ending::recorded(&self.state_dir.join(format!("{target}.exit.json")))
    }

    /// Returns where the fixer writes how a run ended.
    #[must_use]
    pub fn exit_path(&self) -> PathBuf {
        self.beside("exit.json")
    }

    /// Returns where the starts are listed.
    #[must_use]
    pub fn starts_path(&self) -> PathBuf {
        self.beside("starts.jsonl")
    }

    /// Returns the mark of a start that was begun and whose record was never written; empty
    /// if a former version began it.
    #[must_use]
    pub fn unfinished_start(&self) -> Option<String> {
        fs::read_to_string(self.beside("starting")).ok().map(|it| it.trim().to_owned())
    }

    /// Notes that a start begins.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn begin_start(&self, mark: &str) -> Result<(), Error> {
        replace(&self.beside("starting"), mark.as_bytes())
    }

    /// Notes that no start is under way. One that cannot be removed costs a search.
    pub fn end_start(&self) {
        if let Err(error) = fs::remove_file(self.beside("starting")) {
            tracing::debug!(%error, target.name = self.target, "no mark of a start to remove");
        }
    }

    /// Opens the log for appending; one that is too large is set aside first.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn open_log(&self) -> Result<File, Error> {
        if let Some(parent) = self.log.parent() {
            create_dir(parent)?;
        }
        logs::cut(&self.log)?;
        let refused = |source| Error::Write { path: self.log.clone(), source };
        private::append_to(&self.log).map_err(refused)
    }

    /// Reads the last part of the log.
    #[must_use]
    pub fn log_tail(&self, bytes_max: u64) -> Vec<u8> {
        use std::io::{Read, Seek, SeekFrom};
        let mut tail = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            let size = file.metadata()?.len();
            file.seek(SeekFrom::Start(size.saturating_sub(bytes_max)))?;
            file.take(bytes_max).read_to_end(&mut tail)
        });
        read.map(|_| tail).unwrap_or_default()
    }

    /// Adds a start to the list, which keeps the last [`STARTS_MAX`].
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn add_start(&self, start: &Start<'_>) -> Result<(), Error> {
        let path = self.beside("starts.jsonl");
        let mut line = json(start);
        line.push('\n');
        let old = fs::read_to_string(&path).unwrap_or_default();
        let n_old = old.lines().count();
        if n_old < STARTS_MAX && (old.is_empty() || old.ends_with('\n')) {
            let append = |line: &str| private::append(&path)?.write_all(line.as_bytes());
            return append(&line).map_err(|source| Error::Write { path: path.clone(), source });
        }
        let mut kept: String = old
            .lines()
            .skip((n_old + 1).saturating_sub(STARTS_MAX))
            .flat_map(|line| [line, "\n"])
            .collect();
        kept.push_str(&line);
        replace(&path, kept.as_bytes())
    }

    /// Writes how the process ended.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn write_exit(&self, exit: &Exit) -> Result<(), Error> {
        replace(&self.beside("exit.json"), json(exit).as_bytes())
    }
}

fn json(value: &impl Serialize) -> String {
    // Plain fields cannot fail to serialise.
    serde_json::to_string(value).unwrap_or_default()
}

fn create_dir(path: &Path) -> Result<(), Error> {
    private::create_dir(path).map_err(|source| Error::Write { path: path.to_path_buf(), source })
}

/// Writes a file whole or not at all.
///
/// Not synced: after a crash of the machine no process of ours lives either.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    private::replace(path, content)
        .map_err(|source| Error::Write { path: path.to_path_buf(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::find::testing::handle;
    use tempfile::TempDir;

    fn files(dir: &TempDir) -> Files {
        Files::new(dir.path(), "shop", &handle(&["sleep"])).unwrap()
    }

    #[test]
    fn only_the_last_starts_are_kept() {
        let dir = TempDir::new().unwrap();
        let files = files(&dir);
        fs::create_dir_all(dir.path()).unwrap();
        for attempt in 0..250 {
            files
                .add_start(&Start { pid: 7, at: "now".to_owned(), incident: "i", attempt })
                .unwrap();
        }
        let text = fs::read_to_string(dir.path().join("shop.starts.jsonl")).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), STARTS_MAX);
        assert_eq!(*lines.last().unwrap(), r#"{"pid":7,"at":"now","incident":"i","attempt":249}"#);
    }

    #[test]
    fn a_line_torn_by_a_crash_does_not_spoil_the_next() {
        let dir = TempDir::new().unwrap();
        let files = files(&dir);
        fs::write(dir.path().join("shop.starts.jsonl"), "{\"pid\":1").unwrap();
        files
            .add_start(&Start { pid: 2, at: "now".to_owned(), incident: "i", attempt: 1 })
            .unwrap();
        let text = fs::read_to_string(dir.path().join("shop.starts.jsonl")).unwrap();
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn what_a_stranger_has_made_a_link_is_not_written_through() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let dir = TempDir::new().unwrap();
        let (victim, everybodys) = (dir.path().join("victim"), dir.path().join("tmp"));
        fs::write(&victim, "precious").unwrap();
        fs::create_dir(&everybodys).unwrap();
        fs::set_permissions(&everybodys, fs::Permissions::from_mode(0o1777)).unwrap();
        for name in ["shop.log", "shop.pid", "shop.lock", "shop.starts.jsonl"] {
            symlink(&victim, everybodys.join(name)).unwrap();
        }
        let named = |name: &str| Some(everybodys.join(name).display().to_string());
        let mut handle = handle(&["sleep"]);
        (handle.log, handle.pid_file) = (named("shop.log"), named("shop.pid"));
        let files = Files::new(&everybodys, "shop", &handle).unwrap();
        files.open_log().unwrap_err();
        files.lock().unwrap_err();
        let start = Start { pid: 1, at: "now".to_owned(), incident: "i", attempt: 1 };
        files.add_start(&start).unwrap();
        let run = Run { pid: 1, start_ticks: 1 };
        crate::process::pid_file::write(files.pid_path(), &run).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(fs::read_to_string(files.pid_path()).unwrap(), "1\n", "in place of the link");
        assert!(!everybodys.join("shop.starts.jsonl").is_symlink(), "in place of the link");
    }

    #[test]
    fn a_target_is_worked_on_by_one_at_a_time() {
        let dir = TempDir::new().unwrap();
        let files = files(&dir);
        let first = files.lock().unwrap();
        assert!(matches!(files.lock(), Err(Error::Locked(_))));
        drop(first);
        files.lock().unwrap();
    }

    #[test]
    fn a_record_that_is_another_targets_is_kept_until_its_run_is_recorded_there() {
        let dir = TempDir::new().unwrap();
        let files = files(&dir);
        let pid = std::process::id();
        let run = Run::of(rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap());
        let record = Record::new(run.unwrap(), "mark".to_owned(), &handle(&["sleep", "1"]));
        let ended = Record { run: Run { pid: record.run.pid, start_ticks: 1 }, ..record.clone() };
        files.write_record(&record).unwrap();
        files.set_aside(&ended).unwrap();
        files.write_record(&Record { run: ended.run, ..record.clone() }).unwrap();
        let kept = files.other_records(|_| true);
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert!(kept.iter().all(|it| it.1.started_as.as_deref() == Some("shop")));
        files.forget_former(&Run { pid: 1, start_ticks: 1 }, |_| true);
        let kept: Vec<_> = files.other_records(|_| true).into_iter().map(|it| it.1.run).collect();
        assert_eq!(kept, [record.run], "that of an ended run is of no use");
        files.forget_former(&record.run, |_| true);
        assert!(files.other_records(|_| true).is_empty());
    }

    #[test]
    fn a_name_that_would_leave_the_directory_is_refused() {
        for name in ["../x", "a/b", "", ".", ".."] {
            let found = Files::new(Path::new("/tmp"), name, &handle(&["sleep"]));
            assert!(matches!(found, Err(Error::Name(_))), "{name}");
        }
    }
}
