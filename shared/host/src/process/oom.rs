//! Was it the kernel, for want of memory?

use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::process::Pid;

/// Records of the kernel's log that are looked through at most.
const KERNEL_RECORDS_MAX: usize = 20_000;

/// Longest record of the kernel's log.
const KERNEL_RECORD_BYTES: usize = 8 * 1024;

/// The count of kills for want of memory in a process's control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomCount {
    file: PathBuf,
    n_kills: u64,
}

impl OomCount {
    /// Reads the count for a living process. `None` when the host does not tell.
    #[must_use]
    pub fn read(pid: Pid) -> Option<Self> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        files(&groups).into_iter().find_map(|file| {
            let n_kills = n_kills(&file)?;
            Some(Self { file, n_kills })
        })
    }

    /// Returns whether somebody was killed in the group since it was read.
    #[must_use]
    pub fn has_grown(&self) -> Option<bool> {
        Some(self.n_kills < n_kills(&self.file)?)
    }
}

/// Returns where the counts may stand for the lines of `/proc/<pid>/cgroup`.
#[must_use]
pub fn files(groups: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) =
            (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let path = path.trim_start_matches('/');
        if number == "0" && controllers.is_empty() {
            // A group without the memory controller is counted in one above it.
            let own = root.join(path);
            let above = own.ancestors().take_while(|it| it.starts_with(root));
            files.extend(above.map(|it| it.join("memory.events")));
        } else if controllers.split(',').any(|name| name == "memory") {
            files.push(root.join("memory").join(path).join("memory.oom_control"));
        }
    }
    files
}

/// Both versions of control groups write a line `oom_kill <n>`.
fn n_kills(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// Returns `Some(true)` when the kernel's log says that it killed this process for want
/// of memory. Where the log cannot be read, or does not name it, nothing is known.
#[must_use]
pub fn in_kernel_log(pid: i32) -> Option<bool> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).ok()?;
    let mut log: File =
        fs::OpenOptions::new().read(true).custom_flags(nonblocking).open("/dev/kmsg").ok()?;
    let wanted = format!("Killed process {pid} ");
    let mut record = vec![0_u8; KERNEL_RECORD_BYTES];
    for _ in 0..KERNEL_RECORDS_MAX {
        match log.read(&mut record) {
            Ok(0) => return None,
            Ok(n_bytes) => {
                let text = String::from_utf8_lossy(record.get(..n_bytes).unwrap_or_default());
                if text.contains(&wanted) {
                    return Some(true);
                }
            }
            // The oldest record was overwritten while we read.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(_nothing_more) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_both_versions_of_control_groups() {
        assert_eq!(
            files("0::/system.slice/shop.service\n"),
            [
                Path::new("/sys/fs/cgroup/system.slice/shop.service/memory.events"),
                Path::new("/sys/fs/cgroup/system.slice/memory.events"),
                Path::new("/sys/fs/cgroup/memory.events"),
            ]
        );
        assert_eq!(
            files("9:name=systemd:/\n4:memory:/docker/abc\n3:cpu,memory:/x:y\n"),
            [
                Path::new("/sys/fs/cgroup/memory/docker/abc/memory.oom_control"),
                Path::new("/sys/fs/cgroup/memory/x:y/memory.oom_control"),
            ]
        );
        assert!(files("nonsense").is_empty());
    }
}
