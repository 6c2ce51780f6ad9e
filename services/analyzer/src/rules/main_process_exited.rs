//! The main process has ended, and what it left behind answers in its place.

use domain::wire::cause::MAIN_PROCESS_EXITED;

use super::answered_by_another::of_answers;
use crate::{
    case::{Case, Life},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: MAIN_PROCESS_EXITED,
    finds: "the target's main process has ended, and processes that it left behind still answer its checks",
    find,
};

fn find(case: &Case<'_>) -> Option<Suspicion> {
    if case.life() != Life::Dead {
        return None;
    }
    let probe = case.probe()?;
    // Then a start would fail, or be a second copy.
    if !probe.answered_by.is_empty() {
        return None;
    }
    let summary =
        format!("the main process of {} has ended, and its workers still answer", case.name());
    of_answers(summary, &probe.answered_by_left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Scene, TCP, found};

    #[test]
    fn workers_that_answer_in_place_of_their_main_process_are_a_cause_of_its_own() {
        let left = "port 1 is answered by pid 4711 (gunicorn), which the target has left behind";
        for (scene, confidence) in [
            (Scene::process("left").killed(9).passes(TCP).answered_by_left(left), Some(96)),
            (
                Scene::process("both")
                    .killed(9)
                    .passes(TCP)
                    .answered_by_left(left)
                    .answered_by("x"),
                None,
            ),
            (Scene::process("dead").killed(9), None),
            (Scene::process("runs").answered_by_left(left), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
