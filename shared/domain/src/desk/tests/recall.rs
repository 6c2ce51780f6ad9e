//! Orders that are withdrawn before they are begun, and reports that come too late.

use super::world::{
    World, command, config, cure, fix, generous, plan, risky_plan, secs, silence, target,
};
use crate::{
    autonomy::Autonomy,
    config::Config,
    id::IncidentId,
    incident::Phase,
    plan::Risk,
    policy::Freeze,
    view::Status,
    wire::{FixMode, FixOutcome, FixReport, Input, Refusal, StepReport, Verb, WorkRef},
};

fn pause() -> Input {
    command(Verb::Pause { reason: "the network is being rebuilt".to_owned() })
}

fn recalled(work: WorkRef) -> Input {
    let reason = "supervisor-1 withdrew it".to_owned();
    fix(work, FixMode::Apply, FixOutcome::Refused { reason, code: Refusal::Recalled })
}

fn not_before(world: &World, id: IncidentId) -> chrono::DateTime<chrono::Utc> {
    let Phase::Fixing { not_after, .. } = &world.incident(id).phase else {
        panic!("it is not ordered")
    };
    *not_after
}

/// Returns the configuration of the tests, changed.
fn changed(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = config(vec![target("db", &[])], generous());
    change(&mut config);
    config
}

#[test]
fn a_pause_withdraws_what_was_ordered_and_gives_the_attempt_back() {
    let mut world = World::with(&["db"]);
    let id = world.fixing("db");
    let ordered = world.work(id);
    assert_eq!(world.desk.recalls().count(), 0);
    let told = world.send(pause()).answer.unwrap().message;
    assert!(told.contains("Fixes ordered before: 1"), "{told}");
    let wanted: Vec<_> = world.desk.recalls().collect();
    assert_eq!((wanted.len(), wanted[0].work, wanted[0].claim_key.as_str()), (1, ordered, "1"));
    world.restart();
    assert_eq!(world.desk.recalls().collect::<Vec<_>>(), wanted, "it survives a restart");
    world.send(recalled(ordered));
    assert_eq!((world.status(id), world.held_by(id)), (Status::Proposed, Some("kill switch")));
    assert_eq!(world.incident(id).n_tried(), 0);
    assert_eq!(world.desk.recalls().count(), 0);
    // Told again, as by the fixer that found the order withdrawn.
    assert!(world.send(recalled(ordered)).recorded.is_empty());
    world.send(command(Verb::Resume));
    assert_eq!(world.work(id).attempt, 2, "another claim");
    world.fixed(id);
    world.verified(id, true);
    assert_eq!(world.status(id), Status::Resolved);
}

#[test]
fn a_fix_that_a_fixer_has_begun_goes_on_to_its_end() {
    let mut world = World::with(&["db"]);
    let id = world.fixing("db");
    world.send(pause());
    // The claim of the fixer was first.
    world.fixed(id);
    world.verified(id, true);
    assert_eq!(world.status(id), Status::Resolved);
    assert_eq!(world.n_facts("fix_recalled"), 0);
}

#[test]
fn an_order_is_withdrawn_only_when_that_was_asked_for() {
    let mut world = World::with(&["db"]);
    let id = world.fixing("db");
    world.send(recalled(world.work(id)));
    assert_eq!(world.n_facts("fix_recalled"), 0);
}

#[test]
fn whatever_stops_new_fixes_withdraws_what_was_ordered() {
    let freeze = |world: &World| Freeze {
        from: world.at,
        until: world.at + secs(3600),
        reason: "the quarter ends".to_owned(),
    };
    let mut n = 0;
    for scene in ["freeze", "observe", "approve", "target", "gone", "silence"] {
        let mut world = World::with(&["db"]);
        let id = world.fixing("db");
        let ordered = world.work(id);
        let frozen = freeze(&world);
        match scene {
            "freeze" => world.configure(changed(|it| it.policy.freeze.push(frozen))),
            "observe" => world.configure(changed(|it| it.policy.autonomy = Autonomy::Observe)),
            "approve" => world.configure(changed(|it| it.policy.autonomy = Autonomy::Approve)),
            "target" => world.configure(changed(|it| it.targets[0].depends_on.clear())),
            "gone" => world.configure(changed(|it| it.targets = vec![target("api", &[])])),
            _ => world.send(command(silence("target=db", world.at + secs(600)))),
        };
        let wanted = world.desk.recalls().count();
        if scene == "target" {
            // Nothing has changed.
            assert_eq!(wanted, 0, "{scene}");
            continue;
        }
        assert_eq!(wanted, 1, "{scene}: {:?}", world.story(id));
        world.send(recalled(ordered));
        let phase = &world.incident(id).phase;
        assert!(!matches!(phase, Phase::Fixing { .. }), "{scene}: {phase:?}");
        assert_eq!(world.n_facts("fix_started"), 1, "{scene}");
        n += 1;
    }
    assert_eq!(n, 5);
}

