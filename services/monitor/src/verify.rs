//! Verification: is it well, and does it stay well, by samples newer than the fix?
//!
//! What the looks mean is decided by a [`Trial`].

use std::{sync::Arc, time::Duration};

use domain::{
    target::Target,
    wire::{VerificationReport, VerifyWork},
};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};

use crate::{
    host,
    instruments::Instruments,
    own::Own,
    probes::{self, Question},
    sample::{Begun, Outcome},
    trial::{Look, Next, Trial},
};

/// Time between two looks at a neighbour that has failed once.
pub const NEIGHBOUR_STEP: Duration = Duration::from_millis(100);

/// Looks at a neighbour at most, whatever its `fail_after`.
pub const NEIGHBOUR_LOOKS_MAX: u32 = 5;

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
    let mut trial = Trial::new(work.clone(), received);
    let questions = questions(&trial, instruments);
    let mut own = Own::default();
    let verdict = loop {
        let begun = Begun::now();
        let mut samples = join_all(questions.iter().map(probes::look)).await;
        own.judge(work, &questions, &mut samples).await;
        let look =
            Look::new(work, begun, trial.checks(), &samples).on_host_with(host::runnable_per_cpu());
        match trial.take(look, Instant::now()) {
            Next::LookAt(time) => sleep_until(time).await,
            Next::Ended(verdict) => break verdict,
        }
    };
    let broken = if verdict.has_passed() {
        sick_neighbours(work, instruments, zones).await
    } else {
        Vec::new()
    };
    trial.report(verdict, by, broken)
}

fn questions(trial: &Trial, instruments: &Instruments) -> Vec<Question> {
    let target = Arc::new(trial.work().target.clone());
    let question =
        |check| Question { target: Arc::clone(&target), check, instruments: instruments.clone() };
    trial.checks().iter().cloned().map(question).collect()
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
