//! The container engine does not answer, so nothing is known of the container.

use crate::{
    case::{Case, Failure},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "container_engine_away",
    finds: "the state of the container is unknown: the engine does not answer",
    find,
};

fn find(case: &Case<'_>) -> Option<Suspicion> {
    case.target.docker.as_ref()?;
    let probe = case.probe()?;
    // What did not arrive in time says nothing about the engine.
    if probe.container.is_some() || probe.unseen.iter().any(|it| it == "container") {
        return None;
    }
    let failed = case.failed_by(&[Failure::Handle])?;
    // The service may be well all the same: its other checks say so.
    let others = probe.checks.iter().filter(|it| it.ok).count();
    let others = (0 < others).then(|| format!("{others} other checks pass"));
    let summary = format!("the container engine of {} does not answer", case.name());
    Some(Suspicion::new(92, summary, failed.say()).and(others))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HTTP, Scene, found};

    #[test]
    fn an_engine_that_is_away_is_told_from_a_container_that_is_gone() {
        for (scene, confidence) in [
            (Scene::container("away").engine_away(), Some(92)),
            (Scene::container("late").engine_away().unseen_part("container"), None),
            (Scene::container("missing").missing(), None),
            (Scene::container("ended").container_exit(1), None),
            (Scene::container("hung").fails(HTTP, "timed out"), None),
            (Scene::process("a process").killed(9), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
