//! It ends again and again, soon after each start, by its own doing.

use chrono::{DateTime, TimeDelta, Utc};
use domain::wire::AttemptRecord;

use crate::{
    case::{Case, Life, said},
    ending::Doing,
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "crash_loop",
    finds: "4 starts or incidents within 5 minutes, or 2 failed restarts, and it has ended again by its own doing",
    find,
};

/// How far back starts and incidents count.
const WINDOW: TimeDelta = TimeDelta::minutes(5);

/// Starts, or incidents, within [`WINDOW`] that make a loop. One crash is bad luck, and
/// three may be one bad deployment and its two repairs.
const REPEATS: usize = 4;

/// Restarts of this incident after which another one teaches nothing.
const ATTEMPTS: usize = 2;

/// How far the clocks of the broker and of the target's host may be apart.
const CLOCKS: TimeDelta = TimeDelta::seconds(3);

/// Restarts by the engine itself that make a loop.
const ENGINE_RESTARTS: i64 = 3;

/// With these as its last words, it ended by a fault of its own.
const LAST_WORDS: [&str; 7] =
    ["fatal", "panic", "traceback", "exception", "segmentation fault", "error", "abort"];

/// Another start would only be one more turn of the loop.
const OUTWEIGHS: &[&str] =
    &["process_exited", "container_exited", "out_of_memory", "not_listening"];

fn find(case: &Case<'_>) -> Option<Suspicion> {
    by_engine(case).or_else(|| by_count(case))
}

fn by_engine(case: &Case<'_>) -> Option<Suspicion> {
    let container = case.container()?;
    if container.status != "restarting" || container.restart_count < ENGINE_RESTARTS {
        return None;
    }
    let because = format!("the engine has restarted it {} times", container.restart_count);
    Some(suspicion(case, 96, because))
}

fn by_count(case: &Case<'_>) -> Option<Suspicion> {
    if case.life() != Life::Dead {
        return None;
    }
    let attempts = n_restarts(case);
    if ATTEMPTS <= attempts {
        let because = format!("it has ended again after {attempts} attempts of this incident");
        return Some(suspicion(case, 96, because));
    }
    // Who is killed from outside, however often, does not crash.
    let is_own = match case.ending().doing() {
        Doing::Own => true,
        Doing::Foreign => false,
        Doing::Unknown => has_last_words(case),
    };
    let starts = case.probe().map(|probe| probe.recent_starts.as_slice()).unwrap_or_default();
    let starts = case.n_within(starts, WINDOW);
    let incidents = case.n_within(&case.work.recent_incidents, WINDOW);
    if !is_own || starts.max(incidents) < REPEATS {
        return None;
    }
    let minutes = WINDOW.num_minutes();
    let because = if incidents < starts {
        format!("{starts} starts within {minutes} minutes")
    } else {
        format!("{incidents} incidents within {minutes} minutes")
    };
    Some(suspicion(case, 96, because))
}

/// Returns the attempts of this incident that have started it. One of which a step failed, such as
/// since the program was missing, or whose fixer died at an unknown place, says nothing about how
/// it runs, unless a start was seen.
fn n_restarts(case: &Case<'_>) -> usize {
    let attempts = &case.work.attempts;
    let starts = case.probe().map(|probe| probe.recent_starts.as_slice()).unwrap_or_default();
    // The engine tells the last start only.
    let by_engine = case.container().and_then(|it| it.started_at);
    let has_started = |idx: usize, from: DateTime<Utc>| {
        let next = attempts.get(idx + 1).map(|it| it.started_at - CLOCKS);
        starts
            .iter()
            .chain(&by_engine)
            .any(|at| from - CLOCKS <= *at && next.is_none_or(|next| *at < next))
    };
    let counts = |(idx, it): &(usize, &AttemptRecord)| {
        !(it.step_failed || it.outcome_unknown) || has_started(*idx, it.started_at)
    };
    attempts.iter().enumerate().filter(counts).count()
}

fn has_last_words(case: &Case<'_>) -> bool {
    const LINES: usize = 3;
    case.log().iter().rev().take(LINES).any(|line| {
        let line = line.to_lowercase();
        LAST_WORDS.iter().any(|word| line.contains(word))
    })
}

fn suspicion(case: &Case<'_>, confidence: u8, because: String) -> Suspicion {
    let ending = case.ending();
    let how = ending.is_known().then(|| format!("the last run {ending}"));
    let change = case.work.changes.last().map(|it| format!("changed before: {}", it.what));
    let summary = format!("{} ends again and again; another start would not help", case.name());
    Suspicion::new(confidence, summary, because)
        .and(how)
        .and(case.log_line(&LAST_WORDS).map(said))
        .and(change)
        .outweighs(OUTWEIGHS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Scene, found};

    #[test]
    fn a_loop_is_told_from_single_crashes_and_from_kills() {
        let four = [1, 20, 40, 60];
        for (scene, confidence) in [
            (Scene::process("crashes").exited(70).starts_s_ago(&four), Some(96)),
            (Scene::process("by incidents").exited(70).incidents_s_ago(&four), Some(96)),
            (
                Scene::process("nobody saw it, its log tells")
                    .vanished()
                    .log(&["listening", "fatal: no disk"])
                    .starts_s_ago(&four),
                Some(96),
            ),
            (Scene::process("attempts failed").vanished().tried("restart-process", 2), Some(96)),
            // The program was missing, or no process could be made.
            (
                Scene::process("starts failed")
                    .vanished()
                    .failed_s_ago("restart-process", &[60, 30]),
                None,
            ),
            (
                Scene::process("one start failed")
                    .vanished()
                    .failed_s_ago("restart-process", &[60, 30])
                    .starts_s_ago(&[28]),
                None,
            ),
            (
                Scene::process("started, and ended at once")
                    .vanished()
                    .failed_s_ago("restart-process", &[60, 30])
                    .starts_s_ago(&[58, 28]),
                Some(96),
            ),
            (
                Scene::process("two fixers died before they started anything")
                    .vanished()
                    .unknown_s_ago("restart-process", &[60, 30]),
                None,
            ),
            (
                Scene::process("fixers died, but had started it")
                    .vanished()
                    .unknown_s_ago("restart-process", &[60, 30])
                    .starts_s_ago(&[58, 28]),
                Some(96),
            ),
            (Scene::container("crashes").container_exit(1).starts_s_ago(&four), Some(96)),
            (Scene::container("by the engine").engine_restarts("restarting", 5), Some(96)),
            (Scene::process("three").exited(70).starts_s_ago(&[1, 20, 40]), None),
            (Scene::process("long ago").exited(70).starts_s_ago(&[1, 400, 500, 600]), None),
            (Scene::process("killed each time").killed(9).starts_s_ago(&four), None),
            (Scene::container("killed each time").container_exit(137).starts_s_ago(&four), None),
            (
                Scene::process("nobody saw it, nothing in its log")
                    .vanished()
                    .log(&["listening on 1"])
                    .starts_s_ago(&four),
                None,
            ),
            (Scene::process("runs").starts_s_ago(&four), None),
            (Scene::container("restarted once").engine_restarts("running", 1), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
