//! The monitor: which targets are its own is said by `monitor::share`, what became of what
//! it reported by `monitor::incidents`; questions are answered from the truth.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use ::monitor::{
    incidents::{self, Open},
    sample::Outcome,
    share,
    watch::{Note, Standing},
};
use domain::{
    target::{Handle, Target},
    wire::{
        CheckResult, ContainerState, HostState, ProbeReply, ProbeRequest, ProcessState,
        TargetProbe, WorkKind,
    },
};
use host::process::Found;
use tokio::sync::{
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    oneshot,
};

use super::{Agent, hand, lane::Lanes, verifier, watcher};
use crate::{
    bug::Bug,
    clock::utc,
    hosts::Answers,
    world::{Asked, Kind},
};

const INCIDENTS_EVERY: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(2);

/// A target that is watched here.
struct Watched {
    target: Arc<Target>,
    standing: Arc<Standing>,
    notes: UnboundedSender<Note>,
}

/// All of them.
#[derive(Default)]
struct Roster(RefCell<BTreeMap<String, Watched>>);

/// What one monitor's watchers share.
#[derive(Clone, Default)]
pub(crate) struct Post {
    pub(crate) lanes: Lanes,
    pub(crate) n_changes: Rc<Cell<u64>>,
}

pub(crate) fn start(agent: &Agent, asked: UnboundedReceiver<Asked>) {
    let post = Post { lanes: Lanes::of_agent(), ..Post::default() };
    let roster = Rc::new(Roster::default());
    let (owned, lanes) = (agent.clone(), post.lanes.clone());
    let verify = move |job| {
        let (agent, lanes) = (owned.clone(), lanes.clone());
        async move { verifier::run(&agent, &lanes, &job).await }
    };
    agent.spawn(hand::serve(agent.clone(), WorkKind::Verify, 64, verify));
    agent.spawn(answer(agent.clone(), Rc::clone(&roster), asked));
    agent.spawn(follow(agent.clone(), roster, post));
}

/// Follows configuration and members, and asks for open incidents.
async fn follow(agent: Agent, roster: Rc<Roster>, post: Post) {
    let node = agent.world.node(agent.node);
    let (mut config, mut members) = (node.config.subscribe(), node.members.subscribe());
    loop {
        let has_more = tokio::select! {
            biased;
            _ = config.changed() => assign(&agent, &roster, &post),
            _ = members.changed() => assign(&agent, &roster, &post),
            () = node.connected.notified() => true,
            () = agent.sleep(INCIDENTS_EVERY), if is_firing(&roster) => true,
        };
        if has_more {
            tell_open(&agent, &roster).await;
        }
    }
}

fn is_firing(roster: &Roster) -> bool {
    roster.0.borrow().values().any(|it| it.standing.is_firing())
}

/// Starts and stops watching. Returns whether a target was added.
fn assign(agent: &Agent, roster: &Roster, post: &Post) -> bool {
    let node = agent.world.node(agent.node);
    let members = node.members.borrow().clone();
    let Some((_, config)) = node.config.borrow().clone() else { return false };
    // A list without us is no reason to hand over anything.
    if !members.contains_key(&*agent.member) {
        return false;
    }
    let monitors: Vec<&str> = members
        .iter()
        .filter(|(_, kind)| **kind == Kind::Monitor)
        .map(|(id, _)| id.as_str())
        .collect();
    let is_ours =
        |it: &&Target| share::owner(&it.name, monitors.iter().copied()) == Some(&*agent.member);
    let wanted: Vec<&Target> = config.targets.iter().filter(is_ours).collect();
    let mut watched = roster.0.borrow_mut();
    watched.retain(|name, _| wanted.iter().any(|it| it.name == *name));
    let mut is_added = false;
    for target in wanted {
        let standing = match watched.get(&target.name) {
            Some(former) if *former.target == *target => continue,
            Some(former) => Arc::clone(&former.standing),
            None => {
                is_added = true;
                Arc::default()
            }
        };
        let Some(idx) = agent.world.targets.index(&target.name) else { continue };
        let target = Arc::new(target.clone());
        let (notes, inbox) = unbounded_channel();
        let new = Watched { target: Arc::clone(&target), standing: Arc::clone(&standing), notes };
        watched.insert(target.name.clone(), new);
        let watch = watcher::Watch::new(agent, post, target, idx, standing);
        agent.spawn(watch.run(inbox));
    }
    is_added
}

/// Asks a supervisor which incidents are open, and tells the watchers.
async fn tell_open(agent: &Agent, roster: &Roster) {
    let mut wait = Duration::from_millis(250);
    let open: Open = loop {
        let (answer, answered) = oneshot::channel();
        agent.output().await;
        agent.world.ask(Kind::Supervisor, agent.node, Asked::Open(answer));
        let told = tokio::select! {
            biased;
            Ok(open) = answered => Some(open),
            () = agent.sleep(ANSWER) => None,
        };
        match told {
            Some(open) => break open,
            None => agent.sleep(wait).await,
        }
        wait = (wait * 2).min(Duration::from_secs(5));
    };
    for (name, watched) in roster.0.borrow().iter() {
        let of = |all: &BTreeMap<_, _>| all.get(name).cloned().unwrap_or_default();
        let note = Note::Open {
            asked_at: open.asked_at,
            by_monitors: of(&open.by_monitors),
            all: of(&open.all),
        };
        drop(watched.notes.send(note));
    }
}

