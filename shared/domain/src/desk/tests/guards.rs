//! Each guard at its boundaries, and the pipeline that they make.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};

use super::world::{World, evidence, generous, plan, risky_plan, secs, t0, target};
use crate::{
    guard::{FixRecord, Opinion, PIPELINE, Situation, Standing, Verdict, authorize},
    incident::{Approval, Incident},
    plan::{Parts, Plan, Risk},
    policy::{Autonomy, Freeze, Limit, Policy},
    target::Target,
};

/// Everything that a [`Situation`] borrows. In it, all guards allow.
pub(super) struct Scene {
    pub(super) now: DateTime<Utc>,
    pub(super) incident: Incident,
    pub(super) target: Target,
    pub(super) plan: Plan,
    pub(super) diagnosed_at: DateTime<Utc>,
    pub(super) approver: Standing,
    pub(super) policy: Policy,
    pub(super) paused: Option<String>,
    pub(super) silenced: Option<(DateTime<Utc>, String)>,
    pub(super) breaker_until: Option<DateTime<Utc>>,
    pub(super) history: VecDeque<FixRecord>,
    pub(super) under_treatment: Vec<String>,
    pub(super) n_targets: usize,
    pub(super) n_sick: usize,
}

impl Scene {
    pub(super) fn new() -> Self {
        let mut world = World::with(&["db"]);
        let id = world.down("db");
        Self {
            now: world.at,
            incident: world.incident(id).clone(),
            target: target("db", &[]),
            plan: plan("db"),
            diagnosed_at: world.at,
            approver: Standing::Stands,
            policy: generous(),
            paused: None,
            silenced: None,
            breaker_until: None,
            history: VecDeque::new(),
            under_treatment: Vec::new(),
            n_targets: 10,
            n_sick: 1,
        }
    }

    fn situation(&self) -> Situation<'_> {
        Situation {
            now: self.now,
            incident: &self.incident,
            target: &self.target,
            plan: &self.plan,
            diagnosed_at: self.diagnosed_at,
            approver: self.approver.clone(),
            policy: &self.policy,
            paused: self.paused.as_deref(),
            silenced: self.silenced.clone(),
            breaker_until: self.breaker_until,
            history: &self.history,
            under_treatment: &self.under_treatment,
            n_targets: self.n_targets,
            n_sick: self.n_sick,
            bring_up: false,
        }
    }

    /// Returns what one stage says.
    pub(super) fn asked(&self, name: &str) -> Opinion {
        let (_, stage) =
            PIPELINE.iter().find(|(it, _)| *it == name).expect("there is no such stage");
        stage(&self.situation())
    }

    /// Returns until when one stage holds, if it does.
    pub(super) fn held(&self, name: &str) -> Option<DateTime<Utc>> {
        match self.asked(name) {
            Opinion::Hold(until, why) => {
                assert!(!why.is_empty());
                Some(until)
            }
            Opinion::Allow => None,
            other @ (Opinion::Ask(_)
            | Opinion::Stale(_)
            | Opinion::Refuse(_)
            | Opinion::Suggest(_)) => panic!("{name} says {other:?}"),
        }
    }

    fn verdict(&self) -> Result<Option<String>, (&'static str, Opinion)> {
        match authorize(&self.situation()) {
            Verdict::Allow(plan) => {
                assert_eq!(*plan, self.plan, "authorized is what was asked for");
                Ok(plan.approved_by().map(str::to_owned))
            }
            Verdict::Otherwise(name, opinion) => Err((name, opinion)),
        }
    }

    fn approve(&mut self, plan_hash: String, expires_at: DateTime<Utc>) {
        self.incident.approval =
            Some(Approval { by: "ann".to_owned(), plan_hash, expires_at, proof: None });
    }
}

#[test]
fn all_stages_are_asked_in_their_order() {
    let names = PIPELINE.map(|(name, _)| name);
    assert_eq!(
        names,
        [
            "kill switch",
            "freeze window",
            "maintenance",
            "autonomy",
            "staleness",
            "one fix per target",
            "cool-down",
            "budget",
            "blast radius",
            "circuit breaker",
            "storm brake",
        ]
    );
    assert_eq!(Scene::new().verdict(), Ok(None));
}

