//! The data directory: made, locked, and with a roster of the children that run.

use std::{
    collections::BTreeMap,
    fs::{self, File, Permissions, TryLockError},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::{
    exit::{Exit, Failure},
    up::log::{Level, Log},
};

/// How long the children of a former `up`, which was killed, may take to end.
const FORMER_GRACE: Duration = Duration::from_secs(10);

/// Names the children that run.
const ROSTER: &str = "up.json";

/// The store of our own broker, in the data directory.
pub(super) const BROKER_STORE: &str = "nats";

/// How often we look whether they have.
const FORMER_POLL: Duration = Duration::from_millis(20);

/// The data directory, held as long as this value lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    /// Absolute path.
    pub(crate) root: PathBuf,
    /// State of processes: `up`'s own roster, pid files of the agents, the broker's configuration.
    pub(crate) run: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes what is missing and takes the lock.
    ///
    /// # Errors
    ///
    /// When nothing can be written there, or another `up` runs on it.
    pub(crate) fn open(root: &Path) -> Result<Self, Failure> {
        let unusable = |source: std::io::Error| {
            let hint =
                "it must be writable: check owner and mount, or name another with --data-dir";
            Failure::new(
                Exit::Failed,
                format!("cannot write to data directory `{}`", root.display()),
            )
            .hint(hint)
            .because(source)
        };
        let run = root.join("run");
        // Keys, the broker's store and the log are nobody else's to read.
        private::check_dir(root).map_err(unusable)?;
        private::create_dir(&run).map_err(unusable)?;
        for dir in [run, root.join(BROKER_STORE)] {
            if dir.exists() {
                fs::set_permissions(&dir, Permissions::from_mode(0o700)).map_err(unusable)?;
            }
        }
        let root = fs::canonicalize(root).map_err(unusable)?;
        let run = root.join("run");
        // A directory of a read-only mount, or of another owner, exists and yet takes nothing.
        let probe = root.join(".writable");
        private::write(&probe, b"?").map_err(unusable)?;
        fs::remove_file(&probe).map_err(unusable)?;
        // Not in `run`: the fixer keeps a lock there for each target, by its name.
        let lock = private::lockable(&root.join("up.lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root, run, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Failure::new(
                Exit::Failed,
                format!("another `selfheal up` runs on data directory `{}`", root.display()),
            )
            .hint("end it first, or name another directory with --data-dir")),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
        }
    }

    /// Tells whether an `up` has run on a directory.
    pub(crate) fn was_used(root: &Path) -> bool {
        root.join("run").join(ROSTER).exists()
    }

    fn roster(&self) -> PathBuf {
        self.run.join(ROSTER)
    }
}

/// One child that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    pid: u32,
    /// Start time in clock ticks since boot: a process id alone may have been given to somebody else.
    started: Option<u64>,
}

/// Which children run, in `run/up.json`: for people, for tests, and for the next `up`.
#[derive(Debug)]
pub(crate) struct Roster {
    path: PathBuf,
    children: BTreeMap<String, Entry>,
}

impl Roster {
    /// Begins an empty roster.
    #[must_use]
    pub(crate) fn new(data: &DataDir) -> Self {
        Self { path: data.roster(), children: BTreeMap::new() }
    }

    /// Notes that a child runs under a process id, or not any more.
    ///
    /// # Errors
    ///
    /// When it cannot be written; the child is not affected.
    pub(crate) fn note(&mut self, name: &str, pid: Option<u32>) -> std::io::Result<()> {
        match pid {
            Some(pid) => {
                let entry = Entry { pid, started: start_ticks(pid) };
                self.children.insert(name.to_owned(), entry)
            }
            None => self.children.remove(name),
        };
        let text = serde_json::to_vec_pretty(&self.children)?;
        private::replace(&self.path, &text)
    }
}

