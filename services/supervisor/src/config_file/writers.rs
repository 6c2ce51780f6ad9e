//! Whether a program writes the file just now, as far as the kernel tells.
//!
//! A writer that pauses leaves a text that is equal in two reads. Between its first write and
//! the moment it closes the file, the kernel tells us of the one and not yet of the other.

use std::{mem::MaybeUninit, os::fd::OwnedFd, path::Path};

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
