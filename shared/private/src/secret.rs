//! Reading a file that holds a secret, if nobody else can read or change it.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{OFlags, StatVfsMountFlags, fstatvfs},
    io::Errno,
    process::geteuid,
};

/// Longest secret that is read.
const BYTES_MAX: u64 = 64 * 1024;

/// The user root.
const ROOT: u32 = 0;

/// Why a file with a secret is not read: inside an [`io::Error`], beside those of the system.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Its mode lets others read or change it.
    #[error("others may read or change it (mode {mode:04o}): run `chmod {right:o} '{path}'`, and replace the secret if others were there", path = path.display())]
    Others {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode that it may have.
        right: u32,
    },
    /// It belongs to another user, who could change it.
    #[error("it belongs to user {uid}, and we are user {ours}: run this as that user, or `chown {ours} '{path}'`", path = path.display())]
    Stranger {
        /// The file.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Who we are.
        ours: u32,
    },
    /// It is a link of another user, who could have it lead elsewhere.
    #[error("it is a link that user {uid} has made: name the file itself")]
    Link {
        /// The owner of the link.
        uid: u32,
    },
    /// It is no secret.
    #[error("it is longer than {BYTES_MAX} bytes: it holds no secret")]
    TooLong,
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, refused)
    }
}

/// Reads a file with a secret.
///
/// It must be ours, with no access for others, or root's, which our group may read. On a mount
/// that is read-only, as those of Kubernetes and Compose for secrets are, owner and mode say
/// nothing and are not judged. A link counts if we or root have made it.
///
/// # Errors
///
/// When it cannot be read; [`Refused`] when it is not safe.
pub fn read_secret(path: &Path) -> io::Result<String> {
    let file = open(path)?;
    let about = file.metadata()?;
    let is_read_only =
        fstatvfs(&file).is_ok_and(|it| it.f_flag.contains(StatVfsMountFlags::RDONLY));
    if !is_read_only {
        judge(path, Owned::of(&about), geteuid().as_raw())?;
    }
    let mut text = String::new();
    file.take(BYTES_MAX + 1).read_to_string(&mut text)?;
    if BYTES_MAX < u64::try_from(text.len()).unwrap_or(u64::MAX) {
        return Err(Refused::TooLong.into());
    }
    Ok(text)
}

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            let uid = path.symlink_metadata()?.uid();
            if uid != ROOT && uid != geteuid().as_raw() {
                return Err(Refused::Link { uid }.into());
            }
            File::open(path)
        }
        opened => opened,
    }
}

/// Whose a file is, and what it permits.
#[derive(Clone, Copy, Debug)]
struct Owned {
    uid: u32,
    mode: u32,
}

impl Owned {
    fn of(about: &Metadata) -> Self {
        Self { uid: about.uid(), mode: about.mode() & 0o7777 }
    }
}

fn judge(path: &Path, file: Owned, ours: u32) -> Result<(), Refused> {
    let path = || path.to_owned();
    // Of a file of root's we are no owner: its group is how it can be for us to read at all.
    let (others, right) = match file.uid {
        uid if uid == ours => (0o077, 0o600),
        ROOT => (0o027, 0o640),
        uid => return Err(Refused::Stranger { path: path(), uid, ours }),
    };
    if file.mode & others == 0 {
        return Ok(());
    }
    Err(Refused::Others { path: path(), mode: file.mode, right })
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    #[test]
    fn a_secret_is_its_owners_alone() {
        let table = [
            (1000, 0o600, 1000, "ok"),
            (1000, 0o400, 1000, "ok"),
            (1000, 0o640, 1000, "chmod 600"),
            (1000, 0o604, 1000, "chmod 600"),
            (1000, 0o666, 1000, "chmod 600"),
            (0, 0o600, 0, "ok"),
            (0, 0o644, 0, "chmod 600"),
            (0, 0o640, 1000, "ok"),
            (0, 0o660, 1000, "chmod 640"),
            (0, 0o644, 1000, "chmod 640"),
            (1001, 0o600, 1000, "belongs to user 1001"),
            (1000, 0o600, 0, "belongs to user 1000"),
        ];
        for (uid, mode, ours, expected) in table {
            let judged = judge(Path::new("/secret"), Owned { uid, mode }, ours);
            let told = judged.map_or_else(|refused| refused.to_string(), |()| "ok".to_owned());
            assert!(told.contains(expected), "{uid} {mode:o} for {ours}: {told}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_what_to_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "s3cret\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let refused = read_secret(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
        assert!(!refused.to_string().contains("s3cret"));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_secret(&path).unwrap(), "s3cret\n");
    }

    #[test]
    fn a_link_of_our_own_is_followed_to_a_file_that_is_judged() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("token"), dir.path().join("link"));
        fs::write(&path, "s3cret").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        symlink(&path, &link).unwrap();
        assert_eq!(read_secret(&link).unwrap(), "s3cret");
        fs::set_permissions(&path, Permissions::from_mode(0o604)).unwrap();
        read_secret(&link).unwrap_err();
        assert_eq!(
            read_secret(&dir.path().join("no")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
