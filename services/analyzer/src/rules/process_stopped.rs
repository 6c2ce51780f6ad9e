//! The process was stopped by a signal, and waits to be continued.

use super::process_hung::is_stopped;
use crate::{
    case::Case,
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule = Rule {
    cause: "process_stopped",
    finds: "the process is in state T: stopped by a signal or a debugger",
    find,
};

fn find(case: &Case<'_>) -> Option<Suspicion> {
    let process = case.process()?;
    if !process.running || !is_stopped(process.state.as_deref()) {
        return None;
    }
    let pid = process.pid.map(|pid| format!(" {pid}")).unwrap_or_default();
    let because =
        format!("process{pid} is in state T: it received SIGSTOP, or a debugger holds it");
    let failed = case.failed().first().map(crate::case::Failed::say);
    Some(Suspicion::new(97, format!("{} is stopped, not dead", case.name()), because).and(failed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{HTTP, Scene, found};

    #[test]
    fn only_a_stopped_process_is_stopped() {
        for (scene, confidence) in [
            (Scene::process("stopped").state("T").fails(HTTP, "timed out"), Some(97)),
            (Scene::process("traced").state("t"), Some(97)),
            (Scene::process("sleeps"), None),
            (Scene::process("dead").killed(19), None),
            (Scene::process("nobody looked").unseen(), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
