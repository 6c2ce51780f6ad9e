//! The host: processors, memory, disks, pressure.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::wire::HostState;
use tokio::time::Instant;

use crate::instruments::Instruments;

/// Two readings of the processors are compared only when they lie so far apart: the
/// kernel counts in hundredths of a second.
const CPU_WINDOW_MIN: Duration = Duration::from_millis(500);

/// An older reading tells nothing about now.
const CPU_WINDOW_MAX: Duration = Duration::from_secs(15);

/// Readings that are kept.
const N_READINGS_MAX: usize = 64;

/// Mounts that are looked at for one answer.
const N_MOUNTS_MAX: usize = 32;

/// Time for all disks together; one that hangs is left out.
const DISKS_TIMEOUT: Duration = Duration::from_millis(300);

/// File systems that hold data and whose kernel side does not wait for a network.
const LOCAL_FILE_SYSTEMS: [&str; 9] =
    ["ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "overlay", "vfat"];

/// Measures how busy the processors are, from readings that all askers share.
#[derive(Clone, Debug, Default)]
pub struct CpuMeter(Arc<Mutex<VecDeque<Reading>>>);

/// Ticks since the host's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    at: Instant,
    busy: u64,
    all: u64,
}

impl CpuMeter {
    /// Returns how busy all processors have been lately, in per cent.
    ///
    /// Waits for a short moment when nobody has asked lately.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell.
    pub async fn percent(&self) -> io::Result<f64> {
        let mut now = Reading::take()?;
        let before = if let Some(before) = self.before(now) {
            before
        } else {
            self.keep(now);
            tokio::time::sleep(CPU_WINDOW_MIN).await;
            let before = now;
            now = Reading::take()?;
            before
        };
        self.keep(now);
        Ok(now.percent_since(before))
    }

    /// Returns the same if it is known without waiting.
    #[must_use]
    pub fn percent_now(&self) -> Option<f64> {
        let now = Reading::take().ok()?;
        let before = self.before(now);
        self.keep(now);
        before.map(|before| now.percent_since(before))
    }

    fn keep(&self, reading: Reading) {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_near = readings.back().is_some_and(|last| reading.at - last.at < CPU_WINDOW_MIN / 4);
        if !is_near {
            readings.push_back(reading);
        }
        if N_READINGS_MAX < readings.len() {
            readings.pop_front();
        }
    }

    /// Returns the newest reading that is old enough to compare with, and not too old.
    fn before(&self, now: Reading) -> Option<Reading> {
        let readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |it: &&Reading| {
            let age = now.at.saturating_duration_since(it.at);
            CPU_WINDOW_MIN <= age && age <= CPU_WINDOW_MAX
        };
        readings.iter().rev().find(fits).copied()
    }
}

impl Reading {
    fn take() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        let (busy, all) = ticks(&text).ok_or_else(|| io::Error::other("cannot read /proc/stat"))?;
        Ok(Self { at: Instant::now(), busy, all })
    }

    #[expect(clippy::cast_precision_loss, reason = "differences of ticks are small numbers")]
    fn percent_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        let busy = self.busy.saturating_sub(before.busy).min(all);
        100.0 * busy as f64 / all as f64
    }
}

/// Returns busy and all ticks of the line `cpu` of `/proc/stat`.
pub(crate) fn ticks(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal; guests are in user already.
    let fields: Vec<u64> =
        line.split_ascii_whitespace().take(8).map_while(|text| text.parse().ok()).collect();
    let idle = fields.get(3)?.saturating_add(fields.get(4).copied().unwrap_or(0));
    let all = fields.iter().fold(0_u64, |sum, it| sum.saturating_add(*it));
    Some((all.saturating_sub(idle), all))
}

/// Returns how much of the host's memory is used, in per cent.
///
/// # Errors
///
/// When the kernel does not tell.
pub fn memory_percent() -> io::Result<f64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    memory_used(&text).ok_or_else(|| io::Error::other("cannot read /proc/meminfo"))
}

pub(crate) fn memory_used(text: &str) -> Option<f64> {
    let field = |name: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    let (total, available) = (field("MemTotal:")?, field("MemAvailable:")?);
    (0.0 < total).then(|| 100.0 * (1.0 - available / total))
}

/// Returns the share of a file system that is used, in per cent, as `df` computes it:
/// what is reserved for the superuser counts as used up.
///
/// # Errors
///
/// When the path does not exist or may not be looked at.
#[expect(clippy::cast_precision_loss, reason = "a percentage needs no more precision")]
pub fn disk_percent(path: &str) -> io::Result<f64> {
    let stat = rustix::fs::statvfs(path)?;
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    let usable = used + stat.f_bavail;
    if usable == 0 {
        return Err(io::Error::other("this file system has no size"));
    }
    Ok(100.0 * used as f64 / usable as f64)
}

