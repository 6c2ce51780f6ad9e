//! The container runs, and its own health check fails.

use crate::{
    case::Case,
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "container_unhealthy",
    finds: "the container runs, and the engine calls it unhealthy",
    find,
};

fn find(case: &Case<'_>) -> Option<Suspicion> {
    let container = case.container()?;
    if container.status != "running" || container.health != "unhealthy" {
        return None;
    }
    let log = Some(container.health_log.trim()).filter(|it| !it.is_empty());
    let log = log
        .map(|it| format!("its health check says: {}", it.chars().take(300).collect::<String>()));
    let failed = case.failed().first().map(crate::case::Failed::say);
    let summary = format!("the container of {} is unhealthy", case.name());
    let because = "the engine calls it unhealthy";
    Some(Suspicion::new(90, summary, because).and(log).and(failed).and(case.last_words()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HTTP, Scene, found};

    #[test]
    fn only_a_running_container_is_unhealthy() {
        for (scene, confidence) in [
            (Scene::container("unhealthy").health("unhealthy"), Some(90)),
            (Scene::container("starting").health("starting"), None),
            (Scene::container("healthy").health("healthy"), None),
            (Scene::container("no health check").fails(HTTP, "timed out"), None),
            (Scene::container("ended").health("unhealthy").container_state("exited"), None),
            (Scene::container("paused").health("unhealthy").container_state("paused"), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