async fn answer(agent: Agent, roster: Rc<Roster>, mut asked: UnboundedReceiver<Asked>) {
    while let Some(asked) = asked.recv().await {
        match asked {
            Asked::Probe(request, sender) => {
                let agent = agent.clone();
                agent.clone().spawn(async move { probe(&agent, *request, sender).await });
            }
            Asked::Live(line) => {
                if let Some(over) = incidents::over(&line)
                    && let Some(watched) = roster.0.borrow().get(&over.target)
                {
                    drop(watched.notes.send(Note::Over { kind: over.kind }));
                }
            }
            Asked::Open(..) | Asked::Http(..) | Asked::Command(..) => {}
        }
    }
}

async fn probe(agent: &Agent, request: ProbeRequest, sender: oneshot::Sender<ProbeReply>) {
    let (targets, slowest): (Vec<_>, Vec<_>) =
        request.targets.iter().map(|it| probe_one(agent, it)).unzip();
    agent.sleep(slowest.into_iter().max().unwrap_or_default()).await;
    agent.output().await;
    let reply = ProbeReply {
        by: agent.member.to_string(),
        targets,
        measured: Vec::new(),
        host: HostState::default(),
    };
    if agent.world.is_cut(agent.node) || agent.world.net.loses(&agent.world) {
        return;
    }
    agent.world.sim.after(agent.world.net.way(&agent.world), move |_| drop(sender.send(reply)));
}

/// Returns who answers the checks of a process that does not run, as `monitor::answer` says it:
/// strangers, and what its last run has left behind.
fn answered_by(
    agent: &Agent,
    idx: usize,
    found: &Found,
    checks: &[CheckResult],
) -> (Vec<String>, Vec<String>) {
    let (unclear, left) = match found {
        Found::Unclear { reason, .. } => (Some(reason.clone()), &[][..]),
        Found::NotRunning { leftovers } => (None, leftovers.as_slice()),
        Found::Running(_) => (None, &[][..]),
    };
    let passing = checks.iter().filter(|it| it.ok);
    let others = passing.filter_map(|it| match agent.world.targets.hosts.answers(idx) {
        Answers::Another(pid) => Some((pid, format!("check `{}` passes, by pid {pid}", it.check))),
        Answers::Itself | Answers::Nobody => None,
    });
    let (left, strangers): (Vec<_>, Vec<_>) =
        others.partition(|(pid, _)| left.iter().any(|it| it.pid == *pid));
    let words = |it: Vec<(i32, String)>| it.into_iter().map(|it| it.1);
    (unclear.into_iter().chain(words(strangers)).collect(), words(left).collect())
}

fn probe_one(agent: &Agent, target: &Target) -> (TargetProbe, Duration) {
    let targets = &agent.world.targets;
    let Some(idx) = targets.index(&target.name) else {
        let nothing = TargetProbe { target: target.name.clone(), ..TargetProbe::default() };
        return (nothing, Duration::ZERO);
    };
    let begun = agent.begun();
    let mut slowest = Duration::ZERO;
    let mut unseen_checks = Vec::new();
    let is_boastful = agent.world.bug(Bug::UnseenCountsAsWell);
    let looks = target.all_checks().into_iter().map(|check| {
        let (finding, took) = targets.look(idx, &check, agent.now());
        let (finding, took) = watcher::seen(agent, finding, took);
        slowest = slowest.max(took);
        if finding.outcome == Outcome::Unseen {
            unseen_checks.push(check.label());
        }
        let ok = finding.outcome == Outcome::Passed;
        begun.ended_after(took, finding).result(&check, ok)
    });
    let checks: Vec<_> = looks.collect();
    let is_unseen = agent.world.is_unseen() && !is_boastful;
    let part = match target.handle() {
        Some(Handle::Process(_)) => Some("process"),
        Some(Handle::Docker(_)) => Some("container"),
        None => None,
    };
    let unseen: Vec<_> = part.filter(|_| is_unseen).map(str::to_owned).into_iter().collect();
    let (run, ended, starts) = targets.run_of(idx);
    let started_at = run.map(|it| utc(it.started));
    let found = targets.hosts.found(idx, &target.checks);
    let process = ProcessState {
        running: found.main().is_some(),
        pid: found.main().and_then(|it| u32::try_from(it.pid).ok()),
        signal: found.main().is_none().then_some(9),
        started_at: found.main().and(started_at),
        ..ProcessState::default()
    };
    let is_held = found.main().is_none() && part == Some("process");
    let (answered_by, answered_by_left) =
        if is_held { answered_by(agent, idx, &found, &checks) } else { Default::default() };
    let container = ContainerState {
        exists: true,
        status: if run.is_some() { "running" } else { "exited" }.to_owned(),
        exit_code: run.is_none().then_some(137),
        started_at,
        finished_at: ended.map(utc),
        ..ContainerState::default()
    };
    let from = starts.len().saturating_sub(20);
    let told = TargetProbe {
        target: target.name.clone(),
        healthy: checks.iter().all(|it| it.ok),
        checks,
        process: (part == Some("process") && !is_unseen).then_some(process),
        container: (part == Some("container") && !is_unseen).then_some(container),
        unseen,
        unseen_checks,
        log_tail: Vec::new(),
        recent_starts: starts.into_iter().skip(from).map(utc).collect(),
        answered_by,
        answered_by_left,
        ..TargetProbe::default()
    };
    (told, slowest)
}