/// Describes the host.
#[expect(clippy::cast_possible_truncation, reason = "percentages fit")]
pub async fn state(instruments: &Instruments) -> HostState {
    let disks = tokio::time::timeout(DISKS_TIMEOUT, disks(instruments)).await;
    HostState {
        cpu_percent: instruments.cpu.percent_now().unwrap_or(0.0) as f32,
        memory_percent: memory_percent().unwrap_or(0.0) as f32,
        load_1m: load().unwrap_or(0.0),
        runnable_per_cpu: runnable_per_cpu(),
        disks_percent: disks.unwrap_or_default(),
        memory_pressure: pressure("memory"),
        io_pressure: pressure("io"),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "percentages fit")]
async fn disks(instruments: &Instruments) -> BTreeMap<String, f32> {
    let mut used = BTreeMap::new();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for mount in local_mounts(&mounts) {
        if let Ok(percent) = instruments.disk_percent(mount.clone()).await {
            used.insert(mount, percent as f32);
        }
    }
    used
}

/// Returns where local file systems are mounted, each file system once.
pub(crate) fn local_mounts(mounts: &str) -> Vec<String> {
    let mut devices = BTreeSet::new();
    let mut paths = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(device), Some(path), Some(kind)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        // Only the first overlay, the root of a container, is ours to look at.
        let is_local = LOCAL_FILE_SYSTEMS.contains(&kind) && (kind != "overlay" || path == "/");
        if is_local && devices.insert(device) && paths.len() < N_MOUNTS_MAX {
            paths.push(path.replace("\\040", " "));
        }
    }
    paths
}

/// Returns how many threads run or wait for a processor now, for each processor.
pub(crate) fn runnable_per_cpu() -> Option<f64> {
    runnable_per_cpu_in(&fs::read_to_string("/proc/stat").ok()?)
}

fn runnable_per_cpu_in(stat: &str) -> Option<f64> {
    let n_running = stat.lines().find_map(|it| it.strip_prefix("procs_running "))?;
    let n_running: u32 = n_running.trim().parse().ok()?;
    let is_one = |it: &&str| {
        let number = it.strip_prefix("cpu").unwrap_or_default();
        number.starts_with(|it: char| it.is_ascii_digit())
    };
    let n_cpus = u32::try_from(stat.lines().filter(is_one).count()).ok().filter(|it| 0 < *it)?;
    Some(f64::from(n_running) / f64::from(n_cpus))
}

fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_ascii_whitespace().next()?.parse().ok()
}

/// Returns `some avg10` of a file in `/proc/pressure`, where the kernel has them.
fn pressure(resource: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/pressure/{resource}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    line.split_ascii_whitespace().find_map(|field| field.strip_prefix("avg10="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_or_waits_is_counted_for_each_processor() {
        let text = "cpu  1 2\ncpu0 1 1\ncpu1 0 1\nctxt 9\nprocs_running 21\nprocs_blocked 3\n";
        assert_eq!(runnable_per_cpu_in(text), Some(10.5));
        assert_eq!(runnable_per_cpu_in("procs_running 3\n"), None);
        assert!(runnable_per_cpu().is_some());
    }

    #[test]
    fn processors_are_busy_when_they_are_neither_idle_nor_waiting() {
        let text = "cpu  10 5 5 70 10 0 0 0 7 0\ncpu0 1 1 1 1\n";
        assert_eq!(ticks(text), Some((20, 100)));
        assert_eq!(ticks("intr 5"), None);
    }

    #[test]
    fn memory_that_is_available_is_not_used() {
        let text = "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   250 kB\n";
        assert_eq!(memory_used(text), Some(75.0));
        assert_eq!(memory_used("MemTotal: 0 kB\nMemAvailable: 0 kB"), None);
    }

    #[test]
    fn only_local_file_systems_are_looked_at_and_each_once() {
        let mounts = "overlay / overlay rw 0 0\nproc /proc proc rw 0 0\n\
                      /dev/sda1 /data ext4 rw 0 0\n/dev/sda1 /bind ext4 rw 0 0\n\
                      nas:/x /mnt nfs4 rw 0 0\noverlay /var/lib/docker/a overlay rw 0 0\n";
        assert_eq!(local_mounts(mounts), ["/", "/data"]);
    }

    #[tokio::test]
    async fn the_host_tells_believable_numbers() {
        let instruments = Instruments::new("/nowhere".into());
        let percent = instruments.cpu.percent().await.unwrap();
        assert!((0.0..=100.0).contains(&percent), "{percent}");
        let state = state(&instruments).await;
        assert!(0.0 < state.memory_percent && state.memory_percent <= 100.0, "{state:?}");
        assert!(!state.disks_percent.is_empty(), "{state:?}");
    }
}
