//! What comes into force by itself, and what a person must confirm.

use super::world::{World, command, config, generous, target};
use crate::{
    config::Config,
    desk::Standing,
    id::Position,
    policy::Autonomy,
    wire::{AnswerStatus, ConfigText, Input, Verb},
};

fn configure(config: &Config, text: &str, followed: bool) -> Input {
    let text = ConfigText { sha256: text.to_owned(), followed, doubts: Vec::new() };
    command(Verb::Configure {
        config: Box::new(config.clone()),
        text: Some(text),
        parts: Vec::new(),
    })
}

fn found(sha256: &str, since: u64) -> crate::desk::FoundText {
    crate::desk::FoundText { sha256: sha256.to_owned(), since, changed: true }
}

/// A world of three targets in which a person approves each fix.
fn careful() -> (World, Config) {
    let mut policy = generous();
    policy.autonomy = Autonomy::Approve;
    let targets = ["a", "b", "c"].map(|it| target(it, &[])).to_vec();
    let careful = config(targets, policy);
    (World::new(careful.clone()), careful)
}

#[test]
fn a_file_that_loosens_or_removes_is_held_until_a_person_confirms_it() {
    let (mut world, careful) = careful();
    let mut loose = careful.clone();
    loose.policy.autonomy = Autonomy::Auto;
    let handled = world.send(configure(&loose, "loose", true));
    assert_eq!(handled.answer.unwrap().status, AnswerStatus::Refused);
    assert_eq!(*world.desk.config(), careful, "the old one stays");
    let held = world.desk.given().held().unwrap().clone();
    assert_eq!(held.differences, ["policy.autonomy: approve -> auto"]);
    assert_eq!(world.desk.system().config_held, Some(held));
    let n = world.ledger.len();
    world.send(configure(&loose, "loose", true));
    assert_eq!(world.ledger.len(), n, "it is asked once");
    world.restart();
    assert!(world.desk.given().held().is_some(), "also after a restart");
    assert_eq!(world.desk.given().standing(&found("loose", 99)), Standing::Decided);
    world.send(configure(&Config::default(), "empty", true));
    let held = world.desk.given().held().unwrap();
    assert!(held.differences[0].contains("all 3 targets are removed"), "{held:?}");
    let handled = world.send(configure(&loose, "loose", false));
    assert_eq!(handled.answer.unwrap().status, AnswerStatus::Done);
    assert_eq!(*world.desk.config(), loose, "a person has confirmed it");
    assert_eq!(world.desk.given().held(), None);
    world.restart();
}

#[test]
fn a_file_that_is_changed_back_asks_no_more_and_ordinary_edits_come_into_force() {
    let (mut world, careful) = careful();
    world.send(configure(&careful, "first", true));
    assert_eq!(world.desk.given().standing(&found("first", 99)), Standing::Decided);
    let mut loose = careful.clone();
    loose.policy.attempts += 1;
    world.send(configure(&loose, "loose", true));
    world.send(configure(&careful, "first", true));
    assert_eq!(world.desk.given().held(), None);
    let mut tight = careful.clone();
    tight.policy.autonomy = Autonomy::Observe;
    tight.targets.push(target("d", &[]));
    let handled = world.send(configure(&tight, "tight", true));
    assert_eq!(handled.answer.unwrap().status, AnswerStatus::Done);
    assert_eq!(*world.desk.config(), tight);
    world.restart();
}

#[test]
fn a_doubtful_text_is_held_and_the_first_configuration_needs_no_question() {
    let (mut world, careful) = careful();
    let mut more = careful;
    more.targets.push(target("d", &[]));
    let doubts = vec!["the last line has no line end".to_owned()];
    let text = ConfigText { sha256: "x".to_owned(), followed: true, doubts };
    let doubtful = Verb::Configure {
        config: Box::new(more.clone()),
        text: Some(text.clone()),
        parts: Vec::new(),
    };
    world.send(command(doubtful.clone()));
    assert_eq!(world.desk.given().held().unwrap().differences, text.doubts);
    let mut desk = crate::desk::Desk::default();
    let handled = desk.receive(&command(doubtful), Position::new(1, 0), world.at);
    assert_eq!(handled.answer.unwrap().status, AnswerStatus::Done);
    assert_eq!(*desk.config(), more);
}

#[test]
fn a_configuration_in_parts_is_in_force_when_all_are_there() {
    let (mut world, careful) = careful();
    let mut large = careful.clone();
    large.targets.extend((0..3000).map(|it| target(&format!("t{it}"), &[])));
    let text = ConfigText { sha256: "large".to_owned(), followed: true, doubts: Vec::new() };
    let mut verbs = Verb::configure_all(&large, Some(text)).unwrap();
    assert!(3 < verbs.len(), "{}", verbs.len());
    let last = verbs.pop().unwrap();
    let missing = verbs.pop().unwrap();
    for verb in verbs {
        let handled = world.send(command(verb));
        assert_eq!(handled.answer.unwrap().status, AnswerStatus::Done);
    }
    let refused = world.send(command(last.clone())).answer.unwrap();
    assert!(refused.message.contains("1 of its"), "{refused:?}");
    assert_eq!(*world.desk.config(), careful);
    world.restart();
    world.send(command(missing.clone()));
    let n = world.ledger.len();
    world.send(command(missing));
    assert_eq!(world.ledger.len(), n, "a part that is there is stored once");
    let handled = world.send(command(last));
    assert_eq!(handled.answer.unwrap().status, AnswerStatus::Done);
    assert_eq!(*world.desk.config(), large);
    assert_eq!(world.desk.given().standing(&found("large", 99)), Standing::Decided);
    world.restart();
    assert_eq!(*world.desk.config(), large);
    let longest =
        world.ledger.iter().map(|it| serde_json::to_vec(it).unwrap().len()).max().unwrap();
    assert!(longest < 256 * 1024, "{longest}");
}

#[test]
fn parts_that_nobody_asks_for_are_forgotten() {
    let (mut world, careful) = careful();
    let mut large = careful;
    large.targets.extend((0..3000).map(|it| target(&format!("t{it}"), &[])));
    let mut verbs = Verb::configure_all(&large, None).unwrap();
    let last = verbs.pop().unwrap();
    let first = verbs.remove(0);
    world.send(command(first));
    world.wait(3601);
    for verb in verbs {
        world.send(command(verb));
    }
    let refused = world.send(command(last)).answer.unwrap();
    assert_eq!(refused.status, AnswerStatus::Refused, "{refused:?}");
    world.restart();
}
