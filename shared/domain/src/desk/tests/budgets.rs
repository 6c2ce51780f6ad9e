//! How often, how many and how soon: the guards that count.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    guards::Scene,
    world::{secs, t0},
};
use crate::{
    guard::{FixRecord, Opinion},
    id::{IncidentId, Position},
    policy::{Limit, RunbookPolicy},
    span::Span,
};

/// Returns a fix of another incident.
pub(super) fn record(
    target: &str,
    runbook: &str,
    started_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
) -> FixRecord {
    FixRecord {
        incident: IncidentId::derive(t0(), Position::new(9, 9), target),
        attempt: 1,
        target: target.to_owned(),
        runbook: runbook.to_owned(),
        started_at,
        ended_at,
        failed: false,
        bring_up: false,
    }
}

const RUNBOOK: &str = "restart-container";

#[test]
fn a_cool_down_counts_from_the_end_of_the_last_fix() {
    for (target, runbook, whose) in
        [("db", "x", "per_target"), ("x", RUNBOOK, "per_runbook"), ("x", "x", "fleet")]
    {
        let mut scene = Scene::new();
        let wait = match whose {
            "per_target" => &mut scene.policy.cooldown.per_target,
            "per_runbook" => &mut scene.policy.cooldown.per_runbook,
            _ => &mut scene.policy.cooldown.fleet,
        };
        *wait = Span::from_secs(10);
        for (ended_ago, held) in [(0, Some(10)), (9, Some(1)), (10, None), (11, None)] {
            let ended_at = Some(scene.now - secs(ended_ago));
            scene.history = vec![record(target, runbook, scene.now - secs(100), ended_at)].into();
            let held = held.map(|s| scene.now + secs(s));
            assert_eq!(scene.held("cool-down"), held, "{whose} {ended_ago}");
        }
        // It is about its own kind only.
        scene.history = vec![record("other", "other", scene.now, Some(scene.now))].into();
        assert_eq!(scene.held("cool-down").is_some(), whose == "fleet", "{whose}");
    }
}

#[test]
fn the_cool_down_looks_at_the_last_end_and_not_at_the_last_begin() {
    let mut scene = Scene::new();
    scene.policy.cooldown.fleet = Span::from_secs(10);
    let now = scene.now;
    scene.history = vec![
        record("long", "x", now - secs(100), Some(now - secs(1))),
        record("short", "x", now - secs(90), Some(now - secs(80))),
    ]
    .into();
    assert_eq!(scene.held("cool-down"), Some(now + secs(9)));
    scene.history = vec![record("still", "x", now - secs(90), None)].into();
    assert_eq!(scene.held("cool-down"), Some(now + secs(10)), "what has not ended is not over");
    scene.policy.cooldown.fleet = Span::ZERO;
    assert_eq!(scene.held("cool-down"), None);
}

#[test]
fn a_second_attempt_waits_and_each_further_one_longer() {
    for (attempt, before_retry, wait) in
        [(0, 0, None), (1, 0, Some(2)), (2, 0, Some(4)), (2, 2, None)]
    {
        let mut scene = Scene::new();
        scene.policy.backoff = Span::from_secs(2);
        scene.incident.attempt = attempt;
        scene.incident.attempts_before_retry = before_retry;
        let own = FixRecord {
            incident: scene.incident.id,
            ..record("db", RUNBOOK, scene.now - secs(10), Some(scene.now))
        };
        scene.history = vec![own].into();
        assert_eq!(scene.held("cool-down"), wait.map(|s| scene.now + secs(s)), "{attempt}");
    }
}

