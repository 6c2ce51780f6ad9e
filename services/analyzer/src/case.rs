//! A case as the rules see it: the work, the target, and what was found.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    check::{Check, Probe},
    span::Span,
    target::{Handle, Target},
    wire::{CheckResult, ContainerState, DiagnoseWork, ProcessState, TargetProbe},
};

use crate::{ending::Ending, findings::Findings};

/// Sources of our own begin with this.
const OURS: &str = "selfheal/";

/// Few programs open their port at once: one that was just started is not sick yet.
const OPENS_PORT_WITHIN: Span = Span::from_secs(5);

/// Log lines that are judged: older ones may tell of an earlier run.
const LOG_LINES_JUDGED: usize = 10;

/// What the rules judge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case<'a> {
    pub(crate) work: &'a DiagnoseWork,
    pub(crate) target: &'a Target,
    pub(crate) findings: &'a Findings,
}

/// Whether a process or container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    Alive,
    Dead,
    Unknown,
}

/// In which way a check failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The check of a handle: the process or container is not as it should be.
    Handle,
    /// No answer in time.
    TimedOut,
    /// Nobody listens.
    Refused,
    /// No way there.
    NoRoute,
    /// The name could not be resolved.
    NoName,
    /// An answer, and a wrong one.
    Wrong,
    /// The host's disk.
    Disk,
    /// The host's memory.
    Memory,
    /// The host's processors.
    Cpu,
}

impl Failure {
    /// Returns whether the failure says that the target does not work. A disk that fills
    /// up is trouble too, but its target still answers.
    pub(crate) const fn is_down(self) -> bool {
        match self {
            Self::Handle
            | Self::TimedOut
            | Self::Refused
            | Self::NoRoute
            | Self::NoName
            | Self::Wrong => true,
            Self::Disk | Self::Memory | Self::Cpu => false,
        }
    }

    /// Returns whether one sample is enough: a refusal is no accident, a slow answer may be.
    pub(crate) const fn is_hard(self) -> bool {
        matches!(self, Self::Handle | Self::Refused)
    }
}

/// A check that failed just now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed<'a> {
    pub(crate) how: Failure,
    pub(crate) result: &'a CheckResult,
}

impl Failed<'_> {
    /// Returns the failure in words.
    pub(crate) fn say(&self) -> String {
        format!("check `{}` fails: {}", self.result.check, self.result.detail)
    }

    fn check_of(&self, target: &Target) -> Option<Check> {
        target.all_checks().into_iter().find(|check| check.label() == self.result.check)
    }
}

impl<'a> Case<'a> {
    /// Returns the case, if its target is known.
    pub(crate) fn new(work: &'a DiagnoseWork, findings: &'a Findings) -> Option<Self> {
        work.target.as_ref().map(|target| Self { work, target, findings })
    }

