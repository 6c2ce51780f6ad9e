//! How other fixers of this host can prove that one is gone.
//!
//! While a fixer runs it keeps `fixers/<id>` of the state directory locked. The kernel ends the
//! lock with the process and with nothing else: a fixer that was stopped, or that the broker does
//! not reach, keeps it. So whoever gets the lock, under the same kernel, knows for certain that
//! nothing more will come from that fixer, and need not wait for its claim to run out.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use service::Chain;
use tracing::warn;

/// Where the files are, below the state directory.
const DIR: &str = "fixers";

/// Names one run of the kernel. A lock says nothing about a process under another one, as on a
/// directory that several hosts share.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Longest boot id that is read.
const BOOT_ID_BYTES_MAX: u64 = 64;

/// Files of fixers that have ended are kept so long: longer than any claim is waited for.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Files that are looked at when a fixer starts.
const LOOKS_MAX: usize = 1000;

/// Shows that this process runs, until it is dropped.
#[derive(Debug)]
pub(crate) struct Alive {
    path: PathBuf,
    _file: File,
}

impl Alive {
    /// Begins to show it. `None` when the directory cannot be written: others wait for our claims
    /// to run out then.
    pub(crate) fn begin(state_dir: &Path, id: &str) -> Option<Self> {
        let dir = state_dir.join(DIR);
        let begun = Self::try_begin(&dir, id);
        if let Err(error) = &begun {
            warn!(dir = %dir.display(), error = %Chain(error), "cannot show other fixers that this one runs");
        }
        begun.ok()
    }

    fn try_begin(dir: &Path, id: &str) -> io::Result<Self> {
        private::create_dir(dir)?;
        forget_old(dir);
        let path = dir.join(id);
        let mut file = private::append(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        file.set_len(0)?;
        file.write_all(fs::read_to_string(BOOT_ID)?.trim().as_bytes())?;
        Ok(Self { path, _file: file })
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        // What it had claimed is reported. A file that is left over is removed by a later fixer.
        drop(fs::remove_file(&self.path));
    }
}

/// Returns whether it is proven that a fixer does not run any more. `false` when nothing is known.
pub(crate) fn is_proven_gone(state_dir: &Path, id: &str) -> bool {
    // An id comes from a message.
    if id.is_empty() || id.contains(['/', '\0']) || id.starts_with('.') {
        return false;
    }
    let Ok(mut file) = File::open(state_dir.join(DIR).join(id)) else { return false };
    is_of_this_kernel(&mut file) && is_free(&file)
}

fn is_of_this_kernel(file: &mut File) -> bool {
    let mut theirs = String::new();
    let read = file.take(BOOT_ID_BYTES_MAX).read_to_string(&mut theirs);
    let ours = fs::read_to_string(BOOT_ID).unwrap_or_default();
    read.is_ok() && !theirs.is_empty() && theirs == ours.trim()
}

fn is_free(file: &File) -> bool {
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => true,
        Err(Errno::WOULDBLOCK) => false,
        Err(error) => {
            warn!(%error, "cannot see whether another fixer runs");
            false
        }
    }
}

/// Removes what fixers have left behind that were killed long ago.
fn forget_old(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().take(LOOKS_MAX) {
        let written = entry.metadata().and_then(|it| it.modified());
        let age = written.ok().and_then(|it| SystemTime::now().duration_since(it).ok());
        let is_old = age.is_some_and(|age| KEPT < age);
        if is_old && File::open(entry.path()).is_ok_and(|file| is_free(&file)) {
            drop(fs::remove_file(entry.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TempDir;

    #[test]
    fn a_fixer_is_gone_when_its_lock_is_free_and_not_before() {
        let dir = TempDir::new();
        assert!(!is_proven_gone(dir.path(), "fixer-1"), "nothing is known of it");
        let alive = Alive::begin(dir.path(), "fixer-1").unwrap();
        assert!(!is_proven_gone(dir.path(), "fixer-1"), "it runs");
        // As the kernel does it when the process is killed: the file stays, the lock does not.
        let path = alive.path.clone();
        let text = fs::read(&path).unwrap();
        drop(alive);
        fs::write(&path, &text).unwrap();
        assert!(is_proven_gone(dir.path(), "fixer-1"));
        assert!(is_proven_gone(dir.path(), "fixer-1"), "also when it is asked again");
    }

    #[test]
    fn a_lock_under_another_kernel_and_an_id_that_is_a_path_prove_nothing() {
        let dir = TempDir::new();
        fs::create_dir_all(dir.path().join(DIR)).unwrap();
        for (id, text) in [("fixer-1", "another boot"), ("fixer-2", "")] {
            fs::write(dir.path().join(DIR).join(id), text).unwrap();
            assert!(!is_proven_gone(dir.path(), id), "{id}");
        }
        let ours = fs::read_to_string(BOOT_ID).unwrap();
        fs::write(dir.path().join("outside"), ours.trim()).unwrap();
        assert!(!is_proven_gone(dir.path(), "../outside"));
    }
}
