//! It does not answer over the network, and nothing local is known of it.

use crate::{
    case::{Case, Failure},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "unreachable",
    finds: "no connection, or no answer in time, and no process or container is known",
    find,
};

fn find(case: &Case<'_>) -> Option<Suspicion> {
    // No way there is a matter of the network, whatever runs at the other end.
    let no_route = case.failed_by(&[Failure::NoRoute]);
    let failed = match case.target.handle() {
        Some(_) => no_route?,
        None => case.failed_by(&[Failure::NoRoute, Failure::Refused, Failure::TimedOut])?,
    };
    let host = case.findings.host.is_some().then(|| {
        "seen from one monitor only: the path, the host and the service are all possible".to_owned()
    });
    let summary = format!("{} cannot be reached", case.name());
    Some(Suspicion::new(if no_route.is_some() { 80 } else { 65 }, summary, failed.say()).and(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HTTP, Scene, found};

    #[test]
    fn without_a_handle_silence_is_unreachable_and_with_one_only_a_missing_route_is() {
        for (scene, confidence) in [
            (Scene::bare("refused").fails(HTTP, "connection refused"), Some(65)),
            (Scene::bare("silent").fails(HTTP, "timed out"), Some(65)),
            (Scene::bare("no route").fails(HTTP, "no route to host"), Some(80)),
            (Scene::process("no route").fails(HTTP, "network is unreachable"), Some(80)),
            (Scene::process("refused").fails(HTTP, "connection refused"), None),
            (Scene::bare("wrong").fails(HTTP, "status 500"), None),
            (Scene::bare("well"), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
