//! Nothing is wrong any more.

use domain::wire::cause::HEALTHY;

use crate::{
    case::{Case, Life},
    pressure,
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule { cause: HEALTHY, finds: "all checks pass now", find };

fn find(case: &Case<'_>) -> Option<Suspicion> {
    let probe = case.probe()?;
    let n = probe.checks.len();
    let passes = probe.healthy && 0 < n && probe.checks.iter().all(|it| it.ok);
    if !passes || case.life() == Life::Dead || pressure::any(case) {
        return None;
    }
    let because = match n {
        1 => "its check passes".to_owned(),
        n => format!("all {n} checks pass"),
    };
    let kind = &case.work.event.kind;
    // The checks may not be able to see what the sender saw.
    let (confidence, unseen) = if case.is_observed() {
        (95, None)
    } else {
        (60, Some(format!("but none of them reports `{kind}`, which the event is about")))
    };
    Some(
        Suspicion::new(confidence, format!("{} is well", case.name()), because)
            .and(unseen)
            .and(samples(case)),
    )
}

fn samples(case: &Case<'_>) -> Option<String> {
    let n = case.findings.n_samples;
    (1 < n).then(|| format!("an earlier sample had failed, the last of {n} passes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HTTP, Scene, found};

    #[test]
    fn health_needs_checks_and_all_of_them() {
        for (scene, confidence) in [
            (Scene::process("well"), Some(95)),
            (Scene::process("the event told of an old death").says("signal", 9), Some(95)),
            (Scene::process("one failed sample, then a good one").samples(2), Some(95)),
            (Scene::process("another kind of trouble").kind("cache_stale"), Some(60)),
            (Scene::process("one fails").fails(HTTP, "status 500"), None),
            (Scene::process("dead").killed(9), None),
            (Scene::bare("without a check").without_checks(), None),
            (Scene::process("nobody looked").unseen(), None),
            (Scene::process("its disk is full").kind("disk_full").disk("/", 97.0), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
