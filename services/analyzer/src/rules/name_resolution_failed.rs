//! The name in a check's address cannot be resolved.

use crate::{
    case::{Case, Failure, Life},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "name_resolution_failed",
    finds: "a check cannot resolve the name in its address",
    find,
};

fn find(case: &Case<'_>) -> Option<Suspicion> {
    let failed = case.failed_by(&[Failure::NoName])?;
    // The name of a dead container is gone with it: then this is a symptom.
    let confidence = if case.life() == Life::Dead { 40 } else { 88 };
    let summary = format!("the address of {} cannot be resolved", case.name());
    Some(Suspicion::new(confidence, summary, failed.say()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HTTP, Scene, found};

    #[test]
    fn a_name_that_is_not_found_is_the_cause_unless_its_owner_is_dead() {
        let text = "dns error: failed to lookup address information";
        for (scene, confidence) in [
            (Scene::bare("no name").fails(HTTP, text), Some(88)),
            (Scene::process("runs").fails(HTTP, text), Some(88)),
            (Scene::container("gone").container_state("exited").fails(HTTP, text), Some(40)),
            (Scene::bare("refused").fails(HTTP, "connection refused"), None),
            (Scene::bare("well"), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
