//! More incidents of one source than people can be called for.

use super::world::{World, config, generous, secs, target};
use crate::{
    event::{EVENT_FLOOD, Event},
    id::IncidentId,
    notify::{Flood, Notify, Receiver},
    span::Span,
    view::{Filter, Status},
    wire::{Input, WorkKind},
};

const LIMIT: u32 = 5;

fn world() -> World {
    let mut config = config(vec![target("db", &[])], generous());
    config.notify = Notify {
        receivers: vec![Receiver {
            name: "chat".to_owned(),
            log: Some(true),
            ..Receiver::default()
        }],
        flood: Flood { incidents: LIMIT, ..Flood::default() },
        ..Notify::default()
    };
    World::new(config)
}

/// Opens an incident that fits no target, so that people are called.
fn call(world: &mut World, source: &str) -> IncidentId {
    let event = world.event("disk_full", "-");
    let event = Event { fingerprint: Some(event.id.clone()), source: source.to_owned(), ..event };
    world.send(Input::Event(event)).answer.unwrap().incident_id.unwrap()
}

fn calls(world: &mut World, source: &str, n: u32) -> Vec<IncidentId> {
    (0..n).map(|_| call(world, source)).collect()
}

/// Returns the incidents of floods that are open.
fn floods(world: &World) -> Vec<IncidentId> {
    let is_flood = |it: &&crate::incident::Incident| it.event.kind.as_str() == EVENT_FLOOD;
    world.desk.open_incidents().filter(is_flood).map(|it| it.id).collect()
}

/// Sends all notices that are wanted and returns the incidents that they are about.
fn tell_all(world: &mut World) -> Vec<IncidentId> {
    let mut about = Vec::new();
    loop {
        let pending = world.desk.pending();
        let Some(wish) = pending.iter().find(|it| it.kind() == WorkKind::Notify) else {
            return about;
        };
        let work: crate::wire::NotifyWork =
            serde_json::from_slice(&wish.payload().unwrap()).unwrap();
        about.push(work.work.incident);
        world.told(work.work.incident, &work.notice);
    }
}

#[test]
fn people_are_called_once_for_a_flood_and_each_incident_stays_open() {
    let mut world = world();
    let ids = calls(&mut world, "nagios", 30);
    let [flood] = floods(&world)[..] else { panic!("one flood: {:?}", floods(&world)) };
    let told = tell_all(&mut world);
    let (first, rest) = ids.split_at(LIMIT.try_into().unwrap());
    assert_eq!(told.len(), first.len() + 1);
    assert!(first.iter().chain([&flood]).all(|id| told.contains(id)));
    let reason = &world.last_escalation(flood);
    assert!(reason.contains("5 incidents of nagios"), "{reason}");
    assert!(reason.contains("selfheal incidents ls --open 'nagios'"), "{reason}");
    for id in rest {
        assert_eq!(world.status(*id), Status::Escalated, "nothing is lost");
        assert_eq!(world.desk.detail(*id).unwrap().view.notified_by, Some(flood));
    }
    assert_eq!(world.incident(flood).count, 26, "itself and those without a notice");
    let found = world.desk.page(&Filter { q: Some("nagios".to_owned()), ..Filter::default() });
    assert_eq!(found.total, 31, "they are found by their source");
    world.restart();
}

#[test]
fn other_sources_are_heard_while_one_floods() {
    let mut world = world();
    calls(&mut world, "nagios", 30);
    tell_all(&mut world);
    let other = call(&mut world, "zabbix");
    assert_eq!(tell_all(&mut world), [other]);
    let ours = call(&mut world, "selfheal/supervisor");
    assert_eq!(tell_all(&mut world), [ours]);
}

#[test]
fn a_handful_of_outages_is_told_one_by_one_however_often_it_recurs() {
    let mut world = world();
    for _ in 0..10 {
        let ids = calls(&mut world, "nagios", LIMIT - 1);
        assert_eq!(tell_all(&mut world), ids);
        world.wait(601);
    }
    assert_eq!(floods(&world), []);
}

