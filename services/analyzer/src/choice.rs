//! Which runbook is proposed for a cause: the catalogue is asked, for what the work is about.

use domain::{catalogue::Case, target::Target, wire::DiagnoseWork};

/// Returns what a runbook is wanted for.
pub(crate) fn wanted<'a>(cause: &'a str, work: &'a DiagnoseWork, target: &'a Target) -> Case<'a> {
    Case {
        cause,
        event: &work.event.kind,
        source: work.event.whose(),
        target,
        tried: &work.attempts,
        soak: work.soak,
        within: work.within,
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use domain::{catalogue::Catalogue, plan::Risk};

    use super::*;
    use crate::{
        rules,
        testing::{self, Scene},
    };

    fn choose(catalogue: &Catalogue, cause: &str, scene: &Scene) -> Result<String, Vec<String>> {
        let case = wanted(cause, &scene.work, scene.work.target.as_ref().unwrap());
        catalogue.choose(&case).map(|it| it.name.clone())
    }

    #[test]
    fn every_built_in_runbook_is_listed_and_named_after_its_file() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runbooks");
        let files: BTreeSet<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let catalogue = Catalogue::default();
        let listed = catalogue.runbooks().iter().map(|it| format!("{}.yaml", it.name));
        assert_eq!(files, listed.collect());
    }

    #[test]
    fn built_in_runbooks_name_causes_that_rules_find() {
        let causes: Vec<_> = rules::causes().into_iter().map(|(cause, _)| cause).collect();
        for runbook in Catalogue::default().runbooks() {
            for cause in &runbook.when.causes {
                assert!(causes.contains(&cause.as_str()), "{}: {cause}", runbook.name);
            }
        }
    }

    #[test]
    fn what_lives_is_restarted_only_with_care() {
        for (cause, scene, runbook, risk) in [
            ("process_exited", Scene::process("p"), "restart-process", Risk::Low),
            (
                "main_process_exited",
                Scene::process("p"),
                "restart-after-main-process-exit",
                Risk::Medium,
            ),
            ("process_hung", Scene::process("p"), "restart-hung-process", Risk::Medium),
            ("process_stopped", Scene::process("p"), "restart-hung-process", Risk::Medium),
            ("container_exited", Scene::container("c"), "start-container", Risk::Low),
            (
                "container_unhealthy",
                Scene::container("c"),
                "restart-unhealthy-container",
                Risk::Low,
            ),
            ("container_hung", Scene::container("c"), "restart-container", Risk::Medium),
            ("out_of_memory", Scene::process("p"), "restart-out-of-memory-process", Risk::Low),
            ("out_of_memory", Scene::container("c"), "restart-out-of-memory-container", Risk::Low),
        ] {
            let catalogue = Catalogue::default();
            assert_eq!(choose(&catalogue, cause, &scene), Ok(runbook.to_owned()));
            let found = catalogue.runbooks().iter().find(|it| it.name == runbook).unwrap();
            assert_eq!(found.risk, risk, "{runbook}");
        }
        for cause in ["crash_loop", "flapping", "healthy", "dependency_down", "container_missing"] {
            for scene in [Scene::process("p"), Scene::container("c")] {
                assert_eq!(
                    choose(&Catalogue::default(), cause, &scene),
                    Err(Vec::new()),
                    "{cause}"
                );
            }
        }
    }

    #[test]
    fn used_up_runbooks_are_not_proposed_again() {
        let once = Scene::process("once").tried("restart-process", 1);
        assert_eq!(
            choose(&Catalogue::default(), "process_exited", &once),
            Ok("restart-process".to_owned())
        );
        let twice = Scene::process("twice").tried("restart-process", 2);
        let why = choose(&Catalogue::default(), "process_exited", &twice).unwrap_err();
        assert!(why[0].contains("`restart-process` is used up: 2 of 2 attempts"), "{why:?}");
    }

    #[test]
    fn the_same_deed_under_another_name_is_used_up_too() {
        let twice = Scene::process("twice").tried("restart-process", 2);
        let why = choose(&Catalogue::default(), "process_hung", &twice).unwrap_err();
        assert!(why[0].contains("`restart-hung-process` is used up"), "{why:?}");
        let other = Scene::process("other").tried("a-runbook-that-was-removed", 2);
        assert!(choose(&Catalogue::default(), "process_hung", &other).is_ok());
    }

    #[test]
    fn ones_own_runbook_replaces_the_built_in_one_of_its_name() {
        let own = testing::runbook(
            "{name: restart-process, title: t, when: {causes: [process_exited]}, risk: high, \
             steps: [{action: command.run, command: [\"true\"]}]}",
        );
        let catalogue = Catalogue::with(std::slice::from_ref(&own));
        let found: Vec<_> =
            catalogue.runbooks().iter().filter(|it| it.name == "restart-process").collect();
        assert_eq!(found, [&own]);
    }

    #[test]
    fn ones_own_runbook_comes_first_unless_its_order_says_otherwise() {
        let text = "{name: mine, title: t, when: {causes: [process_exited]}, risk: low, \
                    steps: [{action: command.run, command: [\"true\"]}]}";
        let mut own = testing::runbook(text);
        let scene = Scene::process("p");
        let first = choose(&Catalogue::with(std::slice::from_ref(&own)), "process_exited", &scene);
        assert_eq!(first, Ok("mine".to_owned()));
        own.order = 101;
        let first = choose(&Catalogue::with(&[own]), "process_exited", &scene);
        assert_eq!(first, Ok("restart-process".to_owned()));
    }

    #[test]
    fn without_a_check_there_is_no_plan_and_the_reason_says_what_to_add() {
        let own = testing::runbook(
            "{name: mine, title: t, when: {events: [service_down]}, risk: low, \
             steps: [{action: command.run, command: [\"true\"]}]}",
        );
        let scene = Scene::bare("b").without_checks();
        let why = choose(&Catalogue::with(&[own]), "reported", &scene).unwrap_err();
        assert!(why[0].contains("no check") && why[0].contains("add a check"), "{why:?}");
    }
}
