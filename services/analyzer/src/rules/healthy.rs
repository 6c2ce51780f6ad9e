//! Nothing is wrong any more.

use domain::wire::cause::HEALTHY;

use crate::{
    case::{Case, Life},
    pressure,
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule =
    Rule { cause: HEALTHY, finds: "all checks pass now, and one of them measures the event", find };

fn find(case: &Case<'_>) -> Option<Suspicion> {
    if !case.is_observed() {
        return None;
    }
    let because = passing(case)?;
    Some(
        Suspicion::new(95, format!("{} is healthy", case.name()), because)
            .and(samples(case))
            .and(left_out(case)),
    )
}

/// Returns that all checks pass, if they do and nothing else speaks against health.
pub(super) fn passing(case: &Case<'_>) -> Option<String> {
    if !case.all_pass() || case.life() == Life::Dead || pressure::any(case) {
        return None;
    }
    Some(match case.n_asked() {
        1 => "its check passes".to_owned(),
        n => format!("all {n} checks pass"),
    })
}

pub(super) fn samples(case: &Case<'_>) -> Option<String> {
    let n = case.findings.n_samples;
    (1 < n).then(|| format!("an earlier sample had failed, the last of {n} passes"))
}

/// Names checks that say nothing, as they cannot be asked.
fn left_out(case: &Case<'_>) -> Option<String> {
    let labels = &case.probe()?.not_asked;
    (!labels.is_empty()).then(|| format!("left out, as it cannot be asked: {}", labels.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HTTP, Scene, TCP, found};

    #[test]
    fn health_needs_checks_and_all_of_them() {
        for (scene, confidence) in [
            (Scene::process("well"), Some(95)),
            (Scene::process("the event told of an old death").says("signal", 9), Some(95)),
            (Scene::process("one failed sample, then a good one").samples(2), Some(95)),
            (Scene::process("another kind of trouble").kind("cache_stale"), None),
            (Scene::process("one was not seen").unseen_check(HTTP), None),
            (Scene::process("details were not seen").unseen_part("log"), Some(95)),
            (
                Scene::process("one cannot be asked").fails(HTTP, "bad URL").not_asked(HTTP),
                Some(95),
            ),
            (
                Scene::bare("none can be asked")
                    .fails(HTTP, "bad URL")
                    .not_asked(HTTP)
                    .fails(TCP, "bad port")
                    .not_asked(TCP),
                None,
            ),
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
