//! It runs, and nobody listens on its port.

use chrono::TimeDelta;

use crate::{
    case::{Case, Failure, Life},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "not_listening",
    finds: "the process or container runs, and its port refuses connections",
    find,
};

/// A start may take this long before a closed port is trouble of its own.
const STARTING: TimeDelta = TimeDelta::seconds(15);

fn find(case: &Case<'_>) -> Option<Suspicion> {
    if case.life() != Life::Alive {
        return None;
    }
    let failed = case.failed_by(&[Failure::Refused])?;
    let age = case.age();
    let is_starting = age.is_some_and(|age| age < STARTING);
    let confidence = if is_starting { 45 } else { 75 };
    let since = age.map(|age| format!("it has been running for {} s", age.num_seconds().max(0)));
    let summary = format!("{} runs but does not listen", case.name());
    Some(Suspicion::new(confidence, summary, failed.say()).and(since).and(case.last_words()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HTTP, Scene, found};

    #[test]
    fn a_closed_port_counts_only_while_something_runs_and_less_during_its_start() {
        for (scene, confidence) in [
            (Scene::process("closed").age_s(60).fails(HTTP, "connection refused"), Some(75)),
            (Scene::process("just started").age_s(2).fails(HTTP, "connection refused"), None),
            (Scene::process("starting").age_s(7).fails(HTTP, "connection refused"), Some(45)),
            (Scene::container("closed").age_s(60).fails(HTTP, "connection refused"), Some(75)),
            (Scene::process("dead").killed(9).fails(HTTP, "connection refused"), None),
            (Scene::process("slow").fails(HTTP, "timed out"), None),
            (Scene::bare("nothing local").fails(HTTP, "connection refused"), None),
            (Scene::process("well"), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
