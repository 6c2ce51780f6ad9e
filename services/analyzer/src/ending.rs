//! How the last run of a process or container ended.

use std::fmt;

use domain::wire::{ContainerState, ProcessState};
use serde_json::Value;

/// How a run ended, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) exit_code: Option<i64>,
    pub(crate) signal: Option<i64>,
    pub(crate) is_oom: bool,
}

/// Whose doing the end was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// It ended by itself, or by a fault of its own.
    Own,
    /// Somebody else ended it.
    Foreign,
    /// Nobody saw it.
    Unknown,
}

/// SIGHUP, SIGINT, SIGKILL, SIGTERM: what people and programs send to end another one.
const SENT_BY_OTHERS: [i64; 4] = [1, 2, 9, 15];

/// A shell and a container engine report death by signal n as exit code 128 + n.
const SIGNAL_BASE: i64 = 128;

impl Ending {
    pub(crate) fn of_process(process: &ProcessState) -> Self {
        Self {
            exit_code: process.exit_code.map(i64::from),
            signal: process.signal.map(i64::from),
            is_oom: process.oom_killed == Some(true),
        }
    }

    pub(crate) fn of_container(container: &ContainerState) -> Self {
        Self { exit_code: container.exit_code, signal: None, is_oom: container.oom_killed }
    }

    /// Reads what an event says: at the top of its payload, or below `exit`, `process` or
    /// `container`. What it says about another process than `pid`, or about a container
    /// that runs, is not about the last run.
    pub(crate) fn of_payload(payload: &Value, pid: Option<u32>) -> Self {
        let below = ["exit", "process", "container"].iter().filter_map(|key| payload.get(key));
        let places: Vec<&Value> = std::iter::once(payload)
            .chain(below)
            .filter(|place| is_over(place) && is_about(place, pid))
            .collect();
        let number = |key| places.iter().find_map(|place| place.get(key).and_then(Value::as_i64));
        let is_oom = |place: &&Value| place.get("oom_killed").and_then(Value::as_bool);
        Self {
            exit_code: number("exit_code"),
            signal: number("signal"),
            is_oom: places.iter().find_map(is_oom) == Some(true),
        }
    }

    pub(crate) fn is_known(&self) -> bool {
        self.is_oom || self.exit_code.is_some() || self.signal.is_some()
    }

    /// Returns the signal that ended it, also when it comes as an exit code.
    pub(crate) fn signal(&self) -> Option<i64> {
        let by_code = || self.exit_code.filter(|code| (129..=192).contains(code));
        self.signal.or_else(|| by_code().map(|code| code - SIGNAL_BASE))
    }

    pub(crate) fn doing(&self) -> Doing {
        match (self.is_oom, self.signal()) {
            _ if !self.is_known() => Doing::Unknown,
            (false, Some(signal)) if SENT_BY_OTHERS.contains(&signal) => Doing::Foreign,
            (true | false, Some(_) | None) => Doing::Own,
        }
    }
}

fn is_over(place: &Value) -> bool {
    let status = place.get("status").and_then(Value::as_str);
    status.is_none_or(|status| matches!(status, "exited" | "dead"))
}

fn is_about(place: &Value, pid: Option<u32>) -> bool {
    let named = place.get("pid").and_then(Value::as_u64);
    named.zip(pid).is_none_or(|(named, pid)| named == u64::from(pid))
}

fn signal_name(signal: i64) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_oom {
            f.write_str("killed by the kernel for want of memory")?;
        } else {
            match (self.signal(), self.exit_code) {
                (Some(signal), _) => match signal_name(signal) {
                    Some(name) => write!(f, "ended by signal {signal} ({name})")?,
                    None => write!(f, "ended by signal {signal}")?,
                },
                (None, Some(_)) => {}
                (None, None) => return f.write_str("its exit was not observed"),
            }
        }
        match self.exit_code {
            Some(code) if self.is_oom || self.signal().is_some() => write!(f, ", exit code {code}"),
            Some(code) => write!(f, "ended with exit code {code}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_from_outside_is_told_from_a_crash() {
        let of = |exit_code, signal, is_oom| Ending { exit_code, signal, is_oom };
        for (ending, doing, text) in [
            (of(Some(1), None, false), Doing::Own, "ended with exit code 1"),
            (of(Some(0), None, false), Doing::Own, "ended with exit code 0"),
            (of(None, Some(9), false), Doing::Foreign, "ended by signal 9 (SIGKILL)"),
            (
                of(Some(137), None, false),
                Doing::Foreign,
                "ended by signal 9 (SIGKILL), exit code 137",
            ),
            (
                of(Some(137), None, true),
                Doing::Own,
                "killed by the kernel for want of memory, exit code 137",
            ),
            (of(None, Some(11), false), Doing::Own, "ended by signal 11 (SIGSEGV)"),
            (of(None, Some(40), false), Doing::Own, "ended by signal 40"),
            (of(Some(255), None, false), Doing::Own, "ended with exit code 255"),
            (Ending::default(), Doing::Unknown, "its exit was not observed"),
        ] {
            assert_eq!(ending.doing(), doing, "{ending}");
            assert_eq!(ending.to_string(), text);
        }
    }

    #[test]
    fn an_events_payload_tells_it_at_the_top_or_below() {
        let read = |payload| Ending::of_payload(&payload, Some(7));
        let nine = Ending { signal: Some(9), ..Ending::default() };
        assert_eq!(read(serde_json::json!({"signal": 9})), nine);
        assert_eq!(read(serde_json::json!({"process": {"signal": 9}})), nine);
        assert_eq!(read(serde_json::json!({"exit": {"signal": 9}})), nine);
        assert!(read(serde_json::json!({"container": {"oom_killed": true}})).is_oom);
        let of = |pid| serde_json::json!({"pid": pid, "exit": {"pid": pid, "signal": 9}});
        assert_eq!(read(of(7)), nine);
        for nothing in [
            serde_json::json!(null),
            serde_json::json!("9"),
            serde_json::json!([9]),
            serde_json::json!({"container": {"status": "running", "exit_code": 0}}),
            of(8),
        ] {
            assert_eq!(read(nothing), Ending::default());
        }
    }
}
