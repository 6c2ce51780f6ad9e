//! The local list: what this monitor may run, reach and read, whatever the configuration says.
//!
//! | list | limits | absent |
//! |---|---|---|
//! | `programs` | `command` checks | none |
//! | `hosts` | `http`, `tcp` and `prometheus` checks, and evidence | any |
//! | `reads` | logs of processes | those in the state directory |
//!
//! With `--allow all`, what is absent limits nothing. Whatever the list says, no connection leads to
//! an address that [`service::outgoing`] refuses.

use std::{
    env,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use domain::{
    check::{Check, Probe},
    redact,
};
use service::{
    ConfigError,
    local_list::{self, Hosts, ListFile, Programs},
};

use crate::Args;

/// How the file is named.
const FLAG: &str = "--allow-file (SELFHEAL_MONITOR_ALLOW_FILE)";

/// What this monitor may run, reach and read.
#[derive(Clone, Debug, Default)]
pub struct AllowList {
    all: bool,
    programs: Option<Programs>,
    hosts: Option<Hosts>,
    reads: Option<Vec<PathBuf>>,
}

impl AllowList {
    /// Puts the list together from the flags and the file.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with line and column of what is wrong in the file.
    pub fn load(args: &Args) -> Result<Self, ConfigError> {
        let given = |text: &Option<String>| text.clone().filter(|it| !it.trim().is_empty());
        let all = match given(&args.allow).as_deref().map(str::trim) {
            None => false,
            Some("all") => true,
            Some(other) => {
                return Err(ConfigError::new(
                    format!("`{other}` in --allow (SELFHEAL_MONITOR_ALLOW) means nothing"),
                    format!("use `all`, or list what is allowed in the file of {FLAG}"),
                ));
            }
        };
        let file = match given(&args.allow_file) {
            Some(path) => local_list::read(Path::new(&path), FLAG)?,
            None => ListFile::default(),
        };
        Ok(Self { all, programs: file.programs, hosts: file.hosts, reads: file.reads })
    }

    /// Returns a list that limits nothing.
    #[must_use]
    pub fn everything() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Returns the addresses that `hosts` writes out.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = service::outgoing::Network> {
        self.hosts.iter().flat_map(Hosts::addresses)
    }

    /// Says whether a check may be asked here.
    ///
    /// # Errors
    ///
    /// What is not allowed, and how it would be.
    pub fn permits(&self, check: &Check) -> Result<(), String> {
        match check.probe() {
            Ok(Probe::Command(command)) => self.command(command),
            Ok(Probe::Http(url)) => self.url(url),
            Ok(Probe::Prometheus(prometheus)) => self.url(&prometheus.url),
            Ok(Probe::Tcp(address)) => {
                self.host(address.rsplit_once(':').map_or(address, |it| it.0), address)
            }
            Ok(Probe::Process | Probe::Docker | Probe::Disk(_) | Probe::Memory | Probe::Cpu)
            | Err(_) => Ok(()),
        }
    }

    fn command(&self, command: &[String]) -> Result<(), String> {
        let is_allowed = match &self.programs {
            None => self.all,
            Some(programs) => command
                .first()
                .and_then(|program| found(program))
                .is_some_and(|found| programs.allow(command, &found, true)),
        };
        if is_allowed {
            return Ok(());
        }
        Err(format!(
            "the command `{}` is not allowed on this monitor; add it to `programs` in the file of {FLAG}, or start the monitor with --allow all (SELFHEAL_MONITOR_ALLOW)",
            redact::text(&command.join(" "))
        ))
    }

    /// Says whether a URL may be asked here.
    ///
    /// # Errors
    ///
    /// As [`Self::permits`].
    pub(crate) fn url(&self, url: &str) -> Result<(), String> {
        // One that cannot be read fails where it is asked.
        let Ok(url) = reqwest::Url::parse(url) else { return Ok(()) };
        let host = url.host_str().unwrap_or_default();
        self.host(host, &format!("{host}:{}", url.port_or_known_default().unwrap_or_default()))
    }

    fn host(&self, host: &str, with_port: &str) -> Result<(), String> {
        if self.hosts.as_ref().is_none_or(|it| it.allow(host, with_port)) {
            return Ok(());
        }
        Err(format!(
            "the host {with_port} is not allowed on this monitor; add it to `hosts` in the file of {FLAG}"
        ))
    }

    /// Returns the path of a log, as it may be read: in the state directory or in one that is
    /// listed, also behind all links. Looks at the file system.
    pub(crate) fn readable(&self, log: &Path, state_dir: &Path) -> Option<PathBuf> {
        if self.all && self.reads.is_none() {
            return Some(log.to_path_buf());
        }
        // What is not there may be read: there is nothing.
        let Ok(real) = log.canonicalize() else { return Some(log.to_path_buf()) };
        let mut dirs = self.reads.iter().flatten().map(PathBuf::as_path).chain([state_dir]);
        dirs.any(|dir| dir.canonicalize().is_ok_and(|dir| real.starts_with(dir))).then_some(real)
    }
}

/// Returns the whole path of a program, as it will be found.
fn found(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return std::path::absolute(program).ok();
    }
    let is_program = |path: &PathBuf| {
        let meta = path.metadata();
        meta.is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(is_program)
}

#[cfg(test)]
mod tests {
    use domain::check::PrometheusCheck;

    use super::*;

    fn list(yaml: &str) -> AllowList {
        let file = ListFile::parse(Path::new("allow.yaml"), yaml).unwrap();
        AllowList { all: false, programs: file.programs, hosts: file.hosts, reads: file.reads }
    }

    fn args(allow: &str) -> Args {
        Args { state_dir: PathBuf::from("run"), allow: Some(allow.to_owned()), allow_file: None }
    }

    fn runs(command: &[&str]) -> Check {
        let command = command.iter().map(|it| (*it).to_owned()).collect();
        Check { command: Some(command), ..Check::blank() }
    }

    #[test]
    fn without_a_list_no_command_is_run() {
        let none = AllowList::load(&args("")).unwrap();
        let told = none.permits(&runs(&["/bin/sh", "-c", "id"])).unwrap_err();
        for word in ["/bin/sh -c id", "--allow-file", "SELFHEAL_MONITOR_ALLOW"] {
            assert!(told.contains(word), "{told}");
        }
        assert_eq!(none.permits(&Check::of_process()), Ok(()));
        let http = Check { http: Some("http://127.0.0.1:1/".to_owned()), ..Check::blank() };
        assert_eq!(none.permits(&http), Ok(()));
        let all = AllowList::load(&args("all")).unwrap();
        assert_eq!(all.permits(&runs(&["/bin/sh", "-c", "id"])), Ok(()));
        assert!(AllowList::load(&args("command")).is_err());
    }

    #[test]
    fn commands_are_allowed_with_their_arguments() {
        let list = list("programs: [\"sh -c true\", \"/usr/bin/env\"]");
        for (command, allowed) in [
            (&["sh", "-c", "true"][..], true),
            (&["sh", "-c", "id"], false),
            (&["/tmp/sh", "-c", "true"], false),
            (&["/usr/bin/env"], true),
            (&["env"], true),
            (&["env", "id"], false),
            (&["no-such-program"], false),
        ] {
            let check = runs(command);
            assert_eq!(list.permits(&check).is_ok(), allowed, "{command:?}");
        }
    }

    #[test]
    fn hosts_bind_all_that_is_asked_over_the_network() {
        let list = list("hosts: [\"127.0.0.1:8081\", \"*.internal\"]");
        let http = |it: &str| Check { http: Some(it.to_owned()), ..Check::blank() };
        let tcp = |it: &str| Check { tcp: Some(it.to_owned()), ..Check::blank() };
        let prometheus = |url: &str| {
            let (url, query) = (url.to_owned(), "up".to_owned());
            let prometheus = Some(PrometheusCheck { url, query, sick: None });
            Check { prometheus, ..Check::blank() }
        };
        for (check, allowed) in [
            (http("http://127.0.0.1:8081/x"), true),
            (http("http://127.0.0.1/x"), false),
            (tcp("127.0.0.1:8081"), true),
            (tcp("127.0.0.1:22"), false),
            (prometheus("http://prom.internal:9090"), true),
            (prometheus("http://evil.example"), false),
        ] {
            assert_eq!(list.permits(&check).is_ok(), allowed, "{check:?}");
        }
    }

    #[test]
    fn logs_are_read_only_where_that_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let file = |name: &str| {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "secret").unwrap();
            path
        };
        let (own, listed, other) = (file("run/a.log"), file("logs/a.log"), file("etc/shadow"));
        let link = root.join("run/link.log");
        std::os::unix::fs::symlink(&other, &link).unwrap();
        let up = root.join("run/../etc/shadow");
        let list = list(&format!("reads: [\"{}/logs\"]", root.display()));
        let none = AllowList::default();
        let state_dir = root.join("run");
        for (path, with_list, without) in [
            (&own, true, true),
            (&listed, true, false),
            (&other, false, false),
            (&link, false, false),
            (&up, false, false),
        ] {
            let told = path.display();
            assert_eq!(list.readable(path, &state_dir).is_some(), with_list, "{told}");
            assert_eq!(none.readable(path, &state_dir).is_some(), without, "{told}");
            assert!(AllowList::everything().readable(path, &state_dir).is_some(), "{told}");
        }
    }
}
