//! The container is there and does not run.

use crate::{
    case::{Case, Life},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "container_exited",
    finds: "the target's container exists and does not run",
    find,
};

fn find(case: &Case<'_>) -> Option<Suspicion> {
    case.target.docker.as_ref()?;
    if case.life() != Life::Dead {
        return None;
    }
    let ending = case.ending();
    let Some(container) = case.container() else {
        let because = format!("the event says that it {ending}; no monitor could check it again");
        return Some(Suspicion::new(70, format!("{} has ended", case.name()), because));
    };
    if !container.exists {
        return None;
    }
    let because = format!("the engine says `{}`", container.status);
    let has_run = container.status != "created";
    let how = (has_run && ending.is_known()).then(|| format!("the last run {ending}"));
    let error = Some(container.error.as_str()).filter(|it| !it.is_empty());
    let error = error.map(|it| format!("the engine could not start it: {it}"));
    Some(
        Suspicion::new(
            95,
            format!("the container of {} does not run: {ending}", case.name()),
            because,
        )
        .and(how)
        .and(error)
        .and(case.last_words()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Scene, found};

    #[test]
    fn a_container_that_does_not_run_is_found() {
        for (scene, confidence) in [
            (Scene::container("exited").container_exit(137), Some(95)),
            (Scene::container("never started").container_state("created"), Some(95)),
            (Scene::container("unseen").unseen().says("exit_code", 137), Some(70)),
            (Scene::container("runs"), None),
            (Scene::container("paused").container_state("paused"), None),
            (Scene::container("missing").missing(), None),
            (Scene::container("unseen and unsaid").unseen(), None),
            (Scene::process("a process").killed(9), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
