//! The cures there are: the built-in ones, and the user's own.

use std::sync::Arc;

use domain::{
    action::StepSpec,
    config::parse_runbook,
    plan::Plan,
    runbook::Runbook,
    span::Span,
    target::Target,
    wire::{AttemptRecord, DiagnoseWork},
};
use service::Chain;

/// The built-in runbooks: a file, and a line here.
static BUILT_IN: &[(&str, &str)] = &[
    ("restart-process.yaml", include_str!("../../../runbooks/restart-process.yaml")),
    (
        "restart-after-main-process-exit.yaml",
        include_str!("../../../runbooks/restart-after-main-process-exit.yaml"),
    ),
    ("restart-hung-process.yaml", include_str!("../../../runbooks/restart-hung-process.yaml")),
    ("start-container.yaml", include_str!("../../../runbooks/start-container.yaml")),
    ("restart-container.yaml", include_str!("../../../runbooks/restart-container.yaml")),
    (
        "restart-unhealthy-container.yaml",
        include_str!("../../../runbooks/restart-unhealthy-container.yaml"),
    ),
    (
        "restart-out-of-memory-process.yaml",
        include_str!("../../../runbooks/restart-out-of-memory-process.yaml"),
    ),
    (
        "restart-out-of-memory-container.yaml",
        include_str!("../../../runbooks/restart-out-of-memory-container.yaml"),
    ),
];

/// All runbooks, in the order in which they are tried.
#[derive(Clone, Debug)]
pub struct Catalogue {
    built_in: Arc<[Runbook]>,
    ordered: Vec<Runbook>,
}

/// A built-in runbook is wrong. Tests keep this from ever being shipped.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the built-in runbook {file}")]
pub struct Error {
    file: &'static str,
    source: Mistake,
}

/// The first mistake that the parser told, if it told one.
type Mistake = Box<dyn std::error::Error + Send + Sync>;

/// What the catalogue has for a cause.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cure {
    /// This is to be tried next.
    Plan(Box<Plan>),
    /// Nothing: why each runbook that fits the cause is not proposed. Empty when none fits.
    None(Vec<String>),
}

