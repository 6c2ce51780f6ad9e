//! What is kept quiet, and what ends that: silences, windows, inhibition, flapping, leases.

use chrono::{DateTime, Utc};

use super::world::{World, command, config, cure, generous, plan, secs, silence, t0, target};
use crate::{
    config::Config,
    desk::Handled,
    event::{Event, Severity, Status},
    id::IncidentId,
    matcher::Matchers,
    policy::Notifier,
    silence::{Cause, Flapping, InhibitRule, SILENCES_MAX, SilenceId, Window},
    span::Span,
    time_zone::TimeZone,
    view,
    wire::{AnswerStatus, Input, Verb, WorkKind},
};

fn silenced(world: &mut World, matcher: &str, s: i64) -> SilenceId {
    let until = world.at + secs(s);
    let handled = world.send(command(silence(matcher, until)));
    assert_eq!(handled.answer.unwrap().status, AnswerStatus::Done);
    world.desk.silences().silences.last().unwrap().silence.id.clone()
}

fn down(world: &mut World, target: &str) -> Handled {
    let event = world.event("service_down", target);
    world.send(Input::Event(event))
}

fn status(handled: &Handled) -> AnswerStatus {
    handled.answer.as_ref().unwrap().status
}

fn facts(handled: &Handled) -> Vec<&'static str> {
    handled.recorded.iter().map(|it| it.decision.fact.name()).collect()
}

/// Fires the timer of what is kept quiet, when it is due.
fn look_again(world: &mut World) -> Handled {
    world.expire(IncidentId::NONE)
}

#[test]
fn what_is_silenced_opens_no_incident_and_is_told_to_its_sender() {
    let mut world = World::with(&["db", "api"]);
    silenced(&mut world, "target=db", 60);
    let handled = down(&mut world, "db");
    assert_eq!(status(&handled), AnswerStatus::Suppressed);
    assert!(handled.answer.unwrap().message.contains("of ann until"), "the reason is told");
    let line = handled.recorded[0].line(1, handled.recorded[0].decision.cause);
    assert_eq!((line.incident_type.as_str(), line.target.as_deref()), ("service_down", Some("db")));
    assert_eq!(line.status, Some(view::Status::Suppressed));
    // The same again is the same decision: no second line.
    let again = down(&mut world, "db");
    assert_eq!((status(&again), again.recorded.len()), (AnswerStatus::Suppressed, 0));
    assert_eq!(status(&down(&mut world, "api")), AnswerStatus::IncidentOpened);
    world.restart();
    assert_eq!(world.desk.silences().silences[0].n_suppressed, 1);
}

// Rules 12 and 14.

#[test]
fn the_end_of_a_silence_looks_at_everything_again_once_per_fingerprint() {
    let mut world = World::with(&["db", "api"]);
    silenced(&mut world, "type=service_down", 600);
    for name in ["db", "db", "api", "db"] {
        down(&mut world, name);
    }
    world.restart();
    assert_eq!(world.n_facts("opened"), 0);
    look_again(&mut world);
    assert_eq!(world.n_facts("silence_ended"), 1);
    assert_eq!(world.n_facts("opened"), 2, "once per fingerprint");
    let id = world.desk.open_incidents().next().unwrap().id;
    // It was looked at anew: its age is no reason to do nothing.
    world.diagnose(id, cure(plan("db")));
    assert_eq!(world.status(id), view::Status::Fixing);
}

#[test]
fn what_is_over_before_the_silence_ends_is_not_looked_at() {
    let mut world = World::with(&["db"]);
    silenced(&mut world, "target=db", 600);
    down(&mut world, "db");
    let over = world.recovered("db");
    assert_eq!(facts(&over), ["suppression_ended"]);
    assert_eq!(status(&over), AnswerStatus::IncidentResolved);
    look_again(&mut world);
    assert_eq!((world.n_facts("opened"), world.due()), (0, vec![]));
}

#[test]
fn a_silence_that_a_person_ends_is_over_at_once_and_for_good() {
    let mut world = World::with(&["db"]);
    let id = silenced(&mut world, "target=db", 600);
    down(&mut world, "db");
    world.send(command(Verb::Unsilence { id: id.clone() }));
    look_again(&mut world);
    assert_eq!(world.n_facts("opened"), 1);
    let again = world.send(command(Verb::Unsilence { id }));
    assert_eq!(status(&again), AnswerStatus::NotFound);
}

#[test]
fn what_another_silence_covers_stays_quiet_until_that_ends_too() {
    let mut world = World::with(&["db"]);
    silenced(&mut world, "target=db", 60);
    down(&mut world, "db");
    silenced(&mut world, "type=service_down", 600);
    look_again(&mut world);
    assert_eq!((world.n_facts("suppressed"), world.n_facts("opened")), (2, 0));
    look_again(&mut world);
    assert_eq!(world.n_facts("opened"), 1);
}

