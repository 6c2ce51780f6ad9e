//! The kernel killed it for want of memory, or it could get no more.

use chrono::TimeDelta;
use domain::wire::cause::{CONTAINER_EXITED, OUT_OF_MEMORY, PROCESS_EXITED};

use crate::{
    case::{Case, Life, said},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: OUT_OF_MEMORY,
    finds: "the kernel killed the process or container for want of memory, or it ended saying so",
    find,
};

/// How programs say that they got no memory.
const LAST_WORDS: [&str; 7] = [
    "out of memory",
    "outofmemory",
    "memoryerror",
    "bad_alloc",
    "cannot allocate memory",
    "memory allocation of",
    "enomem",
];

/// Kills that are told as a pattern.
const WINDOW: TimeDelta = TimeDelta::hours(1);

/// The cure is a start all the same, but it has a name and a limit of its own.
const OUTWEIGHS: &[&str] = &[PROCESS_EXITED, CONTAINER_EXITED];

fn find(case: &Case<'_>) -> Option<Suspicion> {
    if case.life() != Life::Dead {
        return None;
    }
    let ending = case.ending();
    let (confidence, because) = if ending.is_oom {
        (97, format!("the last run was {ending}"))
    } else {
        (90, case.log_line(&LAST_WORDS).map(said)?)
    };
    let incidents = case.n_within(&case.work.recent_incidents, WINDOW);
    let pattern = (1 < incidents).then(|| format!("{incidents} incidents within an hour"));
    let host = case.findings.host.as_ref();
    let host = host.map(|it| format!("the host's memory is {:.0} % used", it.memory_percent));
    let limit = "if it recurs, it leaks or its limit is too low".to_owned();
    let summary = format!("{} ran out of memory", case.name());
    Some(
        Suspicion::new(confidence, summary, because)
            .and(pattern)
            .and(host)
            .and(limit)
            .outweighs(OUTWEIGHS),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Scene, found};

    #[test]
    fn a_kill_for_want_of_memory_is_told_from_another_kill() {
        for (scene, confidence) in [
            (Scene::process("by the kernel").killed(9).oom(), Some(97)),
            (Scene::container("by the kernel").container_exit(137).oom(), Some(97)),
            (Scene::process("says so").exited(1).log(&["MemoryError"]), Some(90)),
            (Scene::process("killed").killed(9), None),
            (Scene::container("killed").container_exit(137), None),
            (Scene::process("runs again").log(&["out of memory"]), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
