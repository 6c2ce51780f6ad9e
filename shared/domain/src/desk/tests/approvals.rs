//! An approval is for one exact plan, has an expiry, and is checked again at execution.

use std::{collections::BTreeMap, sync::Arc};

use chrono::TimeDelta;

use super::world::{World, command, cure, parts, risky_plan, secs, t0};
use crate::{
    access::{Oidc, Proof, Revoked, Role, Scope, TokenRecord, token_hash, token_id},
    config::Config,
    fact::{Escalation, Fact},
    id::IncidentId,
    incident::Phase,
    notify::{Notify, Receiver, SlackApp},
    plan::{Parts, Plan, Risk},
    secret::SecretRef,
    span::Span,
    view::Status,
    wire::{AnswerStatus, Command, Input, Verb},
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
    other.diagnose(id, cure(Plan::new(parts("db", "start-with-care")).unwrap()));
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

/// Approves while new fixes are stopped, so that the plan waits.
fn approved_and_held(proof: Proof, tokens: &[TokenRecord]) -> (World, IncidentId) {
    let (mut world, id) = waiting();
    knows(&mut world, tokens);
    world.send(pause());
    let plan_hash = risky_plan("db", Risk::Medium).hash();
    let approve = Command::new("ann", Verb::Approve { incident: id, plan_hash }).proven(proof);
    let answer = world.send(Input::Command(approve)).answer.unwrap();
    assert_eq!(answer.status, AnswerStatus::Done, "{answer:?}");
    assert_eq!(world.held_by(id), Some("kill switch"));
    (world, id)
}

fn knows(world: &mut World, tokens: &[TokenRecord]) {
    let tokens = tokens.iter().map(|it| (it.name.clone(), it.clone())).collect();
    world.desk.know_tokens(Some(Arc::new(tokens)));
}

fn token(role: Role) -> TokenRecord {
    TokenRecord {
        name: "ann".to_owned(),
        role,
        hash: token_hash("sht_ann"),
        created_at: t0(),
        created_by: "local".to_owned(),
        expires_at: None,
        rate: None,
        scope: None,
        revoked: None,
    }
}

fn by_token() -> Proof {
    Proof::Token { name: "ann".to_owned(), id: token_id(&token_hash("sht_ann")) }
}

fn asked_again(world: &World, id: IncidentId, why: &str) {
    assert_eq!(world.status(id), Status::AwaitingApproval, "{why}");
    assert!(world.last(id).reason.contains(why), "{why}: {}", world.last(id).reason);
    assert!(world.last(id).reason.starts_with("ann approved it, but "));
}

#[test]
fn who_approved_with_a_token_that_does_not_count_any_more_has_not_approved() {
    let good = token(Role::Approver);
    let revoked = Some(Revoked { at: t0(), by: "bob".to_owned() });
    let other = TokenRecord { hash: token_hash("sht_other"), ..good.clone() };
    for (now, why) in [
        (vec![TokenRecord { revoked, ..good.clone() }], "their token was revoked"),
        (vec![TokenRecord { expires_at: Some(t0()), ..good.clone() }], "their token has expired"),
        (vec![token(Role::Operator)], "their token only has the role operator now"),
        (vec![other], "their token no longer exists"),
        (vec![], "their token no longer exists"),
    ] {
        let (mut world, id) = approved_and_held(by_token(), std::slice::from_ref(&good));
        knows(&mut world, &now);
        world.send(command(Verb::Resume));
        asked_again(&world, id, why);
        // Somebody else may; and the same one is told at once that he may not.
        let plan_hash = risky_plan("db", Risk::Medium).hash();
        let verb = Verb::Approve { incident: id, plan_hash };
        let again = Command::new("ann", verb).proven(by_token());
        let answer = world.send(Input::Command(again)).answer.unwrap();
        assert_eq!(answer.status, AnswerStatus::Refused, "{answer:?}");
        assert!(answer.message.contains(why), "{answer:?}");
        world.approve(id);
        assert_eq!(world.status(id), Status::Fixing);
    }
    let (mut world, id) = approved_and_held(by_token(), &[token(Role::Admin)]);
    world.send(command(Verb::Resume));
    assert_eq!(world.status(id), Status::Fixing);
}

#[test]
fn while_nobody_knows_whether_a_token_counts_its_approval_waits() {
    let (mut world, id) = approved_and_held(by_token(), &[token(Role::Approver)]);
    world.desk.know_tokens(None);
    world.send(command(Verb::Resume));
    assert_eq!(world.held_by(id), Some("autonomy"), "a guard denies unless it allows");
    knows(&mut world, &[token(Role::Approver)]);
    world.expire(id);
    assert_eq!(world.status(id), Status::Fixing, "{}", world.last(id).reason);
}

/// Takes something out of a configuration.
type Spoil = fn(&mut Config);

#[test]
fn who_was_taken_out_of_the_configuration_has_not_approved() {
    let slack = || Proof::Slack { user: "U1".to_owned() };
    let link = || Proof::Link { to: "ops".to_owned() };
    let provider = || Proof::Provider { issuer: "https://id.example".to_owned() };
    let secret = || SecretRef { env: Some("SECRET".to_owned()), file: None };
    let all = |world: &World| {
        let mut config = world.desk.config().clone();
        config.notify = Notify {
            public_url: Some("https://selfheal.example.org".to_owned()),
            link_secret: Some(secret()),
            slack: Some(SlackApp { signing_secret: secret(), approvers: vec!["U1".to_owned()] }),
            receivers: vec![Receiver {
                name: "ops".to_owned(),
                log: Some(true),
                ..Receiver::default()
            }],
            ..Notify::default()
        };
        config.access.oidc = Some(Oidc {
            issuer: "https://id.example".to_owned(),
            audience: "selfheal".to_owned(),
            role_claim: "groups".to_owned(),
            name_claim: "sub".to_owned(),
            roles: BTreeMap::from([("ops".to_owned(), Role::Approver)]),
        });
        config
    };
    let spoil: [(Proof, Spoil, &str); 4] = [
        (
            slack(),
            |it| it.notify.slack.as_mut().unwrap().approvers = vec!["U2".to_owned()],
            "approvers",
        ),
        (slack(), |it| it.notify.slack = None, "approvers"),
        (link(), |it| it.notify.receivers.clear(), "receiver of their link"),
        (provider(), |it| it.access.oidc = None, "provider"),
    ];
    for (proof, spoil, why) in spoil {
        let (mut world, id) = waiting();
        let mut config = all(&world);
        world.configure(config.clone());
        world.send(pause());
        let plan_hash = risky_plan("db", Risk::Medium).hash();
        let approve = Command::new("ann", Verb::Approve { incident: id, plan_hash }).proven(proof);
        world.send(Input::Command(approve));
        assert_eq!(world.held_by(id), Some("kill switch"));
        let mut kept = world.clone();
        kept.send(command(Verb::Resume));
        assert_eq!(kept.status(id), Status::Fixing, "{why}");
        spoil(&mut config);
        let answer = world.configure(config).answer.unwrap();
        assert_eq!(answer.status, AnswerStatus::Done, "{answer:?}");
        world.send(command(Verb::Resume));
        asked_again(&world, id, why);
    }
}

#[test]
fn an_approval_by_a_proof_of_a_newer_version_is_read_and_does_not_count() {
    let text = r#"{"by": "ann", "proof": {"kind": "retina", "eye": "left"}, "verb": "resume"}"#;
    let command: Command = serde_json::from_str(text).unwrap();
    assert_eq!(command.proof, Some(Proof::Unknown));
    let (mut world, id) = waiting();
    let plan_hash = risky_plan("db", Risk::Medium).hash();
    let verb = Verb::Approve { incident: id, plan_hash };
    let handled = world.send(Input::Command(Command { verb, ..command }));
    assert_eq!(handled.answer.unwrap().status, AnswerStatus::Refused);
    // An older one says nothing of it.
    let text = r#"{"kind": "approved", "by": "ann", "plan_hash": "x"}"#;
    let fact: Fact = serde_json::from_str(text).unwrap();
    assert!(matches!(fact, Fact::Approved { proof: None, .. }));
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

/// A world in which a plan needs the approval of two people, and a plan that waits for them.
fn waiting_for_two(tokens: &[TokenRecord]) -> (World, IncidentId) {
    let mut world = World::with(&["db"]);
    let mut config = world.desk.config().clone();
    config.policy.approvals = 2;
    world.configure(config);
    knows(&mut world, tokens);
    let id = world.down("db");
    world.diagnose(id, cure(risky_plan("db", Risk::Medium)));
    assert_eq!(world.status(id), Status::AwaitingApproval);
    (world, id)
}

fn approves(world: &mut World, id: IncidentId, by: &str, proof: Proof) -> AnswerStatus {
    let plan_hash = risky_plan("db", Risk::Medium).hash();
    let approve = Command::new(by, Verb::Approve { incident: id, plan_hash }).proven(proof);
    world.send(Input::Command(approve)).answer.unwrap().status
}

fn named(name: &str) -> (TokenRecord, Proof) {
    let hash = token_hash(&format!("sht_{name}"));
    let proof = Proof::Token { name: name.to_owned(), id: token_id(&hash) };
    (TokenRecord { name: name.to_owned(), hash, ..token(Role::Approver) }, proof)
}

#[test]
fn two_approvals_are_those_of_two_different_people() {
    let ((ann, by_ann), (bob, by_bob)) = (named("ann"), named("bob"));
    let (mut world, id) = waiting_for_two(&[ann, bob]);
    assert_eq!(approves(&mut world, id, "token:ann", by_ann.clone()), AnswerStatus::Done);
    assert_eq!(world.status(id), Status::AwaitingApproval);
    // The same person again, under another name.
    let again = approves(&mut world, id, "token:ann (bob)", by_ann);
    assert_eq!((again, world.status(id)), (AnswerStatus::Refused, Status::AwaitingApproval));
    world.restart();
    let (ann, _) = named("ann");
    let (bob, _) = named("bob");
    knows(&mut world, &[ann, bob]);
    assert_eq!(approves(&mut world, id, "token:bob", by_bob), AnswerStatus::Done);
    assert_eq!(world.status(id), Status::Fixing);
    assert_eq!((world.n_facts("approval_given"), world.n_facts("approved")), (1, 1));
}

#[test]
fn a_password_that_several_share_is_one_person() {
    for proof in [Proof::Broker, Proof::ApiToken, Proof::Host] {
        let (mut world, id) = waiting_for_two(&[]);
        assert_eq!(approves(&mut world, id, "ann", proof.clone()), AnswerStatus::Done, "{proof:?}");
        assert_eq!(approves(&mut world, id, "bob", proof.clone()), AnswerStatus::Refused);
        assert_eq!(world.status(id), Status::AwaitingApproval, "{proof:?}");
    }
}

#[test]
fn who_asked_for_a_fix_is_no_second_person() {
    let ((ann, by_ann), (bob, by_bob)) = (named("ann"), named("bob"));
    let (mut world, id) = waiting_for_two(&[ann, bob]);
    let reject = Verb::Reject { incident: id, reason: "not now".to_owned() };
    world.send(Input::Command(Command::new("token:bob", reject).proven(by_bob)));
    let retry = Command::new("token:ann", Verb::Retry { incident: id }).proven(by_ann.clone());
    world.send(Input::Command(retry));
    world.diagnose(id, cure(risky_plan("db", Risk::Medium)));
    assert_eq!(world.status(id), Status::AwaitingApproval);
    assert_eq!(approves(&mut world, id, "token:ann", by_ann), AnswerStatus::Refused);
}

#[test]
fn a_token_that_is_limited_counts_within_its_limits_alone() {
    let scope = |part: &str| Scope::of_parts(&[part.parse().unwrap()]);
    for (part, may) in [
        ("team=data", false),
        ("zone=default", true),
        ("zone=eu", false),
        ("action=docker.*", true),
        ("action=command.run", false),
    ] {
        let (mut world, id) = waiting();
        let limited = TokenRecord { scope: scope(part), ..token(Role::Approver) };
        knows(&mut world, &[limited]);
        let expected = if may { AnswerStatus::Done } else { AnswerStatus::Refused };
        assert_eq!(approves(&mut world, id, "token:ann", by_token()), expected, "{part}");
        let pause = Command::new("token:ann", Verb::Resume).proven(by_token());
        let answer = world.send(Input::Command(pause)).answer.unwrap();
        assert_eq!(answer.status, AnswerStatus::Refused, "{part}");
        assert!(answer.message.contains("this concerns everything"), "{}", answer.message);
    }
}

#[test]
fn an_approval_outside_of_limits_that_were_set_since_is_asked_for_again() {
    let good = token(Role::Approver);
    let (mut world, id) = approved_and_held(by_token(), std::slice::from_ref(&good));
    let scope = Scope::of_parts(&["team=data".parse().unwrap()]);
    knows(&mut world, &[TokenRecord { scope, ..good }]);
    world.send(command(Verb::Resume));
    asked_again(&world, id, "their token is limited to team=data");
}
