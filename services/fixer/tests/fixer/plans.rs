//! Whole plans: order, pre-checks, and the way back.

use crate::kit::{HeldUp, Place, carry_out, carry_out_as, handle, order, restart, run, step};
use domain::{
    check::Check,
    plan::Step,
    span::Span,
    wire::{FixMode, FixOutcome, Refusal},
};

fn note(place: &Place, word: &str) -> domain::action::Action {
    run(&format!("echo {word} >> {}", place.text("notes")))
}

fn failure(outcome: FixOutcome) -> String {
    match outcome {
        FixOutcome::Failed { reason } => reason,
        FixOutcome::Succeeded => panic!("it should have failed"),
        FixOutcome::Unknown { reason } | FixOutcome::Refused { reason, .. } => panic!("{reason}"),
    }
}

fn with_undo(place: &Place, word: &str) -> Step {
    Step { undo: Some(note(place, &format!("undo-{word}"))), ..step(word, note(place, word)) }
}

#[tokio::test]
async fn steps_are_carried_out_in_order() {
    let place = Place::new();
    let steps = ["one", "two", "three"].map(|word| step(word, note(&place, word)));
    let ended = carry_out(&place.tools(), &order(steps.into())).await;
    assert_eq!(ended.outcome, FixOutcome::Succeeded);
    assert_eq!(place.read("notes"), "one\ntwo\nthree\n");
    assert!(ended.steps.iter().all(|it| it.ok) && !ended.undone);
}

#[tokio::test]
async fn an_order_that_became_too_old_before_its_first_step_is_refused_and_touches_nothing() {
    let place = Place::new();
    let steps = ["one", "two"].map(|word| step(word, note(&place, word)));
    let ended = carry_out_as(&place.tools(), &order(steps.into()), &HeldUp).await;
    let FixOutcome::Refused { code, reason } = ended.outcome else { panic!("{ended:?}") };
    assert_eq!(code, Refusal::TooLate);
    assert!(reason.contains("steps started before: 0"), "{reason}");
    assert!(ended.steps.is_empty() && place.read("notes").is_empty());
}

#[tokio::test]
async fn a_failed_step_takes_back_those_before_it_the_last_first() {
    let place = Place::new();
    let steps = vec![
        with_undo(&place, "one"),
        with_undo(&place, "two"),
        Step { undo: Some(note(&place, "undo-three")), ..step("three", run("exit 1")) },
        with_undo(&place, "four"),
    ];
    let ended = carry_out(&place.tools(), &order(steps)).await;
    assert!(failure(ended.outcome).contains("step `three`"));
    // What failed may have done a part of it.
    assert_eq!(place.read("notes"), "one\ntwo\nundo-three\nundo-two\nundo-one\n");
    assert!(ended.undone);
    let names: Vec<_> = ended.steps.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["one", "two", "three", "undo three", "undo two", "undo one"]);
}

#[tokio::test]
async fn a_step_that_does_not_end_in_time_is_itself_taken_back() {
    let place = Place::new();
    let timeout = Span::from_millis(300);
    let late = run(&format!("echo late >> {}; sleep 1000", place.text("notes")));
    let undo = Some(note(&place, "undo-late"));
    let steps = vec![Step { timeout, undo, ..step("late", late.clone()) }];
    let ended = carry_out(&place.tools(), &order(steps)).await;
    assert!(failure(ended.outcome).contains("step `late`"));
    assert_eq!(place.read("notes"), "late\nundo-late\n");
    assert!(ended.undone);
    // Without an undo it may still happen: not all is taken back.
    let steps = vec![with_undo(&place, "one"), Step { timeout, ..step("late", late) }];
    let ended = carry_out(&place.tools(), &order(steps)).await;
    assert!(!ended.undone, "{ended:?}");
}

#[tokio::test]
async fn a_step_whose_pre_check_fails_was_not_begun_and_is_not_taken_back() {
    let place = Place::new();
    let fails = Check { command: Some(crate::kit::words(&["false"])), ..Check::blank() };
    let second = Step { pre_check: Some(fails), ..with_undo(&place, "two") };
    let ended = carry_out(&place.tools(), &order(vec![with_undo(&place, "one"), second])).await;
    assert_eq!(place.read("notes"), "one\nundo-one\n");
    assert!(ended.undone);
}

