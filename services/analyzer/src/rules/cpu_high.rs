//! The host's processors are busy.

use crate::{
    case::{Case, Failure},
    pressure,
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "cpu_high",
    finds: "a cpu check fails, or an event says so and the host agrees",
    find,
};

fn find(case: &Case<'_>) -> Option<Suspicion> {
    let failed = case.failed_by(&[Failure::Cpu]).map(|it| it.say());
    let because = failed.or_else(|| pressure::cpu(case))?;
    let load = case.findings.host.as_ref().map(|host| host.load_1m);
    let load = load.map(|load| format!("the load over one minute is {load:.1}"));
    let summary = format!("the host of {} has no processor to spare", case.name());
    Some(Suspicion::new(80, summary, because).and(load))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{CPU, Scene, found};

    #[test]
    fn a_busy_host_is_seen_by_a_check_or_by_an_event_that_is_true() {
        for (scene, confidence) in [
            (Scene::process("check").fails(CPU, "98 % busy"), Some(80)),
            (Scene::process("event").kind("cpu.high").cpu(97.0), Some(80)),
            (Scene::process("event, not true").kind("cpu_high").cpu(10.0), None),
            (Scene::process("busy, and nobody asked").cpu(97.0), None),
            (Scene::process("well"), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