#[test]
fn a_budget_counts_what_began_within_its_window() {
    let ms = TimeDelta::milliseconds;
    for (ages_ms, allowed) in [
        (vec![], true),
        (vec![0], true),
        (vec![0, 1], false),
        (vec![0, 9_999], false),
        (vec![0, 10_000], true),
        (vec![10_000, 10_001, 20_000], true),
        (vec![0, 1, 2], false),
    ] {
        for (target, runbook, whose) in
            [("db", "x", "per_target"), ("x", RUNBOOK, "per_runbook"), ("x", "x", "fleet")]
        {
            let mut scene = Scene::new();
            let rates = match whose {
                "per_target" => &mut scene.policy.budget.per_target,
                "per_runbook" => &mut scene.policy.budget.per_runbook,
                _ => &mut scene.policy.budget.fleet,
            };
            *rates = "100/h, 2/10s".parse().unwrap();
            let of = |age: &i64| record(target, runbook, scene.now - ms(*age), None);
            scene.history = ages_ms.iter().map(of).collect();
            let opinion = scene.asked("budget");
            assert_eq!(opinion == Opinion::Allow, allowed, "{whose} {ages_ms:?}");
            assert_eq!(matches!(opinion, Opinion::Refuse(_)), !allowed, "{whose} {ages_ms:?}");
        }
    }
}

#[test]
fn a_budget_of_a_runbook_replaces_the_common_one() {
    let mut scene = Scene::new();
    scene.policy.budget.per_runbook = "1/h".parse().unwrap();
    scene.history = vec![record("x", RUNBOOK, scene.now, None)].into();
    assert!(matches!(scene.asked("budget"), Opinion::Refuse(_)));
    let own =
        RunbookPolicy { autonomy: None, budget: Some("2/h".parse().unwrap()), approvals: None };
    scene.policy.runbooks.insert(RUNBOOK.to_owned(), own);
    assert_eq!(scene.asked("budget"), Opinion::Allow);
    scene.history.push_back(record("x", RUNBOOK, scene.now, None));
    assert!(matches!(scene.asked("budget"), Opinion::Refuse(_)));
}

/// The percentage is of all configured targets, rounded down but not to nothing; the
/// smaller of share and count wins.
#[test]
fn the_blast_radius_is_a_share_and_a_count_and_the_smaller_wins() {
    for (percent, count, n_targets, n_treated, held) in [
        (20, 5, 10, 1, false),
        (20, 5, 10, 2, true),
        (29, 5, 10, 2, true),
        (30, 5, 10, 2, false),
        (20, 5, 2, 0, false),
        (20, 5, 2, 1, true),
        (100, 1, 100, 1, true),
        (20, 5, 100, 4, false),
        (20, 5, 100, 5, true),
    ] {
        let mut scene = Scene::new();
        scene.policy.budget.blast_radius = Limit { percent, count };
        scene.n_targets = n_targets;
        scene.under_treatment = (0..n_treated).map(|it| format!("t{it}")).collect();
        let until = held.then_some(scene.now + secs(30));
        assert_eq!(
            scene.held("blast radius"),
            until,
            "{percent}% {count} of {n_targets}: {n_treated}"
        );
    }
    let mut scene = Scene::new();
    scene.policy.budget.blast_radius = Limit { percent: 10, count: 1 };
    scene.under_treatment = vec!["db".to_owned()];
    assert_eq!(scene.held("blast radius"), None, "a target is not beside itself");
    for (percent, count) in [(0, 5), (20, 0)] {
        scene.policy.budget.blast_radius = Limit { percent, count };
        assert!(matches!(scene.asked("blast radius"), Opinion::Refuse(_)));
    }
}

#[test]
fn the_breaker_holds_until_its_time_has_come() {
    let mut scene = Scene::new();
    for (until, held) in [(-1, false), (0, false), (1, true)] {
        let until = scene.now + secs(until);
        scene.breaker_until = Some(until);
        assert_eq!(scene.held("circuit breaker"), held.then_some(until));
    }
}

#[test]
fn the_storm_brake_holds_when_more_are_sick_than_allowed() {
    for (percent, count, n_targets, n_sick, held) in [
        (50, 20, 10, 5, false),
        (50, 20, 10, 6, true),
        (50, 20, 2, 2, false),
        (50, 20, 3, 3, false),
        (10, 20, 10, 3, false),
        (10, 20, 10, 4, true),
        (50, 20, 100, 20, false),
        (50, 20, 100, 21, true),
    ] {
        let mut scene = Scene::new();
        scene.policy.storm = Limit { percent, count };
        (scene.n_targets, scene.n_sick) = (n_targets, n_sick);
        let until = held.then_some(scene.now + secs(30));
        assert_eq!(scene.held("storm brake"), until, "{percent}% {count} of {n_targets}: {n_sick}");
    }
}
