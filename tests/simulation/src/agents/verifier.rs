//! Verifications: `monitor::trial` judges, this looks.

use std::time::Duration;

use ::monitor::{
    sample::{Outcome, Sample},
    trial::{Look, Next, Trial},
    verify::{NEIGHBOUR_LOOKS_MAX, NEIGHBOUR_STEP},
    verify_work::{is_too_late, report_id},
};
use domain::{
    check::Check,
    target::Target,
    wire::{Envelope, Input, VerifyWork},
};
use futures_util::future::join_all;

use super::{Agent, hand::Fate, lane::Lanes, watcher};
use crate::{broker::Job, bug::Bug, targets::Targets};

const AGAIN: Duration = Duration::from_millis(500);

pub(crate) async fn run(agent: &Agent, lanes: &Lanes, job: &Job) -> Fate {
    let received = agent.begun();
    let work: VerifyWork = serde_json::from_slice(&job.payload).expect("work can be read");
    if is_too_late(&work, received.utc) {
        return Fate::Done;
    }
    let (id, idx) = (report_id(&work, &agent.member), agent.world.targets.index(&work.target.name));
    let Some(idx) = idx else { return Fate::Done };
    let mut trial = Trial::new(work, received);
    agent.world.targets.stutter(&agent.world, idx);
    let is_hasty = agent.world.bug(Bug::OldSamplesCount);
    let mut n_old = 10;
    let verdict = loop {
        let mut begun = agent.begun();
        let samples = look(agent, idx, trial.checks()).await;
        let step = trial.work().soak.to_std() / 8;
        let mut now = agent.instant();
        if agent.world.bug(Bug::SoakFromTheQuestion) {
            now = begun.at;
        }
        if is_hasty && 0 < n_old {
            // As if these were the newest of many samples, taken since long ago.
            n_old -= 1;
            begun.at -= step * n_old;
            now = begun.at;
        }
        let look = Look::new(trial.work(), begun, trial.checks(), &samples);
        match trial.take(look, now) {
            Next::LookAt(_) if is_hasty && 0 < n_old => {}
            Next::LookAt(at) => agent.sleep_until(at).await,
            Next::Ended(verdict) => break verdict,
        }
    };
    let mut broken = Vec::new();
    if verdict.has_passed() {
        for neighbour in trial.work().neighbours.clone() {
            if is_sick(agent, &neighbour).await {
                broken.push(neighbour.name);
            }
        }
    }
    let report = trial.report(verdict, &agent.member, broken);
    agent.say(|| {
        let how = if report.passed { "passed" } else { "failed" };
        format!("{} verification {how}: {}", report.work.incident, report.summary)
    });
    let envelope = Envelope::new(id, Input::Verification(report));
    while lanes.submit(agent, &envelope).await.is_err() {
        agent.sleep(AGAIN).await;
    }
    Fate::Done
}

async fn look(agent: &Agent, idx: usize, checks: &[Check]) -> Vec<Sample> {
    let begun = agent.begun();
    let probe = |check| async move {
        let finding = Targets::probe(&agent.world, idx, check).await;
        let (finding, _) = watcher::seen(agent, finding, Duration::ZERO);
        begun.ended_after(agent.instant() - begun.at, finding)
    };
    join_all(checks.iter().map(probe)).await
}

async fn is_sick(agent: &Agent, target: &Target) -> bool {
    let Some(idx) = agent.world.targets.index(&target.name) else { return false };
    for check in target.all_checks() {
        let mut has_failed = true;
        for n_looks in 1..=check.fail_after.clamp(1, NEIGHBOUR_LOOKS_MAX) {
            if 1 < n_looks {
                agent.sleep(NEIGHBOUR_STEP).await;
            }
            let samples = look(agent, idx, std::slice::from_ref(&check)).await;
            if samples.iter().any(|it| it.finding.outcome != Outcome::Failed) {
                has_failed = false;
                break;
            }
        }
        if has_failed {
            return true;
        }
    }
    false
}
