//! Random histories of a fleet: reports that are late, early, wrong, repeated and out of
//! order, people in between, restarts at any point, and a clock that jumps.
//!
//! The promises are in [`super::laws`]; they are checked after each input.

mod fleet;

use std::{cell::RefCell, collections::BTreeMap};

use fleet::{Setup, setup};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config as Runs, TestRunner},
};

use super::world::{
    World, analysis, blame, command, cure, fix, healthy, hypothesis, parts, plan, plan_with_undo,
    secs, silence, verification,
};
use crate::{
    event::{Event, Status},
    id::IncidentId,
    incident::{Incident, Phase},
    plan::{Parts, Plan, Risk},
    policy::{Autonomy, RunbookPolicy},
    wire::{FixMode, FixOutcome, Hypothesis, Input, NoticeReport, Refusal, TimerFired, Verb},
};

/// Deadlines after which a history must have come to an end by itself.
const TIMERS_MAX: usize = 600;

/// One thing that happens. Numbers choose among what there is, whatever that is.
#[derive(Clone, Debug)]
enum Op {
    Event {
        kind: u8,
        target: u8,
        resolved: bool,
        age_s: i64,
    },
    Diagnose {
        which: u8,
        found: u8,
    },
    Fix {
        which: u8,
        undo: bool,
        outcome: u8,
    },
    Verify {
        which: u8,
        passed: bool,
        broken: bool,
        ago_s: i64,
    },
    Command {
        which: u8,
        verb: u8,
    },
    Timer {
        which: u8,
    },
    /// The hand that an incident waits for does its work, mostly well.
    Serve {
        which: u8,
        how: u8,
    },
    /// A gateway says how it went with the first notice of an incident.
    Told {
        which: u8,
        how: u8,
    },
    Wait {
        s: i64,
    },
    /// The configuration changes.
    Configure {
        target: u8,
        what: u8,
    },
    /// A former input arrives once more.
    Repeat {
        which: u16,
    },
    /// An input is under way, and arrives when `Arrive` says so.
    Late(Box<Self>),
    Arrive {
        which: u8,
    },
    /// A person keeps a target quiet for a while, or ends the first silence.
    Silence {
        target: u8,
        s: i64,
    },
    EndSilence,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let which = any::<u8>;
    let age_s = prop_oneof![4 => Just(0_i64), 1 => 0_i64..2000];
    let event = (0_u8..2, which(), prop::bool::weighted(0.2), age_s)
        .prop_map(|(kind, target, resolved, age_s)| Op::Event { kind, target, resolved, age_s });
    let diagnose = (which(), 0_u8..10).prop_map(|(which, found)| Op::Diagnose { which, found });
    let fix = (which(), prop::bool::weighted(0.2), 0_u8..4)
        .prop_map(|(which, undo, outcome)| Op::Fix { which, undo, outcome });
    let verify = (which(), any::<bool>(), prop::bool::weighted(0.2), -3_i64..3)
        .prop_map(|(which, passed, broken, ago_s)| Op::Verify { which, passed, broken, ago_s });
    let command = (which(), 0_u8..8).prop_map(|(which, verb)| Op::Command { which, verb });
    let timer = which().prop_map(|which| Op::Timer { which });
    let serve = (which(), 0_u8..8).prop_map(|(which, how)| Op::Serve { which, how });
    let told = (which(), 0_u8..4).prop_map(|(which, how)| Op::Told { which, how });
    let input = prop_oneof![
        4 => told, 5 => event, 3 => diagnose, 2 => fix, 4 => verify, 2 => command, 2 => timer, 16 => serve,
    ];
    let late = input.clone().prop_map(|op| Op::Late(Box::new(op)));
    let wait = prop_oneof![4 => 0_i64..40, 1 => 0_i64..7200, 1 => -5_i64..0];
    prop_oneof![
        28 => input,
        3 => late,
        3 => which().prop_map(|which| Op::Arrive { which }),
        3 => wait.prop_map(|s| Op::Wait { s }),
        1 => (which(), 0_u8..5).prop_map(|(target, what)| Op::Configure { target, what }),
        3 => any::<u16>().prop_map(|which| Op::Repeat { which }),
        1 => prop_oneof![
            (which(), 1_i64..1000).prop_map(|(target, s)| Op::Silence { target, s }),
            Just(Op::EndSilence),
        ],
        2 => Just(Op::Restart),
    ]
}

/// Chooses one of a list; `None` when it is empty.
fn choose<T: Clone>(list: &[T], which: impl Into<usize>) -> Option<T> {
    let which: usize = which.into();
    list.get(which % list.len().max(1)).cloned()
}

/// Returns any incident, or rather one that is open.
fn any_incident(world: &World, which: u8) -> Option<Incident> {
    let open: Vec<_> = world.desk.open_incidents().cloned().collect();
    let all: Vec<_> = world.desk.incidents.all_shared().map(|it| (**it).clone()).collect();
    if which < 200 { choose(&open, which) } else { choose(&all, which) }
}

