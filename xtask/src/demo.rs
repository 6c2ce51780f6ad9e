//! The demo targets as processes: started once, found again by pid file, ended with the stack.

use std::fs::OpenOptions;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Pid;

use crate::process::{end_pid, eventually, is_alive, read_pid};

/// A demo target must listen within this time.
const START_LIMIT: Duration = Duration::from_secs(10);
/// A demo target must end within this time after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// One demo process: a target of `deploy/examples/quickstart.yaml`, with the same command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// The target's name in the configuration.
    pub(crate) name: &'static str,
    /// Program and arguments, as in the configuration.
    pub(crate) command: &'static [&'static str],
    /// Where it listens.
    pub(crate) address: &'static str,
}

/// The targets of `deploy/examples/quickstart.yaml`, the store first.
pub(crate) const TARGETS: [Target; 2] = [
    Target {
        name: "database",
        command: &["demo-store", "--listen", "127.0.0.1:6390", "--data", "data/demo/store.aof"],
        address: "127.0.0.1:6390",
    },
    Target {
        name: "shop",
        command: &["demo-shop", "--listen", "127.0.0.1:8081", "--store", "127.0.0.1:6390"],
        address: "127.0.0.1:8081",
    },
];

/// Where the demo's processes keep their pid files and logs.
#[derive(Debug)]
pub(crate) struct Demo {
    root: PathBuf,
    binaries: PathBuf,
    run: PathBuf,
}

impl Demo {
    /// The demo of the repository at `root`, with programs from `binaries`.
    pub(crate) fn new(root: &Path, binaries: &Path) -> Self {
        let run = root.join("data/run");
        Self { root: root.to_owned(), binaries: binaries.to_owned(), run }
    }

    /// Returns the pid file of a target.
    pub(crate) fn pid_file(&self, target: &Target) -> PathBuf {
        self.run.join(format!("{}.pid", target.name))
    }

    /// Starts the targets that do not run, and waits until all listen.
    pub(crate) fn start(&self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.run)
            .with_context(|| format!("cannot make {}", self.run.display()))?;
        for target in &TARGETS {
            if self.running(target).is_none() {
                self.start_one(target)?;
            }
            eventually(
                &format!("{} listens on {}", target.name, target.address),
                START_LIMIT,
                || listens(target.address).then_some(()),
            )
            .with_context(|| format!("see {}", self.log_file(target).display()))?;
        }
        Ok(())
    }

    /// Ends the targets, also those that were started again in the meantime.
    pub(crate) fn stop(&self) {
        for target in TARGETS.iter().rev() {
            if let Some(pid) = self.running(target) {
                end_pid(pid, STOP_LIMIT);
            }
            std::fs::remove_file(self.pid_file(target)).ok();
        }
    }

    /// Returns the process of the target, if it runs.
    pub(crate) fn running(&self, target: &Target) -> Option<Pid> {
        let pid = read_pid(&self.pid_file(target))?;
        (is_alive(pid) && is_of_target(pid, target.name)).then_some(pid)
    }

    fn start_one(&self, target: &Target) -> anyhow::Result<()> {
        if listens(target.address) {
            bail!(
                "{} is taken by another program, so the demo's {} cannot start there; end it first",
                target.address,
                target.name
            );
        }
        let Some((program, args)) = target.command.split_first() else {
            bail!("the demo target {} has no command", target.name);
        };
        let path = self.log_file(target);
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("cannot write {}", path.display()))?;
        // A process group of its own: Ctrl-C in our terminal is not meant for it. We end it.
        let mut child = Command::new(self.binaries.join(program))
            .args(args)
            .current_dir(&self.root)
            .env("SELFHEAL_TARGET", target.name)
            .env("SELFHEAL_STATE_DIR", &self.run)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share the log file")?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let pid_file = self.pid_file(target);
        let written = std::fs::write(&pid_file, format!("{}\n", child.id()));
        // Killed by the one who tries it out, it must not stay as a zombie of ours.
        std::thread::spawn(move || child.wait());
        written.with_context(|| format!("cannot write {}", pid_file.display()))
    }

    fn log_file(&self, target: &Target) -> PathBuf {
        self.run.join(format!("{}.log", target.name))
    }
}

fn listens(address: &str) -> bool {
    let Ok(address) = address.parse::<SocketAddr>() else { return false };
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
}

/// Tells whether the process was started as this target, so that a reused pid is not taken for it.
fn is_of_target(pid: Pid, name: &str) -> bool {
    match std::fs::read(format!("/proc/{pid}/environ")) {
        Ok(environment) => {
            let wanted = format!("SELFHEAL_TARGET={name}");
            environment.split(|byte| *byte == 0).any(|pair| pair == wanted.as_bytes())
        }
        // No /proc on this system: the pid file is all there is.
        Err(_) => !Path::new("/proc/self").exists(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickstart_configuration_has_the_same_commands() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/quickstart.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        for target in TARGETS {
            assert!(text.contains(&format!("- name: {}\n", target.name)), "{}", target.name);
            let quoted: Vec<String> =
                target.command.iter().map(|word| format!("\"{word}\"")).collect();
            let command = format!("command: [{}]", quoted.join(", "));
            assert!(text.contains(&command), "{command} is not in quickstart.yaml");
            let pid_file = format!("pid_file: data/run/{}.pid", target.name);
            assert!(text.contains(&pid_file), "{pid_file} is not in quickstart.yaml");
        }
    }
}
