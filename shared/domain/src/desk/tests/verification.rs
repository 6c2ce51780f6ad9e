//! What counts as proof, and what happens when there is none.

use super::world::{
    World, analysis, command, config, cure, evidence, fix, generous, healthy, hypothesis, plan,
    plan_with_undo, secs, target, verification,
};
use crate::{
    fact::{Escalation, Fact},
    id::IncidentId,
    incident::Phase,
    policy::Notifier,
    span::Span,
    view::Status,
    wire::{
        AnalysisReport, AnswerStatus, Evidence, FixMode, FixOutcome, Input, Verb,
        VerificationReport, WorkKind,
    },
};

fn escalation(world: &World, id: IncidentId) -> Option<Escalation> {
    if let Phase::Escalated(why) = &world.incident(id).phase { Some(*why) } else { None }
}

fn verifying() -> (World, IncidentId) {
    let mut world = World::with(&["db", "api"]);
    let id = world.fixing("db");
    world.fixed(id);
    assert_eq!(world.status(id), Status::Verifying);
    (world, id)
}

/// A blip is not health: rule 10.
#[test]
fn samples_from_before_the_fix_prove_nothing() {
    let (mut world, id) = verifying();
    let Phase::Verifying { since, .. } = world.incident(id).phase.clone() else {
        panic!("another one")
    };
    let ended = world.ledger.iter().find(|it| matches!(it.fact, Fact::FixEnded { .. }));
    assert_eq!(ended.unwrap().at, since, "samples are newer than the end of the fix");
    for passed in [true, false] {
        let early = verification(world.work(id), passed, since - secs(1), &[]);
        assert!(world.send(early).recorded.is_empty());
        assert_eq!(world.status(id), Status::Verifying);
    }
    world.send(verification(world.work(id), true, since, &[]));
    assert_eq!(world.status(id), Status::Resolved);
}

#[test]
fn a_verification_without_samples_proves_nothing() {
    let (mut world, id) = verifying();
    let Input::Verification(report) = verification(world.work(id), true, world.at, &[]) else {
        panic!("another one")
    };
    let none = Input::Verification(VerificationReport { n_samples: 0, ..report });
    assert!(world.send(none).recorded.is_empty());
    world.expire(id);
    assert_eq!(escalation(&world, id), Some(Escalation::NotVerified));
}

/// A monitor that has called a target healthy says so once. When the proof of that fails, the
/// incident is a person's, and is still watched.
#[test]
fn what_its_sender_has_called_over_is_looked_at_again_by_itself() {
    let (mut world, id) = verifying();
    world.recovered("db");
    world.verified(id, false);
    world.diagnose(id, vec![hypothesis("process_hung", None)]);
    assert_eq!(escalation(&world, id), Some(Escalation::AttemptsExhausted));
    let mut waits = Vec::new();
    for _ in 0..3 {
        let [(due, of)] = world.due()[..] else { panic!("{:?}", world.due()) };
        assert_eq!(of, id);
        waits.push(due - world.incident(id).entered_at);
        world.expire(id);
        assert_eq!(world.status(id), Status::Verifying);
        world.verified(id, false);
        assert_eq!(escalation(&world, id), Some(Escalation::AttemptsExhausted));
        world.restart();
    }
    assert!(waits.is_sorted_by(|a, b| *a + *a <= *b), "{waits:?}");
    world.expire(id);
    world.verified(id, true);
    assert_eq!(world.status(id), Status::SelfResolved);
}

#[test]
fn what_its_sender_has_not_called_over_waits_for_a_person_or_news() {
    let (mut world, id) = verifying();
    world.verified(id, false);
    world.diagnose(id, vec![hypothesis("process_hung", None)]);
    assert_eq!(escalation(&world, id), Some(Escalation::AttemptsExhausted));
    assert_eq!(world.due(), []);
    // Nor what is said again.
    world.recovered("db");
    world.verified(id, false);
    assert_eq!(world.due().len(), 1);
    world.down("db");
    assert!(!world.incident(id).said_over);
}

#[test]
fn verification_asks_for_the_soak_time_of_the_plan_and_of_the_target() {
    let mut db = target("db", &[]);
    db.soak = Some(Span::from_secs(300));
    let mut world = World::new(config(vec![db], generous()));
    let id = world.down("db");
    world.diagnose(id, healthy());
    let wish = world.desk.wishes_of(id).pop().unwrap();
    let work: crate::wire::VerifyWork = serde_json::from_slice(&wish.payload().unwrap()).unwrap();
    assert_eq!(work.soak, Span::from_secs(300));
    assert!(world.at + secs(330) < work.not_after, "a deadline that leaves time for it");
    assert_eq!(world.due(), [(work.not_after, id)]);
}

