//! The umask of this process, and that of the programs that it starts.
//!
//! What we make is for our own user alone. What we start is somebody else's program: it gets the
//! umask that its operator has chosen, which is the one that we were started with.

use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::{fs::Mode, process::umask};

/// What is taken from all that this process makes.
const OURS: Mode = Mode::from_raw_mode(0o077);

static FORMER: OnceLock<Mode> = OnceLock::new();

/// Takes from here on all access of others from whatever this process makes. To be called first
/// in `main`.
pub fn restrict() {
    let former = umask(OURS);
    // Called once more, it is ours already.
    FORMER.get_or_init(|| former);
}

/// Starts a program with the umask that this process was started with.
///
/// The umask belongs to the whole process: meanwhile other threads have it, too. So files of
/// ours get their modes at their creation, and do not depend on it.
pub fn as_before<T>(start: impl FnOnce() -> T) -> T {
    static STARTING: Mutex<()> = Mutex::new(());
    let Some(former) = FORMER.get() else { return start() };
    let _one_by_one = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    umask(*former);
    let _restored = Restored;
    start()
}

/// Takes it back, also when a start panics.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        umask(OURS);
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, process::Command};

    use super::*;

    #[test]
    fn what_is_started_has_the_umask_of_before_and_what_is_made_has_not() {
        umask(Mode::from_raw_mode(0o027));
        restrict();
        restrict();
        let program = || Command::new("sh").args(["-c", "umask"]).output().unwrap().stdout;
        assert_eq!(String::from_utf8(as_before(program)).unwrap().trim(), "0027");
        let file = tempfile::tempdir().unwrap();
        let path = file.path().join("made");
        std::fs::write(&path, "").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
