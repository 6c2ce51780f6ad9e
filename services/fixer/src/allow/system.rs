//! Directories that are never cleaned, whatever a list says.

use std::path::{Component, Path};

/// Whole trees that belong to the system or the kernel.
const TREES: [&str; 9] = ["bin", "boot", "dev", "etc", "proc", "sbin", "sys", "usr", "lost+found"];

/// Places below a tree where people keep what is their own.
const OWN_PLACES: [&str; 2] = ["/usr/local", "/dev/shm"];

/// Directories that hold everybody's things: only something below them can be named.
const SHARED: [&str; 22] = [
    "/",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/root",
    "/run",
    "/srv",
    "/var",
    "/var/cache",
    "/var/db",
    "/var/lib",
    "/var/local",
    "/var/log/journal",
    "/var/mail",
    "/var/opt",
    "/var/run",
    "/var/spool",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/local/sbin",
];

/// Says why a directory is never cleaned; `None` when it may be.
pub(super) fn refusal(path: &Path) -> Option<&'static str> {
    let mut parts = Vec::new();
    let mut absolute = false;
    for part in path.components() {
        match part {
            Component::RootDir => absolute = true,
            Component::Normal(name) => parts.push(name.to_string_lossy()),
            Component::CurDir => {}
            Component::ParentDir => return Some("it holds `..`"),
            Component::Prefix(_) => return Some("it is no path of this system"),
        }
    }
    if !absolute {
        return Some("it is not an absolute path");
    }
    let own = OWN_PLACES.iter().any(|it| path.starts_with(it) && path != Path::new(it));
    if SHARED.iter().any(|it| path == Path::new(it)) {
        return Some("it holds what belongs to everybody");
    }
    let first = parts.first()?;
    if !own && (TREES.contains(&first.as_ref()) || first.starts_with("lib")) {
        return Some("it belongs to the system");
    }
    (first == "home" && parts.len() == 2).then_some("it is somebody's home")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_directories_are_never_cleaned() {
        for path in [
            "/",
            "//",
            "/./",
            "/etc",
            "/etc/",
            "/etc/nginx",
            "/usr",
            "/usr/share/doc",
            "/bin",
            "/lib",
            "/lib64",
            "/lib32/x",
            "/boot",
            "/proc",
            "/proc/1",
            "/sys",
            "/dev",
            "/root",
            "/home",
            "/home/ada",
            "/var",
            "/var/lib",
            "/usr/local",
            "/var/log/../lib",
            "relative",
            "",
        ] {
            assert!(refusal(Path::new(path)).is_some(), "{path}");
        }
    }

    #[test]
    fn directories_of_applications_may_be_cleaned() {
        for path in [
            "/var/log",
            "/var/log/shop",
            "/tmp",
            "/srv/shop/cache",
            "/home/ada/shop/logs",
            "/var/lib/shop/tmp",
            "/usr/local/shop/logs",
            "/opt/shop",
            "/data",
        ] {
            assert_eq!(refusal(Path::new(path)), None, "{path}");
        }
    }
}