#[test]
fn a_flood_is_summed_up_and_ends_when_its_source_is_quiet() {
    let mut world = world();
    calls(&mut world, "nagios", 10);
    let [flood] = floods(&world)[..] else { panic!("one flood") };
    tell_all(&mut world);
    world.expire(flood);
    assert_eq!(tell_all(&mut world), [flood]);
    let reason = world.last_escalation(flood);
    assert!(reason.starts_with("5 more incidents of nagios without a notification"), "{reason}");

    // It goes on.
    calls(&mut world, "nagios", 3);
    assert_eq!(tell_all(&mut world), []);
    world.expire(flood);
    assert_eq!(tell_all(&mut world), [flood]);
    let reason = world.last_escalation(flood);
    assert!(reason.starts_with("3 more incidents of nagios"), "{reason}");
    assert!(reason.contains("8 in all"), "{reason}");
    world.restart();

    world.expire(flood);
    assert_eq!(world.status(flood), Status::SelfResolved);
    assert_eq!(tell_all(&mut world), [flood], "its end is told");
    let next = call(&mut world, "nagios");
    assert_eq!(tell_all(&mut world), [next], "and the next incident is told again");
    world.restart();
}

#[test]
fn a_flood_that_a_person_closes_too_early_is_told_again() {
    let mut world = world();
    calls(&mut world, "nagios", LIMIT);
    let [flood] = floods(&world)[..] else { panic!("one flood") };
    let close = crate::wire::Verb::Close { incident: flood, reason: String::new() };
    world.send(super::world::command(close));
    calls(&mut world, "nagios", LIMIT);
    assert_eq!(floods(&world).len(), 1);
}

#[test]
fn who_changes_its_name_each_time_is_a_flood_too() {
    let mut world = world();
    let ids: Vec<_> = (0..40).map(|n| call(&mut world, &format!("source-{n}"))).collect();
    let [flood] = floods(&world)[..] else { panic!("one flood") };
    let told = tell_all(&mut world);
    assert_eq!(told.len(), 4 * usize::try_from(LIMIT).unwrap() + 1);
    assert!(told.contains(&flood));
    assert_eq!(world.incident(*ids.last().unwrap()).notified_by, Some(flood));
    let reason = world.last_escalation(flood);
    assert!(reason.contains("all external sources"), "{reason}");
    // No sender can keep our own monitors from being heard.
    let ours = call(&mut world, "selfheal/supervisor");
    assert_eq!(tell_all(&mut world), [ours]);
}

#[test]
fn a_source_is_counted_within_the_time_that_is_configured() {
    let mut config = world().desk.config().clone();
    config.notify.flood.within = Span::from_secs(60);
    let mut world = World::new(config);
    for _ in 0..20 {
        call(&mut world, "nagios");
        world.at += secs(20);
    }
    assert_eq!(floods(&world), []);
}

#[test]
fn what_is_not_told_takes_no_place_of_what_is() {
    let mut config = world().desk.config().clone();
    config.notify.receivers[0].rate = Some("6/h".parse().unwrap());
    let mut world = World::new(config);
    let begun = world.at;
    calls(&mut world, "nagios", 30);
    assert_eq!(tell_all(&mut world).len(), 6, "five, and that there is a flood");
    let other = call(&mut world, "zabbix");
    assert_eq!(tell_all(&mut world), [], "there is no place for more in this hour");
    let waits = world.incident(other).notices[0].not_before.unwrap();
    assert!(waits <= begun + secs(3605), "{waits}");
}

#[test]
fn that_there_is_a_flood_does_not_wait_behind_it() {
    let mut config = world().desk.config().clone();
    config.notify.receivers[0].rate = Some("1/m".parse().unwrap());
    let mut world = World::new(config);
    calls(&mut world, "nagios", 30);
    let [flood] = floods(&world)[..] else { panic!("one flood") };
    let opened_at = world.incident(flood).opened_at;
    let waits = world.incident(flood).notices[0].not_before.unwrap();
    assert!(waits <= opened_at + secs(60), "{waits}");
}