/// Ends what a former `up` left behind when it was killed: two supervisors would fight for the data directory, and
/// the old broker holds the port.
pub(crate) async fn end_former(data: &DataDir, log: &Log) {
    let Ok(text) = fs::read(data.roster()) else { return };
    let Ok(children) = serde_json::from_slice::<BTreeMap<String, Entry>>(&text) else { return };
    let deadline = Instant::now() + FORMER_GRACE;
    for (name, entry) in &children {
        if is_alive(entry) {
            log.say(Level::Warn, &format!("ending {name} (pid {}) of a former run", entry.pid));
            send(entry, Signal::TERM);
        }
    }
    while children.values().any(is_alive) {
        if deadline <= Instant::now() {
            children
                .values()
                .filter(|entry| is_alive(entry))
                .for_each(|entry| send(entry, Signal::KILL));
            return;
        }
        tokio::time::sleep(FORMER_POLL).await;
    }
}

fn send(entry: &Entry, signal: Signal) {
    if let Some(pid) = i32::try_from(entry.pid).ok().and_then(Pid::from_raw) {
        // It may have ended in between.
        let _gone = kill_process(pid, signal);
    }
}

/// Tells whether it is the same process, not just the same number.
fn is_alive(entry: &Entry) -> bool {
    entry.started.is_some() && start_ticks(entry.pid) == entry.started
}

/// Reads field 22 of `/proc/<pid>/stat`; `None` where there is none, and for a zombie.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_name, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    if state == "Z" || state == "X" { None } else { fields.nth(18)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::log::Style;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("selfheal-{name}-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn two_ups_cannot_share_a_data_directory() {
        let root = directory("lock");
        let first = DataDir::open(&root).unwrap();
        let refused = DataDir::open(&root).unwrap_err();
        assert!(refused.to_string().contains("another `selfheal up`"), "{refused}");
        drop(first);
        DataDir::open(&root).unwrap();
    }

    #[test]
    fn what_is_made_is_for_its_owner_alone() {
        let root = directory("modes").join("data");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        drop(DataDir::open(&root).unwrap());
        assert_eq!([mode(&root), mode(&root.join("run"))], [0o700, 0o700]);
        // As a former version has left it.
        for path in [root.join("run"), root.clone()] {
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        drop(DataDir::open(&root).unwrap());
        assert_eq!([mode(&root), mode(&root.join("run"))], [0o755, 0o700]);
    }

    #[test]
    fn a_place_where_anybody_may_write_is_refused() {
        let root = directory("everybodys");
        fs::set_permissions(&root, Permissions::from_mode(0o1777)).unwrap();
        let refused = DataDir::open(&root).unwrap_err();
        assert!(refused.chain().contains("chmod go-w"), "{}", refused.chain());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named_with_what_to_do() {
        let root = directory("file").join("f");
        fs::write(&root, "a file").unwrap();
        let refused = DataDir::open(&root).unwrap_err();
        assert!(refused.chain().contains(&root.display().to_string()), "{}", refused.chain());
        assert!(refused.hint_text().unwrap().contains("--data-dir"));
    }

    #[tokio::test]
    async fn what_a_killed_run_left_behind_is_ended_and_nobody_else() {
        let data = DataDir::open(&directory("former")).unwrap();
        let sleep =
            || tokio::process::Command::new("sleep").arg("600").kill_on_drop(true).spawn().unwrap();
        let (mut left, mut stranger) = (sleep(), sleep());
        let mut roster = Roster::new(&data);
        roster.note("monitor", left.id()).unwrap();
        roster.note("fixer", stranger.id()).unwrap();
        // The number was given to somebody else since.
        let mut children = roster.children.clone();
        children.get_mut("fixer").unwrap().started = Some(1);
        fs::write(data.roster(), serde_json::to_vec(&children).unwrap()).unwrap();
        let (log, _writer) =
            Log::start(Style { json: false, color: false, verbose: false }).unwrap();
        end_former(&data, &log).await;
        assert!(!left.wait().await.unwrap().success());
        assert_eq!(stranger.try_wait().unwrap(), None);
    }
}