#[test]
fn verification_is_told_which_checks_passed_before_the_fix() {
    let mut world = World::with(&["db"]);
    let id = world.down("db");
    let check = |label: &str, ok: bool, target: &str| Evidence {
        target: Some(target.to_owned()),
        detail: serde_json::json!({"check": label, "ok": ok}),
        ..evidence("check")
    };
    let Input::Analysis(report) = analysis(world.work(id), cure(plan("db"))) else {
        panic!("another one")
    };
    let evidence = vec![
        check("tcp 127.0.0.1:5432", true, "db"),
        check("http", false, "db"),
        check("of another target", true, "api"),
    ];
    world.send(Input::Analysis(AnalysisReport { evidence, ..report }));
    world.fixed(id);
    let wish = world.desk.wishes_of(id).pop().unwrap();
    let work: crate::wire::VerifyWork = serde_json::from_slice(&wish.payload().unwrap()).unwrap();
    assert_eq!(work.passed_before, ["tcp 127.0.0.1:5432"]);
}

#[test]
fn a_fix_of_unknown_outcome_is_looked_at_and_never_run_again() {
    let mut world = World::with(&["db"]);
    let id = world.fixing("db");
    let outcome = FixOutcome::Unknown { reason: "the fixer is gone".to_owned() };
    world.send(fix(world.work(id), FixMode::Apply, outcome));
    assert_eq!(world.status(id), Status::Verifying);
    let wanted = world.desk.wishes_of(id);
    assert!(wanted.iter().all(|it| it.kind() == WorkKind::Verify), "{wanted:?}");
    world.verified(id, true);
    assert_eq!(world.status(id), Status::Resolved);
    assert_eq!(world.n_facts("fix_started"), 1);
}

#[test]
fn a_fixer_that_is_silent_leads_to_a_look_at_the_target() {
    let mut world = World::with(&["db"]);
    let id = world.fixing("db");
    world.expire(id);
    assert_eq!(world.status(id), Status::Verifying);
    world.verified(id, false);
    assert_eq!(world.status(id), Status::Diagnosing);
    assert!(world.incident(id).attempts[0].failure.is_some());
}

#[test]
fn failed_attempts_are_told_to_the_next_diagnosis_until_they_are_used_up() {
    let mut world = World::with(&["db"]);
    let id = world.down("db");
    for n in 1..=3 {
        world.diagnose(id, cure(plan("db")));
        world.fixed(id);
        world.verified(id, false);
        let wish = world.desk.wishes_of(id).pop().unwrap();
        let payload = wish.payload().unwrap();
        let work: crate::wire::DiagnoseWork = serde_json::from_slice(&payload).unwrap();
        assert_eq!(work.attempts.len(), n);
        assert!(work.attempts.iter().all(|it| it.failure.is_some()));
    }
    world.diagnose(id, cure(plan("db")));
    assert_eq!(escalation(&world, id), Some(Escalation::AttemptsExhausted));
    world.send(command(Verb::Retry { incident: id }));
    world.diagnose(id, cure(plan("db")));
    assert_eq!(world.incident(id).attempt, 4, "a retry has attempts of its own");
}

/// No regression: rule 17.
#[test]
fn a_fix_that_makes_a_neighbour_sick_is_undone() {
    let mut world = World::new(config(
        vec![target("db", &[]), target("api", &["db"]), target("web", &["api"])],
        generous(),
    ));
    let id = world.down("db");
    world.diagnose(id, cure(plan_with_undo("db")));
    let Fact::FixStarted { neighbours, .. } = &world.last(id).fact else { panic!("another one") };
    assert_eq!(neighbours, &["api"], "who needs it, or is needed by it, and was well");
    world.fixed(id);
    world.send(verification(world.work(id), true, world.at, &["api"]));
    let undo = world.desk.wishes_of(id).pop().unwrap();
    let order: crate::wire::FixOrder = serde_json::from_slice(&undo.payload().unwrap()).unwrap();
    assert_eq!((order.mode, order.claim_key().as_str()), (FixMode::Undo, "1-undo"));
    // A late report on the fix itself does not end the undo.
    let late = fix(world.work(id), FixMode::Apply, FixOutcome::Succeeded);
    assert!(world.send(late).recorded.is_empty());
    world.send(fix(world.work(id), FixMode::Undo, FixOutcome::Succeeded));
    assert_eq!(escalation(&world, id), Some(Escalation::Regression));
    assert_eq!(world.n_facts("fix_started"), 1);
}

#[test]
fn a_regression_without_an_undo_is_escalated_at_once_with_what_was_done() {
    let (mut world, id) = verifying();
    world.send(verification(world.work(id), true, world.at, &["api"]));
    assert_eq!(escalation(&world, id), Some(Escalation::Regression));
    let reason = &world.last(id).reason;
    assert!(reason.contains("api") && reason.contains("restart-container"), "{reason}");
}

#[test]
fn a_neighbour_that_was_sick_before_is_no_regression() {
    let targets = vec![target("db", &[]), target("api", &["db"])];
    let mut world = World::new(config(targets, generous()));
    let api = world.down("api");
    let db = world.down("db");
    world.diagnose(db, cure(plan("db")));
    let Fact::FixStarted { neighbours, .. } = &world.last(db).fact else { panic!("another one") };
    assert!(neighbours.is_empty());
    assert_eq!(world.status(api), Status::Merged);
}

