//! Making and opening files that belong to their owner alone.
//!
//! The modes are given at each creation, so that they do not depend on the umask of the process.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{fs::OFlags, io::Errno, process::geteuid};

/// Mode of a file.
const FILE: u32 = 0o600;

/// Mode of a directory.
const DIR: u32 = 0o700;

/// Permissions of others than the owner to write.
const OTHERS_WRITE: u32 = 0o022;

/// Makes a directory, and those above it, for its owner alone. One that is there stays as it is.
///
/// # Errors
///
/// When it cannot be made.
pub fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR).create(path)
}

/// Opens a file for writing, empty, and makes it if need be. A link is not followed.
///
/// # Errors
///
/// When it cannot be opened, or is a link.
pub fn create(path: &Path) -> io::Result<File> {
    told(path, options().write(true).create(true).truncate(true).open(path))
}

/// Makes a file that was not there, for reading and writing.
///
/// # Errors
///
/// When it cannot be made, or is there.
pub fn create_new(path: &Path) -> io::Result<File> {
    options().read(true).write(true).create_new(true).open(path)
}

/// Opens a file for reading and appending, and makes it if need be. A link is not followed.
///
/// # Errors
///
/// When it cannot be opened, or is a link.
pub fn append(path: &Path) -> io::Result<File> {
    told(path, options().read(true).append(true).create(true).open(path))
}

/// Opens a file for reading and writing, as it is, and makes it if need be: to lock it. A link
/// is not followed.
///
/// # Errors
///
/// When it cannot be opened, or is a link.
pub fn lockable(path: &Path) -> io::Result<File> {
    told(path, options().read(true).write(true).create(true).truncate(false).open(path))
}

/// Opens a file that a configuration names for reading and appending. A link is followed only where nobody
/// but its owner or root could have made it.
///
/// # Errors
///
/// When it cannot be opened, or is a link in a directory that others can write.
pub fn append_to(path: &Path) -> io::Result<File> {
    match append(path) {
        Err(error) if is_link(path) && is_safe(path.parent()) => {
            // The link is as good as the name: whoever could change one could change the other.
            let followed =
                OpenOptions::new().read(true).append(true).create(true).mode(FILE).open(path);
            followed.map_err(|_cannot| error)
        }
        opened => opened,
    }
}

/// Writes a file. A link is not followed.
///
/// # Errors
///
/// When it cannot be written, or is a link.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    create(path)?.write_all(content)
}

/// Writes a file whole or not at all, in place of what was there, be it a link. Not synced.
///
/// # Errors
///
/// When it cannot be written.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    static N_REPLACED: AtomicU64 = AtomicU64::new(0);
    let n = N_REPLACED.fetch_add(1, Ordering::Relaxed);
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}-{n}.new", std::process::id()));
    let new = PathBuf::from(new);
    // What a former process of this number has left behind.
    if new.symlink_metadata().is_ok() {
        fs::remove_file(&new)?;
    }
    let written = create_new(&new)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // There may be nothing to remove.
        drop(fs::remove_file(&new));
    }
    written
}

/// Refuses a directory into which anybody may write: what lies there may be anybody's. One that
/// is not there is no danger.
///
/// # Errors
///
/// When others may write, with what to run.
pub fn check_dir(path: &Path) -> io::Result<()> {
    const ANYBODY_WRITES: u32 = 0o002;
    let mode = fs::metadata(path).map_or(0, |it| it.mode());
    if mode & ANYBODY_WRITES == 0 {
        return Ok(());
    }
    let what = format!("anybody may write there: run `chmod go-w '{}'`", path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // The flags of the system have the type that the standard library wants.
    options.mode(FILE).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// Says in words that something is a link.
fn told(path: &Path, opened: io::Result<File>) -> io::Result<File> {
    opened.map_err(|error| {
        if error.raw_os_error() != Some(Errno::LOOP.raw_os_error()) {
            return error;
        }
        let what = format!("`{}` is a link, and is not followed: remove it", path.display());
        io::Error::new(io::ErrorKind::PermissionDenied, what)
    })
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|it| it.is_symlink())
}

/// Returns whether nobody but us and root can make anything in a directory.
fn is_safe(dir: Option<&Path>) -> bool {
    let dir = dir.filter(|it| !it.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::metadata(dir).is_ok_and(|it| {
        let is_ours = it.uid() == 0 || it.uid() == geteuid().as_raw();
        is_ours && it.mode() & OTHERS_WRITE == 0
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_made_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        create_dir(&path("a/b")).unwrap();
        assert_eq!([mode(&path("a")), mode(&path("a/b"))], [0o700, 0o700]);
        write(&path("write"), b"x").unwrap();
        replace(&path("replace"), b"x").unwrap();
        for (name, opened) in [
            ("new", create_new(&path("new"))),
            ("append", append(&path("append"))),
            ("append_to", append_to(&path("append_to"))),
            ("lock", lockable(&path("lock"))),
        ] {
            opened.unwrap();
            assert_eq!(mode(&path(name)), 0o600, "{name}");
        }
        assert_eq!([mode(&path("write")), mode(&path("replace"))], [0o600, 0o600]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 7, "nothing is left behind");
    }

    #[test]
    fn no_link_is_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, link) = (dir.path().join("victim"), dir.path().join("link"));
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &link).unwrap();
        assert!(write(&link, b"x").unwrap_err().to_string().contains("is a link"));
        for refused in [create(&link), create_new(&link), append(&link), lockable(&link)] {
            refused.unwrap_err();
        }
        replace(&link, b"mine").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&link).unwrap(), "mine");
    }

    #[test]
    fn a_named_file_may_be_a_link_where_nobody_else_can_make_one() {
        let dir = tempfile::tempdir().unwrap();
        let (log, link) = (dir.path().join("log"), dir.path().join("current"));
        symlink(&log, &link).unwrap();
        append_to(&link).unwrap().write_all(b"line").unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "line");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        append_to(&link).unwrap_err();
        assert!(check_dir(dir.path()).unwrap_err().to_string().contains("chmod go-w"));
        check_dir(&dir.path().join("nothing")).unwrap();
    }
}
