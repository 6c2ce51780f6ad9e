//! What the platform knows about this process, under the names that Prometheus clients share
//! (<https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>).
//!
//! Only where there is a `/proc`; elsewhere they are absent, as that text wants it.

use std::{fmt::Write as _, fs};

use rustix::process::{Resource, getrlimit};

use crate::{Metric, MetricKind};

/// The metrics, in the order in which [`Process::values`] has their values.
pub const METRICS: [Metric; 7] = [
    Metric::counter(
        "process_cpu_seconds_total",
        &[],
        "Processor time that the process has used, by itself and in the kernel.",
    ),
    Metric::gauge("process_resident_memory_bytes", &[], "Memory that is in use."),
    Metric::gauge("process_virtual_memory_bytes", &[], "Memory that is addressed."),
    Metric::gauge("process_open_fds", &[], "Open file descriptors."),
    Metric::gauge("process_max_fds", &[], "File descriptors that may be open."),
    Metric::gauge("process_threads", &[], "Threads."),
    Metric::gauge("process_start_time_seconds", &[], "When it started, in seconds since 1970."),
];

/// What the platform says at this moment.
#[derive(Clone, Copy, Debug)]
struct Process {
    cpu_ticks: u64,
    start_ticks: u64,
    boot_seconds: u64,
    resident_pages: u64,
    virtual_bytes: u64,
    n_fds: u64,
    n_fds_max: Option<u64>,
    n_threads: u64,
}

impl Process {
    fn look() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let boot = fs::read_to_string("/proc/stat").ok()?;
        let boot = boot.lines().find_map(|it| it.strip_prefix("btime "))?.trim().parse().ok()?;
        // The directory that is being read is open, too.
        let n_fds = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
        let mut process = Self::read(&stat)?;
        process.boot_seconds = boot;
        process.n_fds = u64::try_from(n_fds).ok()?;
        process.n_fds_max = getrlimit(Resource::Nofile).current;
        Some(process)
    }

    /// Reads what `/proc/<pid>/stat` says; see proc(5).
    fn read(stat: &str) -> Option<Self> {
        // The name is in brackets and may hold anything. What follows is numbered from 3 there.
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            n_threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
            boot_seconds: 0,
            n_fds: 0,
            n_fds_max: None,
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "no value is measured to 53 bits")]
    fn values(&self) -> [Option<f64>; METRICS.len()] {
        let ticks = rustix::param::clock_ticks_per_second().max(1) as f64;
        let page = rustix::param::page_size() as f64;
        [
            Some(self.cpu_ticks as f64 / ticks),
            Some(self.resident_pages as f64 * page),
            Some(self.virtual_bytes as f64),
            Some(self.n_fds as f64),
            self.n_fds_max.map(|it| it as f64),
            Some(self.n_threads as f64),
            Some(self.boot_seconds as f64 + self.start_ticks as f64 / ticks),
        ]
    }
}

/// Writes them in the text format of Prometheus. Not by way of the recorder, whose counters
/// are whole numbers.
pub(crate) fn render(text: &mut String) {
    let Some(process) = Process::look() else { return };
    for (metric, value) in METRICS.iter().zip(process.values()) {
        let Some(value) = value else { continue };
        let Metric { name, kind, help, .. } = metric;
        let kind: MetricKind = *kind;
        // Writing to a string cannot fail.
        let _infallible = write!(
            text,
            "# HELP {name} {help}\n# TYPE {name} {}\n{name} {value}\n\n",
            kind.as_str()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 5 6 20 0 3 0 99 4096 12 1";
        let process = Process::read(stat).unwrap();
        assert_eq!((process.cpu_ticks, process.n_threads), (200, 3));
        assert_eq!((process.start_ticks, process.virtual_bytes), (99, 4096));
        assert_eq!(process.resident_pages, 12);
        assert!(Process::read("7 (a) S 1").is_none());
    }

    #[test]
    fn this_process_has_memory_and_files_and_started_in_the_past() {
        let mut text = String::new();
        render(&mut text);
        let value = |name: &str| -> f64 {
            let found = text.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(' '));
            found.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
        };
        assert!((1e5..1e12).contains(&value("process_resident_memory_bytes")), "{text}");
        assert!(value("process_open_fds") < value("process_max_fds"), "{text}");
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let started = value("process_start_time_seconds");
        assert!(
            (now - 3600.0..=now + 1.0).contains(&started),
            "{started} is not just before {now}"
        );
    }
}
