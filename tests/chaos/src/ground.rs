//! The targets of a run, seen from outside: their configuration, and how they are broken.

use std::{
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{broker::free_address, process::Kept, target::Mark};

/// How long a target must stay well to be called so.
pub const SOAK: Duration = Duration::from_millis(500);

/// Targets that are processes; fixers start them.
const N_SERVICES: usize = 5;
/// Targets that are mended by a program of theirs.
const N_BOXES: usize = 3;

/// How a target is healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cure {
    /// It is a process, and started again.
    Restart,
    /// A program is run, which takes its sickness away.
    Mend,
}

/// One target.
#[derive(Debug)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// How it is healed.
    pub cure: Cure,
    /// Where it answers.
    pub address: SocketAddr,
    /// A box is kept alive by us: it is only ever sick.
    kept: Option<Kept>,
}

/// All targets.
#[derive(Debug)]
pub struct Ground {
    /// The targets.
    pub targets: Vec<Target>,
    dir: PathBuf,
    state_dir: PathBuf,
    program: PathBuf,
}

impl Ground {
    /// Makes the targets. The processes among them are not running: the first thing that the
    /// system has to do is to start them.
    ///
    /// # Errors
    ///
    /// When a box cannot be started.
    pub fn make(dir: &Path, state_dir: &Path, program: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let (dir, state_dir, program) = (dir.to_owned(), state_dir.to_owned(), program.to_owned());
        let mut ground = Self { targets: Vec::new(), dir, state_dir, program };
        let services = (1..=N_SERVICES).map(|n| (format!("svc-{n}"), Cure::Restart));
        let boxes = (1..=N_BOXES).map(|n| (format!("box-{n}"), Cure::Mend));
        for (name, cure) in services.chain(boxes) {
            let address = free_address()?;
            let mut target = Target { name, cure, address, kept: None };
            if cure == Cure::Mend {
                let words = ground.command(&target);
                let log = ground.dir.join(format!("{}.output", target.name));
                let kept = Kept::start(target.name.clone(), log, move || command(&words))?;
                target.kept = Some(kept);
            }
            ground.targets.push(target);
        }
        Ok(ground)
    }

    /// Returns the processes that we keep ourselves.
    pub fn kept(&self) -> impl Iterator<Item = &Kept> {
        self.targets.iter().filter_map(|it| it.kept.as_ref())
    }

    /// Returns the directory of the records.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn command(&self, target: &Target) -> Vec<String> {
        let words = [
            self.program.display().to_string(),
            "target".to_owned(),
            format!("--dir={}", self.dir.display()),
            format!("--name={}", target.name),
            format!("--listen={}", target.address),
            format!("--owner={}", std::process::id()),
        ];
        words.into()
    }

    /// Returns the configuration, as a person would write it.
    #[must_use]
    pub fn config(&self) -> String {
        let targets: Vec<_> = self.targets.iter().map(|it| self.config_of(it)).collect();
        let mend = [
            self.program.display().to_string(),
            "mend".to_owned(),
            format!("--dir={}", self.dir.display()),
            "{target}".to_owned(),
        ];
        let config = json!({
            "targets": targets,
            "runbooks": [{
                "name": "mend-box", "title": "Mend the box", "risk": "low",
                "when": {"events": ["service_down"], "labels": {"kind": "box"}},
                "steps": [{"action": "command.run", "command": mend, "timeout": "5s"}],
            }, {
                // Here a process that ends again and again is no reason to give it up.
                "name": "restart-anyway", "title": "Start it once more", "risk": "low",
                "when": {"causes": ["crash_loop", "flapping"], "handle": "process"},
                "steps": [{"action": "process.restart", "timeout": "10s"}],
            }],
            "policy": {
                "budget": {"per_target": "100000/h", "per_runbook": "100000/h", "fleet": "100000/h",
                    "blast_radius": {"percent": 100, "count": 100}},
                "storm": {"percent": 100, "count": 1000},
                "breaker": {"failures": 1000, "within": "10m", "reset_after": "10s"},
                "soak": format!("{}ms", SOAK.as_millis()),
                "backoff": "500ms",
                "verify_within": "10s",
                "diagnosis_timeout": "20s",
                "plan_max_age": "20s",
                "runbooks": {"restart-hung-process": {"autonomy": "auto"}},
                "notify": [{"log": true}],
            },
        });
        // JSON is YAML.
        format!("{config:#}\n")
    }

    #[expect(clippy::indexing_slicing, reason = "a JSON object takes any field")]
    fn config_of(&self, target: &Target) -> Value {
        let mut one = json!({
            "name": target.name,
            "checks": [{"http": format!("http://{}/health", target.address), "every": "200ms",
                "timeout": "1s", "fail_after": 2}],
        });
        match target.cure {
            Cure::Restart => {
                one["process"] = json!({"command": self.command(target), "stop_timeout": "1s"});
            }
            Cure::Mend => one["labels"] = json!({"kind": "box"}),
        }
        match target.name.as_str() {
            "svc-2" => one["depends_on"] = json!(["svc-1"]),
            // A person must agree.
            "svc-5" => one["autonomy"] = json!("approve"),
            _ => {}
        }
        one
    }

    /// Sends a signal to the process of a target; says whether there was one.
    #[must_use]
    pub fn signal(&self, target: &Target, signal: Signal) -> bool {
        let file = self.state_dir.join(format!("{}.pid", target.name));
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else { return false };
        // The number may belong to somebody else by now.
        let ours = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
        let name = format!("--name={}", target.name);
        let is_ours = ours.is_ok_and(|it| it.split(|it| *it == 0).any(|it| it == name.as_bytes()));
        is_ours && kill_process(pid, signal).is_ok()
    }

    /// Sets or removes a mark of a target.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written.
    pub fn mark(&self, target: &Target, mark: Mark, on: bool) -> anyhow::Result<()> {
        mark.set(&self.dir, &target.name, on).context("cannot mark a target")
    }

    /// Takes away all that keeps targets from being healed.
    ///
    /// # Errors
    ///
    /// As [`Self::mark`].
    pub fn relent(&self) -> anyhow::Result<()> {
        self.targets.iter().try_for_each(|it| self.mark(it, Mark::Hopeless, false))
    }

    /// Returns the targets that are sick now.
    #[must_use]
    pub fn sick(&self) -> Vec<String> {
        let sick = self.targets.iter().filter(|it| !it.is_well());
        sick.map(|it| it.name.clone()).collect()
    }

    /// Ends all targets.
    pub fn end(&self) {
        for target in &self.targets {
            match &target.kept {
                Some(kept) => kept.end(),
                None => drop(self.signal(target, Signal::KILL)),
            }
        }
    }
}

impl Target {
    fn is_well(&self) -> bool {
        use std::io::{Read as _, Write as _};
        let ask = || -> std::io::Result<String> {
            let limit = Duration::from_secs(2);
            let mut stream = TcpStream::connect_timeout(&self.address, limit)?;
            stream.set_read_timeout(Some(limit))?;
            stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|it| it.starts_with("HTTP/1.1 200"))
    }
}

fn command(words: &[String]) -> Command {
    let mut words = words.iter();
    let mut command = Command::new(words.next().cloned().unwrap_or_default());
    command.args(words);
    command
}