    pub(crate) fn name(&self) -> &'a str {
        &self.target.name
    }

    /// Returns the fresh look at the target, if a monitor took one.
    pub(crate) fn probe(&self) -> Option<&'a TargetProbe> {
        self.findings.target.as_ref()
    }

    /// Returns the state of the target's process, if that is its handle.
    pub(crate) fn process(&self) -> Option<&'a ProcessState> {
        match self.target.handle()? {
            Handle::Process(_) => self.probe()?.process.as_ref(),
            Handle::Docker(_) => None,
        }
    }

    /// Returns the state of the target's container, if that is its handle.
    pub(crate) fn container(&self) -> Option<&'a ContainerState> {
        match self.target.handle()? {
            Handle::Docker(_) => self.probe()?.container.as_ref(),
            Handle::Process(_) => None,
        }
    }

    /// Returns the checks that failed just now. One of a target that is still starting did not.
    pub(crate) fn failed(&self) -> Vec<Failed<'a>> {
        let mut failed = self.probe().map(|it| failed(self.target, it)).unwrap_or_default();
        failed.retain(|it| !self.is_starting(it));
        failed
    }

    /// Returns a failed check that may still pass, as the target was started lately; how long it
    /// runs; and its start period.
    pub(crate) fn starting(&self) -> Option<(Failed<'a>, TimeDelta, Span)> {
        let failed = failed(self.target, self.probe()?);
        let starting = failed.into_iter().find(|it| self.is_starting(it))?;
        let period = self.start_period(&starting)?;
        Some((starting, self.age()?, period))
    }

    /// Returns how long a check may fail after a start. Where nothing is configured, a port may
    /// be closed for a moment.
    fn start_period(&self, failed: &Failed<'_>) -> Option<Span> {
        let period = failed.check_of(self.target)?.start_period_in(self.target);
        let least = if failed.how == Failure::Refused { OPENS_PORT_WITHIN } else { Span::ZERO };
        Some(period.max(least))
    }

    fn is_starting(&self, failed: &Failed<'_>) -> bool {
        if failed.how == Failure::Handle || !failed.how.is_down() {
            return false;
        }
        let period = self.start_period(failed).unwrap_or_default().to_delta();
        self.age().is_some_and(|age| age < period)
    }

    /// Returns the first check that failed in one of these ways.
    pub(crate) fn failed_by(&self, ways: &[Failure]) -> Option<Failed<'a>> {
        self.failed().into_iter().find(|it| ways.contains(&it.how))
    }

    /// Returns whether something says that the target does not work.
    pub(crate) fn is_down(&self) -> bool {
        self.life() == Life::Dead || self.failed().iter().any(|it| it.how.is_down())
    }

    /// Returns whether the target's process or container runs. Without a fresh look, an
    /// event that tells how it ended is believed.
    pub(crate) fn life(&self) -> Life {
        let Some(probe) = self.probe() else {
            return match self.target.handle() {
                Some(Handle::Process(_) | Handle::Docker(_)) if self.said().is_known() => {
                    Life::Dead
                }
                Some(Handle::Process(_) | Handle::Docker(_)) | None => Life::Unknown,
            };
        };
        life(self.target, probe)
    }

    /// Returns how the last run ended; what an event said counts where nobody saw it since.
    pub(crate) fn ending(&self) -> Ending {
        let fresh = match (self.process(), self.container()) {
            (Some(process), _) => Ending::of_process(process),
            (None, Some(container)) => Ending::of_container(container),
            (None, None) => Ending::default(),
        };
        if fresh.is_known() { fresh } else { self.said() }
    }

    /// Returns what the event says about the end of the target's last run.
    fn said(&self) -> Ending {
        // An exit code that a command printed is not the target's own.
        let by_command = self.work.event.labels.get("probe").is_some_and(|it| it == "command");
        if by_command {
            return Ending::default();
        }
        let pid = self.process().and_then(|process| process.pid);
        Ending::of_payload(&self.work.event.payload, pid)
    }

    /// Returns the last lines of the log, the newest last.
    pub(crate) fn log(&self) -> &'a [String] {
        let lines = self.probe().map(|probe| probe.log_tail.as_slice()).unwrap_or_default();
        lines.get(lines.len().saturating_sub(LOG_LINES_JUDGED)..).unwrap_or_default()
    }

    /// Returns the newest of the last log lines that contains one of `words`, which are
    /// lower case.
    pub(crate) fn log_line(&self, words: &[&str]) -> Option<&'a str> {
        let has = |line: &&String| {
            let line = line.to_lowercase();
            words.iter().any(|word| line.contains(word))
        };
        self.log().iter().rev().find(has).map(String::as_str)
    }

    /// Returns the last log line as a sentence of evidence.
    pub(crate) fn last_words(&self) -> Option<String> {
        self.log().iter().rev().find(|line| !line.trim().is_empty()).map(|line| said(line))
    }

    /// Returns how many of `times` lie within `window` before now.
    pub(crate) fn n_within(&self, times: &[DateTime<Utc>], window: TimeDelta) -> usize {
        times.iter().filter(|at| self.findings.now - **at <= window).count()
    }

    /// Returns how long the process or container has been running.
    pub(crate) fn age(&self) -> Option<TimeDelta> {
        let process = self.process().filter(|it| it.running).and_then(|it| it.started_at);
        let container = || self.container().filter(|it| it.status == "running")?.started_at;
        process.or_else(container).map(|at| self.findings.now - at)
    }

    /// Returns whether the target's checks measure what the event reports. What our own agents
    /// report was seen by checks.
    pub(crate) fn is_observed(&self) -> bool {
        let event = &self.work.event;
        event.source.starts_with(OURS) || self.target.measures(&event.kind)
    }

    /// Returns whether all checks pass that can be asked, and there is one.
    pub(crate) fn all_pass(&self) -> bool {
        let Some(probe) = self.probe() else { return false };
        let mut asked = asked(probe).peekable();
        asked.peek().is_some() && asked.all(|result| result.ok)
    }

    /// Returns the number of checks that can be asked.
    pub(crate) fn n_asked(&self) -> usize {
        self.probe().map_or(0, |probe| asked(probe).count())
    }
}

/// Returns a log line as a sentence of evidence.
pub(crate) fn said(line: &str) -> String {
    const CHARS_MAX: usize = 300;
    let line: String = line.trim().chars().take(CHARS_MAX).collect();
    format!("its log says: {line}")
}

/// Returns whether the process or container of a target runs. When the look at it did not arrive
/// in time, the check of the handle says so as well.
pub(crate) fn life(target: &Target, probe: &TargetProbe) -> Life {
    match target.handle() {
        Some(Handle::Process(_)) => match &probe.process {
            Some(process) if process.running => Life::Alive,
            Some(_) => Life::Dead,
            None => by_check(target, probe),
        },
        Some(Handle::Docker(_)) => match &probe.container {
            Some(it) if !it.exists => Life::Dead,
            Some(it) => match it.status.as_str() {
                "exited" | "dead" | "created" | "removing" => Life::Dead,
                "running" | "paused" | "restarting" => Life::Alive,
                _ => Life::Unknown,
            },
            None => Life::Unknown,
        },
        None => Life::Unknown,
    }
}

