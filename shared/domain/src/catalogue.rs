//! The catalogue: the built-in runbooks and those of the configuration, and which of them may
//! be tried for a cause.
//!
//! The analyzer asks it what to propose, and the desk what a proposal stands for: what is done,
//! with which risk and how far by itself is never taken from a message.

use std::sync::{Arc, LazyLock};

use crate::{
    action::StepSpec,
    config::parse_runbook,
    event::EventType,
    plan::Plan,
    runbook::Runbook,
    span::Span,
    target::Target,
    wire::{AttemptRecord, cause},
};

/// The built-in runbooks: a file, and a line here.
static FILES: &[(&str, &str)] = &[
    ("restart-process.yaml", include_str!("../../../runbooks/restart-process.yaml")),
    (
        "restart-after-main-process-exit.yaml",
        include_str!("../../../runbooks/restart-after-main-process-exit.yaml"),
    ),
    ("restart-hung-process.yaml", include_str!("../../../runbooks/restart-hung-process.yaml")),
    ("start-container.yaml", include_str!("../../../runbooks/start-container.yaml")),
    ("restart-container.yaml", include_str!("../../../runbooks/restart-container.yaml")),
    (
        "restart-unhealthy-container.yaml",
        include_str!("../../../runbooks/restart-unhealthy-container.yaml"),
    ),
    (
        "restart-out-of-memory-process.yaml",
        include_str!("../../../runbooks/restart-out-of-memory-process.yaml"),
    ),
    (
        "restart-out-of-memory-container.yaml",
        include_str!("../../../runbooks/restart-out-of-memory-container.yaml"),
    ),
];

/// Read once in each process. A test keeps a file that is no runbook from being shipped.
static BUILT_IN: LazyLock<Catalogue> = LazyLock::new(|| {
    let read = FILES.iter().filter_map(|(_, text)| parse_runbook(text).ok());
    Catalogue::ordered(read.collect())
});

/// All runbooks, in the order in which they are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalogue {
    runbooks: Arc<[Runbook]>,
}

/// What a runbook is wanted for.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// The cause that was found.
    pub cause: &'a str,
    /// Type of the event that opened the incident.
    pub event: &'a EventType,
    /// Who sent that event: the origin that was proven, or the source where none is known.
    pub source: &'a str,
    /// The target that is to be acted upon.
    pub target: &'a Target,
    /// What was tried before, and counts.
    pub tried: &'a [AttemptRecord],
    /// The policy's soak time.
    pub soak: Span,
    /// The policy's time to become well.
    pub within: Span,
}

impl Default for Catalogue {
    fn default() -> Self {
        BUILT_IN.clone()
    }
}

impl Catalogue {
    /// Returns the built-in runbooks and those of a configuration; of the same name, the
    /// configuration's is taken.
    #[must_use]
    pub fn with(own: &[Runbook]) -> Self {
        if own.is_empty() {
            return Self::default();
        }
        let is_kept = |it: &&Runbook| own.iter().all(|own| own.name != it.name);
        Self::ordered(
            own.iter().chain(BUILT_IN.runbooks().iter().filter(is_kept)).cloned().collect(),
        )
    }

    fn ordered(mut runbooks: Vec<Runbook>) -> Self {
        // Stable: of the same order, those of the configuration come before the built-in ones.
        runbooks.sort_by_key(|runbook| runbook.order);
        Self { runbooks: runbooks.into() }
    }

    /// Returns all runbooks, in the order in which they are tried.
    #[must_use]
    pub fn runbooks(&self) -> &[Runbook] {
        &self.runbooks
    }

    /// Returns the runbook of this name.
    #[must_use]
    pub fn runbook(&self, name: &str) -> Option<&Runbook> {
        self.runbooks.iter().find(|it| it.name == name)
    }

    /// Returns whether a runbook that names the event itself fits.
    #[must_use]
    pub fn names_event(&self, case: &Case<'_>) -> bool {
        self.runbooks.iter().any(|it| !it.when.events.is_empty() && fits(it, case))
    }

