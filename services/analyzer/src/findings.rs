//! What was seen of a target and of what it needs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::{
    measure::Measured,
    target::Target,
    wire::{HostState, ProbeReply, TargetProbe},
};

/// What monitors answered. The rules judge this and the work itself, nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    /// When it was seen, by the analyzer's clock.
    pub now: DateTime<Utc>,
    /// The target; `None` when no monitor could say.
    pub target: Option<TargetProbe>,
    /// What it needs, as far as monitors could say.
    pub dependencies: Vec<TargetProbe>,
    /// The host of the monitor that saw the target.
    pub host: Option<HostState>,
    /// What was measured for people; the rules judge nothing by it.
    pub measured: Vec<Measured>,
    /// Zones from which nobody answered.
    pub silent_zones: Vec<String>,
    /// How often the target was looked at; a doubtful sample is taken twice.
    pub n_samples: u32,
    /// How long the last look was allowed to take.
    pub allowed: Duration,
}

impl Findings {
    /// Returns findings that hold nothing yet.
    #[must_use]
    pub fn none(now: DateTime<Utc>) -> Self {
        Self {
            now,
            target: None,
            dependencies: Vec::new(),
            host: None,
            measured: Vec::new(),
            silent_zones: Vec::new(),
            n_samples: 0,
            allowed: Duration::ZERO,
        }
    }

    /// Takes the answer of a monitor of the target's zone.
    pub fn take(&mut self, target: &Target, reply: ProbeReply) {
        let (own, others): (Vec<_>, Vec<_>) =
            reply.targets.into_iter().partition(|probe| probe.target == target.name);
        self.target = own.into_iter().next();
        // A further look at a dependency takes the place of the one before.
        self.dependencies.retain(|it| others.iter().all(|new| new.target != it.target));
        self.dependencies.extend(others);
        self.host = Some(reply.host);
    }

    /// Returns what was seen of a dependency.
    #[must_use]
    pub fn dependency(&self, name: &str) -> Option<&TargetProbe> {
        self.dependencies.iter().find(|probe| probe.target == name)
    }
}