fn target_name(world: &World, which: u8) -> String {
    choose(&world.desk.config.targets, which).unwrap().name
}

fn found(world: &World, on: &str, found: u8) -> Vec<Hypothesis> {
    // What has no target has nothing that a plan could act on.
    let found = if on.is_empty() { found.min(4) } else { found };
    let of = |runbook: &str, risk| Plan::new(Parts { risk, ..parts(on, runbook) }).unwrap();
    match found {
        0 => vec![],
        1 => healthy(),
        2 | 3 => blame(&target_name(world, found)),
        4 => vec![hypothesis("disk_full", None)],
        5 => cure(plan_with_undo(on)),
        6 => cure(of("fail-over", Risk::Medium)),
        7 => cure(of("wipe", Risk::High)),
        8 => cure(plan(&target_name(world, 0))),
        _ => cure(plan(on)),
    }
}

fn outcome(which: u8) -> FixOutcome {
    let reason = "so it went".to_owned();
    match which {
        0 => FixOutcome::Succeeded,
        1 => FixOutcome::Failed { reason },
        2 => FixOutcome::Unknown { reason },
        _ => FixOutcome::Refused { reason, code: Refusal::TooLate },
    }
}

fn timer(world: &World, incident: &Incident) -> Input {
    let due = world.desk.deadline(incident).unwrap_or(world.at);
    Input::Timer(TimerFired::of(incident.id, due))
}

fn verb(incident: &Incident, which: u8) -> Verb {
    let (id, reason) = (incident.id, String::new());
    let plan_hash = incident.plan().map_or_else(|| plan("t0").hash(), Plan::hash);
    match which {
        0 => Verb::Approve { incident: id, plan_hash },
        1 => Verb::Approve { incident: id, plan_hash: plan("nobody").hash() },
        2 => Verb::Reject { incident: id, reason },
        3 => Verb::Acknowledge { incident: id },
        4 => Verb::Close { incident: id, reason },
        5 => Verb::Retry { incident: id },
        6 => Verb::Pause { reason },
        _ => Verb::Resume,
    }
}

/// Returns what an incident waits for.
fn served(world: &World, it: &Incident, how: u8) -> Input {
    let on = it.target.clone().unwrap_or_default();
    let work = it.work();
    match &it.phase {
        // What has no target has nothing that a plan could act on.
        Phase::Diagnosing if on.is_empty() => analysis(work, vec![]),
        Phase::Diagnosing if 4 <= how => analysis(work, cure(plan_with_undo(&on))),
        Phase::Diagnosing => analysis(work, cure(plan(&on))),
        Phase::AwaitingApproval { .. } => command(verb(it, 0)),
        Phase::Fixing { .. } => fix(work, FixMode::Apply, outcome(u8::from(how == 0))),
        Phase::Undoing { .. } => fix(work, FixMode::Undo, outcome(u8::from(how == 0))),
        Phase::Verifying { .. } => {
            let broken: &[&str] = if how == 1 { &["t1"] } else { &[] };
            verification(work, how != 0, world.at, broken)
        }
        Phase::Escalated(_) => command(verb(it, 5)),
        Phase::RetryWaiting { .. }
        | Phase::Proposed { .. }
        | Phase::Symptom { .. }
        | Phase::Over(_) => timer(world, it),
    }
}

/// Returns another configuration.
fn configured(world: &World, target: u8, what: u8) -> Input {
    let mut config = world.desk.config().clone();
    let idx = usize::from(target) % config.targets.len();
    match what {
        0 => {
            config.targets[idx].labels.insert("tier".to_owned(), target.to_string());
        }
        1 => config.policy.autonomy = Autonomy::Approve,
        2 => config.policy.autonomy = Autonomy::Auto,
        3 if 2 < config.targets.len() => {
            let gone = config.targets.remove(idx).name;
            config.targets.iter_mut().for_each(|it| it.depends_on.retain(|on| *on != gone));
        }
        _ => {
            let stated =
                RunbookPolicy { autonomy: Some(Autonomy::Auto), budget: None, approvals: None };
            config.policy.runbooks.insert("restart-container".to_owned(), stated);
        }
    }
    command(Verb::configure(config))
}

