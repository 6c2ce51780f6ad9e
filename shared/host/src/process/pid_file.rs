//! Pid files: what they name, and whose they are.
//!
//! A file that the program writes itself is the program's: it may be its lock, and some
//! programs end when somebody else has written into it. We write only a file that nobody
//! else writes, for the people who read it; we never remove one.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use domain::{secret::Text, target::ProcessHandle};
use rustix::process::Pid;

use super::{Host, Record, Run, facts, files};

/// How much younger than its pid file a process may seem: ticks are coarse, and clocks are
/// set.
const CLOCK_SLACK: Duration = Duration::from_secs(2);

/// Most bytes that are read of a pid file.
const BYTES_MAX: u64 = 4096;

/// What a pid file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The process that it names: its first number. Never 1 or less, which would be init or
    /// a whole group.
    pub pid: Option<Pid>,
    /// When it was written.
    pub written_at: SystemTime,
    text: String,
    inode: u64,
}

impl Content {
    /// Returns what a file holds that names one process and nothing else.
    #[must_use]
    pub fn of(pid: i32, written_at: SystemTime) -> Self {
        Self { pid: Pid::from_raw(pid), written_at, text: format!("{pid}\n"), inode: 0 }
    }

    /// Reads a pid file; `None` when there is none.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        use io::Read as _;
        let file = fs::File::open(path).ok()?;
        // A pipe would never end.
        let meta = file.metadata().ok().filter(fs::Metadata::is_file)?;
        let mut bytes = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let first = text.split_ascii_whitespace().next();
        let number = first.and_then(|it| it.parse().ok()).filter(|it: &i32| 1 < *it);
        Some(Self {
            pid: number.and_then(Pid::from_raw),
            written_at: meta.modified().ok()?,
            text,
            inode: meta.ino(),
        })
    }

    /// Returns the living process that it names, as far as the times allow: it is older than
    /// the file, and the file is not from before the host was started.
    #[must_use]
    pub fn named(&self, host: &dyn Host) -> Option<Run> {
        let run = host.living(self.pid?.as_raw_nonzero().get())?;
        (self.is_since(&run, host) && self.is_of_this_boot(host)).then_some(run)
    }

    pub(super) fn is_of_this_boot(&self, host: &dyn Host) -> bool {
        host.boot_time() <= self.written_at + CLOCK_SLACK
    }

    pub(super) fn names_another_than(&self, run: &Run) -> bool {
        self.pid.is_some_and(|it| it.as_raw_nonzero().get() != run.pid)
    }

    /// Returns whether it was written while a run went on.
    #[must_use]
    pub fn is_since(&self, run: &Run, host: &dyn Host) -> bool {
        facts::started_at(host, run) <= self.written_at + CLOCK_SLACK
    }

    /// Returns how long after the start of a run it was written.
    pub(super) fn age_at(&self, run: &Run, host: &dyn Host) -> Duration {
        self.written_at.duration_since(facts::started_at(host, run)).unwrap_or_default()
    }

    fn is_bare_number(&self) -> bool {
        let text = self.text.strip_suffix('\n').unwrap_or(&self.text);
        !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit())
    }
}

/// Who writes a pid file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// We do.
    Ours,
    /// The program does: hands off.
    Program,
    /// It will be seen after the start.
    Unknown,
}

/// Says who writes the pid file of a target. `last` is what was noted at the last start.
#[must_use]
pub fn owner(files: &files::Files, handle: &ProcessHandle, last: Option<&Record>) -> Owner {
    let path = files.pid_path();
    if is_named_by(path, handle) {
        return Owner::Program;
    }
    if !files.has_named_pid_file() {
        return Owner::Ours;
    }
    let wrote = last.filter(|it| it.definition.pid_file == handle.pid_file);
    let wrote = wrote.and_then(|it| it.pid_file_text.as_deref());
    match Content::read(path) {
        Some(found) if wrote == Some(found.text.as_str()) => Owner::Ours,
        Some(found) if !found.is_bare_number() => Owner::Program,
        None if wrote.is_some() => Owner::Ours,
        None | Some(_) => Owner::Unknown,
    }
}

/// Returns whether the command or its environment names the file or its directory: such as
/// `redis-server --pidfile F`, or `postgres -D DIR`.
pub(super) fn is_named_by(path: &Path, handle: &ProcessHandle) -> bool {
    let base = Path::new(handle.dir.as_deref().unwrap_or(""));
    let values = handle.env.values().filter_map(Text::plain);
    let words = handle.command.iter().skip(1).map(String::as_str).chain(values);
    let mut words = words.flat_map(|it| it.split(['=', ' ', ';', ','])).map(|it| {
        // `-D/var/lib/x` and `-p/run/x.pid`.
        it.find('/').filter(|_| it.starts_with('-')).and_then(|at| it.get(at..)).unwrap_or(it)
    });
    words.any(|word| {
        let full = std::path::absolute(base.join(word)).unwrap_or_default();
        !word.is_empty() && (full == path || path.parent() == Some(full.as_path()))
    })
}

