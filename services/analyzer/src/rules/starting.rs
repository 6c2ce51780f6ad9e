//! It was started lately, and may take its time to answer.

use domain::wire::cause::STARTING;

use crate::{
    case::Case,
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: STARTING,
    finds: "it runs for less than its start period, and a check fails",
    find,
};

fn find(case: &Case<'_>) -> Option<Suspicion> {
    let (failed, age, period) = case.starting()?;
    let summary = format!("{} is starting", case.name());
    let since = format!("it runs for {} s, and has {period} to start", age.num_seconds().max(0));
    Some(Suspicion::new(40, summary, since).and(failed.say()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HTTP, Scene, found};

    #[test]
    fn a_young_target_is_starting_and_an_old_one_is_not() {
        let young = |name| Scene::process(name).start_period_s(60).age_s(10);
        for (scene, confidence) in [
            (young("young").fails(HTTP, "connection refused"), Some(40)),
            (young("passes already"), None),
            (young("old").age_s(61).fails(HTTP, "connection refused"), None),
            (young("dead").killed(9), None),
            (Scene::process("just started").age_s(2).fails(HTTP, "connection refused"), Some(40)),
            (Scene::process("just started, it hangs").age_s(2).fails(HTTP, "timed out"), None),
            (Scene::process("without").age_s(10).fails(HTTP, "connection refused"), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
