//! A small disk of its own, which can be filled and freed while it is in use.
//!
//! It is a file system in memory, mounted in namespaces that a sleeping process holds, so that
//! an ordinary user may do it and nothing stays mounted. Its size is what is filled: it shrinks
//! to what is used.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, bail};

/// Room that is left on a full disk, in KiB: less would not be taken by the kernel.
const LEFT_KIB: u64 = 32;

/// A small disk. It is gone with all that is on it when this is dropped.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
    kib: u64,
    holder: Child,
}

impl Disk {
    /// Makes a disk of so many MiB, seen at `dir` by those who [enter](Self::command).
    ///
    /// # Errors
    ///
    /// When user namespaces are not permitted here.
    pub fn make(dir: &Path, mib: u64) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let kib = mib * 1024;
        let script = format!(
            "mount -t tmpfs -o size={kib}k none \"$0\" && echo ready && exec sleep infinity"
        );
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run unshare (util-linux)")?;
        let mut line = String::new();
        if let Some(stdout) = holder.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line.trim() != "ready" {
            bail!("cannot mount a small disk: are user namespaces permitted here?");
        }
        Ok(Self { dir: dir.to_owned(), kib, holder })
    }

    /// Returns a command for a program that sees the disk.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.holder.id()))
            .args(["--user", "--mount", "--preserve-credentials"])
            .arg(format!("--wd={}", self.dir.display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Returns where the disk is seen from outside.
    #[must_use]
    pub fn seen_at(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", self.holder.id(), self.dir.display()))
    }

    /// Fills it: nothing more can be written but a few KiB.
    ///
    /// # Errors
    ///
    /// When the kernel does not do it.
    pub fn fill(&self) -> anyhow::Result<()> {
        let seen = rustix::fs::statvfs(self.seen_at())?;
        let used = (seen.f_blocks - seen.f_bfree) * seen.f_frsize / 1024;
        self.resize(used + LEFT_KIB)
    }

    /// Frees it again.
    ///
    /// # Errors
    ///
    /// When the kernel does not do it.
    pub fn free(&self) -> anyhow::Result<()> {
        self.resize(self.kib)
    }

    fn resize(&self, kib: u64) -> anyhow::Result<()> {
        let mut command = self.command(Path::new("mount"));
        command.args(["-t", "tmpfs", "-o", &format!("remount,size={kib}k"), "none"]);
        let output = command.arg(&self.dir).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            bail!("cannot resize the disk: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone = self.holder.kill();
        let _gone = self.holder.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_takes_nothing_until_it_is_freed() {
        let dir = std::env::temp_dir().join(format!("chaos-disk-{}", std::process::id()));
        let disk = Disk::make(&dir, 4).unwrap();
        let file = disk.seen_at().join("file");
        std::fs::write(&file, vec![1; 100 * 1024]).unwrap();
        disk.fill().unwrap();
        let more = disk.seen_at().join("more");
        assert!(std::fs::write(&more, vec![1; 100 * 1024]).is_err(), "full");
        disk.free().unwrap();
        std::fs::write(&more, vec![1; 100 * 1024]).unwrap();
        assert_eq!(std::fs::read(&file).unwrap().len(), 100 * 1024);
        drop(disk);
        assert!(std::fs::read_dir(&dir).unwrap().next().is_none(), "nothing stays");
        std::fs::remove_dir(&dir).unwrap();
    }
}
