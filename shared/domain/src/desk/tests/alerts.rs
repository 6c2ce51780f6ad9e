//! Trouble as others list it.

use chrono::{DateTime, Utc};

use super::world::{World, command, secs, silence};
use crate::{
    silence::Cause,
    view::{AlertView, AlertsFrom, Status},
    wire::{AnswerStatus, Input, Verb},
};

/// Returns all alerts, and on how many pages they stand.
fn all(world: &World, now: DateTime<Utc>) -> (Vec<AlertView>, usize) {
    let (mut alerts, mut n_pages) = (Vec::new(), 0);
    let mut from = Some(AlertsFrom::default());
    while let Some(begin) = from {
        let mut page = world.desk.alerts(&begin, now);
        assert!(page.next.is_none() || !page.alerts.is_empty(), "it never ends");
        alerts.append(&mut page.alerts);
        n_pages += 1;
        from = page.next;
    }
    (alerts, n_pages)
}

fn down(world: &mut World, target: &str, label: &str) -> AnswerStatus {
    let mut event = world.event("service_down", target);
    event.labels.insert("job".to_owned(), label.to_owned());
    world.send(Input::Event(event)).answer.unwrap().status
}

#[test]
fn open_incidents_and_what_is_quiet_are_listed_with_their_labels() {
    let mut world = World::with(&["db", "api", "web"]);
    let until = world.at + secs(600);
    world.send(command(silence("target=api", until)));
    assert_eq!(down(&mut world, "db", "redis"), AnswerStatus::IncidentOpened);
    assert_eq!(down(&mut world, "api", "shop"), AnswerStatus::Suppressed);
    assert_eq!(down(&mut world, "web", "nginx"), AnswerStatus::IncidentOpened);
    world.send(command(silence("job=nginx", until)));
    let over = world.down("db2");
    world.send(command(Verb::Close { incident: over, reason: String::new() }));

    let (alerts, n_pages) = all(&world, world.at);
    assert_eq!(n_pages, 1);
    let told: Vec<_> = alerts
        .iter()
        .map(|it| (it.labels["job"].as_str(), it.status, it.quiet.is_some()))
        .collect();
    assert_eq!(
        told,
        [
            ("redis", Some(Status::Diagnosing), false),
            ("nginx", Some(Status::Diagnosing), true),
            ("shop", None, true),
        ]
    );
    assert!(matches!(alerts[2].quiet, Some(Cause::Silence { .. })));
    assert_eq!(alerts[2].target.as_deref(), Some("api"));
    // What is silenced is so by the clock of who asks.
    let (alerts, _) = all(&world, until + secs(1));
    assert_eq!(alerts[1].quiet, None);
}

#[test]
fn many_alerts_stand_on_pages_that_a_message_holds_and_each_on_one() {
    let mut world = World::with(&["db"]);
    let until = world.at + secs(100_000);
    let large = "x".repeat(8000);
    for n in 0..60 {
        assert_eq!(down(&mut world, &format!("t{n}"), &large), AnswerStatus::IncidentOpened);
    }
    world.send(command(silence("type=service_down", until)));
    for n in 60..350 {
        assert_eq!(down(&mut world, &format!("t{n}"), "small"), AnswerStatus::Suppressed);
    }
    let (alerts, n_pages) = all(&world, world.at);
    assert_eq!(n_pages, 3, "by bytes, and by number");
    let mut names: Vec<_> = alerts.iter().filter_map(|it| it.target.clone()).collect();
    assert_eq!(names.len(), 350);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 350, "each stands on one page");
    let first = serde_json::to_vec(&world.desk.alerts(&AlertsFrom::default(), world.at)).unwrap();
    assert!(first.len() < 512 * 1024, "{}", first.len());
}
