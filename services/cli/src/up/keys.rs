//! The key that the supervisor of this machine signs with.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::state::BROKER_STORE;
use crate::exit::{Exit, Failure};

/// The seed, in the directory for the state of processes.
const FILE: &str = "signing.key";

/// A key, as agents are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signing {
    /// File with its seed, for the supervisor alone.
    pub(crate) seed: PathBuf,
    /// Its public key, for all.
    pub(crate) public: String,
}

/// Returns the key of a data directory, if it has one.
///
/// # Errors
///
/// When there is one that cannot be read.
pub(crate) fn of(run: &Path) -> Result<Option<Signing>, Failure> {
    let seed = run.join(FILE);
    if !seed.exists() {
        return Ok(None);
    }
    let public = bus::public_key(&seed).map_err(|error| {
        Failure::new(Exit::Failed, "the key of this data directory cannot be used")
            .hint("put the former file back from a backup; without it nothing new counts")
            .because(error)
    })?;
    Ok(Some(Signing { seed, public }))
}

/// Returns the key of a data directory; makes one while nothing is decided there. Where decisions
/// without signatures are, there is none: they would not count any more.
///
/// # Errors
///
/// When it cannot be read or written.
pub(crate) fn of_own_broker(root: &Path, run: &Path) -> Result<Option<Signing>, Failure> {
    let known = of(run)?;
    if known.is_some() || root.join(BROKER_STORE).exists() {
        return Ok(known);
    }
    let failed = |error: &dyn std::error::Error| {
        Failure::new(Exit::Failed, format!("cannot make a key: {error}"))
    };
    let (seed, public) = bus::new_key().map_err(|error| failed(&error))?;
    let path = run.join(FILE);
    write_secret(&path, &seed).map_err(|error| failed(&error))?;
    Ok(Some(Signing { seed: path, public }))
}

/// Writes a file that nobody else may read, and that was not there.
///
/// # Errors
///
/// When it cannot be written, or is there.
pub(crate) fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut file = private::create_new(path)?;
    let written = writeln!(file, "{text}").and_then(|()| file.sync_all());
    if written.is_err() {
        // Half a seed is none, and would be in the way of the next.
        drop(fs::remove_file(path));
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_data_directory_gets_a_key_and_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let (root, run) = (dir.path(), dir.path().join("run"));
        fs::create_dir(&run).unwrap();
        let first = of_own_broker(root, &run).unwrap().unwrap();
        let mode = fs::metadata(&first.seed).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::create_dir(root.join("nats")).unwrap();
        assert_eq!(of_own_broker(root, &run).unwrap(), Some(first));
    }

    #[test]
    fn what_was_decided_without_signatures_goes_on_without() {
        let dir = tempfile::tempdir().unwrap();
        let (root, run) = (dir.path(), dir.path().join("run"));
        fs::create_dir(&run).unwrap();
        fs::create_dir(root.join("nats")).unwrap();
        assert_eq!(of_own_broker(root, &run).unwrap(), None);
    }

    #[test]
    fn a_key_that_cannot_be_read_is_an_error_and_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().to_owned();
        fs::write(run.join(FILE), "nonsense").unwrap();
        let failure = of_own_broker(dir.path(), &run).unwrap_err();
        assert!(failure.hint_text().unwrap().contains("backup"), "{failure}");
        assert_eq!(fs::read_to_string(run.join(FILE)).unwrap(), "nonsense");
    }
}
