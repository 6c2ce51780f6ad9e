//! Carrying out an order, step by step, and back again where a step fails.

use std::time::Duration;

use domain::{
    action::Action,
    plan::Step,
    wire::{FixMode, FixOrder, FixOutcome, StepReport},
};
use metrics::{counter, histogram};
use service::trace::{KeyValue, Open, Role};
use tokio::time::Instant;

use crate::{
    actions::{self, Attempt, Done, Failure, Tools},
    output::last_part,
    precheck,
    progress::Progress,
};

/// What an action gets beyond its timeout to end by itself, before it is dropped.
const OVERTIME: Duration = Duration::from_millis(500);

/// Most bytes of output in one report: with escapes it must fit into a frame.
const REPORT_OUTPUT_BYTES_MAX: usize = 96 * 1024;

/// Longest summary of a step.
const SUMMARY_BYTES_MAX: usize = 2048;

/// How an order ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// How it ended.
    pub outcome: FixOutcome,
    /// What was done, in the order in which it was done.
    pub steps: Vec<StepReport>,
    /// Whether all steps that were done have been taken back after a failure.
    pub undone: bool,
}

/// Carries out what an order asks for. Whether it may be done was asked before.
pub async fn carry_out(order: &FixOrder, tools: &Tools, progress: &Progress) -> Ended {
    let mut work = Work { order, tools, progress, reports: Vec::new() };
    let (outcome, undone) = match order.mode {
        FixMode::Apply => work.apply().await,
        FixMode::Undo => (work.undo(order.plan.steps.iter().rev()).await, false),
    };
    let mut steps = work.reports;
    let room = REPORT_OUTPUT_BYTES_MAX / steps.len().max(1);
    for step in &mut steps {
        step.output = last_part(&step.output, room);
    }
    Ended { outcome, steps, undone }
}

struct Work<'a> {
    order: &'a FixOrder,
    tools: &'a Tools,
    progress: &'a Progress,
    reports: Vec<StepReport>,
}

impl Work<'_> {
    async fn apply(&mut self) -> (FixOutcome, bool) {
        let steps = &self.order.plan.steps;
        for (idx, step) in steps.iter().enumerate() {
            let Err(failure) = self.step(step).await else { continue };
            let reason = format!("step `{}`: {}", step.name, failure.reason);
            let done = steps.get(..idx).unwrap_or_default();
            if done.is_empty() {
                let outcome = if failure.is_refusal {
                    FixOutcome::Refused { reason }
                } else {
                    FixOutcome::Failed { reason }
                };
                return (outcome, false);
            }
            let whole = done.iter().all(|it| it.undo.is_some());
            let undone = match self.undo(done.iter().rev()).await {
                FixOutcome::Succeeded => whole,
                FixOutcome::Failed { .. }
                | FixOutcome::Unknown { .. }
                | FixOutcome::Refused { .. } => false,
            };
            return (FixOutcome::Failed { reason }, undone);
        }
        (FixOutcome::Succeeded, false)
    }

    async fn step(&mut self, step: &Step) -> Result<(), Failure> {
        let attempt = self.begin(step.timeout.to_std());
        if let Some(check) = &step.pre_check {
            let seen = precheck::look(check, &step.action, self.tools, &attempt).await;
            if !seen.ok {
                let reason = format!(
                    "not run, because its pre-check `{}` failed: {}",
                    seen.check, seen.detail
                );
                let failure = Failure::new(reason);
                let took = Duration::from_millis(seen.took_ms);
                self.report(&step.name, &step.action, Err(&failure), took);
                return Err(failure);
            }
        }
        // The time of the action begins when the pre-check has ended.
        self.act(&step.name, &step.action, step.timeout.to_std()).await
    }

    /// Takes steps back. One that cannot be taken back does not keep the others from it.
    async fn undo(&mut self, steps: impl Iterator<Item = &Step>) -> FixOutcome {
        let mut failures = Vec::new();
        for step in steps {
            let Some(undo) = &step.undo else { continue };
            let name = format!("undo {}", step.name);
            if let Err(failure) = self.act(&name, undo, step.timeout.to_std()).await {
                failures.push(format!("step `{name}`: {}", failure.reason));
            }
        }
        if failures.is_empty() {
            FixOutcome::Succeeded
        } else {
            FixOutcome::Failed { reason: failures.join("; ") }
        }
    }

    fn begin(&self, timeout: Duration) -> Attempt {
        let work = self.order.work;
        let checks = self.order.plan.success.checks.clone();
        Attempt::begin(work.incident.to_string(), work.attempt, timeout).with_checks(checks)
    }

    async fn act(&mut self, name: &str, action: &Action, timeout: Duration) -> Result<(), Failure> {
        let attempt = self.begin(timeout);
        let mut span = Open::here(format!("step {}", action.name().as_str()), Role::Internal);
        self.tell(&format!("{name}: {action}"));
        let begun = Instant::now();
        let running = actions::run(action, self.tools, &attempt);
        let result = tokio::time::timeout(timeout + OVERTIME, running)
            .await
            .unwrap_or_else(|_elapsed| Err(Failure::timed_out(&action.to_string(), timeout)));
        let took = begun.elapsed();
        self.report(name, action, result.as_ref(), took);
        span.say(|| {
            vec![
                KeyValue::new("selfheal.step", name.to_owned()),
                KeyValue::new("selfheal.action", action.to_string()),
            ]
        });
        if let Err(failure) = &result {
            span.fail(failure.reason.clone());
        }
        result.map(drop)
    }

    fn report(
        &mut self,
        name: &str,
        action: &Action,
        result: Result<&Done, &Failure>,
        took: Duration,
    ) {
        let (ok, summary, output) = match result {
            Ok(done) => (true, &done.summary, &done.output),
            Err(failure) => (false, &failure.reason, &failure.output),
        };
        let outcome = if ok { "ok" } else { "failed" };
        let label = action.name().as_str();
        counter!("selfheal_fixer_attempts_total", "action" => label, "outcome" => outcome)
            .increment(1);
        histogram!("selfheal_fixer_step_seconds", "action" => label).record(took.as_secs_f64());
        self.tell(&format!("{name}: {outcome}, {summary}"));
        self.reports.push(StepReport {
            name: name.to_owned(),
            action: action.to_string(),
            ok,
            summary: last_part(summary, SUMMARY_BYTES_MAX),
            output: output.clone(),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
    }

    fn tell(&self, progress: &str) {
        let work = self.order.work;
        self.progress.tell(work.incident, work.attempt, &last_part(progress, SUMMARY_BYTES_MAX));
    }
}
