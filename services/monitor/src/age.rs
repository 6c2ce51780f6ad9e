//! For how long a process or container runs, by what its probe tells of it.

use std::{fs, time::Duration};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

/// Clock ticks in a second, as the kernel tells them to programs.
const TICKS_PER_SECOND: u64 = 100;

/// Returns how long the run has been going on that a probe tells of: a process by its `pid`, a
/// container by the start that its engine names.
pub(crate) fn of(evidence: &Map<String, Value>) -> Option<Duration> {
    if let Some(pid) = evidence.get("pid").and_then(Value::as_i64) {
        return of_process(pid);
    }
    let started = evidence.get("container")?.get("started_at")?.as_str()?;
    let started = DateTime::parse_from_rfc3339(started).ok()?.with_timezone(&Utc);
    Some((Utc::now() - started).to_std().unwrap_or_default())
}

/// Both times count from the start of the host, whatever its wall clock says.
fn of_process(pid: i64) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The first field behind the name, in parentheses, is field 3 of proc(5).
    let started: u64 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    let started = Duration::from_millis(started.checked_mul(1000 / TICKS_PER_SECOND)?);
    Some(Duration::try_from_secs_f64(uptime).ok()?.saturating_sub(started))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_age_of_a_process_and_of_a_container_is_known() {
        let evidence = |value: Value| value.as_object().cloned().unwrap();
        let mut young = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let age = of(&evidence(json!({"pid": young.id()}))).unwrap();
        assert!(age < Duration::from_secs(30), "{age:?}");
        young.kill().unwrap();
        young.wait().unwrap();
        let first = of(&evidence(json!({"pid": 1}))).unwrap();
        assert!(age <= first, "the first process is not younger: {first:?}");
        let an_hour_ago = Utc::now() - chrono::TimeDelta::hours(1);
        let age = of(&evidence(json!({"container": {"started_at": an_hour_ago}}))).unwrap();
        assert!((3600..3700).contains(&age.as_secs()), "{age:?}");
        assert_eq!(of(&evidence(json!({"pid": 0}))), None);
        assert_eq!(of(&evidence(json!({"container": {"started_at": null}}))), None);
    }
}