impl Catalogue {
    /// Returns the built-in runbooks.
    ///
    /// # Errors
    ///
    /// [`Error`] when one of them is no runbook.
    pub fn built_in() -> Result<Self, Error> {
        let read = |(file, text): &(&'static str, &'static str)| {
            parse_runbook(text).map_err(|errors| {
                let first = errors.into_iter().next().map(Mistake::from);
                Error { file, source: first.unwrap_or_else(|| "no reason given".into()) }
            })
        };
        let built_in: Arc<[Runbook]> = BUILT_IN.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self::of(built_in, &[]))
    }

    /// Returns the built-in runbooks and one's own; of the same name, one's own is taken.
    #[must_use]
    pub fn with(&self, own: &[Runbook]) -> Self {
        Self::of(Arc::clone(&self.built_in), own)
    }

    fn of(built_in: Arc<[Runbook]>, own: &[Runbook]) -> Self {
        let is_kept = |it: &&Runbook| own.iter().all(|own| own.name != it.name);
        let mut ordered: Vec<_> =
            own.iter().chain(built_in.iter().filter(is_kept)).cloned().collect();
        // Stable: of the same order, one's own come before the built-in ones.
        ordered.sort_by_key(|runbook| runbook.order);
        Self { built_in, ordered }
    }

    /// Returns all runbooks, in the order in which they are tried.
    #[must_use]
    pub fn runbooks(&self) -> &[Runbook] {
        &self.ordered
    }

    /// Returns whether some runbook names the event itself.
    pub(crate) fn names_event(&self, cause: &str, work: &DiagnoseWork, target: &Target) -> bool {
        let applies = |it: &&Runbook| it.applies(cause, &work.event, target);
        self.ordered.iter().filter(applies).any(|it| !it.when.events.is_empty())
    }

    /// Returns the first runbook's plan that fits and is not used up.
    pub(crate) fn cure(&self, cause: &str, work: &DiagnoseWork, target: &Target) -> Cure {
        let fitting = self.ordered.iter().filter(|it| it.applies(cause, &work.event, target));
        self.first_of(fitting, cause, work, target)
    }

    /// Does the same, with runbooks that name the cause itself only.
    pub(crate) fn cure_by_name(&self, cause: &str, work: &DiagnoseWork, target: &Target) -> Cure {
        let fitting = self.ordered.iter().filter(|it| it.applies(cause, &work.event, target));
        let named = fitting.filter(|it| it.when.causes.iter().any(|one| one == cause));
        self.first_of(named, cause, work, target)
    }

    fn first_of<'a>(
        &'a self,
        fitting: impl Iterator<Item = &'a Runbook>,
        cause: &str,
        work: &DiagnoseWork,
        target: &Target,
    ) -> Cure {
        let mut refused = Vec::new();
        for runbook in fitting {
            match self.plan(runbook, cause, work, target) {
                Ok(plan) => return Cure::Plan(Box::new(plan)),
                Err(why) => refused.push(why),
            }
        }
        Cure::None(refused)
    }

    fn plan(
        &self,
        runbook: &Runbook,
        cause: &str,
        work: &DiagnoseWork,
        target: &Target,
    ) -> Result<Plan, String> {
        let (name, allowed) = (&runbook.name, runbook.attempts);
        let tried: Vec<_> =
            work.attempts.iter().filter(|attempt| self.is_same(runbook, attempt)).collect();
        if usize::try_from(allowed).unwrap_or(usize::MAX) <= tried.len() {
            let last = tried.last().and_then(|it| it.failure.as_deref());
            let last = last.map(|it| format!(": {it}")).unwrap_or_default();
            let n = tried.len();
            return Err(format!(
                "`{name}` is used up: {n} of {allowed} attempts did not help{last}"
            ));
        }
        let (soak, within): (Span, Span) = (work.soak, work.within);
        runbook.plan(cause, target, soak, within).map_err(|error| {
            let hint = if target.all_checks().is_empty() {
                format!("; add a check to the target `{}`, or to `verify.checks`", target.name)
            } else {
                String::new()
            };
            format!("`{name}` does not fit: {}{hint}", Chain(&error))
        })
    }

    /// Returns whether an attempt did what the runbook would do. A restart in vain is a
    /// restart in vain, whatever it was called.
    fn is_same(&self, runbook: &Runbook, attempt: &AttemptRecord) -> bool {
        let deeds = |it: &Runbook| it.steps.iter().map(deed).collect::<Vec<_>>();
        let tried = self.ordered.iter().find(|it| it.name == attempt.runbook);
        attempt.runbook == runbook.name || tried.is_some_and(|it| deeds(it) == deeds(runbook))
    }
}

