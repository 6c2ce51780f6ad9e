//! What the system costs while nothing happens, and how soon it is ready.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::stack::{Stack, directory, free_address};
use super::{Setting, rounded};

/// Processes settle this long before they are measured.
const SETTLE: Duration = Duration::from_secs(5);
/// `/proc` counts time in hundredths of a second on every Linux.
const TICKS_PER_S: f64 = 100.0;

/// One process, as `/proc` shows it.
#[derive(Debug, Clone)]
struct Process {
    pid: u32,
    parent: u32,
    name: String,
    ticks: u64,
    rss_kib: u64,
}

/// Starts a system with two quiet targets and watches it for `runs` seconds.
pub(super) fn measure(setting: &Setting) -> anyhow::Result<Value> {
    if !std::path::Path::new("/proc/self/stat").exists() {
        bail!("the footprint is read from /proc, which this system does not have");
    }
    let dir = directory("footprint")?;
    // Checks run and fail nothing: each looks at a port that this process listens on.
    let quiet = std::net::TcpListener::bind(free_address()?).context("cannot listen")?;
    let address = quiet.local_addr().context("cannot listen")?;
    let targets: Vec<Value> = ["one", "two"]
        .iter()
        .map(|name| json!({"name": name, "checks": [{"tcp": address, "every": "1s"}]}))
        .collect();
    let config = json!({"targets": targets, "policy": {"autonomy": "auto"}}).to_string();
    let stack = Stack::start(setting, &dir, &config)?;
    let watched = watch(&stack, Duration::from_secs(u64::from(setting.runs)));
    let ready_after = stack.ready_after;
    stack.stop()?;
    let processes = watched?;
    std::fs::remove_dir_all(&dir).context("cannot remove the directory")?;

    let is_counted = |name: &str| name.starts_with("selfheal-") || name == "nats-server";
    let total = |field: &str| -> f64 {
        let counted = processes.iter().filter(|it| it["name"].as_str().is_some_and(is_counted));
        rounded(counted.filter_map(|it| it[field].as_f64()).sum())
    };
    Ok(json!({
        "ready_s": rounded(ready_after.as_secs_f64() * 10.0) / 10.0,
        "agents_and_broker": {"rss_mib": total("rss_mib"), "cpu_percent": total("cpu_percent")},
        "processes": processes,
    }))
}

fn watch(stack: &Stack, window: Duration) -> anyhow::Result<Vec<Value>> {
    wait(SETTLE);
    let before = family(stack.pid())?;
    let begun = Instant::now();
    wait(window);
    let after = family(stack.pid())?;
    let seconds = begun.elapsed().as_secs_f64();
    let mut rows = Vec::new();
    for now in after {
        let Some(then) = before.iter().find(|then| then.pid == now.pid) else {
            bail!("{} was restarted while it was measured", now.name);
        };
        let ticks = u32::try_from(now.ticks - then.ticks).map_or(f64::NAN, f64::from);
        let kib = u32::try_from(now.rss_kib).map_or(f64::NAN, f64::from);
        rows.push(json!({
            "name": now.name,
            "rss_mib": rounded(kib / 1024.0),
            "cpu_percent": rounded(ticks / TICKS_PER_S / seconds * 1000.0) / 10.0,
        }));
    }
    Ok(rows)
}

#[expect(clippy::disallowed_methods, reason = "idleness is measured over a span of time")]
fn wait(span: Duration) {
    std::thread::sleep(span);
}

/// Returns the process and all its descendants.
fn family(root: u32) -> anyhow::Result<Vec<Process>> {
    let entries = std::fs::read_dir("/proc").context("cannot list processes")?;
    let all: Vec<Process> = entries
        .filter_map(|entry| process(entry.ok()?.file_name().to_str()?.parse().ok()?))
        .collect();
    let mut pids = vec![root];
    let mut found: Vec<Process> = Vec::new();
    while let Some(pid) = pids.pop() {
        found.extend(all.iter().filter(|it| it.pid == pid).cloned());
        pids.extend(all.iter().filter(|it| it.parent == pid).map(|it| it.pid));
    }
    found.sort_by(|left, right| left.name.cmp(&right.name));
    Ok(found)
}

/// Reads what `/proc` tells about a process; none when the process is gone.
fn process(pid: u32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    // From the third field on: state, parent, …, 14 and 15: user and system time.
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    // The whole name: the kernel's is cut at 15 bytes.
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let program = command.split(|byte| *byte == 0).next()?;
    let program = String::from_utf8_lossy(program).into_owned();
    Some(Process {
        pid,
        parent: u32::try_from(number(4)?).ok()?,
        name: program.rsplit('/').next()?.to_owned(),
        ticks: number(14)? + number(15)?,
        rss_kib: resident_kib(pid)?,
    })
}

fn resident_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
