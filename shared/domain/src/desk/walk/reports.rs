//! What hands report in the walk.

use chrono::{DateTime, Utc};

use crate::{
    desk::tests::forged,
    desk::tests::world::{
        analysis, blame, cure, fix, healthy, hypothesis, plan, plan_with_undo, risky_plan, secs,
        verification,
    },
    incident::Incident,
    plan::Risk,
    wire::{FixMode, FixOutcome, Hypothesis, Input, Refusal, VerificationReport, WorkRef},
};

/// Every report of every hand, whether it makes sense now or not.
pub(super) fn all(incident: &Incident) -> Vec<Input> {
    let work = incident.work();
    let mut inputs: Vec<_> = diagnoses().into_iter().map(|it| analysis(work, it)).collect();
    for mode in [FixMode::Apply, FixMode::Undo] {
        inputs.extend(outcomes().into_iter().map(|it| fix(work, mode, it)));
    }
    let since = incident.entered_at;
    for samples_from in [since - secs(1), since, since + secs(1)] {
        for passed in [false, true] {
            for broken in [&[][..], &["api"][..]] {
                inputs.push(verification(work, passed, samples_from, broken));
            }
        }
    }
    inputs.push(without_samples(work, since));
    inputs
}

/// Reports that matter between incidents.
pub(super) fn few(incident: &Incident) -> Vec<Input> {
    let work = incident.work();
    let name = incident.target.clone().unwrap();
    let since = incident.entered_at;
    vec![
        analysis(work, cure(plan(&name))),
        analysis(work, healthy()),
        analysis(work, blame("db")),
        fix(work, FixMode::Apply, FixOutcome::Succeeded),
        fix(
            work,
            FixMode::Apply,
            FixOutcome::Refused { reason: "not on my list".to_owned(), code: Refusal::NotAllowed },
        ),
        verification(work, true, since, &[]),
        verification(work, false, since, &[]),
        verification(work, true, since, &["db"]),
    ]
}

fn diagnoses() -> Vec<Vec<Hypothesis>> {
    let unsure = Hypothesis { confidence_percent: 10, ..hypothesis("guess", Some(plan("db"))) };
    let groundless = Hypothesis { because: Vec::new(), ..hypothesis("guess", Some(plan("db"))) };
    vec![
        vec![],
        vec![unsure],
        vec![groundless],
        vec![hypothesis("disk_full", None)],
        healthy(),
        blame("db"),
        blame("nobody"),
        cure(plan("db")),
        cure(plan("another")),
        cure(plan_with_undo("db")),
        cure(risky_plan("db", Risk::Medium)),
        cure(risky_plan("db", Risk::High)),
        forged::told(&forged::plan("anything", "db")),
        forged::told(&forged::plan("restart-container", "db")),
        forged::told(&forged::plan("wipe", "another")),
    ]
}

fn outcomes() -> [FixOutcome; 5] {
    let reason = || "so it went".to_owned();
    [
        FixOutcome::Succeeded,
        FixOutcome::Failed { reason: reason() },
        FixOutcome::Unknown { reason: reason() },
        FixOutcome::Refused { reason: reason(), code: Refusal::TooLate },
        FixOutcome::Refused { reason: reason(), code: Refusal::Recalled },
    ]
}

fn without_samples(work: WorkRef, since: DateTime<Utc>) -> Input {
    let Input::Verification(report) = verification(work, true, since, &[]) else {
        panic!("another one")
    };
    Input::Verification(VerificationReport { n_samples: 0, ..report })
}

/// Reports on work that is not wanted any more, or not yet: nothing may follow.
pub(super) fn stale(incident: &Incident) -> Vec<Input> {
    let now = incident.work();
    let late = incident.entered_at + secs(100);
    let refs = [
        WorkRef { revision: now.revision - 1, ..now },
        WorkRef { revision: now.revision + 1, ..now },
        WorkRef { attempt: now.attempt + 1, ..now },
    ];
    let of = |work| {
        [
            analysis(work, cure(plan("db"))),
            analysis(work, healthy()),
            fix(work, FixMode::Apply, FixOutcome::Succeeded),
            fix(work, FixMode::Undo, FixOutcome::Succeeded),
            verification(work, true, late, &[]),
            verification(work, false, late, &["api"]),
        ]
    };
    refs.into_iter().flat_map(of).collect()
}
