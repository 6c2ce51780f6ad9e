//! What `/proc` tells about processes: processor time, memory.

use std::collections::BTreeMap;

/// `/proc` counts time in hundredths of a second on every Linux.
const TICKS_PER_S: f64 = 100.0;

/// One process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    parent: u32,
    /// Its program.
    pub name: String,
    /// User and system time.
    pub cpu_s: f64,
    /// Resident memory.
    pub rss_mib: f64,
}

/// Returns the process `root` and all its descendants.
#[must_use]
pub fn family(root: u32) -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let all: Vec<Process> =
        entries.filter_map(|entry| process(entry.file_name().to_str()?.parse().ok()?)).collect();
    let mut pids = vec![root];
    let mut found: Vec<Process> = Vec::new();
    while let Some(pid) = pids.pop() {
        found.extend(all.iter().filter(|it| it.pid == pid).cloned());
        pids.extend(all.iter().filter(|it| it.parent == pid).map(|it| it.pid));
    }
    found
}

/// Reads what `/proc` tells about a process; none when the process is gone.
#[must_use]
pub fn process(pid: u32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    // From the third field on: state, parent, …, 14 and 15: user and system time.
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<u32>().ok();
    // The whole name: the kernel's is cut at 15 bytes.
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let program = String::from_utf8_lossy(command.split(|byte| *byte == 0).next()?).into_owned();
    Some(Process {
        pid,
        parent: number(4)?,
        name: program.rsplit('/').next()?.to_owned(),
        cpu_s: f64::from(number(14)? + number(15)?) / TICKS_PER_S,
        rss_mib: f64::from(resident_kib(pid)?) / 1024.0,
    })
}

fn resident_kib(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Returns the processor time that each program took between two looks.
#[must_use]
pub fn cpu_between(before: &[Process], after: &[Process]) -> BTreeMap<String, f64> {
    let mut spent = BTreeMap::new();
    for now in after {
        let then = before.iter().find(|it| it.pid == now.pid).map_or(0.0, |it| it.cpu_s);
        *spent.entry(now.name.clone()).or_insert(0.0) += now.cpu_s - then;
    }
    spent
}
