//! Whether a program writes the file just now, as far as the kernel tells.
//!
//! A writer that pauses leaves a text that is equal in two reads. Between its first write and
//! the moment it closes the file, the kernel tells us of the one and not yet of the other. That
//! holds for whoever writes, also from another container, but not for what was written before we
//! watched: who puts a new file in place and writes on is found by what processes have open.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// Whether a program writes the file.
#[derive(Debug)]
pub(super) struct Writers {
    /// `None` when the kernel has no room for one more: then pauses alone tell.
    inotify: Option<OwnedFd>,
    /// The file that is watched.
    watched: Option<i32>,
    writing: bool,
}

impl Writers {
    pub(super) fn new() -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok();
        Self { inotify, watched: None, writing: false }
    }

    /// Watches the file that is there now; another than before was put in its place.
    pub(super) fn watch(&mut self, path: &Path) {
        let Some(inotify) = &self.inotify else { return };
        let flags = WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE;
        let watched = inotify::add_watch(inotify, path, flags).ok();
        if self.watched == watched {
            return;
        }
        if let Some(former) = self.watched.take() {
            // Fails when the file is gone, and its watch with it.
            let _gone = inotify::remove_watch(inotify, former);
        }
        self.watched = watched;
        self.writing = false;
    }

    /// Returns whether something was written that is not closed yet.
    pub(super) fn is_writing(&mut self) -> bool {
        let (Some(inotify), Some(watched)) = (&self.inotify, self.watched) else { return false };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(inotify, &mut buffer);
        while let Ok(event) = events.next() {
            if event.wd() != watched {
                continue;
            }
            if event.events().contains(ReadFlags::CLOSE_WRITE) {
                self.writing = false;
            } else if event.events().contains(ReadFlags::MODIFY) {
                self.writing = true;
            }
        }
        self.writing
    }
}

/// Returns a process that has the file open for writing, or mapped so that it can write.
///
/// Only those are seen whose descriptors we may read: our user's, or all with privilege, and of
/// our own process namespace.
pub(super) fn who_writes(path: &Path) -> Option<u32> {
    let file = File::open(path).ok()?;
    let searched = Searched::of(&file)?;
    let all = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = all.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let process = PathBuf::from(format!("/proc/{pid}"));
        searched.is_open_in(&process) || searched.is_mapped_in(&process)
    })
}

/// The file that is searched for among what processes have open.
#[derive(Debug)]
struct Searched {
    device: u64,
    inode: u64,
    /// Its number as the kernel tells it of descriptors, which some file systems tell otherwise
    /// of files; `None` before Linux 5.14.
    inner_inode: Option<u64>,
}

impl Searched {
    fn of(file: &File) -> Option<Self> {
        let it = file.metadata().ok()?;
        let own = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
        let inner_inode = Descriptor::read(Path::new(&own)).and_then(|it| it.inode);
        Some(Self { device: it.dev(), inode: it.ino(), inner_inode })
    }

    fn is_open_in(&self, process: &Path) -> bool {
        let Ok(all) = fs::read_dir(process.join("fdinfo")) else { return false };
        all.flatten().any(|it| {
            let Some(descriptor) = Descriptor::read(&it.path()) else { return false };
            // The file itself is asked last: one on a file system that hangs would hold us.
            descriptor.is_writable
                && descriptor.inode == self.inner_inode
                && fs::metadata(process.join("fd").join(it.file_name()))
                    .is_ok_and(|it| (it.dev(), it.ino()) == (self.device, self.inode))
        })
    }

    /// Lines are `<addresses> <rights> <offset> <major>:<minor> <inode> <path>`.
    fn is_mapped_in(&self, process: &Path) -> bool {
        let Ok(maps) = File::open(process.join("maps")) else { return false };
        let (major, minor) = (rustix::fs::major(self.device), rustix::fs::minor(self.device));
        let device = format!("{major:02x}:{minor:02x}");
        let inode = self.inner_inode.unwrap_or(self.inode).to_string();
        // A path need not be UTF-8.
        BufReader::new(maps).split(b'\n').map_while(Result::ok).any(|line| {
            let line = String::from_utf8_lossy(&line);
            let mut fields = line.split_ascii_whitespace().skip(1);
            let rights = fields.next().unwrap_or_default();
            rights.contains('w')
                && rights.ends_with('s')
                && fields.nth(1) == Some(device.as_str())
                && fields.next() == Some(inode.as_str())
        })
    }
}

/// What the kernel tells of an open file.
#[derive(Debug)]
struct Descriptor {
    is_writable: bool,
    inode: Option<u64>,
}

impl Descriptor {
    /// Reads `/proc/<process>/fdinfo/<descriptor>`.
    fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let field = |name| text.lines().find_map(|it| it.strip_prefix(name)).map(str::trim);
        // The lowest two bits say how it may be used: 0 to read, 1 to write, 2 both.
        let flags = u64::from_str_radix(field("flags:")?, 8).ok()?;
        let inode = field("ino:").and_then(|it| it.parse().ok());
        Some(Self { is_writable: matches!(flags & 0o3, 1 | 2), inode })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        process::{Child, Command, Stdio},
    };

    use super::*;

    /// A process that has the file open in some way until its input ends.
    fn child(script: &str, path: &Path) -> Child {
        let mut child = Command::new("sh")
            .args(["-c", &format!("{script}; echo open; read end"), "sh"])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut open = [0; 5];
        child.stdout.as_mut().unwrap().read_exact(&mut open).unwrap();
        child
    }

    #[test]
    fn who_has_the_file_open_for_writing_is_found_and_who_reads_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("selfheal.yaml"), dir.path().join("other"));
        fs::write(&path, "a").unwrap();
        fs::write(&other, "a").unwrap();
        assert_eq!(who_writes(&path), None);
        for (script, is_writer) in [
            ("exec 3>\"$1\"", true),
            ("exec 3>>\"$1\"", true),
            ("exec 3<>\"$1\"", true),
            ("exec 3<\"$1\"", false),
        ] {
            let mut child = child(script, &path);
            assert_eq!(who_writes(&path), is_writer.then_some(child.id()), "{script}");
            assert_eq!(who_writes(&other), None, "{script}");
            drop(child.stdin.take());
            child.wait().unwrap();
            assert_eq!(who_writes(&path), None, "{script}, ended");
        }
    }

    #[test]
    fn a_file_that_is_mapped_for_writing_is_told_from_one_that_is_mapped_for_oneself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("selfheal.yaml");
        fs::write(&path, "a").unwrap();
        let searched = Searched::of(&File::open(&path).unwrap()).unwrap();
        let (major, minor) =
            (rustix::fs::major(searched.device), rustix::fs::minor(searched.device));
        let inode = searched.inner_inode.unwrap_or(searched.inode);
        for (rights, inode, is_writer) in [
            ("rw-s", inode, true),
            ("-w-s", inode, true),
            ("rw-p", inode, false),
            ("r--s", inode, false),
            ("rw-s", inode + 1, false),
        ] {
            let line =
                format!("7f00-7f10 {rights} 00000000 {major:02x}:{minor:02x} {inode} /a b\n");
            fs::write(dir.path().join("maps"), line).unwrap();
            assert_eq!(searched.is_mapped_in(dir.path()), is_writer, "{rights} {inode}");
        }
    }
}
