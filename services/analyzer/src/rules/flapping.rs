//! It is sick and well and sick again.

use chrono::TimeDelta;

use crate::{
    case::{Case, Life},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "flapping",
    finds: "5 more incidents than starts within 15 minutes: unhealthy, healthy by itself, and unhealthy again",
    find,
};

/// How far back incidents count.
const WINDOW: TimeDelta = TimeDelta::minutes(15);

/// Incidents within [`WINDOW`] that make a pattern. One that ended with a start, as after a
/// kill, is no turn of it.
const REPEATS: usize = 5;

/// It becomes well without them, and sick again with them.
const OUTWEIGHS: &[&str] = &[
    "process_hung",
    "container_hung",
    "container_unhealthy",
    "not_listening",
    "service_failing",
    "file_descriptors_exhausted",
];

fn find(case: &Case<'_>) -> Option<Suspicion> {
    if case.life() == Life::Dead || !case.is_down() {
        return None;
    }
    let n = case.n_within(&case.work.recent_incidents, WINDOW);
    let starts = case.probe().map(|probe| probe.recent_starts.as_slice()).unwrap_or_default();
    let n_starts = case.n_within(starts, WINDOW);
    if n < n_starts + REPEATS {
        return None;
    }
    let minutes = WINDOW.num_minutes();
    let because = format!("{n} incidents within {minutes} minutes, and {n_starts} starts");
    let last = case.failed().first().map(crate::case::Failed::say);
    let summary = format!("{} flaps; acting on each turn would not end it", case.name());
    Some(Suspicion::new(93, summary, because).and(last).outweighs(OUTWEIGHS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HTTP, Scene, found};

    #[test]
    fn many_incidents_are_a_pattern_only_while_it_runs_and_is_sick() {
        let many = [1, 100, 200, 300, 400];
        let hung = |name| Scene::process(name).fails(HTTP, "timed out");
        for (scene, confidence) in [
            (hung("flaps").incidents_s_ago(&many), Some(93)),
            (hung("killed often").incidents_s_ago(&many).starts_s_ago(&many[..4]), None),
            (hung("four").incidents_s_ago(&many[1..]), None),
            (hung("over a day").incidents_s_ago(&[1, 2000, 4000, 6000, 8000]), None),
            (Scene::process("killed often").killed(9).incidents_s_ago(&many), None),
            (Scene::process("well now").incidents_s_ago(&many), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
