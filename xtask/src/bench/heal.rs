//! How long a killed target is away, beside the time it needs to start by itself.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use super::stack::{Stack, directory, free_address};
use super::{Setting, summary};
use crate::process::{end, end_pid, eventually, is_alive, read_pid};

const ANSWER_LIMIT: Duration = Duration::from_secs(30);
const CLOSE_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// A store that is up answers at once; one that hangs must not hold up the measurement.
const PING_LIMIT: Duration = Duration::from_millis(500);

/// Kills a store again and again and measures until it answers.
pub(super) fn measure(setting: &Setting) -> anyhow::Result<Value> {
    let dir = directory("heal")?;
    let address = free_address()?;
    let mut starts = Vec::new();
    for _ in 0..setting.runs {
        let begun = Instant::now();
        let mut store = start_store(setting, &dir, address)?;
        answered(address)?;
        starts.push(ms(begun.elapsed()));
        end(&mut store, STOP_LIMIT)?;
    }

    let store = start_store(setting, &dir, address)?;
    let pid_file = dir.join("store.pid");
    std::fs::write(&pid_file, store.id().to_string()).context("cannot write the pid file")?;
    answered(address)?;
    let stack = Stack::start(setting, &dir, &config(setting, &dir, address));
    let healed = stack.and_then(|stack| {
        let healed = kill_and_time(setting, &stack, store, &pid_file, address);
        stack.stop()?;
        healed
    });
    if let Some(pid) = read_pid(&pid_file).filter(|pid| is_alive(*pid)) {
        end_pid(pid, STOP_LIMIT);
    }
    let (away, closed) = healed.with_context(|| format!("see {}", dir.display()))?;
    let result = json!({
        "unit": "ms",
        "own_start": summary(starts),
        "kill_to_answer": summary(away),
        "kill_to_closed": summary(closed),
    });
    std::fs::remove_dir_all(&dir).context("cannot remove the directory")?;
    Ok(result)
}

fn kill_and_time(
    setting: &Setting,
    stack: &Stack,
    first: Child,
    pid_file: &Path,
    address: SocketAddr,
) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let (mut away, mut closed) = (Vec::new(), Vec::new());
    // Nobody waits for the first one but us: reaped, it does not stay as a zombie.
    let mut first = Some(first);
    for run in 1..=setting.runs {
        // The program does not write it: the fixer does, a moment after the start.
        let pid = eventually("the pid file names the store", CLOSE_LIMIT, || {
            read_pid(pid_file).filter(|pid| is_alive(*pid))
        })?;
        let begun = Instant::now();
        kill_process(pid, Signal::KILL).context("cannot kill the store")?;
        if let Some(mut child) = first.take() {
            child.wait().context("cannot wait for the store")?;
        }
        answered(address).with_context(|| format!("kill {run} of {}", setting.runs))?;
        away.push(ms(begun.elapsed()));
        let wanted = u64::from(run);
        eventually("the incident is resolved", CLOSE_LIMIT, || {
            let page = stack.get("/api/v1/incidents?status=resolved&limit=1").ok()?;
            (wanted <= page.get("total")?.as_u64()?).then_some(())
        })
        .with_context(|| format!("kill {run} of {}", setting.runs))?;
        closed.push(ms(begun.elapsed()));
    }
    Ok((away, closed))
}

fn start_store(setting: &Setting, dir: &Path, address: SocketAddr) -> anyhow::Result<Child> {
    Command::new(setting.binaries.join("demo-store"))
        .args(["--listen", &address.to_string()])
        .env("SELFHEAL_TARGET", "store")
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start the store")
}

fn answered(address: SocketAddr) -> anyhow::Result<()> {
    eventually("the store answers", ANSWER_LIMIT, || answers(address).then_some(()))
}

fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, PING_LIMIT)?;
        stream.set_read_timeout(Some(PING_LIMIT))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG\r\n")
    };
    ask().unwrap_or(false)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A policy that lets the bench kill as often as it likes; everything else is the default.
fn config(setting: &Setting, dir: &Path, address: SocketAddr) -> String {
    let program = setting.binaries.join("demo-store");
    json!({
        "targets": [{
            "name": "store",
            "process": {
                "command": [program, "--listen", address],
                "dir": dir,
                "pid_file": dir.join("store.pid"),
                "log": dir.join("store.log"),
            },
            "checks": [{"tcp": address, "every": "1s"}],
        }],
        "policy": {
            "autonomy": "auto",
            "soak": "500ms",
            "budget": {
                "per_target": "1000/h",
                "per_runbook": "1000/h",
                "fleet": "1000/h",
                "blast_radius": {"percent": 100, "count": 5},
            },
            "storm": {"percent": 100, "count": 20},
        },
    })
    .to_string()
}