    /// Returns the first runbook that fits, is not used up and gives a plan.
    ///
    /// # Errors
    ///
    /// Why each runbook that fits the cause is not proposed. Empty when none fits.
    pub fn choose(&self, case: &Case<'_>) -> Result<&Runbook, Vec<String>> {
        let mut refused = Vec::new();
        for runbook in self.runbooks.iter().filter(|it| fits(it, case)) {
            match self.planned(runbook, case) {
                Ok(_) => return Ok(runbook),
                Err(why) => refused.push(why),
            }
        }
        Err(refused)
    }

    /// Returns the plan that the runbook of this name gives: its steps, its risk and how far
    /// it may go by itself are those of the catalogue.
    ///
    /// # Errors
    ///
    /// Why there is none, in one sentence.
    pub fn plan(&self, name: &str, case: &Case<'_>) -> Result<Plan, String> {
        let Some(runbook) = self.runbook(name) else {
            return Err(format!("there is no runbook `{}`", shown(name)));
        };
        if !fits(runbook, case) {
            let Case { cause, event, source, target, .. } = case;
            return Err(format!(
                "runbook `{name}` is not for {} on `{}` after {event} of {}",
                shown(cause),
                target.name,
                shown(source)
            ));
        }
        self.planned(runbook, case)
    }

    fn planned(&self, runbook: &Runbook, case: &Case<'_>) -> Result<Plan, String> {
        let (name, allowed) = (&runbook.name, runbook.attempts);
        let tried: Vec<_> = case.tried.iter().filter(|it| self.is_same(runbook, it)).collect();
        if usize::try_from(allowed).unwrap_or(usize::MAX) <= tried.len() {
            let last = tried.last().and_then(|it| it.failure.as_deref());
            let last = last.map(|it| format!(": {it}")).unwrap_or_default();
            let n = tried.len();
            return Err(format!(
                "`{name}` is used up: {n} of {allowed} attempts did not help{last}"
            ));
        }
        let target = case.target;
        runbook.plan(case.cause, target, case.soak, case.within).map_err(|error| {
            let hint = if target.all_checks().is_empty() {
                format!("; add a check to the target `{}`, or to `verify.checks`", target.name)
            } else {
                String::new()
            };
            format!("`{name}` does not fit: {}{hint}", chain(&error))
        })
    }

    /// Returns whether an attempt did what the runbook would do. A restart in vain is a
    /// restart in vain, whatever it was called.
    fn is_same(&self, runbook: &Runbook, attempt: &AttemptRecord) -> bool {
        let deeds = |it: &Runbook| it.steps.iter().map(deed).collect::<Vec<_>>();
        let tried = self.runbook(&attempt.runbook);
        attempt.runbook == runbook.name || tried.is_some_and(|it| deeds(it) == deeds(runbook))
    }
}

/// Returns whether a runbook is for a case at all.
fn fits(runbook: &Runbook, case: &Case<'_>) -> bool {
    let is_meant = match case.cause {
        // What is healthy needs no fix, and what is not known gets none.
        cause::HEALTHY | cause::NOT_OBSERVABLE | cause::EVIDENCE_INCOMPLETE | cause::STARTING => {
            false
        }
        // A cure for the symptom must be meant for that, and not for the event alone.
        // And what answers in its place must be looked at first, whatever the event.
        cause::DEPENDENCY_DOWN | cause::ANSWERED_BY_ANOTHER | cause::HOST_OVERLOADED => {
            runbook.when.causes.iter().any(|one| one == case.cause)
        }
        _ => true,
    };
    is_meant && runbook.applies(case.cause, case.event, case.source, case.target)
}

/// Returns what a step does, without what it is called and how long it may take.
fn deed(step: &StepSpec) -> StepSpec {
    let timeout = Span::ZERO;
    StepSpec { name: None, timeout, pre_check: None, undo: None, ..step.clone() }
}

/// Returns a stranger's name as a reason can hold it: short, on one line, without what a
/// terminal or a message format would act on.
fn shown(name: &str) -> String {
    const CHARS_MAX: usize = 64;
    let legal = |it: char| it.is_ascii_alphanumeric() || "_-./:".contains(it);
    let safe = name.chars().map(|it| if legal(it) { it } else { '?' });
    let shown: String = safe.take(CHARS_MAX).collect();
    if shown.len() < name.chars().count() { format!("{shown}…") } else { shown }
}

/// Returns an error with its sources.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |it| it.source());
    sources.fold(error.to_string(), |text, it| format!("{text}: {it}"))
}

#[cfg(test)]
mod tests;