/// Returns the input that an operation brings now, if it brings one.
fn input(world: &mut World, op: &Op) -> Option<Input> {
    Some(match op {
        Op::Event { kind, target, resolved, age_s } => {
            let name = target_name(world, *target);
            let mut event = world.event(["service_down", "slow"][usize::from(*kind)], &name);
            event.starts_at = Some(world.at - secs(*age_s));
            if age_s % 3 == 1 {
                event.ends_at = Some(world.at + secs(*age_s));
            }
            if *resolved {
                event = Event { status: Status::Resolved, ..event };
            }
            Input::Event(event)
        }
        Op::Diagnose { which, found: what } => {
            let it = any_incident(world, *which)?;
            let on = it.target.clone().unwrap_or_default();
            let mut report = analysis(it.work(), found(world, &on, *what));
            if let (Input::Analysis(report), 9) = (&mut report, what) {
                report.evidence.clear();
            }
            report
        }
        Op::Fix { which, undo, outcome: how } => {
            let mode = if *undo { FixMode::Undo } else { FixMode::Apply };
            fix(any_incident(world, *which)?.work(), mode, outcome(*how))
        }
        Op::Verify { which, passed, broken, ago_s } => {
            let it = any_incident(world, *which)?;
            let broken: &[&str] = if *broken { &["t1"] } else { &[] };
            verification(it.work(), *passed, it.entered_at - secs(*ago_s), broken)
        }
        Op::Command { which, verb: what } => command(verb(&any_incident(world, *which)?, *what)),
        Op::Timer { which } => timer(world, &any_incident(world, *which)?),
        Op::Serve { which, how } => served(world, &any_incident(world, *which)?, *how),
        Op::Told { which, how } => {
            let it = any_incident(world, *which)?;
            let notice = it.notices_wanted().next()?.name();
            let outcome = if *how < 2 { Ok("told".to_owned()) } else { Err("503".to_owned()) };
            Input::Notice(NoticeReport {
                work: it.work(),
                notice,
                by: "gateway-1".to_owned(),
                outcome,
                again: *how == 2,
                keep: Some("message 7".to_owned()),
            })
        }
        Op::Configure { target, what } => configured(world, *target, *what),
        Op::Silence { target, s } => {
            let matcher = format!("target={}", target_name(world, *target));
            command(silence(&matcher, world.at + secs(*s)))
        }
        Op::EndSilence => {
            let id = world.desk.silences().silences.first()?.silence.id.clone();
            command(Verb::Unsilence { id })
        }
        Op::Wait { s } => {
            world.wait(*s);
            return None;
        }
        Op::Restart => {
            world.restart();
            return None;
        }
        Op::Repeat { .. } | Op::Late(_) | Op::Arrive { .. } => return None,
    })
}

/// Plays a history, and returns what was decided.
fn play(setup: &Setup, ops: &[Op]) -> BTreeMap<&'static str, usize> {
    let mut world = setup.world();
    let mut sent = Vec::new();
    let mut under_way = Vec::new();
    for op in ops {
        let next = match op {
            Op::Late(late) => {
                under_way.extend(input(&mut world, late));
                None
            }
            Op::Arrive { which } if under_way.is_empty() => choose(&sent, *which),
            Op::Arrive { which } => {
                Some(under_way.swap_remove(usize::from(*which) % under_way.len()))
            }
            Op::Repeat { which } => choose(&sent, *which),
            Op::Wait { .. }
            | Op::Restart
            | Op::Event { .. }
            | Op::Diagnose { .. }
            | Op::Fix { .. }
            | Op::Verify { .. }
            | Op::Command { .. }
            | Op::Timer { .. }
            | Op::Serve { .. }
            | Op::Told { .. }
            | Op::Configure { .. }
            | Op::Silence { .. }
            | Op::EndSilence => input(&mut world, op),
        };
        if let Some(next) = next {
            sent.push(next.clone());
            world.send(next);
        }
    }
    world.run_out(TIMERS_MAX);
    let left: Vec<IncidentId> = world.desk.open_incidents().map(|it| it.id).collect();
    assert!(left.iter().all(|id| matches!(world.incident(*id).phase, Phase::Escalated(_))));
    let quiet = world.desk.silences();
    assert!(quiet.silences.is_empty() && quiet.suppressed.is_empty(), "all quiet has ended");
    world.laws.counts
}

/// Goal: the promises hold for a whole fleet, whatever comes in whatever order.
#[test]
fn a_fleet_keeps_the_laws_in_every_history() {
    let totals = RefCell::new(BTreeMap::<&str, usize>::new());
    // Half of what proptest would do; `PROPTEST_CASES` asks for more.
    let cases = Runs::default().cases / 2;
    let runs = Runs { cases, failure_persistence: None, ..Runs::default() };
    let outcome = TestRunner::new(runs).run(&(setup(), vec(op(), 1..150)), |(setup, ops)| {
        for (fact, n) in play(&setup, &ops) {
            *totals.borrow_mut().entry(fact).or_default() += n;
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    let totals = totals.into_inner();
    for fact in
        ["fix_started", "approved", "held", "plan_expired", "breaker_tripped", "undo_started"]
    {
        assert!(2 <= totals.get(fact).copied().unwrap_or(0), "vacuous: {fact} {totals:?}");
    }
    for fact in ["notified", "notices_due", "paged"] {
        assert!(10 <= totals.get(fact).copied().unwrap_or(0), "vacuous: {fact} {totals:?}");
    }
    for fact in [
        "became_symptom",
        "released",
        "resolved",
        "self_resolved",
        "paused",
        "configured",
        "silenced",
        "suppressed",
        "lease_ended",
    ] {
        assert!(10 <= totals.get(fact).copied().unwrap_or(0), "vacuous: {fact} {totals:?}");
    }
}
