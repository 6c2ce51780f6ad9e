//! What the host says about an event that tells of a full disk, memory or processor.
//!
//! A busy host alone is no trouble of a target: these count only when the event is
//! about them, and the host agrees.

use crate::case::Case;

/// From here on the host agrees; checks have thresholds of their own.
const HIGH_PERCENT: f32 = 90.0;

/// Returns whether the event is about the host and the host agrees.
pub(crate) fn any(case: &Case<'_>) -> bool {
    disk(case).is_some() || memory(case).is_some() || cpu(case).is_some()
}

/// Returns what the host says about an event that tells of a full disk.
pub(crate) fn disk(case: &Case<'_>) -> Option<String> {
    let (mount, percent) = fullest_disk(case).filter(|_| is_about(case, "disk"))?;
    (HIGH_PERCENT <= percent).then(|| format!("the disk at {mount} is {percent:.0} % used"))
}

/// Returns what the host says about an event that tells of high memory.
pub(crate) fn memory(case: &Case<'_>) -> Option<String> {
    let percent = case.findings.host.as_ref().filter(|_| is_about(case, "memory"))?.memory_percent;
    (HIGH_PERCENT <= percent).then(|| format!("the host's memory is {percent:.0} % used"))
}

/// Returns what the host says about an event that tells of busy processors.
pub(crate) fn cpu(case: &Case<'_>) -> Option<String> {
    let percent = case.findings.host.as_ref().filter(|_| is_about(case, "cpu"))?.cpu_percent;
    (HIGH_PERCENT <= percent).then(|| format!("the host's processors are {percent:.0} % busy"))
}

/// Returns the fullest disk of the host.
pub(crate) fn fullest_disk<'a>(case: &Case<'a>) -> Option<(&'a str, f32)> {
    let disks = case.findings.host.as_ref()?.disks_percent.iter();
    disks.map(|(mount, it)| (mount.as_str(), *it)).max_by(|a, b| a.1.total_cmp(&b.1))
}

fn is_about(case: &Case<'_>, what: &str) -> bool {
    let kind = case.work.event.kind.as_str();
    kind.split(['.', '_', '-']).any(|token| token.eq_ignore_ascii_case(what))
}
