//! What the unit tests share.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use domain::target::ProcessHandle;

/// A directory that is removed with its content.
#[derive(Debug)]
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static N: AtomicU64 = AtomicU64::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let name = format!("selfheal-fixer-unit-{}-{n}", std::process::id());
        let path = std::env::temp_dir().canonicalize().unwrap().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Returns a handle with this command and nothing else.
pub(crate) fn handle(command: &[&str]) -> ProcessHandle {
    ProcessHandle {
        command: command.iter().map(|it| (*it).to_owned()).collect(),
        dir: None,
        env: std::collections::BTreeMap::new(),
        pid_file: None,
        log: None,
        stop_timeout: domain::span::Span::from_secs(5),
        user: None,
        group: None,
    }
}
