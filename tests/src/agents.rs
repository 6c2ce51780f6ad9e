//! Our own agents as processes, each started and ended by itself.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::stack::binary;

/// One agent. Killed with SIGKILL when dropped.
#[derive(Debug)]
pub struct Agent {
    kind: &'static str,
    dir: PathBuf,
    url: String,
    more: Vec<String>,
    env: Vec<(String, String)>,
    child: Option<Child>,
}

impl Agent {
    /// Starts `selfheal-<kind>` in a directory of its own, at the broker of this URL.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn start(kind: &'static str, dir: &Path, url: &str, more: &[&str]) -> Self {
        Self::start_with(kind, dir, url, more, &[])
    }

    /// As [`Self::start`], with more variables in its environment.
    ///
    /// # Panics
    ///
    /// As [`Self::start`].
    #[must_use]
    pub fn start_with(
        kind: &'static str,
        dir: &Path,
        url: &str,
        more: &[&str],
        env: &[(String, String)],
    ) -> Self {
        let more = more.iter().map(|it| (*it).to_owned()).collect();
        let (dir, url, env) = (dir.to_owned(), url.to_owned(), env.to_vec());
        let mut agent = Self { kind, dir, url, more, env, child: None };
        agent.restart();
        agent
    }

    /// Starts it again as it was started before; kills it first if it runs.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[expect(clippy::unwrap_used, reason = "without its agents there is no test")]
    pub fn restart(&mut self) {
        self.kill();
        std::fs::create_dir_all(&self.dir).unwrap();
        let log = self.dir.join(format!("{}.log", self.kind));
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(binary(&format!("selfheal-{}", self.kind)));
        command.args(["--nats-url", &self.url]).args(&self.more).current_dir(&self.dir);
        command.env("SELFHEAL_SECRETS_DIR", &self.dir);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    /// Returns its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Returns its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Kills it with SIGKILL, and returns when it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have died by itself: gone is gone.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[expect(clippy::unwrap_used, reason = "the agent is ours")]
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    /// Asks it to end, as a service manager does, and returns its exit code when it has.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub async fn stop(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.wait().await
    }

    /// Waits until it ends by itself, and returns its exit code.
    ///
    /// # Panics
    ///
    /// When it does not run.
    #[expect(clippy::unwrap_used, reason = "the agent is ours")]
    pub async fn wait(&mut self) -> i32 {
        let mut child = self.child.take().unwrap();
        let ended = tokio::task::spawn_blocking(move || child.wait()).await;
        ended.unwrap().unwrap().code().unwrap_or(-1)
    }

    /// Returns what it has said so far.
    #[must_use]
    pub fn said(&self) -> String {
        let log = self.dir.join(format!("{}.log", self.kind));
        std::fs::read_to_string(log).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let said = self.said();
            let last: Vec<&str> = said.lines().rev().take(40).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            #[expect(clippy::print_stderr, reason = "a failed test shows what its agents said")]
            {
                eprintln!("--- {} in {}\n{}", self.kind, self.dir.display(), last.join("\n"));
            }
        }
    }
}
