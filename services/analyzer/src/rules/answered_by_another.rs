//! No process of the target runs, and something answers its checks.

use domain::wire::cause::ANSWERED_BY_ANOTHER;

use crate::{
    case::{Case, Life},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: ANSWERED_BY_ANOTHER,
    finds: "no process of the target runs, and something else on its host answers one of its checks",
    find,
};

/// A start would be a second copy, or would fail as its port is taken.
const OUTWEIGHS: &[&str] = &[
    "configuration_error",
    "container_exited",
    "container_missing",
    "crash_loop",
    "out_of_memory",
    "port_taken",
    "process_exited",
];

fn find(case: &Case<'_>) -> Option<Suspicion> {
    if case.life() != Life::Dead {
        return None;
    }
    let answered_by = &case.probe()?.answered_by;
    let summary = format!(
        "no process is known to be {}, and another one may be it or answers its checks",
        case.name()
    );
    let hint = "it may run under another process, or what it left behind may hold its port; \
                name its pid_file, or stop what answers"
        .to_owned();
    Some(of_answers(summary, answered_by)?.and(hint))
}

/// Suspects that something answers the checks of a target that does not run.
pub(super) fn of_answers(summary: String, answers: &[String]) -> Option<Suspicion> {
    let (first, others) = answers.split_first()?;
    let mut suspicion = Suspicion::new(96, summary, first.clone());
    for other in others {
        suspicion = suspicion.and(other.clone());
    }
    Some(suspicion.outweighs(OUTWEIGHS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Scene, TCP, found};

    #[test]
    fn what_answers_in_place_of_a_dead_target_is_a_cause_of_its_own() {
        let holder = "port 1 is answered by pid 4711 (postgres)";
        for (scene, confidence) in [
            (Scene::process("held").killed(9).passes(TCP).answered_by(holder), Some(96)),
            (Scene::container("held").container_exit(1).passes(TCP).answered_by(holder), Some(96)),
            (Scene::process("answered from elsewhere").killed(9).passes(TCP), None),
            (Scene::process("dead").killed(9), None),
            (Scene::process("runs").answered_by(holder), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
