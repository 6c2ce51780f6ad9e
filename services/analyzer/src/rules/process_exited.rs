//! The process is gone.

use domain::wire::cause::PROCESS_EXITED;

use crate::{
    case::{Case, Failure, Life},
    suspicion::{Rule, Suspicion},
};

pub(super) const RULE: Rule =
    Rule { cause: PROCESS_EXITED, finds: "the target's process is not running", find };

fn find(case: &Case<'_>) -> Option<Suspicion> {
    case.target.process.as_ref()?;
    if case.life() != Life::Dead {
        return None;
    }
    let ending = case.ending();
    let Some(process) = case.process() else {
        if let Some(failed) = case.failed_by(&[Failure::Handle]) {
            let summary = format!("{} is not running: {ending}", case.name());
            return Some(Suspicion::new(90, summary, failed.say()));
        }
        let because = format!("the event says that it {ending}; no monitor could check it again");
        return Some(Suspicion::new(70, format!("{} has ended", case.name()), because));
    };
    let because = match process.pid {
        Some(pid) => format!("process {pid} does not run any more"),
        None => "no process of it runs".to_owned(),
    };
    // Something answers in its place: workers that outlived it, or a stranger.
    let checks = case.probe().map(|probe| probe.checks.as_slice()).unwrap_or_default();
    let handle = case.failed_by(&[Failure::Handle]);
    let answers =
        checks.iter().find(|it| it.ok && handle.is_none_or(|h| h.result.check != it.check));
    let confidence = if answers.is_some() { 85 } else { 95 };
    let by_whom =
        answers.map(|it| format!("something still answers check `{}`: {}", it.check, it.detail));
    let how = ending.is_known().then(|| format!("the last run {ending}"));
    Some(
        Suspicion::new(confidence, format!("{} is not running: {ending}", case.name()), because)
            .and(how)
            .and(by_whom)
            .and(case.last_words()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Scene, found};

    #[test]
    fn a_dead_process_is_found_and_a_living_one_is_not() {
        for (scene, confidence) in [
            (Scene::process("killed").killed(9), Some(95)),
            (Scene::process("crashed").exited(1).log(&["fatal: no more"]), Some(95)),
            (Scene::process("nobody saw it end").vanished(), Some(95)),
            (Scene::process("its workers live on").killed(9).passes("tcp 127.0.0.1:1"), Some(85)),
            (Scene::process("the exit code is a command's").unseen().by_command(), None),
            (
                Scene::process("no monitor, but the event tells").unseen().says("signal", 9),
                Some(70),
            ),
            (Scene::process("only its check says so").vanished().unseen_part("process"), Some(90)),
            (
                Scene::process("nothing says so")
                    .vanished()
                    .unseen_part("process")
                    .unseen_check("process"),
                None,
            ),
            (Scene::process("the event is old, it runs again").says("signal", 9), None),
            (Scene::process("no monitor, no word").unseen(), None),
            (Scene::process("well"), None),
            (Scene::process("stopped").state("T"), None),
            (Scene::container("a container").container_state("exited"), None),
            (Scene::bare("no handle").says("signal", 9), None),
        ] {
            assert_eq!(found(&RULE, &scene), confidence, "{}", scene.name);
        }
    }
}
