//! The host is too busy for the target to answer in time.

use domain::wire::cause::HOST_OVERLOADED;

use crate::{
    case::{Case, Failure, Life},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: HOST_OVERLOADED,
    finds: "an attempt did not help, the target runs and gets no answer in time, and 4 or more processes compete for each processor of its host",
    find,
};

/// Processes that want to run, for each processor, from which on a program that needs a moment
/// of its own waits several for it.
const RUNNABLE_MIN: f64 = 4.0;

/// A further restart would take time from those that start, and help as little.
const OUTWEIGHS: &[&str] = &["container_hung", "not_listening", "process_hung", "unreachable"];

fn find(case: &Case<'_>) -> Option<Suspicion> {
    if case.work.attempts.is_empty() || case.life() != Life::Alive {
        return None;
    }
    let runnable = case.findings.host.as_ref()?.runnable_per_cpu?;
    if runnable < RUNNABLE_MIN {
        return None;
    }
    let failed = case.failed_by(&[Failure::TimedOut, Failure::Refused])?;
    let summary = format!("{} runs, and its host is overloaded", case.name());
    let because = format!("{runnable:.0} processes compete for each processor of the host");
    Some(Suspicion::new(90, summary, because).and(failed.say()).outweighs(OUTWEIGHS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HTTP, Scene, found};

    #[test]
    fn only_what_was_restarted_in_vain_on_a_busy_host_waits_for_the_host() {
        let tried = |name| Scene::process(name).tried("restart-process", 1);
        for (scene, confidence) in [
            (tried("busy").fails(HTTP, "timed out").runnable(9.5), Some(90)),
            (
                tried("does not listen yet").fails(HTTP, "connection refused").runnable(4.0),
                Some(90),
            ),
            (tried("idle").fails(HTTP, "timed out").runnable(1.0), None),
            (tried("wrong answer").fails(HTTP, "status 500").runnable(9.5), None),
            (tried("dead").killed(9).fails(HTTP, "timed out").runnable(9.5), None),
            (tried("well").runnable(9.5), None),
            (Scene::process("not tried").fails(HTTP, "timed out").runnable(9.5), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
