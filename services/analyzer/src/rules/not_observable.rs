//! All checks pass, and none of them measures what the event reports.

use domain::wire::cause::NOT_OBSERVABLE;

use super::healthy;
use crate::{
    case::Case,
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: NOT_OBSERVABLE,
    finds: "all checks pass now, and none of them measures what the event reports",
    find,
};

fn find(case: &Case<'_>) -> Option<Suspicion> {
    if case.is_observed() {
        return None;
    }
    let because = healthy::passing(case)?;
    let kind = &case.work.event.kind;
    let summary = format!("the checks of {} do not measure {kind}", case.name());
    let hint = format!("add a check with `event: {kind}`, or a runbook for this event");
    Some(Suspicion::new(60, summary, because).and(healthy::samples(case)).and(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HTTP, Scene, found};

    #[test]
    fn passing_checks_say_nothing_about_what_they_do_not_measure() {
        for (scene, confidence) in [
            (Scene::process("another type").kind("cache_stale"), Some(60)),
            (Scene::process("its own type"), None),
            (Scene::process("one fails").kind("cache_stale").fails(HTTP, "status 500"), None),
            (Scene::process("dead").kind("cache_stale").killed(9), None),
            (Scene::process("our own report").kind("cache_stale").by("selfheal/monitor"), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
