//! Verification: is it well, and does it stay well, by samples newer than the fix?

use std::{sync::Arc, time::Duration};

use domain::{
    check::Check,
    target::{Handle, Target},
    wire::{CheckResult, VerificationReport, VerifyWork},
};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};

use crate::{
    instruments::Instruments,
    probes::{self, Question},
    sample::{Begun, Outcome, RunId},
};

/// The longest time between two looks at the same check.
const STEP_MAX: Duration = Duration::from_millis(200);

/// The shortest one, for very short soak times.
const STEP_MIN: Duration = Duration::from_millis(10);

/// How often to look before it has passed at all: it is about to start.
const STEP_STARTING: Duration = Duration::from_millis(50);

/// At least so many looks must have passed, however short the soak time.
const N_LOOKS_MIN: u32 = 3;

/// So many restarts may be seen; one more, and it keeps dying.
const N_RESTARTS_MAX: u32 = 2;

/// A target whose handle has had no run for so long will not be well by itself: whoever
/// restarts it (an engine, an init system) would have done so.
const DEAD_MAX: Duration = Duration::from_secs(5);

/// Time between two looks at a neighbour that has failed once.
const NEIGHBOUR_STEP: Duration = Duration::from_millis(100);

/// Looks at a neighbour at most, whatever its `fail_after`.
const NEIGHBOUR_LOOKS_MAX: u32 = 5;

/// One look at all checks at once.
struct Look {
    begun: Begun,
    results: Vec<CheckResult>,
    passed: bool,
    run: Option<RunId>,
}

/// A time of health that has not been interrupted yet.
struct Soak {
    since: Begun,
    run: Option<RunId>,
    n_looks: u32,
}

/// Samples until the target has stayed well for the soak time, or the time is over.
///
/// `received` is when the work came in: by the broker's order it lies behind the fix.
pub async fn verify(
    work: &VerifyWork,
    instruments: &Instruments,
    by: &str,
    zones: &[String],
    received: Begun,
) -> VerificationReport {
    let questions = questions(work, instruments);
    let deadline = received.at + work.within.to_std() + work.soak.to_std();
    let step = step(&questions, work.soak.to_std());
    let mut last_run: Option<RunId> = None;
    let mut n_restarts = 0;
    let mut soak: Option<Soak> = None;
    let mut alive_at = received.at;
    let verdict = loop {
        let look = look(work, &questions).await;
        if look.run.is_some() || work.target.handle().is_none() {
            alive_at = look.begun.at;
        }
        if DEAD_MAX < look.begun.at - alive_at {
            break Verdict::failed(&look, format!("it has not run for {} s", DEAD_MAX.as_secs()));
        }
        if look.run.is_some() {
            let restarted = last_run.is_some() && last_run != look.run;
            n_restarts += u32::from(restarted);
            last_run.clone_from(&look.run);
        }
        if N_RESTARTS_MAX < n_restarts {
            break Verdict::failed(&look, format!("it keeps dying: {n_restarts} restarts seen"));
        }
        soak = look.passed.then(|| match soak {
            Some(soak) if soak.run == look.run => Soak { n_looks: soak.n_looks + 1, ..soak },
            Some(_) | None => Soak { since: look.begun, run: look.run.clone(), n_looks: 1 },
        });
        if let Some(soak) = &soak
            && N_LOOKS_MIN <= soak.n_looks
            && work.soak.to_std() <= look.begun.at - soak.since.at
        {
            break Verdict::passed(&look, soak, n_restarts);
        }
        if deadline <= Instant::now() {
            break Verdict::failed(&look, out_of_time(work, &look, soak.as_ref()));
        }
        let wait = if soak.is_none() { step.min(STEP_STARTING) } else { step };
        sleep_until(look.begun.at + wait).await;
    };
    let broken_neighbours =
        if verdict.passed { sick_neighbours(work, instruments, zones).await } else { Vec::new() };
    verdict.into_report(work, by, received, broken_neighbours)
}

/// Returns what is looked at: the checks of the plan, and the run of the handle.
fn questions(work: &VerifyWork, instruments: &Instruments) -> Vec<Question> {
    let mut checks =
        if work.checks.is_empty() { work.target.all_checks() } else { work.checks.clone() };
    let names = |probe: fn(&Check) -> bool, checks: &[Check]| checks.iter().any(probe);
    match work.target.handle() {
        Some(Handle::Process(_)) if !names(|it| it.process == Some(true), &checks) => {
            checks.push(Check::of_process());
        }
        Some(Handle::Docker(_)) if !names(|it| it.docker == Some(true), &checks) => {
            checks.push(Check::of_container());
        }
        Some(Handle::Process(_) | Handle::Docker(_)) | None => {}
    }
    let target = Arc::new(work.target.clone());
    let question =
        |check| Question { target: Arc::clone(&target), check, instruments: instruments.clone() };
    checks.into_iter().map(question).collect()
}