#[test]
fn a_silence_without_an_end_or_a_matcher_is_refused() {
    let mut world = World::with(&["db"]);
    let at = world.at;
    let mut everything = silence("target=db", at + secs(60));
    if let Verb::Silence { request } = &mut everything {
        request.matchers = Matchers::default();
    }
    for verb in [
        silence("target=db", at),
        silence("target=db", at + chrono::TimeDelta::days(40)),
        silence("target!=db", at + secs(60)),
        everything,
    ] {
        let handled = world.send(command(verb));
        assert_eq!((status(&handled), handled.recorded.len()), (AnswerStatus::Refused, 1));
    }
    assert_eq!(status(&down(&mut world, "db")), AnswerStatus::IncidentOpened);
}

#[test]
fn silences_have_a_bound() {
    let mut world = World::with(&["db"]);
    let until = world.at + chrono::TimeDelta::days(1);
    for n in 0..=SILENCES_MAX {
        let handled = world.send(command(silence("host=a", until)));
        let expected = if n < SILENCES_MAX { AnswerStatus::Done } else { AnswerStatus::Refused };
        assert_eq!(status(&handled), expected);
    }
}

#[test]
fn no_fix_begins_while_its_trouble_is_silenced_and_then_it_does() {
    let mut world = World::with(&["db"]);
    let id = world.down("db");
    let silence = silenced(&mut world, "target=db", 600);
    world.diagnose(id, cure(plan("db")));
    assert_eq!(world.held_by(id), Some("maintenance"));
    world.wait(5).send(command(Verb::Unsilence { id: silence }));
    assert_eq!(world.status(id), view::Status::Fixing, "asked at once");
}

fn notifying(names: &[&str]) -> Config {
    let mut policy = generous();
    policy.notify = vec![Notifier { webhook: None, log: Some(true) }];
    config(names.iter().map(|it| target(it, &[])).collect(), policy)
}

fn n_notices(world: &World, id: IncidentId) -> usize {
    world.desk.wishes_of(id).iter().filter(|it| it.kind() == WorkKind::Notify).count()
}

#[test]
fn people_are_told_at_the_end_of_a_silence_what_they_were_not_told_in_it() {
    for early in [false, true] {
        let mut world = World::new(notifying(&["db"]));
        let id = world.down("db");
        let silence = silenced(&mut world, "target=db", 600);
        world.diagnose(id, vec![]);
        assert_eq!((world.status(id), n_notices(&world, id)), (view::Status::Escalated, 0));
        world.restart();
        if early {
            world.send(command(Verb::Unsilence { id: silence }));
        } else {
            world.expire(id);
        }
        assert_eq!(n_notices(&world, id), 1, "ended early: {early}");
        assert_eq!(world.n_facts("notices_due"), 1);
    }
}

fn window(from: DateTime<Utc>, s: i64) -> Window {
    Window {
        name: "backup".to_owned(),
        matchers: Matchers(vec!["target=db".parse().unwrap()]),
        from: Some(from),
        until: Some(from + secs(s)),
        cron: None,
        lasts: None,
        time_zone: TimeZone::default(),
        reason: "the nightly backup".to_owned(),
    }
}

#[test]
fn a_maintenance_window_keeps_quiet_and_its_end_looks_again() {
    let maintenance = vec![window(t0() + secs(10), 3600)];
    let config = Config { maintenance, ..config(vec![target("db", &[])], generous()) };
    let mut world = World::new(config.clone());
    let before = world.down("db");
    world.heal(before, "db");
    world.at = t0() + secs(60);
    let handled = down(&mut world, "db");
    assert_eq!(status(&handled), AnswerStatus::Suppressed);
    world.restart();
    let handled = look_again(&mut world);
    assert_eq!(world.at, t0() + secs(3610));
    assert_eq!(facts(&handled), ["suppression_ended", "opened"]);
}

#[test]
fn a_window_that_is_taken_out_of_the_configuration_has_ended() {
    let maintenance = vec![window(t0(), 3600)];
    let without = config(vec![target("db", &[])], generous());
    let mut world = World::new(Config { maintenance, ..without.clone() });
    down(&mut world, "db");
    world.configure(without);
    look_again(&mut world);
    assert_eq!(world.n_facts("opened"), 1);
}

fn inhibiting() -> World {
    let matchers = |text: &str| Matchers(vec![text.parse().unwrap()]);
    let rule = InhibitRule {
        when: matchers("type=datacenter_down"),
        mute: matchers("severity=~warning|error"),
        equal: vec!["dc".to_owned()],
    };
    World::new(Config { inhibit: vec![rule], ..config(vec![target("db", &[])], generous()) })
}

fn in_dc(world: &mut World, kind: &str, dc: &str, severity: Severity) -> Handled {
    let mut event = Event { target: None, severity, ..world.event(kind, "-") };
    event.fingerprint = Some(format!("{kind}-{dc}"));
    event.labels.insert("dc".to_owned(), dc.to_owned());
    world.send(Input::Event(event))
}