#[test]
fn an_undo_that_nobody_reports_on_goes_to_a_person() {
    let mut world = World::with(&["db"]);
    let id = world.down("db");
    world.diagnose(id, cure(plan_with_undo("db")));
    world.fixed(id);
    world.send(verification(world.work(id), false, world.at, &["api"]));
    world.expire(id);
    assert_eq!(
        world.story(id)[4..],
        ["not_verified", "undo_started", "undo_ended", "escalated"][..]
    );
}

#[test]
fn a_reported_recovery_that_is_not_proven_goes_back_to_where_it_was() {
    let mut world = World::with(&["db"]);
    let id = world.down("db");
    world.diagnose(id, vec![hypothesis("disk_full", None)]);
    assert_eq!(escalation(&world, id), Some(Escalation::NoPlan));
    world.recovered("db");
    assert_eq!(world.status(id), Status::Verifying);
    let mut silent = world.clone();
    silent.expire(id);
    assert_eq!(escalation(&silent, id), Some(Escalation::NoPlan), "nobody looked");
    world.verified(id, false);
    assert_eq!(escalation(&world, id), Some(Escalation::NoPlan), "it is still sick");
    world.recovered("db");
    world.verified(id, true);
    assert_eq!(world.status(id), Status::SelfResolved);
}

#[test]
fn an_incident_is_not_closed_while_a_fixer_is_at_it() {
    let mut world = World::with(&["db"]);
    let id = world.down("db");
    world.diagnose(id, cure(plan_with_undo("db")));
    let close = |world: &mut World| {
        let handled = world.send(command(Verb::Close { incident: id, reason: String::new() }));
        handled.answer.unwrap().status
    };
    assert_eq!(close(&mut world), AnswerStatus::Refused);
    world.fixed(id);
    let mut verifying = world.clone();
    assert_eq!(close(&mut verifying), AnswerStatus::Done);
    world.send(verification(world.work(id), false, world.at, &["api"]));
    assert_eq!(close(&mut world), AnswerStatus::Refused, "it is being taken back");
    world.send(fix(world.work(id), FixMode::Undo, FixOutcome::Succeeded));
    assert_eq!(close(&mut world), AnswerStatus::Done);
}

#[test]
fn what_has_no_check_is_closed_on_its_senders_word() {
    let mut other = target("other", &[]);
    other.checks.clear();
    other.select = vec![[("app".to_owned(), "other".to_owned())].into()];
    // A target needs a handle or a check, so only an unknown one has none.
    let mut world = World::with(&["db"]);
    let id = world.down("a-host-nobody-configured");
    let answer = world.recovered("a-host-nobody-configured").answer.unwrap();
    assert_eq!(world.status(id), Status::SelfResolved);
    assert_eq!(answer.incident_id, Some(id));
}

#[test]
fn a_target_that_flaps_goes_to_a_person() {
    let mut world = World::with(&["db"]);
    let id = world.down("db");
    for _ in 0..5 {
        world.diagnose(id, healthy());
        world.verified(id, false);
        assert_eq!(world.status(id), Status::Diagnosing);
    }
    world.diagnose(id, healthy());
    assert_eq!(escalation(&world, id), Some(Escalation::NoCause));
    assert!(world.last(id).reason.contains("flapping"));
}

#[test]
fn people_are_told_once_and_until_somebody_says_that_they_were() {
    let mut policy = generous();
    policy.notify = vec![Notifier { webhook: None, log: Some(true) }];
    let mut world = World::new(config(vec![target("db", &[])], policy));
    let id = world.down("db");
    world.diagnose(id, vec![]);
    let owed = |world: &World| {
        let wanted = world.desk.wishes_of(id);
        wanted.into_iter().map(|it| it.id().to_owned()).collect::<Vec<_>>()
    };
    let before = owed(&world);
    assert_eq!(before.len(), 1);
    world.restart();
    assert_eq!(owed(&world), before, "the same notice under the same id");
    world.send(command(Verb::Close { incident: id, reason: "done by hand".to_owned() }));
    assert_eq!(owed(&world), before, "it is owed although the incident is over");
    let notice = world.incident(id).notices[0].id.clone();
    assert_eq!(world.told(id, &notice).recorded.len(), 1);
    assert_eq!(world.told(id, &notice).recorded.len(), 0);
    assert!(owed(&world).is_empty());
}

#[test]
fn an_open_incident_has_no_resolution_and_says_what_it_waits_for() {
    let mut world = World::with(&["db"]);
    let id = world.down("db");
    world.diagnose(id, vec![]);
    let view = world.desk.detail(id).unwrap().view;
    assert_eq!((view.status, view.resolution), (Status::Escalated, None));
    assert!(view.waiting.is_some(), "why a person has it");
    let close = Verb::Close { incident: id, reason: "done by hand".to_owned() };
    world.send(command(close));
    let view = world.desk.detail(id).unwrap().view;
    assert!(view.resolution.is_some() && view.waiting.is_none(), "{view:?}");
}