fn step(questions: &[Question], soak: Duration) -> Duration {
    let every = questions.iter().map(|question| question.check.every.to_std()).min();
    let dense = (soak / N_LOOKS_MIN).max(STEP_MIN);
    every.unwrap_or(STEP_MAX).min(STEP_MAX).min(dense)
}

async fn look(work: &VerifyWork, questions: &[Question]) -> Look {
    let begun = Begun::now();
    let samples = join_all(questions.iter().map(probes::look)).await;
    let run = samples.iter().find_map(|sample| sample.finding.run.clone());
    let ok = |outcome| outcome == Outcome::Passed;
    let results: Vec<CheckResult> = samples
        .iter()
        .zip(questions)
        .map(|(sample, question)| sample.result(&question.check, ok(sample.finding.outcome)))
        .collect();
    // Without anything to look at there is no proof, and a handle without a run is dead.
    let has_run = work.target.handle().is_none() || run.is_some();
    let passed = has_run && !results.is_empty() && results.iter().all(|result| result.ok);
    Look { begun, results, passed, run }
}

fn out_of_time(work: &VerifyWork, look: &Look, soak: Option<&Soak>) -> String {
    let within = work.within;
    match (look.results.iter().find(|result| !result.ok), soak) {
        (Some(sick), _) => format!("not well within {within}: {}: {}", sick.check, sick.detail),
        (None, Some(soak)) => format!(
            "well for {} ms only within {within}, not for {}",
            (look.begun.at - soak.since.at).as_millis(),
            work.soak
        ),
        (None, None) => {
            format!("there is no check that can prove that {} is well", work.target.name)
        }
    }
}

/// What was found out.
struct Verdict {
    passed: bool,
    summary: String,
    first: Begun,
    n_looks: u32,
    results: Vec<CheckResult>,
}

impl Verdict {
    fn passed(look: &Look, soak: &Soak, n_restarts: u32) -> Self {
        let checks = soak.n_looks;
        let mut summary = format!(
            "well for {} ms, {checks} looks at {} checks",
            (look.begun.at - soak.since.at).as_millis(),
            look.results.len()
        );
        if 0 < n_restarts {
            summary.push_str(", after it was restarted once more");
        }
        Self {
            passed: true,
            summary,
            first: soak.since,
            n_looks: soak.n_looks,
            results: look.results.clone(),
        }
    }

    fn failed(look: &Look, summary: String) -> Self {
        Self {
            passed: false,
            summary,
            first: look.begun,
            n_looks: 1,
            results: look.results.clone(),
        }
    }

    fn into_report(
        self,
        work: &VerifyWork,
        by: &str,
        received: Begun,
        broken_neighbours: Vec<String>,
    ) -> VerificationReport {
        let behind = self.first.at.saturating_duration_since(received.at);
        let behind = chrono::TimeDelta::from_std(behind).unwrap_or_default();
        VerificationReport {
            work: work.work,
            by: by.to_owned(),
            passed: self.passed,
            summary: self.summary,
            samples_from: work.since + behind,
            n_samples: self.n_looks,
            checks: self.results,
            broken_neighbours,
        }
    }
}

/// Returns the neighbours that are sick, of those that can be reached from here.
async fn sick_neighbours(
    work: &VerifyWork,
    instruments: &Instruments,
    zones: &[String],
) -> Vec<String> {
    let reachable = work.neighbours.iter().filter(|target| zones.contains(&target.zone));
    let looks = reachable.map(|target| async move {
        is_sick(target, instruments).await.then(|| target.name.clone())
    });
    join_all(looks).await.into_iter().flatten().collect()
}

async fn is_sick(target: &Target, instruments: &Instruments) -> bool {
    let target = Arc::new(target.clone());
    let checks = target.all_checks().into_iter().map(|check| {
        let question =
            Question { target: Arc::clone(&target), check, instruments: instruments.clone() };
        async move { fails_enough(&question).await }
    });
    join_all(checks).await.into_iter().any(|failed| failed)
}

async fn fails_enough(question: &Question) -> bool {
    for n_looks in 1..=question.check.fail_after.clamp(1, NEIGHBOUR_LOOKS_MAX) {
        if 1 < n_looks {
            tokio::time::sleep(NEIGHBOUR_STEP).await;
        }
        if probes::look(question).await.finding.outcome != Outcome::Failed {
            return false;
        }
    }
    true
}
