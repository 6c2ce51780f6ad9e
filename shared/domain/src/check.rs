//! Checks: how one sees whether a target is well.

mod address;
mod prometheus;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{event::EventType, redact, secret::Text, span::Span, target::Target};

/// The longest start period: what takes longer is a failed start.
pub(crate) const START_PERIOD_MAX: Span = Span::from_secs(60 * 60);

pub(crate) use address::{headers_mistake, url_mistake};
pub use prometheus::{Comparison, PrometheusCheck};

/// One check of a target, as written in the configuration.
///
/// Exactly one probe (`http`, `tcp`, `process`, `docker`, `command`, `disk`,
/// `memory`, `cpu`, `prometheus`) must be named; [`Check::probe`] returns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = crate::schema::one_probe)]
pub struct Check {
    /// Name in reports; derived from the probe when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// URL to get; well when the answer has an expected status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^https?://"))]
    pub http: Option<String>,
    /// `host:port` to connect to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^.+:[0-9]{1,5}$"))]
    pub tcp: Option<String>,
    /// `true`: the target's process (its handle) is alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<bool>,
    /// `true`: the target's container (its handle) runs and is not unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<bool>,
    /// Program and arguments; well when it ends with 0. No shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub command: Option<Vec<String>>,
    /// Path on the file system to watch; with `above`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^/"))]
    pub disk: Option<String>,
    /// `true`: the host's memory; with `above`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<bool>,
    /// `true`: the host's processors; with `above`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<bool>,
    /// A query to a Prometheus, and when its answer is sick.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusCheck>,

    /// Percentage used above which `disk`, `memory` or `cpu` is sick (default 90).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub above: Option<u8>,
    /// Percentage at or below which it is well again (default: `above` less 5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clear: Option<u8>,
    /// Statuses that `http` expects (default: any of 200 to 399).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<u16>,
    /// Text that the body of `http` must contain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Headers that `http` sends.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Text>,
    /// Time between two samples; half of it after a failed one, until it is sure.
    #[serde(default = "every")]
    pub every: Span,
    /// Time after which a sample counts as failed.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// Failed samples in a row that make the target sick.
    #[serde(default = "fail_after")]
    #[schemars(range(min = 1))]
    pub fail_after: u32,
    /// Passed samples in a row that make it well again.
    #[serde(default = "pass_after")]
    #[schemars(range(min = 1))]
    pub pass_after: u32,
    /// How long after a start of the target its failures do not count, unless it has passed since
    /// the start (default: the target's).
    #[serde(default, skip_serializing_if = "Span::is_zero")]
    pub start_period: Span,
    /// Type of the event that is reported (default: by probe, see [`Check::event_type`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventType>,
}

fn every() -> Span {
    Span::from_secs(1)
}
fn timeout() -> Span {
    Span::from_secs(2)
}
fn fail_after() -> u32 {
    2
}
fn pass_after() -> u32 {
    1
}

