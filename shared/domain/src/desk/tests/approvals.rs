//! An approval is for one exact plan, has an expiry, and is checked again at execution.

use chrono::TimeDelta;

use super::world::{World, command, cure, parts, risky_plan, secs};
use crate::{
    fact::Escalation,
    id::IncidentId,
    incident::Phase,
    plan::{Parts, Plan, Risk},
    span::Span,
    view::Status,
    wire::{AnswerStatus, Input, Verb},
};

fn pause() -> Input {
    command(Verb::Pause { reason: "the network is being rebuilt".to_owned() })
}

fn escalation(world: &World, id: IncidentId) -> Option<Escalation> {
    if let Phase::Escalated(why) = &world.incident(id).phase { Some(*why) } else { None }
}

// Rule 8.

fn waiting() -> (World, IncidentId) {
    let mut world = World::with(&["db"]);
    let id = world.down("db");
    world.diagnose(id, cure(risky_plan("db", Risk::Medium)));
    assert_eq!(world.status(id), Status::AwaitingApproval);
    (world, id)
}

#[test]
fn an_approval_is_for_one_exact_plan() {
    let (mut world, id) = waiting();
    let mut other: Parts = risky_plan("db", Risk::Medium).into();
    other.steps[0].timeout = Span::from_secs(31);
    let plan_hash = Plan::new(other).unwrap().hash();
    let handled = world.send(command(Verb::Approve { incident: id, plan_hash }));
    assert_eq!(handled.answer.unwrap().status, AnswerStatus::Refused);
    assert_eq!(world.status(id), Status::AwaitingApproval);
    world.approve(id);
    assert_eq!(world.status(id), Status::Fixing);
    assert_eq!(world.incident(id).attempts.len(), 1);
}

#[test]
fn an_approval_has_an_expiry_and_is_checked_again_at_execution() {
    // Approved within 60 s, the age at which evidence goes stale, it is carried out; later
    // the plan is made anew, and if it is the same one, the approval still counts.
    let (mut world, id) = waiting();
    world.wait(600);
    world.approve(id);
    assert_eq!(world.status(id), Status::Diagnosing);
    let mut late = world.clone();
    world.diagnose(id, cure(risky_plan("db", Risk::Medium)));
    assert_eq!(world.status(id), Status::Fixing);
    // Another plan needs another approval, and an approval is worth something for 5 min.
    let mut other = late.clone();
    let mut parts = parts("db", "fail-over");
    parts.risk = Risk::Medium;
    parts.steps[0].timeout = Span::from_secs(31);
    other.diagnose(id, cure(Plan::new(parts).unwrap()));
    assert_eq!(other.status(id), Status::AwaitingApproval);
    late.wait(40).send(pause());
    late.diagnose(id, cure(risky_plan("db", Risk::Medium)));
    assert_eq!(late.held_by(id), Some("kill switch"));
    let approved_at = late.ledger.iter().find(|it| it.fact.name() == "approved").unwrap().at;
    late.at = approved_at + TimeDelta::minutes(5) - secs(2);
    late.send(command(Verb::Resume));
    assert_eq!(late.status(id), Status::Diagnosing, "the evidence is too old");
    late.diagnose(id, cure(risky_plan("db", Risk::Medium)));
    assert_eq!(late.status(id), Status::AwaitingApproval, "the approval has expired");
}

#[test]
fn an_approval_that_comes_too_late_is_refused() {
    let (mut world, id) = waiting();
    let due = world.due()[0].0;
    world.at = due - secs(1);
    let answer = world.approve(id).answer.unwrap();
    assert_eq!(answer.status, AnswerStatus::Refused, "{answer:?}");
    world.expire(id);
    assert_eq!(escalation(&world, id), Some(Escalation::ApprovalExpired));
}

#[test]
fn a_rejected_plan_is_not_carried_out() {
    let (mut world, id) = waiting();
    let reason = "not during the sale".to_owned();
    world.send(command(Verb::Reject { incident: id, reason }));
    assert_eq!(escalation(&world, id), Some(Escalation::Rejected));
    assert!(world.last(id).reason.contains("not during the sale"));
    let plan_hash = risky_plan("db", Risk::Medium).hash();
    let handled = world.send(command(Verb::Approve { incident: id, plan_hash }));
    assert_eq!(handled.answer.unwrap().status, AnswerStatus::Refused);
}
