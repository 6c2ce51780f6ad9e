//! Who may reach our own broker: a user with a random password for each role.
//!
//! Each has a file `run/nats/<role>.url` of the owner, which holds a whole URL: agents are started
//! with it, and commands find it there. Passwords are made once, and stay with the directory.

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use bus::{Subjects, accounts::accounts, roles::Role};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::exit::{Exit, Failure};

/// Where the files are, in the directory for the state of processes.
const DIR: &str = "nats";

/// Random bytes of a secret.
const BYTES: usize = 32;

/// The users of our own broker.
pub(crate) struct Credentials {
    dir: PathBuf,
    passwords: Vec<(Role, String)>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Takes those of a directory for the state of processes, and makes what is missing.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or others may read it.
    pub(crate) fn open(run: &Path) -> Result<Self, Failure> {
        let dir = run.join(DIR);
        let mut passwords = Vec::new();
        for role in Role::ALL {
            let path = file(&dir, role);
            let kept = match private::read_secret(&path) {
                Ok(text) => password_of(&text, role).map(str::to_owned),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(unreadable(&path, error)),
            };
            let password = match kept {
                Some(password) => password,
                None => random_text()?,
            };
            passwords.push((role, password));
        }
        Ok(Self { dir, passwords })
    }

    /// Writes the files, for a broker that will listen there.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub(crate) fn write(&self, address: SocketAddr) -> Result<(), Failure> {
        let write = || {
            private::create_dir(&self.dir)?;
            for (role, _) in &self.passwords {
                let line = format!("{}\n", self.url(*role, address));
                private::replace(&file(&self.dir, *role), line.as_bytes())?;
            }
            Ok(())
        };
        write().map_err(|error: io::Error| {
            let message = format!("cannot write passwords into `{}`", self.dir.display());
            Failure::new(Exit::Failed, message).because(error)
        })
    }

    /// Returns the URL by which a role reaches the broker. It is a secret.
    pub(crate) fn url(&self, role: Role, address: SocketAddr) -> String {
        format!("nats://{}:{}@{address}", role.as_str(), self.password(role))
    }

    /// Returns the file that holds a role's URL.
    pub(crate) fn file(&self, role: Role) -> PathBuf {
        file(&self.dir, role)
    }

    /// Returns the section of the broker's configuration that names them, for an installation
    /// that serves these zones.
    pub(crate) fn accounts(&self, names: &Subjects, zones: &[String]) -> String {
        accounts(names, zones, |role| format!("\"{}\"", self.password(role)))
    }

    fn password(&self, role: Role) -> &str {
        self.passwords.iter().find(|it| it.0 == role).map_or("", |it| it.1.as_str())
    }
}

/// Returns the URL of the broker of `selfheal up` for a role, if we may read it.
///
/// # Errors
///
/// When there is one that others may read, too.
pub(crate) fn found(data_dir: &Path, role: &str) -> Result<Option<String>, Failure> {
    let path = data_dir.join("run").join(DIR).join(format!("{role}.url"));
    read(&path)
}

/// Reads a file of `up`; `None` when there is none, or when it is somebody else's.
///
/// # Errors
///
/// When others may read it, too.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Failure> {
    // What we may not even look at tells nothing: it is not for us.
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let text = private::read_secret(path).map_err(|error| unreadable(path, error))?;
    Ok(Some(text.trim().to_owned()).filter(|it| !it.is_empty()))
}

/// Returns a random text that nobody can guess. It begins with a letter: what begins with a digit
/// may be read as a number.
///
/// # Errors
///
/// When the system gives no random numbers.
pub(crate) fn random_text() -> Result<String, Failure> {
    use fmt::Write as _;
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|error| {
        Failure::new(Exit::Failed, format!("the system gives no random numbers: {error}"))
    })?;
    let mut text = String::from("s");
    for byte in bytes {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    Ok(text)
}

fn file(dir: &Path, role: Role) -> PathBuf {
    dir.join(format!("{}.url", role.as_str()))
}

/// Returns the password in a URL of ours.
fn password_of(url: &str, role: Role) -> Option<&str> {
    let rest = url.trim().strip_prefix("nats://")?.strip_prefix(role.as_str())?;
    let (password, _address) = rest.strip_prefix(':')?.split_once('@')?;
    let is_whole = password.len() == 2 * BYTES + 1
        && password.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_whole.then_some(password)
}

fn unreadable(path: &Path, error: io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("cannot read `{}`", path.display())).because(error)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn files(run: &Path) -> Vec<PathBuf> {
        Role::ALL.iter().map(|role| file(&run.join(DIR), *role)).collect()
    }

    #[test]
    fn passwords_are_made_once_each_another_and_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let first = Credentials::open(&run).unwrap();
        first.write("127.0.0.1:4222".parse().unwrap()).unwrap();
        assert_eq!(mode(&run.join(DIR)), 0o700);
        assert!(files(&run).iter().all(|it| mode(it) == 0o600));
        let again = Credentials::open(&run).unwrap();
        assert_eq!(first.passwords, again.passwords);
        again.write("127.0.0.1:4333".parse().unwrap()).unwrap();
        let url = found(dir.path(), "cli").unwrap().unwrap();
        assert_eq!(url, format!("nats://cli:{}@127.0.0.1:4333", first.password(Role::Cli)));
        let mut all: Vec<_> = first.passwords.iter().map(|it| &it.1).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), Role::ALL.len());
        assert!(!format!("{first:?}").contains(first.password(Role::Cli)));
        let text = first.accounts(&Subjects::new("selfheal"), &["default".to_owned()]);
        assert!(text.contains(&format!("password: \"{}\"", first.password(Role::Fixer))));
    }

    #[test]
    fn what_others_may_read_is_refused_and_what_is_cut_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let first = Credentials::open(&run).unwrap();
        first.write("127.0.0.1:4222".parse().unwrap()).unwrap();
        let cli = first.file(Role::Cli);
        fs::set_permissions(&cli, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Credentials::open(&run).unwrap_err().chain().contains("chmod 600"));
        assert!(found(dir.path(), "cli").unwrap_err().chain().contains("chmod 600"));
        private::write(&cli, b"nats://cli:short@127.0.0.1:4222\n").unwrap();
        fs::set_permissions(&cli, fs::Permissions::from_mode(0o600)).unwrap();
        let again = Credentials::open(&run).unwrap();
        assert_eq!(again.password(Role::Cli).len(), 2 * BYTES + 1);
        assert_eq!(again.password(Role::Fixer), first.password(Role::Fixer));
        assert_eq!(found(&dir.path().join("nowhere"), "cli").unwrap(), None);
    }
}
