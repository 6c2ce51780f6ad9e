//! The store of a broker without accounts, as a former version has run it.

use std::{fs, path::Path};

use bus::accounts::INSTALLATION;

use crate::exit::{Exit, Failure};

/// The account of a broker that has none.
const NOBODYS: &str = "$G";

/// Gives what a broker without accounts has stored to the account of the installation, once.
///
/// # Errors
///
/// When it cannot be renamed.
pub(super) fn take_over(store: &Path) -> Result<(), Failure> {
    let accounts = store.join("jetstream");
    let (former, ours) = (accounts.join(NOBODYS), accounts.join(INSTALLATION));
    if ours.exists() || !former.is_dir() {
        return Ok(());
    }
    fs::rename(&former, &ours).map_err(|error| {
        let message = format!("cannot rename `{}` to `{INSTALLATION}`", former.display());
        Failure::new(Exit::Failed, message)
            .hint("the store of the broker must be writable: check owner and mount")
            .because(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_without_accounts_is_taken_over_once() {
        let dir = tempfile::tempdir().unwrap();
        take_over(dir.path()).unwrap();
        let stream = |account: &str| dir.path().join("jetstream").join(account).join("streams/T");
        fs::create_dir_all(stream(NOBODYS)).unwrap();
        take_over(dir.path()).unwrap();
        assert!(stream(INSTALLATION).is_dir() && !stream(NOBODYS).exists());
        fs::create_dir_all(stream(NOBODYS)).unwrap();
        take_over(dir.path()).unwrap();
        assert!(stream(NOBODYS).is_dir(), "what is ours is not overwritten");
    }
}
