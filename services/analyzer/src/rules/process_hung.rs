//! The process runs and does not answer.

use crate::{
    case::{Case, Failure, Life},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "process_hung",
    finds: "the process runs, and a check gets no answer in time",
    find,
};

fn find(case: &Case<'_>) -> Option<Suspicion> {
    let process = case.process()?;
    if case.life() != Life::Alive || is_stopped(process.state.as_deref()) {
        return None;
    }
    let failed = case.failed_by(&[Failure::TimedOut])?;
    let state = match (process.pid, process.state.as_deref()) {
        (Some(pid), Some(state)) => format!("process {pid} runs, in state {state}"),
        (Some(pid), None) => format!("process {pid} runs"),
        (None, _) => "its process runs".to_owned(),
    };
    let others = case.failed().iter().filter(|it| it.how == Failure::TimedOut).count();
    Some(
        Suspicion::new(85, format!("{} runs but does not answer", case.name()), failed.say())
            .and(state)
            .and((1 < others).then(|| format!("{others} checks get no answer in time")))
            .and(case.last_words()),
    )
}

/// Stopped by a signal or by a debugger.
pub(super) fn is_stopped(state: Option<&str>) -> bool {
    state.is_some_and(|state| state.eq_ignore_ascii_case("t"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HTTP, Scene, found};

    #[test]
    fn only_a_living_process_that_gives_no_answer_hangs() {
        for (scene, confidence) in [
            (Scene::process("hung").fails(HTTP, "no answer within 2s"), Some(85)),
            (Scene::process("hung, in other words").fails(HTTP, "operation timed out"), Some(85)),
            (Scene::process("hung, seen by the clock").fails_in(HTTP, "cut", 2000), Some(85)),
            (Scene::process("refused at once").fails(HTTP, "connection refused"), None),
            (Scene::process("wrong answer").fails(HTTP, "status 500"), None),
            (Scene::process("dead").killed(9).fails(HTTP, "timed out"), None),
            (Scene::process("stopped").state("T").fails(HTTP, "timed out"), None),
            (Scene::process("well"), None),
            (Scene::container("a container").fails(HTTP, "timed out"), None),
            (Scene::process("nobody looked").unseen(), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
