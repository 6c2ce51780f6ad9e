//! The container runs and does not answer.

use crate::{
    case::{Case, Failure},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "container_hung",
    finds: "the container runs, and a check gets no answer in time",
    find,
};

fn find(case: &Case<'_>) -> Option<Suspicion> {
    let container = case.container()?;
    if container.status != "running" {
        return None;
    }
    let failed = case.failed_by(&[Failure::TimedOut])?;
    let health = Some(container.health.as_str()).filter(|it| !it.is_empty());
    let health = health.map(|it| format!("the engine calls it {it}"));
    let summary = format!("the container of {} runs but does not answer", case.name());
    Some(Suspicion::new(85, summary, failed.say()).and(health).and(case.last_words()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HTTP, Scene, found};

    #[test]
    fn only_a_running_container_that_gives_no_answer_hangs() {
        for (scene, confidence) in [
            (Scene::container("hung").fails(HTTP, "timed out"), Some(85)),
            (Scene::container("refuses").fails(HTTP, "connection refused"), None),
            (Scene::container("paused").container_state("paused").fails(HTTP, "timed out"), None),
            (Scene::container("well"), None),
            (Scene::process("a process").fails(HTTP, "timed out"), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
