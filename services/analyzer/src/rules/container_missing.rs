//! There is no such container.

use crate::{
    case::Case,
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "container_missing",
    finds: "the engine knows no container of the target's name",
    find,
};

fn find(case: &Case<'_>) -> Option<Suspicion> {
    let container = case.container()?;
    if container.exists {
        return None;
    }
    let wanted = case.target.docker.as_ref().map(|it| it.container.as_str()).unwrap_or_default();
    let because = format!("the engine knows no container `{wanted}`");
    let hint = "only what created it can create it again, such as compose".to_owned();
    let summary = format!("the container of {} is gone", case.name());
    Some(Suspicion::new(97, summary, because).and(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Scene, found};

    #[test]
    fn a_missing_container_is_told_from_one_that_ended() {
        for (scene, confidence) in [
            (Scene::container("missing").missing(), Some(97)),
            (Scene::container("ended").container_exit(0), None),
            (Scene::container("runs"), None),
            (Scene::container("unseen").unseen(), None),
            (Scene::process("a process").killed(9), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