#[test]
fn a_changed_target_is_diagnosed_anew_when_its_order_was_withdrawn() {
    let mut world = World::with(&["db"]);
    let id = world.fixing("db");
    let ordered = world.work(id);
    world.configure(changed(|it| it.targets[0].soak = Some(crate::span::Span::from_secs(9))));
    world.send(recalled(ordered));
    assert_eq!(world.status(id), Status::Diagnosing);
}

#[test]
fn what_a_person_approved_is_not_withdrawn_because_it_needs_an_approval() {
    let mut world = World::with(&["db"]);
    let id = world.down("db");
    world.diagnose(id, cure(risky_plan("db", Risk::Medium)));
    world.approve(id);
    assert_eq!(world.status(id), Status::Fixing);
    world.configure(changed(|it| it.policy.soak = crate::span::Span::from_secs(7)));
    assert_eq!(world.desk.recalls().count(), 0);
}

#[test]
fn a_fix_may_not_begin_in_a_freeze_that_is_known_to_come() {
    let mut world = World::with(&["db"]);
    let from = world.at + secs(30);
    let freeze = Freeze { from, until: from + secs(600), reason: "the quarter ends".to_owned() };
    world.configure(changed(|it| it.policy.freeze.push(freeze)));
    let id = world.fixing("db");
    assert_eq!(not_before(&world, id), from);
}

#[test]
fn what_a_fixer_did_and_reports_too_late_stands_in_the_log_once() {
    let mut world = World::with(&["db"]);
    let id = world.fixing("db");
    let step = StepReport {
        name: "restart".to_owned(),
        action: "docker.restart db".to_owned(),
        ok: true,
        summary: "restarted container db".to_owned(),
        output: "much".to_owned(),
        took_ms: 5,
    };
    let report = |by: &str| {
        let Input::Fix(report) = fix(world.work(id), FixMode::Apply, FixOutcome::Succeeded) else {
            panic!("another one")
        };
        Input::Fix(FixReport { by: by.to_owned(), steps: vec![step.clone()], ..report })
    };
    let (late, lost) = (report("fixer-2"), report("fixer-1"));
    let reason = "fixer-2 cannot act any more".to_owned();
    world.send(fix(world.work(id), FixMode::Apply, FixOutcome::Unknown { reason }));
    world.verified(id, true);
    assert_eq!(world.status(id), Status::Resolved);
    world.send(late.clone());
    world.send(late);
    // By the one whose report is in the log already: it is the same one, sent again.
    world.send(lost);
    assert_eq!(world.n_facts("late_report"), 1);
    let last = world.last(id);
    assert!(last.reason.contains("restarted container db"), "{last:?}");
    assert_eq!(world.status(id), Status::Resolved, "nothing follows from it");
}

#[test]
fn a_late_report_of_nothing_and_one_of_an_attempt_that_never_was_are_not_recorded() {
    let mut world = World::with(&["db"]);
    let id = world.fixing("db");
    let work = world.work(id);
    world.fixed(id);
    let reason = "gone".to_owned();
    for work in [work, WorkRef { attempt: 9, ..work }] {
        world.send(fix(work, FixMode::Apply, FixOutcome::Unknown { reason: reason.clone() }));
    }
    assert_eq!(world.n_facts("late_report"), 0);
    assert_eq!(plan("db").hash(), world.incident(id).plan().unwrap().hash());
}
