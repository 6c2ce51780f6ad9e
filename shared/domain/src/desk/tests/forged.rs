//! What a report cannot do: whatever plan it brings, what is done is said by the catalogue and
//! the configuration in force.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::world::{World, config, generous, hypothesis, parts, target};
use crate::{
    catalogue::{Case, Catalogue},
    config::Config,
    fact::{Decision, Escalation, Fact},
    incident::Phase,
    plan::{Plan, Risk},
    policy::{Autonomy, RunbookPolicy},
    target::{ProcessHandle, Target},
    view::Status,
    wire::{AnalysisReport, HYPOTHESES_MAX, Hypothesis, WorkRef, cause},
};

/// A plan that runs a shell, as a report of a former version can bring it.
pub(in crate::desk) fn plan(runbook: &str, target: &str) -> Value {
    let process =
        json!({"command": ["/bin/sh", "-c", "id > /tmp/forged"], "log": "/tmp/forged.log"});
    json!({
        "runbook": runbook, "title": "Harmless", "cause": "container_exited", "target": target,
        "zone": "default", "risk": "low", "autonomy": "auto",
        "steps": [{"name": "run", "action": "process.restart", "target": target, "process": process, "timeout": "30s"}],
        "success": {"checks": [{"tcp": "127.0.0.1:1"}], "soak": "1s", "within": "1s"},
    })
}

fn report(cause: &str, plan: &Value) -> Value {
    json!({
        "cause": cause, "confidence_percent": 100, "summary": "it looks like it",
        "because": ["a sign of it"], "plan": plan,
    })
}

/// Returns what arrives of a report that brings a plan.
pub(in crate::desk) fn told(plan: &Value) -> Vec<Hypothesis> {
    vec![serde_json::from_value(report("container_exited", plan)).unwrap()]
}

fn process(name: &str) -> Target {
    let handle: ProcessHandle = serde_json::from_value(json!({"command": ["shop"]})).unwrap();
    Target { process: Some(handle), ..target(name, &[]) }
}

/// `api` has no handle and a runbook that policy lets act by itself; only built-in ones exist.
fn bare() -> World {
    let mut policy = generous();
    let stated = RunbookPolicy { autonomy: Some(Autonomy::Auto), budget: None, approvals: None };
    policy.runbooks = BTreeMap::from([("restart-process".to_owned(), stated)]);
    let targets = vec![target("api", &[]), process("shop"), target("db", &[])];
    World::new(Config { targets, policy, ..Config::default() })
}

#[test]
fn a_forged_plan_leads_to_no_order() {
    for (runbook, on, cause, why) in [
        ("anything", "api", "process_exited", "there is no runbook `anything`"),
        ("restart-process", "api", "process_exited", "is not for process_exited on `api`"),
        ("restart-process", "shop", "process_exited", "another target than that of the incident"),
        ("restart-process", "nobody", "process_exited", "another target than that of the incident"),
        ("", "api", "process_exited", "there is no runbook ``"),
        ("restart-process", "api", cause::HEALTHY, "is not for healthy"),
    ] {
        let mut world = bare();
        let id = world.down("api");
        let found = serde_json::from_value(report(cause, &plan(runbook, on))).unwrap();
        world.diagnose(id, vec![found]);
        let because = world.incident(id).hypotheses[0].because.join("; ");
        assert!(because.contains(why), "{because}");
        assert_eq!(world.incident(id).hypotheses[0].plan, None);
        if cause != cause::HEALTHY {
            let escalated = Phase::Escalated(Escalation::NoPlan);
            assert_eq!(world.incident(id).phase, escalated, "{runbook}");
            assert!(world.last(id).reason.contains(why), "{}", world.last(id).reason);
        }
        assert!(world.desk.pending().iter().all(|it| it.kind().as_str() != "fix"));
        assert_eq!(world.n_facts("fix_started"), 0);
        world.restart();
    }
}

#[test]
fn a_report_of_a_former_version_is_taken_as_the_name_of_its_runbook() {
    let mut world = bare();
    let id = world.down("shop");
    let found = serde_json::from_value(report("process_exited", &plan("restart-process", "shop")));
    world.diagnose(id, vec![found.unwrap()]);
    assert_eq!(world.status(id), Status::Fixing);
    let made = world.incident(id).plan().unwrap();
    let action = serde_json::to_value(&made.steps[0].action).unwrap();
    assert_eq!(action["process"]["command"], json!(["shop"]), "{action}");
    assert_eq!((made.steps.len(), made.risk), (1, Risk::Low));
}

#[test]
fn risk_and_autonomy_are_those_of_the_runbook() {
    for (runbook, wanted) in [("fail-over", Status::AwaitingApproval), ("wipe", Status::Escalated)]
    {
        let mut world = World::with(&["db"]);
        let id = world.down("db");
        world.diagnose(id, told(&plan(runbook, "db")));
        assert_eq!(world.status(id), wanted, "{runbook}");
        assert_eq!(world.n_facts("fix_started"), 0);
    }
}

/// How often an incident may try a runbook is the runbook's own word, too.
#[test]
fn a_runbook_that_is_used_up_is_not_taken_from_a_report() {
    let mut world = bare();
    let id = world.down("shop");
    for _ in 0..2 {
        world.diagnose(id, vec![hypothesis("process_exited", proposed("shop"))]);
        world.fix_failed(id);
    }
    world.diagnose(id, vec![hypothesis("process_exited", proposed("shop"))]);
    assert_eq!(world.status(id), Status::Escalated);
    assert!(world.incident(id).hypotheses[0].because[1].contains("used up: 2 of 2"));
}

