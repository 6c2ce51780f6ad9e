//! From `kill -9` of the supervisor to the next decision.
//!
//! The ledger is filled with repeats of 1,000 fingerprints: more than are ever under way at
//! once, so that each event is one decision.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use async_nats::jetstream;
use bus::roles::Role;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};

use crate::{
    Setting,
    histogram::Histogram,
    load::{Bodies, Load, Pace},
    scaled,
    stack::{Stack, Wanted, eventually, quiet_config},
};

const DECISIONS: [u64; 2] = [100_000, 1_000_000];
const FINGERPRINTS: u64 = 1_000;
const CONNECTIONS: usize = 64;
const SPAN: Duration = Duration::from_secs(24 * 60 * 60);
const LIMIT: Duration = Duration::from_secs(120);
/// Kills at each size.
const KILLS_MAX: u32 = 5;
const SUPERVISOR: &str = "selfheal-supervisor";
const LOG: &str = "incident_logs.jsonl";
const LEDGER: &str = "SELFHEAL_LEDGER";

/// Measures.
///
/// # Errors
///
/// When the system does not start, or decides no more.
pub async fn measure(setting: &Setting) -> anyhow::Result<Value> {
    let config = quiet_config()?;
    let stack = Stack::start(setting, &Wanted { config: &config, sync: &setting.sync, dir: None })?;
    let ledger = jetstream::new(stack.nats(Role::Supervisor).await?);
    let js = jetstream::new(stack.nats(Role::Publisher).await?);
    let mut told = Map::new();
    for wanted in DECISIONS {
        let wanted = scaled(wanted, setting.scale);
        fill(&stack, wanted).await?;
        let before = facts(&stack, &ledger).await?;
        let mut took = Histogram::default();
        for run in 0..setting.runs.min(KILLS_MAX) {
            stack.until_idle().await;
            let logs = [stack.dir.join("data").join(LOG)];
            let name = format!("recover-{wanted}-{run}");
            let kill = || stack.kill(SUPERVISOR);
            took.record(until_decided(&js, &logs, &name, kill).await?);
        }
        let row = json!({"ms": took.summary(), "before": before, "rss_mib": stack.memory()});
        told.insert(format!("with_{wanted}_decisions"), row);
    }
    told.insert("failover".to_owned(), failover(setting, &stack, &js).await?);
    Ok(told.into())
}

/// Sends repeats until there are so many decisions.
async fn fill(stack: &Stack, wanted: u64) -> anyhow::Result<()> {
    loop {
        let n_decisions = n_decisions(stack).await?;
        if wanted <= n_decisions {
            return Ok(());
        }
        let load = Load {
            address: stack.api,
            path: "/publish_event",
            token: None,
            connections: CONNECTIONS,
            span: SPAN,
            requests_max: wanted - n_decisions,
            pace: Pace::Closed,
            bodies: Bodies::repeated(FINGERPRINTS),
        };
        load.run().await?;
    }
}

async fn n_decisions(stack: &Stack) -> anyhow::Result<u64> {
    let status = stack.get("/api/v1/status").await?;
    let n_decisions = status.pointer("/system/n_decisions").and_then(Value::as_u64);
    n_decisions.context("no supervisor tells its decisions")
}

/// Tells what a start has before it: a snapshot, and the messages behind it.
async fn facts(stack: &Stack, js: &jetstream::Context) -> anyhow::Result<Value> {
    let n_decisions = n_decisions(stack).await?;
    let stream = js.get_stream(LEDGER).await.context("there is no ledger")?;
    let state = stream.get_info().await.context("cannot inspect the ledger")?.state;
    Ok(json!({
        "n_decisions": n_decisions,
        "n_ledger_messages_ever": state.last_sequence,
        "n_ledger_messages_kept": state.messages,
    }))
}