/// Writes the pid of a run into a file that is ours; returns what was written.
///
/// # Errors
///
/// When it cannot be written.
pub fn write(path: &Path, run: &Run) -> Result<String, files::Error> {
    let text = format!("{}\n", run.pid);
    files::replace(path, text.as_bytes())?;
    Ok(text)
}

/// Writes the pid of a run into a file of which it is not known whether it is the program's,
/// if it is still as it was before the start; returns what was written.
///
/// # Errors
///
/// When it cannot be written.
pub fn write_unchanged(
    path: &Path,
    before: Option<&Content>,
    run: &Run,
) -> Result<Option<String>, files::Error> {
    if is_changed(path, before) {
        return Ok(None);
    }
    if before.is_some() {
        return write(path, run).map(Some);
    }
    // The program may create it at this very moment: then it is the program's.
    let text = format!("{}\n", run.pid);
    let created = private::create_new(path);
    match created.and_then(|mut file| file.write_all(text.as_bytes())) {
        Ok(()) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(source) => Err(files::Error::Write { path: path.to_path_buf(), source }),
    }
}

/// Returns whether somebody has written a pid file since it was read.
#[must_use]
pub fn is_changed(path: &Path, before: Option<&Content>) -> bool {
    Content::read(path).as_ref() != before
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Files, ThisHost, find::testing::handle};

    fn content(text: &str) -> (tempfile::TempDir, Content) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        fs::write(&path, text).unwrap();
        let content = Content::read(&path).unwrap();
        (dir, content)
    }

    #[test]
    fn the_first_number_counts() {
        for (text, expected) in [
            ("4711", Some(4711)),
            (" 12\n", Some(12)),
            // PostgreSQL's postmaster.pid.
            ("815\n/var/lib/postgresql\n1764500000\n5432\n/run\n*\n 1 2\nready   \n", Some(815)),
            ("99 nginx", Some(99)),
            ("1", None),
            ("0", None),
            ("-5", None),
            ("x", None),
            ("", None),
        ] {
            let found = content(text).1.pid.map(|pid| pid.as_raw_nonzero().get());
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn a_file_that_the_command_or_its_content_calls_the_programs_is_never_ours() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x.pid");
        let (path, parent) = (file.to_str().unwrap(), dir.path().to_str().unwrap());
        let own = |command: &[&str]| {
            let mut handle = handle(command);
            handle.pid_file = Some(path.to_owned());
            let files = Files::new(&dir.path().join("run"), "x", &handle).unwrap();
            owner(&files, &handle, None)
        };
        assert_eq!(own(&["redis-server", "--pidfile", path]), Owner::Program);
        assert_eq!(own(&["redis-server", &format!("--pidfile={path}")]), Owner::Program);
        assert_eq!(own(&["nginx", "-g", &format!("daemon off; pid {path};")]), Owner::Program);
        assert_eq!(own(&["postgres", "-D", parent]), Owner::Program);
        assert_eq!(own(&["postgres", &format!("-D{parent}")]), Owner::Program);
        assert_eq!(own(&["sleep", "9"]), Owner::Unknown);
        fs::write(&file, "815\n/var/lib/postgresql\n").unwrap();
        assert_eq!(own(&["sleep", "9"]), Owner::Program);
    }

    #[test]
    fn what_has_changed_since_the_start_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        let run = Run::of(rustix::process::getpid()).unwrap();
        assert!(write_unchanged(&path, None, &run).unwrap().is_some());
        assert_eq!(write_unchanged(&path, None, &run).unwrap(), None);
        let before = Content::read(&path);
        fs::write(&path, "77\n").unwrap();
        assert_eq!(write_unchanged(&path, before.as_ref(), &run).unwrap(), None);
        assert_eq!(fs::read_to_string(&path).unwrap(), "77\n");
    }

    #[test]
    fn a_file_from_before_the_host_was_started_names_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        fs::write(&path, std::process::id().to_string()).unwrap();
        assert!(Content::read(&path).unwrap().named(&ThisHost).is_some());
        let before_boot = ThisHost.boot_time() - Duration::from_secs(60);
        fs::File::options().write(true).open(&path).unwrap().set_modified(before_boot).unwrap();
        assert_eq!(Content::read(&path).unwrap().named(&ThisHost), None);
    }
}
