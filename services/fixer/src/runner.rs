//! Carrying out an order, step by step, and back again where a step fails.

use std::time::Duration;

use domain::{
    action::Action,
    plan::{OVERTIME, Step},
    wire::{FixMode, FixOrder, FixOutcome, Refusal, StepReport},
};
use metrics::{counter, histogram};
use service::trace::{KeyValue, Open, Role};
use tokio::time::Instant;

use crate::{
    actions::{self, Attempt, Done, Failure, Tools},
    lease::{Lease, Lost},
    output::last_part,
    precheck,
    progress::Progress,
};

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

/// Why a step was not carried out.
enum Stop {
    /// Nothing more may be done.
    Lost(Lost),
    /// Its pre-check failed: its action was not begun.
    NotBegun(Failure),
    /// Its action failed, in part or wholly.
    Failed(Failure),
    /// It did not end in time: what it began may still happen.
    TimedOut(Failure),
}

/// Carries out what an order asks for, as long as `lease` allows. Whether it may be done was
/// asked before.
pub async fn carry_out(
    order: &FixOrder,
    tools: &Tools,
    progress: &Progress,
    lease: &dyn Lease,
) -> Ended {
    let mut work = Work { order, tools, progress, lease, reports: Vec::new(), n_idle: 0 };
    let (outcome, undone) = match order.mode {
        FixMode::Apply => work.apply().await,
        FixMode::Undo => {
            let outcome = match work.undo(order.plan.steps.iter().rev()).await {
                Ok(()) => FixOutcome::Succeeded,
                Err(reason) => FixOutcome::Failed { reason },
            };
            (outcome, false)
        }
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
    lease: &'a dyn Lease,
    reports: Vec<StepReport>,
    /// Steps that found nothing to do.
    n_idle: usize,
}

impl Work<'_> {
    async fn apply(&mut self) -> (FixOutcome, bool) {
        let steps = &self.order.plan.steps;
        for (idx, step) in steps.iter().enumerate() {
            // What is taken back when this one fails: also itself, once it was begun. What has
            // failed for certain and has no undo leaves nothing to take back.
            let (failure, n_begun, n_changed) = match self.step(step).await {
                Ok(()) => continue,
                Err(Stop::Lost(lost)) => return (self.lost(&step.name, &lost), false),
                Err(Stop::NotBegun(failure)) => (failure, idx, idx),
                // It has touched nothing.
                Err(Stop::Failed(failure)) if failure.is_refusal => (failure, idx, idx),
                Err(Stop::Failed(failure)) => (failure, idx + 1, idx),
                Err(Stop::TimedOut(failure)) => (failure, idx + 1, idx + 1),
            };
            let first = |n: usize| steps.get(..n).unwrap_or_default();
            let whole = first(n_changed).iter().all(|it| it.undo.is_some());
            let reason = format!("step `{}`: {}", step.name, failure.reason);
            if failure.is_refusal && n_begun == 0 {
                return (FixOutcome::Refused { reason, code: Refusal::Other }, false);
            }
            let (reason, undone) = self.take_back(reason, first(n_begun), whole).await;
            return (FixOutcome::Failed { reason }, undone);
        }
        if self.n_idle == steps.len()
            && let Some(last) = self.reports.last()
        {
            // Somebody else was at it: it heals nothing, and proves nothing about what else the
            // incident may be about.
            let reason = format!("nothing was done: {}", last.summary);
            return (FixOutcome::Refused { reason, code: Refusal::Other }, false);
        }
        (FixOutcome::Succeeded, false)
    }

    /// Takes back what was begun, and returns the whole reason and whether all was taken back.
    async fn take_back(&mut self, reason: String, begun: &[Step], whole: bool) -> (String, bool) {
        if begun.iter().all(|it| it.undo.is_none()) {
            return (reason, false);
        }
        match self.undo(begun.iter().rev()).await {
            Ok(()) => (reason, whole),
            Err(undo) => (format!("{reason}; {undo}"), false),
        }
    }

    /// Says how an order ended that could not be carried on. When no action was begun, nothing
    /// has changed and nothing has failed; else only a verification can tell.
    fn lost(&self, next: &str, lost: &Lost) -> FixOutcome {
        let n_done = self.reports.len();
        let reason =
            format!("step `{next}` was not started: {lost}; steps started before: {n_done}");
        if n_done == 0 {
            FixOutcome::Refused { reason, code: lost.code }
        } else {
            FixOutcome::Unknown { reason }
        }
    }

    async fn step(&mut self, step: &Step) -> Result<(), Stop> {
        self.lease.assure(step.longest().to_std()).await.map_err(Stop::Lost)?;
        if self.reports.is_empty() {
            self.lease.may_begin().map_err(Stop::Lost)?;
        }
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
                return Err(Stop::NotBegun(failure));
            }
        }
        // The time of the action begins when the pre-check has ended.
        self.act(&step.name, &step.action, step.timeout.to_std()).await
    }

    /// Takes steps back. One that cannot be taken back does not keep the others from it; a claim
    /// that is lost does.
    async fn undo(&mut self, steps: impl Iterator<Item = &Step>) -> Result<(), String> {
        let mut failures = Vec::new();
        for step in steps {
            let Some(undo) = &step.undo else { continue };
            let name = format!("undo {}", step.name);
            match self.act(&name, undo, step.timeout.to_std()).await {
                Ok(()) => {}
                Err(Stop::Lost(lost)) => {
                    failures.push(format!("step `{name}` was not started: {lost}"));
                    break;
                }
                Err(Stop::NotBegun(it) | Stop::Failed(it) | Stop::TimedOut(it)) => {
                    failures.push(format!("step `{name}`: {}", it.reason));
                }
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
    }

    fn begin(&self, timeout: Duration) -> Attempt {
        let work = self.order.work;
        Attempt::begin(work.incident.to_string(), work.attempt, timeout).of_plan(&self.order.plan)
    }

    async fn act(&mut self, name: &str, action: &Action, timeout: Duration) -> Result<(), Stop> {
        let overtime = OVERTIME.to_std();
        self.lease.assure(timeout + overtime).await.map_err(Stop::Lost)?;
        let attempt = self.begin(timeout);
        let mut span = Open::here(format!("step {}", action.name().as_str()), Role::Internal);
        self.tell(&format!("{name}: {action}"));
        let begun = Instant::now();
        let running = actions::run(action, self.tools, &attempt);
        let result = tokio::time::timeout(timeout + overtime, running)
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
        match result {
            Ok(done) => {
                self.n_idle += usize::from(done.is_idle);
                Ok(())
            }
            Err(failure) if timeout <= took => Err(Stop::TimedOut(failure)),
            Err(failure) => Err(Stop::Failed(failure)),
        }
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