#[tokio::test]
async fn it_is_told_when_not_everything_could_be_taken_back() {
    let place = Place::new();
    let steps = vec![
        with_undo(&place, "one"),
        step("two", note(&place, "two")),
        step("three", run("exit 1")),
    ];
    let ended = carry_out(&place.tools(), &order(steps)).await;
    assert_eq!(place.read("notes"), "one\ntwo\nundo-one\n");
    assert!(!ended.undone);
}

#[tokio::test]
async fn an_undo_that_fails_does_not_keep_the_others_from_it() {
    let place = Place::new();
    let steps = vec![
        with_undo(&place, "one"),
        Step { undo: Some(run("exit 1")), ..step("two", note(&place, "two")) },
        step("three", run("exit 1")),
    ];
    let ended = carry_out(&place.tools(), &order(steps)).await;
    assert_eq!(place.read("notes"), "one\ntwo\nundo-one\n");
    assert!(!ended.undone);
}

#[tokio::test]
async fn an_order_to_undo_runs_the_undos_the_last_first() {
    let place = Place::new();
    let steps = vec![
        with_undo(&place, "one"),
        step("two", note(&place, "two")),
        with_undo(&place, "three"),
    ];
    let undo = domain::wire::FixOrder { mode: FixMode::Undo, ..order(steps) };
    let ended = carry_out(&place.tools(), &undo).await;
    assert_eq!(ended.outcome, FixOutcome::Succeeded);
    assert_eq!(place.read("notes"), "undo-three\nundo-one\n");
}

async fn checked(place: &Place, check: Check) -> Result<(), String> {
    let step = Step { pre_check: Some(check), ..step("one", note(place, "ran")) };
    let ended = carry_out(&place.tools(), &order(vec![step])).await;
    match ended.outcome {
        FixOutcome::Succeeded => Ok(()),
        other @ (FixOutcome::Failed { .. }
        | FixOutcome::Unknown { .. }
        | FixOutcome::Refused { .. }) => Err(failure(other)),
    }
}

#[tokio::test]
async fn a_step_whose_pre_check_fails_is_not_run() {
    let place = Place::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tcp = || Check { tcp: Some(address.clone()), ..Check::blank() };
    checked(&place, tcp()).await.unwrap();
    drop(listener);
    let told = checked(&place, tcp()).await.unwrap_err();
    assert!(told.contains("not run, because its pre-check"), "{told}");
    let http = Check { http: Some(format!("http://{address}/")), ..Check::blank() };
    assert!(checked(&place, http).await.is_err());
    let program = |code: &str| Check {
        command: Some(crate::kit::words(&["sh", "-c", code])),
        timeout: Span::from_millis(300),
        ..Check::blank()
    };
    checked(&place, program("exit 0")).await.unwrap();
    let told = checked(&place, program("echo no; exit 2")).await.unwrap_err();
    assert!(told.contains("exit code 2: no"), "{told}");
    let told = checked(&place, program("sleep 1000")).await.unwrap_err();
    assert!(told.contains("0.3 s"), "{told}");
    assert!(checked(&place, Check::of_process()).await.is_err(), "there is no process to look at");
    assert_eq!(place.read("notes"), "ran\nran\n");
}

#[tokio::test]
async fn a_process_pre_check_looks_at_the_process_of_the_step() {
    let place = Place::new();
    let tools = place.tools();
    let process = handle(&["sleep", "1000"]);
    let alive = Step { pre_check: Some(Check::of_process()), ..step("one", restart(&process)) };
    let ended = carry_out(&tools, &order(vec![alive.clone()])).await;
    assert!(failure(ended.outcome).contains("not alive"));
    assert!(!place.file("run/shop.pid").exists());
    carry_out(&tools, &order(vec![step("start", restart(&process))])).await;
    let ended = carry_out(&tools, &order(vec![alive])).await;
    assert_eq!(ended.outcome, FixOutcome::Succeeded);
}
