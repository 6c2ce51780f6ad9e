//! It could not start, as another one holds its port.

use crate::{
    case::{Case, Failure, Life, said},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "port_taken",
    finds: "it is dead, its log shows an address in use, and perhaps another process answers there",
    find,
};

/// How programs and engines say it.
const LAST_WORDS: [&str; 4] =
    ["address already in use", "address in use", "eaddrinuse", "port is already allocated"];

/// While another one holds the port, each start ends the same way.
const OUTWEIGHS: &[&str] = &["process_exited", "container_exited"];

fn find(case: &Case<'_>) -> Option<Suspicion> {
    if case.life() != Life::Dead {
        return None;
    }
    let engine = case.container().map(|it| it.error.to_lowercase()).unwrap_or_default();
    let by_engine = LAST_WORDS.iter().any(|word| engine.contains(word));
    let because = case.log_line(&LAST_WORDS).map(said);
    let because = because
        .or_else(|| by_engine.then(|| format!("the engine could not start it: {engine}")))?;
    let summary = format!("{} cannot start: its port is taken", case.name());
    let checks = case.probe().map(|probe| probe.checks.as_slice()).unwrap_or_default();
    let handle = case.failed_by(&[Failure::Handle]).map(|it| it.result.check.as_str());
    match checks.iter().find(|it| it.ok && Some(it.check.as_str()) != handle) {
        Some(it) => {
            let holder = format!("it is dead, and another one answers check `{}`", it.check);
            Some(Suspicion::new(97, summary, because).and(holder).outweighs(OUTWEIGHS))
        }
        // The holder has gone meanwhile, so a start will do.
        None => {
            let free = "the port does not answer now and may be free again".to_owned();
            Some(Suspicion::new(50, summary, because).and(free))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Scene, TCP, found};

    #[test]
    fn the_port_is_taken_for_sure_only_while_another_one_answers() {
        let dead =
            |name| Scene::process(name).exited(1).log(&["bind: Address already in use (98)"]);
        for (scene, confidence) in [
            (dead("held").passes(TCP), Some(97)),
            (dead("free again").fails(TCP, "connection refused"), Some(50)),
            (Scene::process("other reason").exited(1).log(&["no config"]).passes(TCP), None),
            (Scene::process("runs").log(&["address already in use"]), None),
            (
                Scene::container("by the engine")
                    .container_state("created")
                    .engine_error("port is already allocated")
                    .fails(TCP, "connection refused"),
                Some(50),
            ),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
