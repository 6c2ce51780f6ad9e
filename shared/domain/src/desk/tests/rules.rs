//! The rules of safe healing, one test each, as far as the desk can keep them. The rest is
//! kept by the hands.

use std::collections::BTreeMap;

use super::world::{
    World, analysis, command, config, cure, evidence, fix, generous, healthy, plan, plan_with_undo,
    secs, target, verification,
};
use crate::{
    action::{ActionName, StepSpec},
    event::{Event, EventType},
    fact::{Escalation, Fact},
    id::IncidentId,
    incident::Phase,
    plan::Risk,
    runbook::{Runbook, Verify, When},
    target::{DockerHandle, Target},
    view::Status,
    wire::{AnswerStatus, FixMode, FixOutcome, Input, TimerFired, Verb},
};

fn pause() -> Input {
    command(Verb::Pause { reason: "the network is being rebuilt".to_owned() })
}

fn escalation(world: &World, id: IncidentId) -> Option<Escalation> {
    if let Phase::Escalated(why) = &world.incident(id).phase { Some(*why) } else { None }
}

// Rule 1.

#[test]
fn an_empty_selector_matches_nothing() {
    let mut db = target("db", &[]);
    db.select = vec![BTreeMap::new()];
    db.labels.insert("tier".to_owned(), "gold".to_owned());
    let config = config(vec![db.clone()], generous());
    let mut event = Event::new("1", EventType::known("slow"), "test");
    event.labels.insert("tier".to_owned(), "gold".to_owned());
    assert!(!event.matches(&BTreeMap::new()));
    assert_eq!(config.target_of(&event), None);
    assert!(event.matches(&db.labels), "one that names something does match");
    assert!(config.findings().iter().any(|it| it.path == "targets[0].select[0]"));
}

#[test]
fn a_runbook_without_a_condition_applies_to_nothing() {
    let db =
        Target { docker: Some(DockerHandle { container: "db".to_owned() }), ..target("db", &[]) };
    let step = r#"{"action": "docker.restart"}"#;
    let step: StepSpec = serde_json::from_str(step).unwrap();
    assert_eq!(step.action, ActionName::DockerRestart);
    let mut runbook = Runbook {
        name: "restart".to_owned(),
        title: "Restart it".to_owned(),
        when: When { targets: vec!["db".to_owned()], ..When::default() },
        risk: Risk::Low,
        autonomy: None,
        order: 1,
        attempts: 1,
        steps: vec![step],
        verify: Verify::default(),
    };
    let event = Event::new("1", EventType::known("slow"), "test");
    assert!(
        !runbook.applies("container_exited", &event.kind, "test", &db),
        "it names no cause and no event"
    );
    runbook.when.causes = vec!["container_exited".to_owned()];
    assert!(runbook.applies("container_exited", &event.kind, "test", &db));
    assert!(!runbook.applies("disk_full", &event.kind, "test", &db));
    assert!(!runbook.applies("container_exited", &event.kind, "test", &target("api", &[])));
}

#[test]
fn an_event_without_a_target_leads_to_no_fix() {
    let mut world = World::with(&["db"]);
    for found in [cure(plan("db")), healthy(), vec![]] {
        let id = world.down("nobody-knows");
        world.diagnose(id, found);
        assert!(escalation(&world, id).is_some());
        assert_eq!(world.n_facts("fix_started"), 0);
        world.send(command(Verb::Close { incident: id, reason: String::new() }));
    }
}

#[test]
fn a_runbook_that_is_proposed_for_another_target_gives_no_plan() {
    let mut world = World::with(&["db", "api"]);
    let id = world.down("api");
    world.diagnose(id, cure(plan("db")));
    assert_eq!(escalation(&world, id), Some(Escalation::NoPlan));
    assert_eq!(world.incident(id).plan(), None);
}

// Rule 2.

#[test]
fn a_stale_event_starts_no_fix_unless_a_fresh_look_confirms_it() {
    for (age_s, source, begun) in
        [(899, "log", true), (900, "log", false), (5000, "change", false), (5000, "check", true)]
    {
        let mut world = World::with(&["db"]);
        let mut event = world.event("service_down", "db");
        // One second passes until the event arrives, one until the diagnosis.
        event.starts_at = Some(world.at + secs(1) - secs(age_s));
        let id = world.send(Input::Event(event)).answer.unwrap().incident_id.unwrap();
        let Input::Analysis(mut report) = analysis(world.work(id), cure(plan("db"))) else {
            panic!("another one")
        };
        report.evidence = vec![evidence(source)];
        world.send(Input::Analysis(report));
        assert_eq!(world.n_facts("fix_started") == 1, begun, "{age_s} {source}");
        let refused = escalation(&world, id) == Some(Escalation::Refused);
        assert_eq!(refused, !begun, "{age_s} {source}");
    }
}

