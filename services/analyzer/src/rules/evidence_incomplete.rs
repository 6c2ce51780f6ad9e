//! Part of the evidence did not arrive in time.

use domain::wire::cause::EVIDENCE_INCOMPLETE;

use crate::{
    case::Case,
    evidence,
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: EVIDENCE_INCOMPLETE,
    finds: "part of the evidence did not arrive in time; it counts only where no other rule matches",
    find,
};

/// Less than any cause for which something speaks.
const CONFIDENCE: u8 = 5;

fn find(case: &Case<'_>) -> Option<Suspicion> {
    let because = evidence::incomplete(case.findings)?;
    let summary = format!("the state of {} is only known in part", case.name());
    Some(Suspicion::new(CONFIDENCE, summary, because))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HTTP, Scene, found};

    #[test]
    fn only_what_did_not_arrive_makes_evidence_incomplete() {
        for (scene, confidence) in [
            (Scene::process("all there"), None),
            (Scene::process("dead").killed(9), None),
            (Scene::process("no state").unseen_part("process"), Some(5)),
            (Scene::process("one check").unseen_check(HTTP), Some(5)),
            (Scene::process("no monitor").unseen(), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
