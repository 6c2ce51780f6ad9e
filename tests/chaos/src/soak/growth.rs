//! How the memory and the descriptors of a process have grown.

use serde::Serialize;

/// Parts of the time after the warm-up: the first is compared with the last.
const PARTS: usize = 10;
/// Descriptors that come and go with connections.
const FDS_SLACK: u64 = 8;
/// Processes smaller than this may grow by a page here and there.
const RSS_SLACK_KIB: f64 = 512.0;

/// How a process was at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Seconds since the begin.
    pub at_s: u64,
    /// Resident memory.
    pub rss_kib: u64,
    /// Open file descriptors.
    pub n_fds: u64,
}

/// How a process has grown after the warm-up.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Growth {
    /// Its name.
    pub name: String,
    /// Resident memory in MiB: the first tenth after the warm-up, on average.
    pub first_mib: f64,
    /// The last tenth.
    pub last_mib: f64,
    /// The most at any time.
    pub most_mib: f64,
    /// The growth between both.
    pub percent: f64,
    /// The slope of a line through all samples after the warm-up.
    pub kib_per_minute: f64,
    /// Descriptors in the middle of the first tenth.
    pub first_fds: u64,
    /// Descriptors in the middle of the last tenth.
    pub last_fds: u64,
    /// Whether they grow.
    pub descriptors_leak: bool,
}

impl Sample {
    /// Looks at a process of this host.
    #[must_use]
    pub fn of(at_s: u64, pid: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:"))?;
        let rss_kib = line.split_whitespace().next()?.parse().ok()?;
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
        Some(Self { at_s, rss_kib, n_fds: u64::try_from(fds).ok()? })
    }
}

/// Computes the growth from the second `from` on.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub fn growth(name: &str, samples: &[Sample], from: u64) -> Growth {
    let warm: Vec<Sample> = samples.iter().filter(|it| from <= it.at_s).copied().collect();
    let part = (warm.len() / PARTS).max(1);
    let mean = |samples: &[Sample]| {
        samples.iter().map(|it| it.rss_kib as f64).sum::<f64>() / samples.len().max(1) as f64
    };
    let middle = |samples: &[Sample]| {
        let mut fds: Vec<_> = samples.iter().map(|it| it.n_fds).collect();
        fds.sort_unstable();
        fds.get(fds.len() / 2).copied().unwrap_or_default()
    };
    let first = warm.get(..part.min(warm.len())).unwrap_or_default();
    let last = warm.get(warm.len().saturating_sub(part)..).unwrap_or_default();
    let (before, after) = (mean(first), mean(last));
    let grown = after - before;
    let percent = if before == 0.0 || grown < RSS_SLACK_KIB && 0.0 < grown {
        0.0
    } else {
        grown / before * 100.0
    };
    let (first_fds, last_fds) = (middle(first), middle(last));
    Growth {
        name: name.to_owned(),
        first_mib: before / 1024.0,
        last_mib: after / 1024.0,
        most_mib: samples.iter().map(|it| it.rss_kib).max().unwrap_or_default() as f64 / 1024.0,
        percent,
        kib_per_minute: slope(&warm) * 60.0,
        first_fds,
        last_fds,
        descriptors_leak: first_fds + FDS_SLACK < last_fds,
    }
}

/// Returns the slope in KiB a second of the line that fits best.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn slope(samples: &[Sample]) -> f64 {
    let n = samples.len().max(1) as f64;
    let mean_at = samples.iter().map(|it| it.at_s as f64).sum::<f64>() / n;
    let mean_rss = samples.iter().map(|it| it.rss_kib as f64).sum::<f64>() / n;
    let (mut above, mut below) = (0.0, 0.0);
    for it in samples {
        let at = it.at_s as f64 - mean_at;
        above += at * (it.rss_kib as f64 - mean_rss);
        below += at * at;
    }
    if below == 0.0 { 0.0 } else { above / below }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(rss: impl Fn(u64) -> u64, fds: impl Fn(u64) -> u64) -> Vec<Sample> {
        (0..1000).map(|at| Sample { at_s: at, rss_kib: rss(at), n_fds: fds(at) }).collect()
    }

    #[test]
    fn what_grows_only_while_it_is_warmed_up_is_flat() {
        let flat = samples(|at| 50_000 + at.min(200) * 100, |at| 20 + at % 3);
        let flat = growth("it", &flat, 200);
        assert!(flat.percent.abs() < 0.1, "{flat:?}");
        assert!(flat.kib_per_minute.abs() < 1.0, "{flat:?}");
        assert!(!flat.descriptors_leak);
        assert_eq!((flat.first_fds, flat.last_fds), (21, 21));
    }

    #[test]
    fn a_leak_is_seen() {
        let leak = growth("it", &samples(|at| 50_000 + at * 20, |at| 20 + at / 50), 200);
        assert!(5.0 < leak.percent, "{leak:?}");
        assert!((leak.kib_per_minute - 1200.0).abs() < 10.0, "{leak:?}");
        assert!(leak.descriptors_leak, "{leak:?}");
    }

    #[test]
    fn a_process_can_be_looked_at() {
        let seen = Sample::of(0, std::process::id()).unwrap();
        assert!(0 < seen.rss_kib && 0 < seen.n_fds);
    }
}
