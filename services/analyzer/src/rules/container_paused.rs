//! The container is paused.

use crate::{
    case::Case,
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule =
    Rule { cause: "container_paused", finds: "the container is paused", find };

fn find(case: &Case<'_>) -> Option<Suspicion> {
    let container = case.container()?;
    if container.status != "paused" {
        return None;
    }
    let failed = case.failed().first().map(crate::case::Failed::say);
    let summary = format!("the container of {} is paused", case.name());
    let because = "the engine says `paused`: it was frozen, perhaps on purpose";
    Some(Suspicion::new(97, summary, because).and(failed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HTTP, Scene, found};

    #[test]
    fn only_a_paused_container_is_paused() {
        let paused = Scene::container("paused").container_state("paused");
        for (scene, confidence) in [
            (paused.fails(HTTP, "timed out"), Some(97)),
            (Scene::container("runs").fails(HTTP, "timed out"), None),
            (Scene::container("ended").container_exit(0), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
