//! From findings to causes, ranked, with a runbook for each where there is one.

use std::cmp::Reverse;

use domain::{
    catalogue::Catalogue,
    wire::{DiagnoseWork, Evidence, HYPOTHESES_MAX, Hypothesis, cause},
};

use crate::{
    case::Case, choice::wanted, evidence, findings::Findings, rules::RULES, suspicion::Suspicion,
};

/// The cause of an event that no rule explains and a runbook names.
pub const REPORTED: &str = "reported";

/// Causes that do not explain why there is an event.
const EXPLAIN_NOTHING: [&str; 3] =
    [cause::NOT_OBSERVABLE, cause::EVIDENCE_INCOMPLETE, cause::STARTING];

/// What an analyzer makes of its findings.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// Possible causes, the likeliest first.
    pub hypotheses: Vec<Hypothesis>,
    /// What was looked at.
    pub evidence: Vec<Evidence>,
}

/// A cause's name, and what speaks for it.
type Suspected = (&'static str, Suspicion);

/// Judges what was found.
///
/// Looks at nothing but its arguments, so the same findings always give the same causes.
#[must_use]
pub fn diagnose(work: &DiagnoseWork, findings: &Findings, catalogue: &Catalogue) -> Diagnosis {
    let evidence = evidence::of(work, findings);
    let Some(case) = Case::new(work, findings) else {
        return Diagnosis { hypotheses: Vec::new(), evidence };
    };
    let mut suspected = suspect(&case);
    report_event(&case, catalogue, &mut suspected);
    // Stable: of the same confidence, the order of the rules decides.
    suspected.sort_by_key(|(_, suspicion)| Reverse(suspicion.confidence_percent));
    suspected.truncate(HYPOTHESES_MAX);
    let outweighed: Vec<(&str, &str)> = suspected
        .iter()
        .flat_map(|(by, suspicion)| suspicion.outweighs.iter().map(|cause| (*cause, *by)))
        .collect();
    let hypotheses = suspected
        .into_iter()
        .map(|(cause, suspicion)| {
            let by = outweighed.iter().find(|(it, by)| *it == cause && *by != cause);
            hypothesis(&case, catalogue, cause, suspicion, by.map(|(_, by)| *by))
        })
        .collect();
    Diagnosis { hypotheses, evidence }
}

fn suspect(case: &Case<'_>) -> Vec<Suspected> {
    RULES.iter().filter_map(|rule| Some((rule.cause, (rule.find)(case)?))).collect()
}

/// Adds the event itself as a cause, if a runbook names it and nothing that was found
/// explains it. Passing checks explain nothing that they cannot see.
fn report_event(case: &Case<'_>, catalogue: &Catalogue, suspected: &mut Vec<Suspected>) {
    let explains = |(cause, _): &Suspected| !EXPLAIN_NOTHING.contains(cause);
    let event = &case.work.event;
    let names_event = || catalogue.names_event(&wanted(REPORTED, case.work, case.target));
    if suspected.iter().any(explains) || !names_event() {
        return;
    }
    // Nobody shall close it because checks pass that are about something else.
    suspected.clear();
    let summary = format!("{} reported by {}", event.kind, event.source);
    let because = format!("{} reports `{}` for {}", event.source, event.kind, case.name());
    let said = event.annotations.get("summary").or_else(|| event.annotations.get("description"));
    let suspicion = Suspicion::new(60, summary, because).and(said.cloned());
    suspected.push((REPORTED, suspicion));
}

fn hypothesis(
    case: &Case<'_>,
    catalogue: &Catalogue,
    cause: &str,
    suspicion: Suspicion,
    outweighed_by: Option<&str>,
) -> Hypothesis {
    let (work, target) = (case.work, case.target);
    let (confidence_percent, summary) = (suspicion.confidence_percent, suspicion.summary.clone());
    let elsewhere = suspicion.elsewhere.clone();
    let mut because = suspicion.into_because();
    let choice = match outweighed_by {
        Some(by) => Err(vec![format!("no fix is proposed: {by} explains it better")]),
        None => catalogue.choose(&wanted(cause, work, target)),
    };
    let runbook = match choice {
        Ok(runbook) => Some(runbook.name.clone()),
        Err(why) => {
            because.extend(why);
            None
        }
    };
    let target = runbook.as_ref().map(|_| target.name.clone());
    let cause = cause.to_owned();
    Hypothesis { cause, confidence_percent, summary, because, elsewhere, runbook, target }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, HTTP, Scene, TCP};

    fn run(scene: &Scene) -> Vec<Hypothesis> {
        run_with(scene, &[])
    }

    fn run_with(scene: &Scene, own: &[&str]) -> Vec<Hypothesis> {
        let own: Vec<_> = own.iter().map(|text| testing::runbook(text)).collect();
        let catalogue = Catalogue::with(&own);
        diagnose(&scene.work, &scene.findings, &catalogue).hypotheses
    }

    /// Returns cause and runbook of each hypothesis, the likeliest first.
    fn told(hypotheses: &[Hypothesis]) -> Vec<(&str, Option<&str>)> {
        hypotheses.iter().map(|it| (it.cause.as_str(), it.runbook.as_deref())).collect()
    }

    const DIES: &[(&str, Option<&str>)] = &[("process_exited", Some("restart-process"))];

    #[test]
    fn a_killed_process_is_restarted_and_nothing_else_is_suspected() {
        assert_eq!(told(&run(&Scene::process("killed").killed(9))), DIES);
    }

    #[test]
    fn killed_often_in_a_short_time_it_is_still_restarted() {
        let ago: Vec<i64> = (1..20).map(|n| n * 5).collect();
        let scene = Scene::process("killed often").killed(9).starts_s_ago(&ago);
        assert_eq!(told(&run(&scene.incidents_s_ago(&ago))), DIES);
        let scene = Scene::process("nobody saw it").vanished().log(&["listening"]);
        assert_eq!(told(&run(&scene.starts_s_ago(&ago).incidents_s_ago(&ago))), DIES);
    }

    #[test]
    fn nothing_is_started_while_something_answers_in_its_place() {
        let dead = |name| Scene::process(name).killed(9).passes(TCP).answered_by("pid 7 (shop)");
        let found = run(&dead("held"));
        assert_eq!(told(&found), [("answered_by_another", None), ("process_exited", None)]);
        assert!(found[0].because[0].contains("pid 7 (shop)"), "{found:?}");
        let own = CACHE.replace("cache_stale", "service_down");
        let found = run_with(&dead("with a runbook for the event").oom(), &[&own]);
        assert!(found.iter().all(|it| it.runbook.is_none()), "{found:?}");
    }

    #[test]
    fn a_dead_process_is_restarted_although_its_details_did_not_arrive() {
        let scene = Scene::process("busy host").killed(9).unseen_part("process");
        let found = run(&scene);
        let incomplete = ("evidence_incomplete", None);
        assert_eq!(told(&found), [DIES[0], incomplete]);
        assert!(
            found[1].because[0].contains("evidence incomplete: process did not answer"),
            "{found:?}"
        );
    }

    #[test]
    fn what_did_not_arrive_is_named_when_nothing_else_is_found() {
        let scene = Scene::process("slow").unseen_part("process").unseen_check("process");
        assert_eq!(told(&run(&scene)), [("evidence_incomplete", None)]);
        let scene = Scene::container("slow engine").unseen_part("container");
        let scene = scene.unseen_check("docker");
        assert_eq!(told(&run(&scene)), [("evidence_incomplete", None)]);
    }

    #[test]
    fn nothing_wrong_means_healthy_and_no_plan() {
        for scene in [
            Scene::process("well"),
            Scene::container("well"),
            Scene::bare("well"),
            Scene::process("one failed sample").samples(2),
        ] {
            assert_eq!(told(&run(&scene)), [("healthy", None)], "{}", scene.name);
        }
    }

    #[test]
    fn the_cause_of_a_sick_target_is_its_dead_dependency() {
        let scene = Scene::process("sick").fails(HTTP, "status 503").needs("db", &[]);
        let found = run(&scene.dead_dependency("db"));
        assert_eq!(found[0].cause, "dependency_down");
        assert_eq!((found[0].elsewhere.as_deref(), &found[0].runbook), (Some("db"), &None));
        assert_eq!(found[1].cause, "service_failing");
    }

    #[test]
    fn with_both_dead_the_dependency_is_healed_first() {
        let scene = Scene::process("both").killed(9).needs("db", &[]).dead_dependency("db");
        let found = run(&scene);
        assert_eq!(told(&found), [("dependency_down", None), DIES[0]]);
    }

    #[test]
    fn a_dead_target_is_started_when_its_dependency_is_well_or_only_slow_once() {
        let well = Scene::process("well").killed(9).needs("db", &[]);
        assert_eq!(told(&run(&well)), DIES);
        let slow = Scene::process("slow").killed(9).needs("db", &[]);
        let found = run(&slow.failing_dependency("db", "timed out"));
        assert_eq!(told(&found), [DIES[0], ("dependency_down", None)]);
        let healed = Scene::process("healed").killed(9).needs("db", &[]).open_incident("db");
        assert_eq!(told(&run(&healed))[0], DIES[0]);
    }

    #[test]
    fn a_crash_loop_is_not_restarted() {
        let scene = Scene::process("loop").exited(70).starts_s_ago(&[1, 10, 20, 30]);
        let found = run(&scene);
        assert_eq!(told(&found), [("crash_loop", None), ("process_exited", None)]);
        assert!(found[1].because.iter().any(|it| it.contains("crash_loop explains it better")));
    }

    #[test]
    fn out_of_memory_is_cured_under_its_own_name_and_limit() {
        let scene = Scene::process("oom").killed(9).oom();
        let cured = Some("restart-out-of-memory-process");
        assert_eq!(told(&run(&scene)), [("out_of_memory", cured), ("process_exited", None)]);
    }

    #[test]
    fn with_a_stranger_on_its_port_a_start_is_not_tried() {
        let scene = Scene::process("taken").exited(1).log(&["Address already in use"]);
        let found = run(&scene.passes(TCP));
        assert_eq!(told(&found), [("port_taken", None), ("process_exited", None)]);
        let scene = Scene::process("free again").exited(1).log(&["Address already in use"]);
        assert_eq!(told(&run(&scene)), [DIES[0], ("port_taken", None)]);
    }

    #[test]
    fn a_used_up_cure_is_told_and_not_proposed() {
        let scene = Scene::process("in vain").killed(9).tried("restart-process", 2);
        for hypothesis in run(&scene) {
            assert_eq!(hypothesis.runbook, None, "{}", hypothesis.cause);
        }
        let hung =
            Scene::process("runs, in vain").fails(HTTP, "refused").tried("restart-process", 1);
        let found = run(&hung);
        assert_eq!(told(&found), [("not_listening", None)]);
        assert!(found[0].because.iter().any(|it| it.contains("is used up")), "{found:?}");
    }

    const CACHE: &str = "{name: flush-cache, title: t, when: {events: [cache_stale]}, risk: low, \
                         steps: [{action: http.request, url: \"http://127.0.0.1:1/flush\"}]}";

    #[test]
    fn an_event_that_only_a_runbook_knows_is_reported_with_its_cure() {
        let scene = Scene::process("stale").kind("cache_stale");
        let found = run_with(&scene, &[CACHE]);
        assert_eq!(told(&found), [("reported", Some("flush-cache"))]);
        assert!(!found[0].because.is_empty());
        // Without the runbook, passing checks are all that is known; they do not measure it.
        assert_eq!(told(&run(&scene)), [("not_observable", None)]);
    }

    #[test]
    fn a_runbook_for_an_event_does_not_touch_what_the_checks_call_well() {
        let own = CACHE.replace("cache_stale", "service_down");
        assert_eq!(told(&run_with(&Scene::process("well"), &[&own])), [("healthy", None)]);
    }

    #[test]
    fn a_runbook_for_an_event_cures_whatever_cause_was_found() {
        let own = CACHE.replace("cache_stale", "service_down");
        let scene = Scene::container("missing").missing();
        assert_eq!(told(&run_with(&scene, &[&own]))[0], ("container_missing", Some("flush-cache")));
        let scene = Scene::process("symptom").fails(HTTP, "status 503").needs("db", &[]);
        let found = run_with(&scene.dead_dependency("db"), &[&own]);
        assert_eq!(told(&found)[0], ("dependency_down", None), "the symptom is not treated");
    }

    #[test]
    fn without_a_target_there_is_evidence_and_no_cause() {
        let mut scene = Scene::process("none");
        scene.work.target = None;
        scene.findings = Findings::none(scene.findings.now);
        let catalogue = Catalogue::default();
        let found = diagnose(&scene.work, &scene.findings, &catalogue);
        assert_eq!(found.hypotheses, []);
        assert!(
            found.evidence.iter().any(|it| it.summary.contains("no configured target matches"))
        );
    }

    #[test]
    fn every_scene_is_ranked_with_reasons_and_the_same_each_time() {
        let catalogue = Catalogue::default();
        for scene in testing::all_scenes() {
            let found = diagnose(&scene.work, &scene.findings, &catalogue);
            let sorted = found.hypotheses.is_sorted_by_key(|it| Reverse(it.confidence_percent));
            assert!(sorted, "{}", scene.name);
            assert!(found.hypotheses.iter().all(|it| !it.because.is_empty()), "{}", scene.name);
            assert_eq!(found, diagnose(&scene.work, &scene.findings, &catalogue), "{}", scene.name);
        }
    }
}
