//! It runs and answers, and the answer is wrong.

use crate::{
    case::{Case, Failure, Life},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "service_failing",
    finds: "the process or container runs and answers, and the answer is wrong",
    find,
};

fn find(case: &Case<'_>) -> Option<Suspicion> {
    if case.life() == Life::Dead {
        return None;
    }
    let failed = case.failed_by(&[Failure::Wrong])?;
    let confidence = if case.life() == Life::Alive { 70 } else { 60 };
    let summary = format!("{} answers wrongly", case.name());
    Some(Suspicion::new(confidence, summary, failed.say()).and(case.last_words()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HTTP, Scene, found};

    #[test]
    fn a_wrong_answer_is_told_from_none() {
        for (scene, confidence) in [
            (Scene::process("error").fails(HTTP, "status 500"), Some(70)),
            (Scene::container("error").fails(HTTP, "status 500"), Some(70)),
            (Scene::bare("error").fails(HTTP, "status 500"), Some(60)),
            (Scene::process("dead").killed(9).fails(HTTP, "status 500"), None),
            (Scene::process("hung").fails(HTTP, "timed out"), None),
            (Scene::process("well"), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