/// Returns what the check of a process handle says: it fails for one reason only, that no
/// process of the target runs. That of a container fails for many.
fn by_check(target: &Target, probe: &TargetProbe) -> Life {
    let of_handle = target.all_checks().into_iter().find(|it| it.process == Some(true));
    let label = of_handle.map(|it| it.label());
    match seen(probe).find(|result| Some(&result.check) == label.as_ref()) {
        Some(result) if result.ok => Life::Alive,
        Some(_) => Life::Dead,
        None => Life::Unknown,
    }
}

/// Returns the results of checks that can be asked.
fn asked(probe: &TargetProbe) -> impl Iterator<Item = &CheckResult> {
    probe.checks.iter().filter(|result| !probe.not_asked.contains(&result.check))
}

/// Returns the results of checks that say something about the target.
fn seen(probe: &TargetProbe) -> impl Iterator<Item = &CheckResult> {
    asked(probe).filter(|result| !probe.unseen_checks.contains(&result.check))
}

/// Returns whether all that was asked for arrived in time.
pub(crate) fn is_complete(probe: &TargetProbe) -> bool {
    probe.unseen.is_empty() && probe.unseen_checks.is_empty()
}

/// Returns the checks of a target that failed.
pub(crate) fn failed<'a>(target: &Target, probe: &'a TargetProbe) -> Vec<Failed<'a>> {
    let checks = target.all_checks();
    let of = |result: &'a CheckResult| {
        let check = checks.iter().find(|check| check.label() == result.check);
        Failed { how: how(check, result), result }
    };
    seen(probe).filter(|result| !result.ok).map(of).collect()
}

/// How resolvers say that they found nothing.
const NO_NAME: [&str; 6] = [
    "dns error",
    "failed to lookup",
    "name or service not known",
    "name resolution",
    "no such host",
    "nxdomain",
];

fn how(check: Option<&Check>, result: &CheckResult) -> Failure {
    match check.map(Check::probe) {
        Some(Ok(Probe::Process | Probe::Docker)) => return Failure::Handle,
        Some(Ok(Probe::Disk(_))) => return Failure::Disk,
        Some(Ok(Probe::Memory)) => return Failure::Memory,
        Some(Ok(Probe::Cpu)) => return Failure::Cpu,
        // Its words are about Prometheus, or a number; neither tells how the target failed.
        Some(Ok(Probe::Prometheus(_))) => return Failure::Wrong,
        Some(Ok(Probe::Http(_) | Probe::Tcp(_) | Probe::Command(_)) | Err(_)) | None => {}
    }
    let detail = result.detail.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| detail.contains(word));
    if detail.starts_with("answered") {
        // By a status that names a time-out of its own, perhaps.
        Failure::Wrong
    } else if has(&["refused", "nothing listens", "nobody listens"]) {
        Failure::Refused
    } else if has(&NO_NAME) {
        Failure::NoName
    } else if has(&["unreachable", "no route"]) {
        Failure::NoRoute
    } else if has(&["timed out", "timeout", "no answer", "deadline"])
        || check.is_some_and(|check| check.timeout.as_millis() <= result.took_ms)
    {
        Failure::TimedOut
    } else {
        Failure::Wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_apart_by_what_monitors_say() {
        use Failure as F;
        for (detail, wanted) in [
            ("cannot connect to 127.0.0.1:1: Connection refused (os error 111)", F::Refused),
            ("cannot connect: Connection refused (os error 111)", F::Refused),
            ("nothing listens on 127.0.0.1:40000", F::Refused),
            // Said by older monitors.
            ("nobody listens on 127.0.0.1:40000", F::Refused),
            ("no answer within 2000 ms", F::TimedOut),
            ("cannot connect to 10.0.0.1:1: Connection timed out (os error 110)", F::TimedOut),
            ("answered 503", F::Wrong),
            ("answered 200 without `timeout: none`", F::Wrong),
            ("Connection reset by peer (os error 104)", F::Wrong),
            ("connection closed before message completed", F::Wrong),
            ("exit code 1: no such table", F::Wrong),
            ("cannot connect: No route to host (os error 113)", F::NoRoute),
            ("cannot connect: Network is unreachable (os error 101)", F::NoRoute),
            (
                "cannot connect to db:1: failed to lookup address information: Name or service not known",
                F::NoName,
            ),
        ] {
            let check = "http".to_owned();
            let result = CheckResult { check, ok: false, detail: detail.to_owned(), took_ms: 1 };
            assert_eq!(how(None, &result), wanted, "{detail}");
        }
    }
}
