//! Targets: what is watched and healed, and how hands reach it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    autonomy::Autonomy, check::Check, event::EventType, measure::Measure, secret::Text, span::Span,
};

/// The zone of targets and agents that name none.
pub const ZONE_DEFAULT: &str = "default";

/// Something that can be sick and healed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = crate::schema::handle_or_check)]
pub struct Target {
    /// Unique name, as in events and on the wire.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.-]{1,64}$"))]
    pub name: String,
    /// Where it lives: which agents can reach it.
    #[serde(default = "zone")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
    pub zone: String,
    /// Free labels, for selectors.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Names of the targets that it cannot work without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// The handle of a local process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessHandle>,
    /// The handle of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerHandle>,
    /// How one sees whether it is well, besides what the handle implies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// What is measured for each diagnosis, for the people who decide. It is evidence, and
    /// makes nothing well or sick.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Measure>,
    /// Events whose labels contain all pairs of one of these belong to this target.
    /// An empty selector matches nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub select: Vec<BTreeMap<String, String>>,
    /// What may be done without asking, instead of the policy's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autonomy: Option<Autonomy>,
    /// How long after a start failures of its checks do not count, unless the check has passed
    /// since the start. That its process or container ends counts at once.
    #[serde(default, skip_serializing_if = "Span::is_zero")]
    pub start_period: Span,
    /// How long it must stay well after a fix, instead of the policy's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak: Option<Span>,
}

fn zone() -> String {
    ZONE_DEFAULT.to_owned()
}

/// A process on the host of its zone, which the fixer starts and stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessHandle {
    /// Program and arguments; no shell.
    #[schemars(length(min = 1))]
    pub command: Vec<String>,
    /// Working directory (default: the fixer's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// Environment besides `PATH`, `HOME` and `LANG`, which are passed on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Text>,
    /// File that holds the process id: its first number counts (default:
    /// `<state dir>/<target>.pid`). If the program writes it itself, nobody else does; else
    /// the fixer writes it after a start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<String>,
    /// File that takes what the process prints (default: `<state dir>/<target>.log`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// How long it may take to end after SIGTERM before SIGKILL (default 5 s).
    #[serde(default = "stop_timeout")]
    pub stop_timeout: Span,
    /// User that it runs as, by name or number (default: the fixer's own).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub user: Option<String>,
    /// Group that it runs as, by name or number (default: that of the user).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub group: Option<String>,
}

fn stop_timeout() -> Span {
    Span::from_secs(5)
}

/// A container of the Docker engine of its zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DockerHandle {
    /// Name or id of the container, or `project/service` of a compose project.
    #[schemars(length(min = 1))]
    pub container: String,
}

/// How hands reach a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handle<'a> {
    /// A local process.
    Process(&'a ProcessHandle),
    /// A container.
    Docker(&'a DockerHandle),
}

impl Handle<'_> {
    /// Returns the name of the kind of handle, as runbooks name it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Process(_) => "process",
            Self::Docker(_) => "docker",
        }
    }
}

impl Target {
    /// Returns a target with nothing but a name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            zone: zone(),
            labels: BTreeMap::new(),
            depends_on: Vec::new(),
            process: None,
            docker: None,
            checks: Vec::new(),
            evidence: Vec::new(),
            select: Vec::new(),
            autonomy: None,
            start_period: Span::ZERO,
            soak: None,
        }
    }

    /// Returns it without what is measured, as agents are told of it: only an analyzer needs
    /// that, and those of a former version would not know the field.
    #[must_use]
    pub fn told(&self) -> Self {
        Self { evidence: Vec::new(), ..self.clone() }
    }

    /// Returns the handle, if there is one.
    #[must_use]
    pub fn handle(&self) -> Option<Handle<'_>> {
        let process = self.process.as_ref().map(Handle::Process);
        process.or_else(|| self.docker.as_ref().map(Handle::Docker))
    }

    /// Returns the longest start period of its checks.
    #[must_use]
    pub fn longest_start(&self) -> Span {
        let of_checks = self.checks.iter().map(|check| check.start_period_in(self));
        of_checks.max().unwrap_or_default().max(self.start_period)
    }

    /// Returns all checks: the one that the handle implies first, then the declared ones.
    #[must_use]
    pub fn all_checks(&self) -> Vec<Check> {
        let declared = |wanted: fn(&Check) -> bool| self.checks.iter().any(wanted);
        let mut checks = Vec::new();
        match self.handle() {
            Some(Handle::Process(_)) if !declared(|it| it.process == Some(true)) => {
                checks.push(Check::of_process());
            }
            Some(Handle::Docker(_)) if !declared(|it| it.docker == Some(true)) => {
                checks.push(Check::of_container());
            }
            Some(Handle::Process(_) | Handle::Docker(_)) | None => {}
        }
        checks.extend(self.checks.iter().cloned());
        checks
    }

    /// Returns whether one of its checks measures events of this type. What no check measures,
    /// no passing check disproves.
    #[must_use]
    pub fn measures(&self, kind: &EventType) -> bool {
        self.all_checks().iter().any(|check| check.event_type() == *kind)
    }
}