#[test]
fn a_rule_inhibits_what_has_the_same_labels_while_its_cause_is_open() {
    let mut world = inhibiting();
    let cause = in_dc(&mut world, "datacenter_down", "a", Severity::Critical);
    let cause = cause.answer.unwrap().incident_id.unwrap();
    let muted = in_dc(&mut world, "slow", "a", Severity::Warning);
    assert_eq!(status(&muted), AnswerStatus::Suppressed);
    assert!(muted.answer.unwrap().message.contains(&cause.to_string()));
    for (kind, dc, severity) in
        [("slow", "b", Severity::Warning), ("slower", "a", Severity::Critical)]
    {
        let other = in_dc(&mut world, kind, dc, severity);
        assert_eq!(status(&other), AnswerStatus::IncidentOpened, "{kind} in {dc}");
    }
    world.restart();
    let by = &world.desk.silences().suppressed[0].by;
    assert_eq!(*by, Cause::Inhibition { by: cause });
    world.send(command(Verb::Close { incident: cause, reason: String::new() }));
    let handled = look_again(&mut world);
    assert_eq!(facts(&handled)[..2], ["suppression_ended", "opened"]);
    let later = in_dc(&mut world, "late", "a", Severity::Warning);
    assert_eq!(status(&later), AnswerStatus::IncidentOpened);
}

#[test]
fn what_comes_and_goes_is_left_alone_for_a_while_and_then_looked_at() {
    let flapping = Flapping { opens: 3, within: Span::from_secs(600), quiet: Span::from_secs(120) };
    let config = Config { flapping: Some(flapping), ..config(vec![target("db", &[])], generous()) };
    let mut world = World::new(config);
    for _ in 0..3 {
        let id = world.down("db");
        world.heal(id, "db");
    }
    let handled = down(&mut world, "db");
    assert_eq!(status(&handled), AnswerStatus::Suppressed);
    assert!(handled.recorded[0].decision.reason.contains("flapping: 3 incidents"));
    world.restart();
    let handled = look_again(&mut world);
    assert_eq!(facts(&handled), ["suppression_ended", "opened"], "never quiet for ever");
}

// Leases.

fn leased(world: &mut World, s: i64) -> Handled {
    let event = world.event("service_down", "db");
    let ends_at = Some(world.at + secs(s));
    world.send(Input::Event(Event { ends_at, ..event }))
}

#[test]
fn a_sender_that_falls_silent_is_taken_for_one_that_says_it_is_over() {
    let mut world = World::with(&["db"]);
    let id = leased(&mut world, 40).answer.unwrap().incident_id.unwrap();
    leased(&mut world, 50);
    world.restart();
    assert_eq!(world.due()[0].0, world.at - secs(1) + secs(50), "said again, it lasts longer");
    world.expire(id);
    assert_eq!(world.story(id)[2..], ["lease_ended", "recheck_started"]);
    world.verified(id, true);
    assert_eq!(world.status(id), view::Status::SelfResolved);
}

#[test]
fn a_lease_that_ends_while_a_person_has_it_is_looked_at_and_proves_nothing_by_itself() {
    let mut world = World::with(&["db"]);
    let id = leased(&mut world, 90).answer.unwrap().incident_id.unwrap();
    world.diagnose(id, vec![]);
    world.expire(id);
    assert_eq!(world.status(id), view::Status::Verifying);
    world.verified(id, false);
    assert_eq!(world.status(id), view::Status::Escalated);
    assert_eq!(world.due().len(), 1, "it is looked at again");
}

#[test]
fn what_was_only_leased_is_not_opened_after_a_silence_that_outlived_it() {
    let mut world = World::with(&["db"]);
    silenced(&mut world, "target=db", 600);
    assert_eq!(status(&leased(&mut world, 60)), AnswerStatus::Suppressed);
    look_again(&mut world);
    assert_eq!((world.n_facts("suppression_ended"), world.n_facts("opened")), (1, 0));
    assert_eq!(status(&down(&mut world, "db")), AnswerStatus::IncidentOpened);
}

/// What its sender says later, while nobody leads, is not noted when its word outlasts the silence.
#[test]
fn a_word_that_outlasts_a_silence_counts_when_the_end_is_decided_late() {
    let mut world = World::with(&["db"]);
    silenced(&mut world, "target=db", 60);
    assert_eq!(status(&leased(&mut world, 70)), AnswerStatus::Suppressed);
    leased(&mut world, 90);
    world.at += secs(80);
    look_again(&mut world);
    assert_eq!((world.n_facts("suppression_ended"), world.n_facts("opened")), (1, 1));
}

#[test]
fn a_resolve_ends_the_lease() {
    let mut world = World::with(&["db"]);
    let id = leased(&mut world, 3600).answer.unwrap().incident_id.unwrap();
    let event = Event { status: Status::Resolved, ..world.event("service_down", "db") };
    world.send(Input::Event(event));
    assert_eq!(world.incident(id).lease, None);
}
