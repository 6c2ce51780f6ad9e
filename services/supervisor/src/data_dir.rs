//! The data directory: ours alone while we live.

use std::{
    fs::{File, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use service::ConfigError;

use crate::config_file::SeenFile;

/// File whose lock says that a living supervisor owns the directory.
const LOCK_FILE: &str = "supervisor.lock";
/// The log, as documented.
const LOG_FILE: &str = "incident_logs.jsonl";
/// Which text the configuration file of this host had last.
const SEEN_FILE: &str = "config.seen";

/// The data directory of this supervisor. The lock is held while this lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    node: String,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is not there, and locks it.
    ///
    /// The lock file holds a name that stays: a lease of the same name belongs to a dead
    /// process, since the lock is ours.
    ///
    /// # Errors
    ///
    /// When it cannot be written, or another living supervisor has it.
    pub(crate) fn open(path: &Path) -> Result<Self, ConfigError> {
        let refused = |source: io::Error| {
            ConfigError::new(
                format!("cannot use the data directory {}", path.display()),
                "make it writable for this user, or name another one with --data-dir",
            )
            .because(source)
        };
        // What is decided here is nobody else's to read. One that is there has the mode that its
        // owner gave it.
        private::create_dir(path).map_err(refused)?;
        let mut lock = private::lockable(&path.join(LOCK_FILE)).map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ConfigError::new(
                    format!("another supervisor uses the data directory {}", path.display()),
                    "give each supervisor its own with --data-dir, or stop the other one",
                ));
            }
            Err(TryLockError::Error(source)) => return Err(refused(source)),
        }
        let mut node = String::new();
        lock.read_to_string(&mut node).map_err(refused)?;
        if node.trim().is_empty() {
            node = uuid::Uuid::new_v4().to_string();
            lock.write_all(node.as_bytes()).and_then(|()| lock.sync_all()).map_err(refused)?;
        }
        Ok(Self { path: path.to_owned(), node: node.trim().to_owned(), _lock: lock })
    }

    /// Returns the name that stays with the directory.
    #[must_use]
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// Returns where the log is.
    #[must_use]
    pub(crate) fn log_path(&self) -> PathBuf {
        self.path.join(LOG_FILE)
    }

    /// Returns what remembers which text the configuration file of this host had.
    #[must_use]
    pub(crate) fn seen_config(&self) -> SeenFile {
        SeenFile::new(self.path.join(SEEN_FILE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_belongs_to_one_supervisor_and_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let second = DataDir::open(dir.path()).unwrap_err();
        assert!(second.to_string().contains("another supervisor"), "{second}");
        let node = first.node().to_owned();
        drop(first);
        assert_eq!(DataDir::open(dir.path()).unwrap().node(), node);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_refused_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = DataDir::open(&file.join("data")).unwrap_err();
        assert!(error.to_string().contains("data directory"), "{error}");
        assert!(error.hint().contains("--data-dir"));
    }
}