#[test]
fn a_resolved_event_stops_a_plan_that_waits() {
    let mut world = World::with(&["db"]);
    world.send(pause());
    let id = world.down("db");
    world.diagnose(id, cure(plan("db")));
    assert_eq!(world.status(id), Status::Proposed);
    world.recovered("db");
    world.send(command(Verb::Resume));
    assert_eq!(world.status(id), Status::Verifying);
    world.verified(id, true);
    assert_eq!(world.status(id), Status::SelfResolved);
    assert_eq!(world.n_facts("fix_started"), 0);
}

#[test]
fn a_late_report_changes_nothing() {
    let mut world = World::with(&["db"]);
    let id = world.down("db");
    let first = world.work(id);
    world.diagnose(id, cure(plan("db")));
    let fixing = world.work(id);
    let again = world.send(analysis(first, cure(plan_with_undo("db"))));
    assert!(again.recorded.is_empty(), "a second diagnosis cannot start a second fix");
    world.fixed(id);
    let again = world.send(fix(fixing, FixMode::Apply, FixOutcome::Succeeded));
    assert!(again.recorded.is_empty());
    let early = world.send(verification(fixing, true, world.at, &[]));
    assert!(early.recorded.is_empty(), "an answer to other work proves nothing");
}

// Rule 3.

#[test]
fn one_fix_per_target_at_a_time() {
    let mut world = World::with(&["db"]);
    let first = world.fixing("db");
    let beside = world.fire("slow", "db");
    assert_eq!(world.status(beside), Status::Merged, "it waits for the one that is treated");
    world.recovered("db");
    world.fixed(first);
    assert_eq!(world.status(beside), Status::Merged);
    world.verified(first, true);
    assert_eq!(world.status(beside), Status::Diagnosing, "no check measures it");
    world.diagnose(beside, cure(plan("db")));
    assert_eq!(world.status(beside), Status::Fixing);
}

/// Two incidents of one target can both have a plan when the first was escalated before.
#[test]
fn a_second_plan_for_a_target_under_treatment_is_held() {
    let mut world = World::with(&["db"]);
    let first = world.down("db");
    world.diagnose(first, vec![]);
    let second = world.fire("slow", "db");
    world.send(command(Verb::Retry { incident: first }));
    world.diagnose(first, cure(plan("db")));
    world.diagnose(second, cure(plan("db")));
    assert_eq!(world.held_by(second), Some("one fix per target"));
    world.fixed(first);
    world.verified(first, true);
    assert_eq!(world.status(second), Status::Fixing, "what ends lets the next one begin");
}

// Rules 4 to 7, 15 and 16 are in `limits`, rule 8 is in `approvals`.

// Rule 10 is in `verification`.

// Rule 11.

#[test]
fn a_resolved_incident_takes_no_new_events() {
    let mut world = World::with(&["db"]);
    let first = world.down("db");
    world.heal(first, "db");
    let revision = world.incident(first).revision;
    let second = world.down("db");
    assert_ne!(first, second);
    assert_eq!(world.incident(second).previous, Some(first));
    assert_eq!((world.incident(first).revision, world.incident(first).count), (revision, 1));
    for verb in [
        Verb::Close { incident: first, reason: String::new() },
        Verb::Retry { incident: first },
        Verb::Acknowledge { incident: first },
    ] {
        let answer = world.send(command(verb)).answer.unwrap();
        assert_eq!(answer.status, AnswerStatus::Refused);
    }
}

// Rule 13.

#[test]
fn deadlines_survive_restarts_and_what_was_missed_is_handled_once() {
    let mut world = World::with(&["db"]);
    let id = world.down("db");
    let due = world.due();
    world.restart();
    assert_eq!(world.due(), due);
    world.wait(86_400);
    let late = TimerFired::of(id, due[0].0);
    assert_eq!(world.send(Input::Timer(late)).recorded.len(), 1);
    assert_eq!(world.send(Input::Timer(late)).recorded.len(), 0);
    assert_eq!(escalation(&world, id), Some(Escalation::NotDiagnosed));
}

// Rule 18.

#[test]
fn input_that_cannot_be_read_does_not_stop_what_comes_after_it() {
    let mut world = World::with(&["db"]);
    let id = world.down("db");
    let before = world.desk.clone();
    let handled = world.reject("invalid_json");
    let fact = &handled.recorded[0].decision.fact;
    assert!(matches!(fact, Fact::InputRejected { bytes: 7, .. }), "it is in the log: {fact:?}");
    world.restart();
    assert_eq!(world.desk.incident(id), before.incident(id));
    world.diagnose(id, cure(plan("db")));
    assert_eq!(world.status(id), Status::Fixing);
    let answer =
        world.send(command(Verb::Close { incident: IncidentId::NONE, reason: String::new() }));
    assert_eq!(answer.answer.unwrap().status, AnswerStatus::NotFound);
}