/// Kills, publishes an event, and waits for its line in one of the logs.
async fn until_decided(
    js: &jetstream::Context,
    logs: &[PathBuf],
    name: &str,
    kill: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Duration> {
    let before: Vec<u64> = logs.iter().map(|log| length(log)).collect();
    let begun = Instant::now();
    kill()?;
    let body = json!({"type": "service_down", "payload": {"service": name}}).to_string();
    let acked = js.publish("selfheal.event.service_down", body.into()).await?;
    acked.await.context("the event was not accepted")?;
    eventually("the event is decided", LIMIT, async || {
        let told = logs.iter().zip(&before).any(|(log, from)| tells(log, *from, name));
        told.then(|| begun.elapsed())
    })
    .await
}

fn length(log: &Path) -> u64 {
    std::fs::metadata(log).map_or(0, |it| it.len())
}

/// Returns whether the log names this behind `from`; a file that is shorter is a new one.
fn tells(log: &Path, from: u64, name: &str) -> bool {
    let found = || -> std::io::Result<bool> {
        let mut file = File::open(log)?;
        let from = if file.metadata()?.len() < from { 0 } else { from };
        file.seek(SeekFrom::Start(from))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).contains(name))
    };
    found().unwrap_or(false)
}

/// A second supervisor stands by; the one that leads is killed, whichever it is.
async fn failover(
    setting: &Setting,
    stack: &Stack,
    js: &jetstream::Context,
) -> anyhow::Result<Value> {
    let mut other = Standby::start(setting, stack)?;
    other.has_all(stack).await?;
    let mut took = Histogram::default();
    let mut own_leads = true;
    for run in 0..setting.runs.min(KILLS_MAX) {
        stack.until_idle().await;
        let logs = [stack.dir.join("data").join(LOG), other.dir.join(LOG)];
        let name = format!("failover-{run}");
        let kill = || if own_leads { stack.kill(SUPERVISOR) } else { other.kill() };
        took.record(until_decided(js, &logs, &name, kill).await?);
        own_leads = !own_leads;
        if own_leads {
            other.again()?;
        }
        other.has_all(stack).await?;
    }
    Ok(json!({"ms": took.summary()}))
}

/// A supervisor beside those of the stack.
struct Standby {
    child: Child,
    dir: PathBuf,
    program: PathBuf,
    url: String,
    key: PathBuf,
}

impl Standby {
    fn start(setting: &Setting, stack: &Stack) -> anyhow::Result<Self> {
        let dir = stack.dir.join("standby");
        std::fs::create_dir_all(&dir).context("cannot make a directory")?;
        let program = setting.binaries.join(SUPERVISOR);
        let url = stack.nats_url(Role::Supervisor)?;
        let key = stack.dir.join("data/run/signing.key");
        let child = spawn(&program, (&url, &key), &dir)?;
        Ok(Self { child, dir, program, url, key })
    }

    fn kill(&self) -> anyhow::Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::KILL).context("cannot kill the standby")
    }

    fn again(&mut self) -> anyhow::Result<()> {
        self.child.wait().context("cannot wait for the standby")?;
        self.child = spawn(&self.program, (&self.url, &self.key), &self.dir)?;
        Ok(())
    }

    /// Waits until both logs end with the same line: then either may lead.
    async fn has_all(&self, stack: &Stack) -> anyhow::Result<()> {
        let leader = stack.dir.join("data").join(LOG);
        let standby = self.dir.join(LOG);
        eventually("both supervisors have all decisions", LIMIT, async || {
            let (one, other) = (last_line(&leader)?, last_line(&standby)?);
            (one == other).then_some(())
        })
        .await
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn spawn(program: &Path, (url, key): (&str, &Path), dir: &Path) -> anyhow::Result<Child> {
    let log = File::create(dir.join("stderr")).context("cannot write a log")?;
    Command::new(program)
        .args(["--data-dir", "."])
        .current_dir(dir)
        .env("SELFHEAL_NATS_URL", url)
        .env("SELFHEAL_SIGNING_KEY", key)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("cannot start a standby")
}

fn last_line(log: &Path) -> Option<Vec<u8>> {
    const LINE_MAX: u64 = 64 * 1024;
    let mut file = File::open(log).ok()?;
    let from = file.metadata().ok()?.len().saturating_sub(LINE_MAX);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).ok()?;
    text.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).map(<[u8]>::to_vec)
}
