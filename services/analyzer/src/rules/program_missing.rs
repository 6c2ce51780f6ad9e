//! What a start needs is not there.

use domain::wire::cause::PROGRAM_MISSING;

use crate::{
    case::{Case, Life},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: PROGRAM_MISSING,
    finds: "the process is not running, and its program or directory does not exist",
    find,
};

/// A start cannot succeed before the program is there.
const OUTWEIGHS: &[&str] =
    &["configuration_error", "crash_loop", "out_of_memory", "process_exited"];

fn find(case: &Case<'_>) -> Option<Suspicion> {
    if case.life() != Life::Dead {
        return None;
    }
    let because = case.probe()?.program_missing.clone()?;
    let summary = format!("{} cannot be started: its program is missing", case.name());
    let hint = "a deployment may be in progress".to_owned();
    Some(Suspicion::new(97, summary, because).and(hint).outweighs(OUTWEIGHS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Scene, found};

    #[test]
    fn a_missing_program_counts_only_while_nothing_runs() {
        for (scene, confidence) in [
            (Scene::process("gone").killed(9).without_program(), Some(97)),
            (Scene::process("runs on").without_program(), None),
            (Scene::process("dead").killed(9), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
