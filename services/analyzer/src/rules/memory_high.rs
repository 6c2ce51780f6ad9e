//! The host has little memory left.

use crate::{
    case::{Case, Failure},
    pressure,
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "memory_high",
    finds: "a memory check fails, or an event says so and the host agrees",
    find,
};

fn find(case: &Case<'_>) -> Option<Suspicion> {
    let failed = case.failed_by(&[Failure::Memory]).map(|it| it.say());
    let because = failed.or_else(|| pressure::memory(case))?;
    let stalls = case.findings.host.as_ref().and_then(|host| host.memory_pressure);
    let stalls = stalls.map(|it| format!("tasks waited for memory in {it:.1} % of the last 10 s"));
    let own = case.process().and_then(|process| process.rss_bytes);
    let own = own.map(|bytes| format!("{} itself holds {} MiB", case.name(), bytes >> 20));
    let summary = format!("the host of {} has little memory left", case.name());
    Some(Suspicion::new(85, summary, because).and(stalls).and(own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MEMORY, Scene, found};

    #[test]
    fn high_memory_is_seen_by_a_check_or_by_an_event_that_is_true() {
        for (scene, confidence) in [
            (Scene::process("check").fails(MEMORY, "96 % used"), Some(85)),
            (Scene::process("event").kind("memory_high").memory(96.0), Some(85)),
            (Scene::process("event, not true").kind("memory_high").memory(30.0), None),
            (Scene::process("high, and nobody asked").memory(96.0), None),
            (Scene::process("well"), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