type Stop = (&'static str, fn(&mut Scene));

/// Each stage alone can stop a fix: none is only for show.
#[test]
fn every_stage_stops_a_fix_by_itself() {
    let stop: [Stop; 11] = [
        ("kill switch", |it| it.paused = Some("why".to_owned())),
        ("freeze window", |it| {
            let (from, until) = (it.now, it.now + secs(1));
            it.policy.freeze = vec![Freeze { from, until, reason: "sale".to_owned() }];
        }),
        ("maintenance", |it| it.silenced = Some((it.now + secs(1), "backup".to_owned()))),
        ("autonomy", |it| it.policy.autonomy = Autonomy::Observe),
        ("staleness", |it| it.diagnosed_at = it.now - secs(61)),
        ("one fix per target", |it| it.under_treatment = vec!["db".to_owned()]),
        ("cool-down", |it| {
            it.policy.cooldown.fleet = crate::span::Span::from_secs(5);
            it.history =
                VecDeque::from([super::budgets::record("x", "y", it.now - secs(9), Some(it.now))]);
        }),
        ("budget", |it| {
            it.policy.budget.fleet = "1/h".parse().unwrap();
            it.history =
                VecDeque::from([super::budgets::record("x", "y", it.now - secs(9), Some(it.now))]);
        }),
        ("blast radius", |it| it.policy.budget.blast_radius = Limit { percent: 0, count: 5 }),
        ("circuit breaker", |it| it.breaker_until = Some(it.now + secs(1))),
        ("storm brake", |it| (it.n_targets, it.n_sick) = (4, 5)),
    ];
    for (name, stop) in stop {
        let mut scene = Scene::new();
        stop(&mut scene);
        let stopped_by = scene.verdict().expect_err(name).0;
        assert_eq!(stopped_by, name);
    }
}

#[test]
fn nobody_is_asked_to_approve_what_would_be_refused() {
    let mut scene = Scene::new();
    scene.plan = risky_plan("db", Risk::Medium);
    assert!(matches!(scene.verdict(), Err(("autonomy", Opinion::Ask(_)))));
    // What only holds is looked at again after the approval.
    scene.breaker_until = Some(scene.now + secs(1));
    assert!(matches!(scene.verdict(), Err(("autonomy", Opinion::Ask(_)))));
    scene.policy.budget.blast_radius = Limit { percent: 100, count: 0 };
    assert!(matches!(scene.verdict(), Err(("blast radius", Opinion::Refuse(_)))));
}

#[test]
fn the_kill_switch_holds_everything() {
    let mut scene = Scene::new();
    assert_eq!(scene.held("kill switch"), None);
    scene.paused = Some("the network is being rebuilt".to_owned());
    assert_eq!(scene.held("kill switch"), Some(scene.now + secs(30)));
}

#[test]
fn a_freeze_begins_with_its_begin_and_ends_with_its_end() {
    let mut scene = Scene::new();
    let (from, until) = (t0() + secs(100), t0() + secs(200));
    scene.policy.freeze = vec![Freeze { from, until, reason: "the sale".to_owned() }];
    for (now, held) in [(99, None), (100, Some(until)), (199, Some(until)), (200, None)] {
        scene.now = t0() + secs(now);
        assert_eq!(scene.held("freeze window"), held, "{now}");
    }
}

#[test]
fn autonomy_is_the_least_that_anybody_allows() {
    use Autonomy as A;
    for (policy, stated, risk, target, expected) in [
        (A::Auto, None, Risk::Low, None, A::Auto),
        (A::Auto, None, Risk::Medium, None, A::Approve),
        (A::Auto, None, Risk::High, None, A::Suggest),
        (A::Auto, Some(A::Auto), Risk::High, None, A::Auto),
        (A::Auto, None, Risk::Low, Some(A::Approve), A::Approve),
        (A::Auto, None, Risk::Low, Some(A::Observe), A::Observe),
        (A::Approve, None, Risk::Low, None, A::Approve),
        (A::Approve, None, Risk::High, None, A::Suggest),
        (A::Approve, None, Risk::Medium, Some(A::Auto), A::Approve),
        (A::Suggest, Some(A::Auto), Risk::Low, None, A::Suggest),
        (A::Observe, Some(A::Auto), Risk::Low, Some(A::Auto), A::Observe),
    ] {
        let mut scene = Scene::new();
        scene.policy.autonomy = policy;
        scene.target.autonomy = target;
        let parts: Parts = scene.plan.clone().into();
        scene.plan = Plan::new(Parts { risk, autonomy: stated, ..parts }).unwrap();
        let opinion = scene.asked("autonomy");
        let fits = match expected {
            A::Auto => opinion == Opinion::Allow,
            A::Approve => matches!(opinion, Opinion::Ask(_)),
            A::Suggest | A::Observe => matches!(opinion, Opinion::Suggest(_)),
        };
        assert!(fits, "{opinion:?} for {policy:?} {stated:?} {risk:?} {target:?}");
    }
}

#[test]
fn an_approval_counts_for_its_plan_until_it_expires() {
    let mut scene = Scene::new();
    scene.plan = risky_plan("db", Risk::Medium);
    let hash = scene.plan.hash();
    for (hash, expires_in, valid) in
        [(&hash, 1, true), (&hash, 0, false), (&hash, -1, false), (&plan("db").hash(), 60, false)]
    {
        scene.approve(hash.clone(), scene.now + secs(expires_in));
        assert_eq!(scene.asked("autonomy") == Opinion::Allow, valid, "{expires_in} {hash}");
        assert_eq!(scene.verdict() == Ok(Some("ann".to_owned())), valid);
    }
    // What may only be suggested is not carried out, approved or not.
    scene.plan = risky_plan("db", Risk::High);
    scene.approve(scene.plan.hash(), scene.now + secs(60));
    assert!(matches!(scene.asked("autonomy"), Opinion::Suggest(_)));
}

#[test]
fn evidence_is_fresh_up_to_the_age_that_policy_allows() {
    let mut scene = Scene::new();
    for (age, fresh) in [(0, true), (60, true), (61, false)] {
        scene.diagnosed_at = scene.now - secs(age);
        assert_eq!(scene.asked("staleness") == Opinion::Allow, fresh, "{age}");
        assert_eq!(matches!(scene.asked("staleness"), Opinion::Stale(_)), !fresh, "{age}");
    }
}

#[test]
fn an_old_event_counts_only_when_somebody_looked_since() {
    for (age, source, allowed) in [
        (900, None, true),
        (901, None, false),
        (901, Some("log"), false),
        (901, Some("host"), false),
        (901, Some("check"), true),
        (901, Some("process"), true),
        (901, Some("container"), true),
        (901, Some("dependency"), true),
    ] {
        let mut scene = Scene::new();
        scene.incident.event.starts_at = Some(scene.now - secs(age));
        scene.incident.evidence = source.map(evidence).into_iter().collect();
        let opinion = scene.asked("staleness");
        assert_eq!(opinion == Opinion::Allow, allowed, "{age} {source:?}");
        assert_eq!(matches!(opinion, Opinion::Refuse(_)), !allowed, "{age} {source:?}");
    }
    // An event that says no time is as old as its incident.
    let mut scene = Scene::new();
    scene.now = scene.incident.opened_at + secs(901);
    scene.diagnosed_at = scene.now;
    assert!(matches!(scene.asked("staleness"), Opinion::Refuse(_)));
}

#[test]
fn a_plan_must_be_for_the_target_of_its_incident() {
    for (of_incident, configured, allowed) in [
        (Some("db"), "db", true),
        (Some("api"), "db", false),
        (None, "db", false),
        (Some("db"), "api", false),
    ] {
        let mut scene = Scene::new();
        scene.incident.target = of_incident.map(str::to_owned);
        scene.target = target(configured, &[]);
        let refused = matches!(scene.asked("staleness"), Opinion::Refuse(_));
        assert_eq!(refused, !allowed, "{of_incident:?} {configured}");
    }
}

#[test]
fn a_target_under_treatment_is_left_alone() {
    let mut scene = Scene::new();
    scene.under_treatment = vec!["api".to_owned()];
    assert_eq!(scene.held("one fix per target"), None);
    scene.under_treatment.push("db".to_owned());
    assert_eq!(scene.held("one fix per target"), Some(scene.now + secs(30)));
}