/// What a check looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe<'a> {
    /// An HTTP GET of this URL.
    Http(&'a str),
    /// A TCP connection to this `host:port`.
    Tcp(&'a str),
    /// The target's process.
    Process,
    /// The target's container.
    Docker,
    /// A program and its arguments.
    Command(&'a [String]),
    /// The file system that holds this path, in per cent used.
    Disk(&'a str),
    /// The host's memory, in per cent used.
    Memory,
    /// The host's processors, in per cent busy.
    Cpu,
    /// What a Prometheus answers to a query.
    Prometheus(&'a PrometheusCheck),
}

/// Why a check is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No probe, or several.
    #[error(
        "a check needs exactly one of http, tcp, process, docker, command, disk, memory, cpu, prometheus; this one has {0}"
    )]
    NotOneProbe(usize),
    /// A field has a value that makes no sense.
    #[error("{field}: {why}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// Returns why what a check looks at cannot be asked: the field, and the reason.
fn mistake(probe: Probe<'_>) -> Option<(&'static str, String)> {
    let wrong = |field, why: &str| Some((field, why.to_owned()));
    match probe {
        Probe::Http(url) => url_mistake(url).map(|why| ("http", why)),
        Probe::Tcp(address) => address::host_and_port_mistake(address).map(|why| ("tcp", why)),
        Probe::Command([]) => wrong("command", "must name a program"),
        Probe::Command([program, ..]) if program.trim().is_empty() => {
            wrong("command", "must name a program")
        }
        Probe::Command(words) if words.iter().any(|it| it.contains('\0')) => {
            wrong("command", "must not contain a NUL character")
        }
        Probe::Disk(path) if !path.starts_with('/') || path.contains('\0') => {
            wrong("disk", "must be an absolute path")
        }
        Probe::Prometheus(asked) => asked.mistake(),
        Probe::Process
        | Probe::Docker
        | Probe::Command(_)
        | Probe::Disk(_)
        | Probe::Memory
        | Probe::Cpu => None,
    }
}

impl Check {
    /// Returns a check without a probe, with all defaults; the caller sets one.
    #[must_use]
    pub fn blank() -> Self {
        Self {
            name: None,
            http: None,
            tcp: None,
            process: None,
            docker: None,
            command: None,
            disk: None,
            memory: None,
            cpu: None,
            prometheus: None,
            above: None,
            clear: None,
            status: Vec::new(),
            contains: None,
            headers: BTreeMap::new(),
            every: every(),
            timeout: timeout(),
            fail_after: fail_after(),
            pass_after: pass_after(),
            start_period: Span::ZERO,
            event: None,
        }
    }

    /// Returns the check that a process handle implies.
    #[must_use]
    pub fn of_process() -> Self {
        Self { process: Some(true), fail_after: 1, ..Self::blank() }
    }

    /// Returns the check that a container handle implies.
    #[must_use]
    pub fn of_container() -> Self {
        Self { docker: Some(true), fail_after: 1, ..Self::blank() }
    }

    /// Returns what the check looks at.
    ///
    /// # Errors
    ///
    /// [`Error`] when there is not exactly one probe, or a field makes no sense.
    pub fn probe(&self) -> Result<Probe<'_>, Error> {
        let mut probes = Vec::new();
        probes.extend(self.http.as_deref().map(Probe::Http));
        probes.extend(self.tcp.as_deref().map(Probe::Tcp));
        probes.extend(self.process.filter(|on| *on).map(|_| Probe::Process));
        probes.extend(self.docker.filter(|on| *on).map(|_| Probe::Docker));
        probes.extend(self.command.as_deref().map(Probe::Command));
        probes.extend(self.disk.as_deref().map(Probe::Disk));
        probes.extend(self.memory.filter(|on| *on).map(|_| Probe::Memory));
        probes.extend(self.cpu.filter(|on| *on).map(|_| Probe::Cpu));
        probes.extend(self.prometheus.as_ref().map(Probe::Prometheus));
        let [probe] = probes.as_slice() else { return Err(Error::NotOneProbe(probes.len())) };
        self.validate(*probe)?;
        Ok(*probe)
    }

    fn validate(&self, probe: Probe<'_>) -> Result<(), Error> {
        let wrong = |field, why: &str| Err(Error::Field { field, why: why.to_owned() });
        if let Some((field, why)) = mistake(probe) {
            return wrong(field, &why);
        }
        if let Some(why) = headers_mistake(&self.headers) {
            return wrong("headers", &why);
        }
        if let Some(status) = self.status.iter().find(|it| !(100..=999).contains(*it)) {
            return wrong("status", &format!("{status} is not a status: it has three digits"));
        }
        if self.above.is_some_and(|above| !(1..=100).contains(&above)) {
            return wrong("above", "must be a percentage from 1 to 100");
        }
        if self.clear.is_some_and(|clear| self.threshold().0 < clear) {
            return wrong("clear", "must not be larger than above");
        }
        if self.every < Span::from_millis(50) {
            return wrong("every", "must be at least 50ms");
        }
        if self.timeout == Span::ZERO {
            return wrong("timeout", "must be longer than 0s");
        }
        if self.fail_after == 0 {
            return wrong("fail_after", "must be at least 1");
        }
        if START_PERIOD_MAX < self.start_period {
            return wrong("start_period", &format!("must be at most {START_PERIOD_MAX}"));
        }
        if self.pass_after == 0 {
            return wrong("pass_after", "must be at least 1");
        }
        Ok(())
    }

    /// Returns how long after a start of its target failures do not count.
    #[must_use]
    pub fn start_period_in(&self, target: &Target) -> Span {
        if self.start_period.is_zero() { target.start_period } else { self.start_period }
    }

    /// Returns the percentages above which the check is sick, and up to which it is
    /// well again.
    #[must_use]
    pub fn threshold(&self) -> (u8, u8) {
        let above = self.above.unwrap_or(90);
        (above, self.clear.unwrap_or_else(|| above.saturating_sub(5)))
    }

    /// Returns the name in reports, without credentials of its URL or its arguments.
    #[must_use]
    pub fn label(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        match self.probe() {
            Ok(Probe::Http(url)) => format!("http {}", redact::text(url)),
            Ok(Probe::Tcp(address)) => format!("tcp {address}"),
            Ok(Probe::Process) => "process".to_owned(),
            Ok(Probe::Docker) => "docker".to_owned(),
            Ok(Probe::Command(command)) => {
                format!("command {}", redact::text(&command.join(" ")))
            }
            Ok(Probe::Disk(path)) => format!("disk {path}"),
            Ok(Probe::Memory) => "memory".to_owned(),
            Ok(Probe::Cpu) => "cpu".to_owned(),
            Ok(Probe::Prometheus(asked)) => format!("prometheus {}", asked.query),
            Err(_) => "invalid check".to_owned(),
        }
    }

    /// Returns the type of the event that a failure of this check is.
    ///
    /// All checks that ask whether the target works share `service_down`, so that a
    /// dead process is one incident, whoever sees it first.
    #[must_use]
    pub fn event_type(&self) -> EventType {
        if let Some(event) = &self.event {
            return event.clone();
        }
        EventType::known(match self.probe() {
            Ok(Probe::Disk(_)) => "disk_full",
            Ok(Probe::Memory) => "memory_high",
            Ok(Probe::Cpu) => "cpu_high",
            Ok(Probe::Prometheus(_)) => "metric_out_of_range",
            Ok(
                Probe::Http(_) | Probe::Tcp(_) | Probe::Process | Probe::Docker | Probe::Command(_),
            )
            | Err(_) => "service_down",
        })
    }
}
