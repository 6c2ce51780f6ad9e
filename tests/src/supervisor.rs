//! A supervisor alone with a broker: what decides, without hands.

use std::{
    path::Path,
    process::{Child, Command},
    time::Duration,
};

use bus::testing::Broker;
use domain::{
    event::{Event, EventType},
    view::{LogLine, Query, SystemView},
    wire::{Answer, Input},
};

use crate::{eventually, stack::binary};

/// How long one question may take; a new one is asked then.
const ASK: Duration = Duration::from_secs(2);

/// A running supervisor. Killed with SIGKILL when dropped.
#[derive(Debug)]
pub struct Supervisor(Child);

impl Supervisor {
    /// Starts one whose data directory is `dir`.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn start(broker: &Broker, dir: &Path) -> Self {
        Self::spawn(Command::new(binary("selfheal-supervisor")), broker, dir)
    }

    /// Starts one whose data directory is `dir`, a file system of its own of so many KiB.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn on_small_disk(broker: &Broker, dir: &Path, kib: u32) -> Self {
        // In namespaces of its own, where an ordinary user may mount as well.
        let mut command = Command::new("unshare");
        let script =
            format!("mount -t tmpfs -o size={kib}k none . && cd \"$PWD\" && exec \"$0\" \"$@\"");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
        command.arg(binary("selfheal-supervisor"));
        Self::spawn(command, broker, dir)
    }

    #[expect(clippy::unwrap_used, reason = "without a supervisor there is no test")]
    fn spawn(mut command: Command, broker: &Broker, dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let log = std::fs::File::create(dir.join("stderr")).unwrap();
        command.args(["--nats-url", &broker.url(), "--data-dir", "."]);
        Self(command.current_dir(dir).stderr(log).spawn().unwrap())
    }

    /// Returns its process id.
    #[must_use]
    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.0)
    }

    /// Waits until it ends by itself, and returns its exit code.
    ///
    /// # Panics
    ///
    /// When it was killed.
    #[expect(clippy::unwrap_used, reason = "the child is ours")]
    pub fn wait(&mut self) -> i32 {
        self.0.wait().unwrap().code().unwrap()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// Returns the lines of the log in a data directory.
#[must_use]
pub fn log(dir: &Path) -> Vec<LogLine> {
    let text = std::fs::read_to_string(dir.join("incident_logs.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Publishes an event until a supervisor has answered it.
///
/// # Panics
///
/// When nobody answers in time.
#[expect(clippy::unwrap_used, reason = "the type is legal")]
pub async fn publish(bus: &bus::Bus, id: &str) -> Answer {
    let kind = format!("trouble_{id}").parse::<EventType>().unwrap();
    let event = Event::new(id, kind, "test");
    eventually("the event is answered", || async {
        let input = Input::Event(event.clone());
        match bus.ask::<Answer>(&bus.inbox_writer(), input, id.to_owned(), ASK).await {
            Ok(bus::Asked::Answer(answer)) => Ok(answer),
            Ok(bus::Asked::Accepted) => Err("stored, not answered".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

/// Asks a supervisor how the system is.
///
/// # Errors
///
/// When none answers.
pub async fn status(bus: &bus::Bus) -> Result<SystemView, String> {
    let subject = bus.subjects().query("status");
    let question = serde_json::to_vec(&Query::Status).unwrap_or_default();
    let answer = bus.request(subject, question.into(), ASK).await;
    let answer = answer.map_err(|error| error.to_string())?;
    serde_json::from_slice(&answer).map_err(|error| error.to_string())
}

/// Waits until a supervisor leads, and returns its name.
///
/// # Panics
///
/// When nobody leads in time.
pub async fn leader(bus: &bus::Bus) -> String {
    eventually("somebody leads", || async {
        status(bus).await?.leader.ok_or_else(|| "nobody".to_owned())
    })
    .await
}