/// Returns what a step does, without what it is called and how long it may take.
fn deed(step: &StepSpec) -> StepSpec {
    let timeout = Span::ZERO;
    StepSpec { name: None, timeout, pre_check: None, undo: None, ..step.clone() }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use domain::{
        config::{built_in_risk, known_runbooks},
        plan::Risk,
    };

    use super::*;
    use crate::{
        rules,
        testing::{self, Scene},
    };

    fn catalogue() -> Catalogue {
        Catalogue::built_in().unwrap()
    }

    fn cure(catalogue: &Catalogue, cause: &str, scene: &Scene) -> Result<String, Vec<String>> {
        match catalogue.cure(cause, &scene.work, scene.work.target.as_ref().unwrap()) {
            Cure::Plan(plan) => Ok(plan.runbook.clone()),
            Cure::None(why) => Err(why),
        }
    }

    #[test]
    fn every_built_in_runbook_is_listed_and_named_after_its_file() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../runbooks");
        let files: BTreeSet<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let listed: BTreeSet<String> =
            BUILT_IN.iter().map(|(file, _)| (*file).to_owned()).collect();
        assert_eq!(files, listed);
        for (file, text) in BUILT_IN {
            let runbook = parse_runbook(text).unwrap();
            assert_eq!(format!("{}.yaml", runbook.name), *file);
        }
    }

    #[test]
    fn the_configuration_knows_all_built_in_runbooks() {
        let names: BTreeSet<_> = catalogue().runbooks().iter().map(|it| it.name.clone()).collect();
        let known: BTreeSet<_> = known_runbooks().iter().map(|it| (*it).to_owned()).collect();
        assert_eq!(names, known);
        for runbook in catalogue().runbooks() {
            assert_eq!(built_in_risk(&runbook.name), Some(runbook.risk), "{}", runbook.name);
        }
    }

    #[test]
    fn built_in_runbooks_name_causes_that_rules_find() {
        let causes: Vec<_> = rules::causes().into_iter().map(|(cause, _)| cause).collect();
        for runbook in catalogue().runbooks() {
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
            let catalogue = catalogue();
            assert_eq!(cure(&catalogue, cause, &scene), Ok(runbook.to_owned()));
            let found = catalogue.runbooks().iter().find(|it| it.name == runbook).unwrap();
            assert_eq!(found.risk, risk, "{runbook}");
        }
        for cause in ["crash_loop", "flapping", "healthy", "dependency_down", "container_missing"] {
            for scene in [Scene::process("p"), Scene::container("c")] {
                assert_eq!(cure(&catalogue(), cause, &scene), Err(Vec::new()), "{cause}");
            }
        }
    }

    #[test]
    fn used_up_runbooks_are_not_proposed_again() {
        let once = Scene::process("once").tried("restart-process", 1);
        assert_eq!(cure(&catalogue(), "process_exited", &once), Ok("restart-process".to_owned()));
        let twice = Scene::process("twice").tried("restart-process", 2);
        let why = cure(&catalogue(), "process_exited", &twice).unwrap_err();
        assert!(why[0].contains("`restart-process` is used up: 2 of 2 attempts"), "{why:?}");
    }

    #[test]
    fn the_same_deed_under_another_name_is_used_up_too() {
        let twice = Scene::process("twice").tried("restart-process", 2);
        let why = cure(&catalogue(), "process_hung", &twice).unwrap_err();
        assert!(why[0].contains("`restart-hung-process` is used up"), "{why:?}");
        let other = Scene::process("other").tried("a-runbook-that-was-removed", 2);
        assert!(cure(&catalogue(), "process_hung", &other).is_ok());
    }

    #[test]
    fn ones_own_runbook_replaces_the_built_in_one_of_its_name() {
        let own = testing::runbook(
            "{name: restart-process, title: t, when: {causes: [process_exited]}, risk: high, \
             steps: [{action: command.run, command: [\"true\"]}]}",
        );
        let catalogue = catalogue().with(std::slice::from_ref(&own));
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
        let first = cure(&catalogue().with(std::slice::from_ref(&own)), "process_exited", &scene);
        assert_eq!(first, Ok("mine".to_owned()));
        own.order = 101;
        let first = cure(&catalogue().with(&[own]), "process_exited", &scene);
        assert_eq!(first, Ok("restart-process".to_owned()));
    }

    #[test]
    fn without_a_check_there_is_no_plan_and_the_reason_says_what_to_add() {
        let own = testing::runbook(
            "{name: mine, title: t, when: {events: [service_down]}, risk: low, \
             steps: [{action: command.run, command: [\"true\"]}]}",
        );
        let scene = Scene::bare("b").without_checks();
        let why = cure(&catalogue().with(&[own]), "reported", &scene).unwrap_err();
        assert!(why[0].contains("no check") && why[0].contains("add a check"), "{why:?}");
    }
}
