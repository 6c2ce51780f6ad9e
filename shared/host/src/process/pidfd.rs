//! A process as a descriptor that tells its end at once.

use std::{io, os::fd::OwnedFd};

use rustix::process::{PidfdFlags, pidfd_open};
use tokio::io::{Interest, unix::AsyncFd};

use super::Run;

/// Watches one run of a process.
#[derive(Debug)]
pub struct PidFd(AsyncFd<OwnedFd>);

impl PidFd {
    /// Begins to watch.
    ///
    /// `Ok(None)` when that run is over already, or its id belongs to another by now.
    ///
    /// # Errors
    ///
    /// When the kernel gives no descriptor, for instance for want of them.
    pub fn open(run: &Run) -> io::Result<Option<Self>> {
        let Some(pid) = run.id() else { return Ok(None) };
        let fd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Only now is it certain whose descriptor it is: the number may have been used again.
        if !run.is_alive() {
            return Ok(None);
        }
        #[expect(deprecated, reason = "the other one is unsafe; this owns its descriptor")]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Some(Self(fd)))
    }

    /// Waits for the end of the process.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be waited for.
    pub async fn ended(&self) -> io::Result<()> {
        // Readiness is never cleared: a process ends once.
        self.0.readable().await.map(|mut guard| guard.retain_ready())
    }
}