/// What a report of this version proposes: a name and a target.
fn proposed(on: &str) -> Option<Plan> {
    Plan::new(parts(on, "restart-process")).ok()
}

#[test]
fn a_report_opens_no_incident_on_what_the_target_does_not_need() {
    let mut world = bare();
    let id = world.down("api");
    let elsewhere = Some("db".to_owned());
    let blame = Hypothesis { elsewhere, ..hypothesis(cause::DEPENDENCY_DOWN, None) };
    world.diagnose(id, vec![blame]);
    assert_eq!(world.incident(id).phase, Phase::Escalated(Escalation::NoPlan));
    assert_eq!(world.n_facts("opened"), 1);
}

/// A short report must not become a decision that the ledger has no room for.
#[test]
fn a_report_of_many_causes_makes_one_plan() {
    let mut world = World::with(&["db"]);
    let id = world.down("db");
    let many = vec![told(&plan("restart-container", "db")).remove(0); 1000];
    world.diagnose(id, many);
    assert_eq!(world.status(id), Status::Fixing);
    let shown = &world.incident(id).hypotheses;
    assert_eq!(shown.len(), HYPOTHESES_MAX);
    assert_eq!(shown.iter().filter(|it| it.plan.is_some()).count(), 1);
}

/// Facts of a former version hold the plans of its analyzers; they are folded as they are.
#[test]
fn decisions_of_a_former_version_are_folded_with_their_plans() {
    let mut world = bare();
    let id = world.down("api");
    let work = world.work(id);
    let hypotheses = json!([report("process_exited", &plan("anything", "api"))]);
    let report =
        json!({"work": work, "by": "a", "hypotheses": hypotheses, "evidence": [], "took_ms": 1});
    let decision: Decision = serde_json::from_value(json!({
        "seq": world.ledger.len() + 1, "at": world.at, "cause": world.ledger[0].cause, "incident": id,
        "fact": {"kind": "diagnosed", "report": report, "chosen": 0}, "reason": "so it was",
    }))
    .unwrap();
    let mut desk = world.desk.clone();
    desk.apply(&decision).unwrap();
    assert_eq!(desk.incident(id).unwrap().plan().unwrap().runbook, "anything");
    let Fact::Diagnosed { report: folded, .. } = &decision.fact else { panic!("{decision:?}") };
    assert_eq!(serde_json::to_value(folded).unwrap()["hypotheses"], {
        let mut wanted = hypotheses;
        wanted[0]["plan"] = serde_json::to_value(&folded.hypotheses[0].plan).unwrap();
        wanted
    });
}

/// Anything that JSON can hold.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{1,8}", inner, 0..4)
                .prop_map(|it| Value::Object(it.into_iter().collect())),
        ]
    })
}

prop_compose! {
    /// A plan as somebody may write it who knows its form, with fields of any content.
    fn any_plan()(
        runbook in prop::sample::select(vec![
            "restart-container", "move-container", "fail-over", "wipe", "restart-process", "anything", "",
        ]),
        on in prop::sample::select(vec!["db", "api", "nobody"]),
        odd in prop::collection::btree_map(
            prop::sample::select(vec!["steps", "risk", "autonomy", "title", "success", "zone", "cause", "more"]),
            anything(),
            0..4,
        ),
    ) -> Value {
        let mut plan = plan(runbook, on);
        for (key, value) in odd {
            plan[key] = value;
        }
        plan
    }
}

proptest! {
    /// Goal: of a plan in a report nothing counts but the name of its runbook, and its target.
    #[test]
    fn what_is_planned_is_what_the_catalogue_and_the_configuration_give(
        plan in prop_oneof![4 => any_plan(), 1 => anything()],
        cause in prop::sample::select(vec!["container_exited", "process_exited", "healthy", "odd"]),
        confidence in 0_u8..=100,
    ) {
        let targets = vec![target("db", &[]), process("api")];
        let mut world = World::new(config(targets, generous()));
        let id = world.down("db");
        let work: WorkRef = world.work(id);
        let mut hypothesis = report(cause, &plan);
        hypothesis["confidence_percent"] = json!(confidence);
        let sent = json!({
            "work": work, "by": "mallory", "hypotheses": [hypothesis], "evidence": [], "took_ms": 1,
        });
        let report: AnalysisReport = serde_json::from_value(sent).unwrap();
        let (named, on) = (plan["runbook"].as_str(), plan["target"].as_str());
        let event = world.incident(id).event.kind.clone();
        let config = world.desk.config().clone();
        let case = Case {
            cause,
            event: &event,
            source: "test",
            target: config.target("db").unwrap(),
            tried: &[],
            soak: config.policy.soak,
            within: config.policy.verify_within,
        };
        let fits = 30 <= confidence && on.is_none_or(|it| it == "db");
        let named = named.filter(|_| fits);
        let wanted = named.and_then(|it| Catalogue::with(&config.runbooks).plan(it, &case).ok());
        world.diagnose(id, report.hypotheses);
        prop_assert_eq!(&world.incident(id).hypotheses[0].plan, &wanted);
        let started = world.ledger.iter().find_map(|it| {
            if let Fact::FixStarted { plan, .. } = &it.fact { Some((**plan).clone()) } else { None }
        });
        prop_assert!(started.is_none() || started == wanted);
    }
}
