//! What is acted upon, and what is only shown.

use std::collections::BTreeMap;

use super::world::{World, blame, config, cure, fix, generous, healthy, hypothesis, plan, target};
use crate::{
    event::{Event, Status as Said},
    fact::{Escalation, Fact},
    incident::Phase,
    measure::{Measure, PrometheusQuery},
    span::Span,
    target::Target,
    view::Status,
    wire::{DiagnoseWork, FixMode, FixOutcome, Hypothesis, Input},
};

fn shop() -> World {
    World::new(config(vec![target("db", &[]), target("api", &["db"])], generous()))
}

/// An agent of a former version refuses a target with a field that it does not know.
#[test]
fn measures_are_told_beside_the_target_and_to_analyzers_alone() {
    let measured = |name: &str, depends_on| Target {
        evidence: vec![measure(name)],
        ..target(name, depends_on)
    };
    let targets = vec![measured("db", &[]), measured("api", &["db"])];
    let mut world = World::new(config(targets, generous()));
    let id = world.down("api");
    let wish = world.desk.wishes_of(id).remove(0);
    let text = String::from_utf8(wish.payload().unwrap()).unwrap();
    let work: DiagnoseWork = serde_json::from_str(&text).unwrap();
    assert_eq!(work.measures, [measure("api")]);
    assert!(!text.contains("\"evidence\""), "{text}");
    world.diagnose(id, cure(plan("api")));
    world.fixed(id);
    assert_eq!(world.status(id), Status::Verifying);
    let wish = world.desk.wishes_of(id).remove(0);
    let text = String::from_utf8(wish.payload().unwrap()).unwrap();
    assert!(text.contains("\"api\"") && !text.contains("evidence"), "{text}");
}

fn measure(name: &str) -> Measure {
    let (url, query) = ("http://prom:9090".to_owned(), "up".to_owned());
    Measure {
        name: name.to_owned(),
        prometheus: PrometheusQuery { url, query },
        unit: None,
        headers: BTreeMap::new(),
        timeout: Span::from_secs(1),
    }
}

/// No cause without evidence, and no fix on a guess.
#[test]
fn a_guess_is_shown_and_not_acted_upon() {
    let sure = || hypothesis("container_exited", Some(plan("db")));
    for (found, acted) in [
        (sure(), true),
        (Hypothesis { confidence_percent: 30, ..sure() }, true),
        (Hypothesis { confidence_percent: 29, ..sure() }, false),
        (Hypothesis { because: Vec::new(), ..sure() }, false),
        (Hypothesis { runbook: None, ..sure() }, false),
    ] {
        let mut world = shop();
        let id = world.down("db");
        world.diagnose(id, vec![found.clone()]);
        assert_eq!(world.status(id) == Status::Fixing, acted, "{found:?}");
        let shown: Vec<_> =
            world.incident(id).hypotheses.iter().map(|it| it.summary.clone()).collect();
        assert_eq!(shown, [found.summary], "it is shown");
        let escalated = world.incident(id).phase == Phase::Escalated(Escalation::NoPlan);
        assert_eq!(escalated, !acted);
    }
}

#[test]
fn the_first_hypothesis_that_can_be_acted_upon_is_chosen() {
    let mut world = shop();
    let id = world.down("db");
    let found = vec![
        hypothesis("disk_full", None),
        Hypothesis { confidence_percent: 20, ..hypothesis("guess", Some(plan("db"))) },
        hypothesis("container_exited", Some(plan("db"))),
        hypothesis("container_unhealthy", Some(plan("db"))),
    ];
    world.diagnose(id, found);
    let facts = world.ledger.iter().map(|it| &it.fact);
    let chosen =
        facts.filter_map(|it| if let Fact::Diagnosed { chosen, .. } = it { *chosen } else { None });
    assert_eq!(chosen.collect::<Vec<_>>(), [2]);
    let analysis = world.incident(id).analysis.clone().unwrap();
    assert!(analysis.starts_with("container_exited"), "{analysis}");
}

#[test]
fn no_analyzer_no_fix_but_a_person_is_asked() {
    let mut world = shop();
    let id = world.down("db");
    world.expire(id);
    assert_eq!(world.incident(id).phase, Phase::Escalated(Escalation::NotDiagnosed));
    assert!(world.last(id).reason.contains("is an analyzer running"));
}

/// What is only being proven to be well is no cause, unless the evidence says so.
#[test]
fn trouble_beside_a_recheck_waits_for_it_only_on_evidence() {
    let mut world = shop();
    let db = world.down("db");
    world.diagnose(db, healthy());
    assert_eq!(world.status(db), Status::Verifying);
    let api = world.down("api");
    assert_eq!(world.status(api), Status::Diagnosing);
    let mut alone = world.clone();
    alone.diagnose(api, cure(plan("api")));
    assert_eq!(alone.status(api), Status::Fixing);
    world.diagnose(api, blame("db"));
    assert_eq!(world.incident(api).symptom_of(), Some(db));
    world.verified(db, false);
    world.heal(db, "db");
    world.verified(api, true);
    assert_eq!(world.status(api), Status::Resolved);
    assert_eq!(world.n_facts("fix_started"), 1);
}

#[test]
fn a_recovery_that_is_delivered_twice_is_one_recovery() {
    let mut world = shop();
    world.down("db");
    let event = Event { status: Said::Resolved, ..world.event("service_down", "db") };
    world.send(Input::Event(event.clone()));
    let again = world.send(Input::Event(event));
    assert!(again.recorded.is_empty() && again.answer.is_some());
    assert_eq!(world.n_facts("recovery_reported"), 1);
}

/// An attempt that started nothing says nothing about how the target runs; one that was carried
/// out, or whose end nobody knows, may.
#[test]
fn a_diagnosis_is_told_of_which_attempt_a_step_failed() {
    let reason = || "no such program".to_owned();
    for (outcome, has_failed) in [
        (FixOutcome::Failed { reason: reason() }, true),
        (FixOutcome::Unknown { reason: reason() }, false),
        (FixOutcome::Succeeded, false),
    ] {
        let mut world = World::with(&["db"]);
        let id = world.fixing("db");
        world.send(fix(world.work(id), FixMode::Apply, outcome));
        if !has_failed {
            world.verified(id, false);
        }
        let attempts = &world.incident(id).attempts;
        assert_eq!((attempts.len(), attempts[0].step_failed), (1, has_failed), "{attempts:?}");
        assert!(attempts[0].failure.is_some());
        world.restart();
    }
}
