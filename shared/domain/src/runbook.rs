//! Runbooks: the catalogue of cures, as data.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    action::{self, StepSpec},
    check::Check,
    event::EventType,
    plan::{self, Parts, Plan, Risk, Step, Success},
    policy::Autonomy,
    span::Span,
    target::Target,
};

/// A cure for a cause, as written in `runbooks/*.yaml` or in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Runbook {
    /// Unique name. A runbook of the configuration replaces a built-in one of its name.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.-]{1,64}$"))]
    pub name: String,
    /// One line for people.
    pub title: String,
    /// When it applies. An empty condition matches nothing.
    pub when: When,
    /// How much harm a wrong use may do.
    pub risk: Risk,
    /// How far it may go by itself, instead of what its risk says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autonomy: Option<Autonomy>,
    /// Among runbooks for one cause, lower ones are tried first.
    #[serde(default = "order")]
    pub order: u32,
    /// How often one incident may try it.
    #[serde(default = "attempts")]
    #[schemars(range(min = 1))]
    pub attempts: u32,
    /// What is done, in order.
    #[schemars(length(min = 1))]
    pub steps: Vec<StepSpec>,
    /// How one sees that it helped.
    #[serde(default)]
    pub verify: Verify,
}

fn order() -> u32 {
    100
}
fn attempts() -> u32 {
    2
}

/// When a runbook applies: every named condition must hold, and at least one of
/// `causes` and `events` must be named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(transform = crate::schema::cause_or_event)]
pub struct When {
    /// Causes that a diagnosis rule found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Types of the event that opened the incident.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// Who sent that event: names of origins, such as `integration:grafana`, and of our own agents,
    /// such as `selfheal/monitor`. In them `*` stands for any text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(min = 1)))]
    pub sources: Vec<String>,
    /// Names of targets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Labels that the target must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Kind of the target's handle: `process`, `docker`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
}

/// How one sees that the runbook helped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Verify {
    /// Checks besides the target's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// How long the target must stay well (default: the target's, else the policy's).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soak: Option<Span>,
    /// How long it may take to become well (default: the policy's).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
}

/// Why a runbook gives no plan for a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A step cannot be carried out.
    #[error("step {step} of runbook `{runbook}`")]
    Step {
        /// The runbook.
        runbook: String,
        /// The step, the first is 1.
        step: usize,
        /// The cause.
        source: action::Error,
    },
    /// The parts make no plan.
    #[error("runbook `{0}` gives no plan")]
    Plan(String, #[source] plan::Error),
}

impl When {
    /// Returns whether the condition names neither a cause nor an event type, so that
    /// it can match nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.causes.is_empty() && self.events.is_empty()
    }
}

impl Runbook {
    /// Returns whether the runbook applies to this cause on this target, after an event of this
    /// type from this source.
    #[must_use]
    pub fn applies(&self, cause: &str, event: &EventType, source: &str, target: &Target) -> bool {
        let when = &self.when;
        let any = |list: &[String], it: &str| list.is_empty() || list.iter().any(|one| one == it);
        !when.is_empty()
            && any(&when.causes, cause)
            && any(&when.events, event.as_str())
            && (when.sources.is_empty() || when.sources.iter().any(|it| is_like(it, source)))
            && any(&when.targets, &target.name)
            && when.labels.iter().all(|(key, value)| target.labels.get(key) == Some(value))
            && when
                .handle
                .as_ref()
                .is_none_or(|wanted| target.handle().is_some_and(|it| it.kind() == wanted))
    }

    /// Makes the plan for a target. `soak` and `within` are the policy's defaults.
    ///
    /// # Errors
    ///
    /// [`Error`] when a step does not fit the target or nothing could prove the plan.
    pub fn plan(
        &self,
        cause: &str,
        target: &Target,
        soak: Span,
        within: Span,
    ) -> Result<Plan, Error> {
        let step_failed =
            |idx: usize, source| Error::Step { runbook: self.name.clone(), step: idx + 1, source };
        let mut steps = Vec::with_capacity(self.steps.len());
        for (idx, spec) in self.steps.iter().enumerate() {
            let action = spec.resolve(target).map_err(|source| step_failed(idx, source))?;
            let undo = spec.undo.as_ref().map(|undo| undo.resolve(target)).transpose();
            steps.push(Step {
                name: spec.name.clone().unwrap_or_else(|| spec.action.as_str().to_owned()),
                action,
                timeout: spec.timeout,
                pre_check: spec.pre_check.clone(),
                undo: undo.map_err(|source| step_failed(idx, source))?,
            });
        }
        let mut checks = target.all_checks();
        checks.extend(self.verify.checks.iter().cloned());
        Plan::new(Parts {
            runbook: self.name.clone(),
            title: self.title.clone(),
            cause: cause.to_owned(),
            target: target.name.clone(),
            zone: target.zone.clone(),
            risk: self.risk,
            autonomy: self.autonomy,
            steps,
            success: Success {
                checks,
                soak: self.verify.soak.or(target.soak).unwrap_or(soak),
                // A check may need all of its start period before it passes.
                within: self.verify.within.unwrap_or(within).plus(target.longest_start()),
            },
        })
        .map_err(|source| Error::Plan(self.name.clone(), source))
    }
}

/// Returns whether a text is like a pattern, in which `*` stands for any text.
fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, wanted) in [
            ("grafana", "grafana", true),
            ("grafana", "grafana/1", false),
            ("grafana", "my grafana", false),
            ("grafana/*", "grafana/", true),
            ("grafana/*", "grafana", false),
            ("*", "", true),
            ("*/monitor", "selfheal/monitor", true),
            ("*/monitor", "selfheal/monitors", false),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("**", "x", true),
            ("a*ä", "aä", true),
        ] {
            assert_eq!(is_like(pattern, text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn a_runbook_with_sources_is_for_events_of_those_alone() {
        let text = r#"{"name": "flush", "title": "t", "risk": "low",
            "when": {"events": ["cache_stale"], "sources": ["integration:*", "selfheal/monitor"]},
            "steps": [{"action": "docker.restart"}]}"#;
        let runbook: Runbook = serde_json::from_str(text).unwrap();
        let (event, target) = (EventType::known("cache_stale"), Target::named("cache"));
        let applies = |source| runbook.applies("reported", &event, source, &target);
        assert!(applies("integration:grafana") && applies("selfheal/monitor"));
        assert!(!applies("who-cares") && !applies("token:integration:x") && !applies(""));
    }
}
