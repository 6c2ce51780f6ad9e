use std::collections::BTreeSet;

use chrono::DateTime;

use super::*;
use crate::{
    config::{built_in_risk, known_runbooks},
    policy::Autonomy,
};

fn target(text: &str) -> Target {
    serde_json::from_str(text).unwrap()
}

fn process() -> Target {
    target(r#"{"name": "shop", "process": {"command": ["shop"]}}"#)
}

fn own(text: &str) -> Runbook {
    parse_runbook(text).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn tried(runbook: &str) -> AttemptRecord {
    AttemptRecord {
        attempt: 1,
        runbook: runbook.to_owned(),
        started_at: DateTime::UNIX_EPOCH,
        failure: Some("in vain".to_owned()),
        step_failed: false,
        bring_up: false,
        outcome_unknown: false,
    }
}

/// Asks for the plan of a runbook after `service_down`.
fn plan(
    catalogue: &Catalogue,
    name: &str,
    cause: &str,
    target: &Target,
    tried: &[AttemptRecord],
) -> Result<Plan, String> {
    let event = EventType::known("service_down");
    let (soak, within) = (Span::from_secs(3), Span::from_secs(30));
    catalogue
        .plan(name, &Case { cause, event: &event, source: "test", target, tried, soak, within })
}

#[test]
fn every_built_in_runbook_can_be_read() {
    for (file, text) in FILES {
        assert_eq!(format!("{}.yaml", own(text).name), *file);
    }
    assert_eq!(Catalogue::default().runbooks().len(), FILES.len());
}

#[test]
fn the_configuration_knows_all_built_in_runbooks() {
    let catalogue = Catalogue::default();
    let names: BTreeSet<_> = catalogue.runbooks().iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, known_runbooks().iter().copied().collect());
    for runbook in catalogue.runbooks() {
        assert_eq!(built_in_risk(&runbook.name), Some(runbook.risk), "{}", runbook.name);
    }
}

#[test]
fn a_plan_is_what_the_runbook_of_that_name_says() {
    let mine = own(
        "{name: mine, title: Mine, when: {causes: [process_exited]}, risk: high, autonomy: approve, \
         steps: [{action: command.run, command: [fix, \"{target}\"], undo: {action: command.run, \
         command: [back]}}], verify: {soak: 9s}}",
    );
    let catalogue = Catalogue::with(std::slice::from_ref(&mine));
    let shop = process();
    let (soak, within) = (Span::from_secs(3), Span::from_secs(30));
    let made = plan(&catalogue, "mine", "process_exited", &shop, &[]).unwrap();
    assert_eq!(made, mine.plan("process_exited", &shop, soak, within).unwrap());
    assert_eq!(made.autonomy, Some(Autonomy::Approve));
    let built_in = plan(&catalogue, "restart-process", "process_exited", &shop, &[]).unwrap();
    assert_eq!(built_in.runbook, "restart-process");
}

#[test]
fn what_does_not_fit_gives_no_plan_and_says_why() {
    let when = |name: &str, when: &str| {
        own(&format!(
            "{{name: {name}, title: t, when: {{events: [service_down]{when}}}, risk: low, \
             steps: [{{action: command.run, command: [\"true\"]}}]}}"
        ))
    };
    let catalogue =
        Catalogue::with(&[when("for-events", ""), when("of-one", ", sources: [grafana]")]);
    let (shop, bare) = (process(), target(r#"{"name": "api"}"#));
    let once = [tried("restart-process"), tried("restart-process")];
    for (name, cause, target, attempts, why) in [
        ("anything", "process_exited", &shop, &[][..], "there is no runbook `anything`"),
        ("a\nb\u{1b}[31m", "process_exited", &shop, &[], "there is no runbook `a?b??31m`"),
        ("restart-process", "disk_full", &shop, &[], "is not for disk_full on `shop`"),
        ("restart-process", "process_exited", &bare, &[], "is not for process_exited on `api`"),
        ("start-container", "container_exited", &shop, &[], "is not for container_exited"),
        ("restart-process", "process_exited", &shop, &once, "is used up: 2 of 2 attempts"),
        // The same deed under another name.
        ("restart-hung-process", "process_hung", &shop, &once[..1], "is used up: 1 of 1"),
        ("for-events", cause::HEALTHY, &shop, &[], "is not for healthy"),
        ("for-events", cause::STARTING, &shop, &[], "is not for starting"),
        ("for-events", cause::DEPENDENCY_DOWN, &shop, &[], "is not for dependency_down"),
        ("of-one", "reported", &shop, &[], "on `shop` after service_down of test"),
        ("for-events", "reported", &bare, &[], "add a check to the target `api`"),
    ] {
        let told = plan(&catalogue, name, cause, target, attempts).unwrap_err();
        assert!(told.contains(why), "{told}");
    }
    assert!(plan(&catalogue, "for-events", "reported", &shop, &[]).is_ok());
    let long = plan(&catalogue, &"x".repeat(10_000), "reported", &shop, &[]).unwrap_err();
    assert!(long.len() < 200, "{long}");
}
