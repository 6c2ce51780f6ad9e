//! A control group for each run, where the kernel allows it: it holds everything that the
//! run starts, whatever session or name it gives itself. Version 2 alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::Pid;

/// Moves a process into a new group below its own; returns the group's directory. `None`
/// where that is not possible: then group and session of the process must do.
pub(super) fn enter_own(target: &str, pid: Pid) -> Option<String> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let own = directory(&groups, &mounts)?;
    // A run that is started again by itself is not to end up a level deeper each time.
    let own = if is_ours(&own) { own.parent()?.to_path_buf() } else { own };
    let dir = own.join(format!("selfheal-{target}-{pid}"));
    let entered =
        fs::create_dir(&dir).and_then(|()| fs::write(dir.join("cgroup.procs"), pid.to_string()));
    match entered {
        Ok(()) => Some(dir.to_string_lossy().into_owned()),
        Err(error) => {
            tracing::debug!(%error, dir = %dir.display(), "no control group of its own");
            remove(&dir);
            None
        }
    }
}

/// Removes a group if it is empty.
pub(super) fn remove(dir: &Path) {
    if is_ours(dir)
        && let Err(error) = fs::remove_dir(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(%error, dir = %dir.display(), "a control group is not empty");
    }
}

fn is_ours(dir: &Path) -> bool {
    dir.file_name().and_then(|it| it.to_str()).is_some_and(|it| it.starts_with("selfheal-"))
        && dir.join("cgroup.procs").exists()
}

/// Returns the directory of the group that `/proc/self/cgroup` names.
fn directory(groups: &str, mounts: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|it| it.strip_prefix("0::"))?;
    let mounted = mounts.lines().find_map(|line| {
        let (before, behind) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (behind.split(' ').next() == Some("cgroup2")).then_some((root, point))
    });
    let (root, point) = mounted?;
    let below = Path::new(path).strip_prefix(root).ok()?;
    Some(Path::new(point).join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_below_its_mount() {
        let hybrid = "25 24 0:22 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let pure =
            "25 24 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let inside = "25 24 0:22 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup ro\n";
        for (groups, mounts, expected) in [
            ("0::/\n", hybrid, Some("/sys/fs/cgroup/unified/")),
            (
                "9:pids:/x\n0::/system.slice/f.service\n",
                pure,
                Some("/sys/fs/cgroup/system.slice/f.service"),
            ),
            ("0::/docker/abc\n", inside, Some("/sys/fs/cgroup/")),
            ("0::/elsewhere\n", inside, None),
            ("4:memory:/x\n", pure, None),
            ("0::/\n", "1 2 0:3 / /proc rw - proc proc rw\n", None),
        ] {
            assert_eq!(directory(groups, mounts).as_deref(), expected.map(Path::new), "{groups}");
        }
    }
}
