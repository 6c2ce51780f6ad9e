//! People: they look at what there is, a while ago, and approve, reject, retry and close;
//! sometimes twice, too late, or something else than what is there now.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

use domain::{
    id::IncidentId,
    incident::Phase,
    matcher::Matchers,
    silence::SilenceRequest,
    wire::{Command, Verb},
};
use tokio::sync::oneshot;

use crate::{
    bug::Bug,
    clock::{MINUTE, Micros, SECOND, utc},
    files,
    options::Part,
    rng::Rng,
    senders,
    sim::{OUTSIDE, Sim},
    world::{Asked, Kind, World},
};

/// Starts them.
pub(crate) fn begin(world: &Rc<World>) {
    if !world.options.has(Part::People) {
        return;
    }
    world.sim.spawn(OUTSIDE, watch(Rc::clone(world)));
    world.sim.spawn(OUTSIDE, administrate(Rc::clone(world)));
    if world.options.has(Part::Silences) {
        world.sim.spawn(OUTSIDE, silence(Rc::clone(world)));
    }
}

/// Looks at what waits for a person, every few seconds.
async fn watch(world: Rc<World>) {
    let rng = Rc::new(RefCell::new(Rng::new(world.options.seed, "people")));
    let mut seen: BTreeSet<(IncidentId, u64)> = BTreeSet::new();
    loop {
        let wait = rng.borrow_mut().range(3, 15) * SECOND;
        Sim::sleep(&world, wait).await;
        if !world.net.is_rough.get() {
            return;
        }
        let mut wanted = Vec::new();
        for incident in world.laws.borrow().core().desk().open_incidents() {
            if !seen.insert((incident.id, incident.revision)) {
                continue;
            }
            match &incident.phase {
                Phase::AwaitingApproval { plan, .. } => {
                    wanted.extend(judge(&mut rng.borrow_mut(), incident.id, &plan.hash()));
                }
                Phase::Escalated(_) => {
                    wanted.extend(care(&mut rng.borrow_mut(), incident.id));
                }
                _ => {}
            }
        }
        for (wait, verb) in wanted {
            world.sim.after(wait, move |world| send(world, verb));
        }
    }
}

/// Decides about a plan that is shown.
fn judge(rng: &mut Rng, incident: IncidentId, hash: &str) -> Vec<(u64, Verb)> {
    let approve = |hash: &str| Verb::Approve { incident, plan_hash: hash.to_owned() };
    let soon = rng.range(1, 40) * SECOND;
    match rng.range(0, 10) {
        0..4 => vec![(soon, approve(hash))],
        4 => vec![(soon, approve(hash)), (soon + rng.range(0, 3) * SECOND, approve(hash))],
        5 => vec![(soon, approve(&"0".repeat(64)))],
        6 => vec![(rng.range(1, 12) * MINUTE, approve(hash))],
        7 => vec![(soon, Verb::Reject { incident, reason: "no".to_owned() })],
        8 => vec![(soon, approve(&hash.replace('a', "b")))],
        _ => Vec::new(),
    }
}

fn care(rng: &mut Rng, incident: IncidentId) -> Vec<(u64, Verb)> {
    let soon = rng.range(2, 200) * SECOND;
    match rng.range(0, 10) {
        0..2 => vec![(soon, Verb::Retry { incident })],
        2 => vec![(soon, Verb::Close { incident, reason: "seen".to_owned() })],
        3 => vec![(soon, Verb::Acknowledge { incident })],
        _ => Vec::new(),
    }
}

/// Pauses, resumes, and changes the configuration, now and then.
async fn administrate(world: Rc<World>) {
    let mut rng = Rng::new(world.options.seed, "administrators");
    loop {
        Sim::sleep(&world, rng.waiting(12 * MINUTE)).await;
        if !world.net.is_rough.get() {
            return;
        }
        if rng.percent(50) {
            let wait = rng.range(10, 300) * SECOND;
            pause_for_a_while(&world, wait);
        } else if world.options.has(Part::Changes) {
            if rng.percent(50) {
                files::edit(&world);
            } else {
                apply(&world, rng.index(world.scene.configs.len()));
            }
        }
    }
}

/// Silences something, now and then; and much happens meanwhile.
async fn silence(world: Rc<World>) {
    let mut rng = Rng::new(world.options.seed, "silences");
    let (mean, is_wide) = (rng.range(4, 20) * MINUTE, rng.percent(50));
    loop {
        Sim::sleep(&world, rng.waiting(mean)).await;
        if !world.net.is_rough.get() {
            return;
        }
        let what = *rng.pick(&["source=outside", "target=~t[0-4]", "type=disk_full"]);
        let what = if is_wide { "source=outside" } else { what };
        let lasts = rng.range(20, 240);
        let until = utc(world.sim.now() + lasts * SECOND);
        let matchers = Matchers(what.parse().into_iter().collect());
        let comment = "a change".to_owned();
        let request = SilenceRequest { matchers, from: None, until, comment };
        send(&world, Verb::Silence { request });
        if is_wide && world.options.has(Part::Floods) && rng.percent(50) {
            // Mostly more than one message of the ledger would hold. What has more than 16 KiB is
            // kept quiet without its payload.
            let (n, bytes) = *rng.pick(&[(250, 4_400), (75, 15_000), (75, 15_000), (12, 200_000)]);
            let n = rng.range(n - n / 5, n + n / 5);
            // Where snapshots are taken meanwhile, more than one line of them holds.
            let n = if world.scene.ledger_bytes_max.is_some() { 2 * n } else { n };
            let soon = rng.range(2, 8) * SECOND;
            world.sim.after(soon, move |world| senders::flood(world, n, bytes));
        }
        if world.options.has(Part::Senders) && rng.percent(50) {
            // Somebody insists on something all the time, and goes on for a while.
            let target = rng.pick(&world.targets.spots).target.name.clone();
            let long = (lasts + 40) * SECOND;
            world.sim.spawn(OUTSIDE, senders::insist(Rc::clone(&world), "disk_full", target, long));
        }
        if rng.percent(30) {
            let wait = rng.range(5, lasts) * SECOND;
            world.sim.after(wait, |world| {
                let silences = world.laws.borrow().core().desk().silences().silences;
                if let Some(first) = silences.first() {
                    send(world, Verb::Unsilence { id: first.silence.id.clone() });
                }
            });
        }
    }
}

/// Gives a configuration.
pub(crate) fn apply(world: &Rc<World>, idx: usize) {
    let config = &world.scene.configs[idx];
    let mut verbs = Verb::configure_all(config, None).expect("a scene's configuration fits");
    if world.bug(Bug::ConfigInOnePiece) {
        let config = Box::new(config.clone());
        verbs = vec![Verb::Configure { config, text: None, parts: Vec::new() }];
    }
    // The last asks for those before.
    for (n, verb) in (0_u64..).zip(verbs) {
        world.sim.after(n * 20 * SECOND, |world| send(world, verb));
    }
}

/// Stops new fixes, and allows them again after a while.
pub(crate) fn pause_for_a_while(world: &Rc<World>, wait: Micros) {
    send(world, Verb::Pause { reason: "a change".to_owned() });
    world.sim.after(wait, |world| send(world, Verb::Resume));
}

/// Sends a command through a gateway, again until it is answered, under one id.
pub(crate) fn send(world: &Rc<World>, verb: Verb) {
    if let Verb::Approve { incident, plan_hash } = &verb {
        world.laws.borrow_mut().approve(*incident, plan_hash.clone());
    }
    world.trace.say(world.sim.now(), || format!("a person: {}", told(&verb)));
    let id = format!("command-{}-{}", verb.as_str(), world.sim.n_steps());
    let command = Command::new("ann", verb);
    let world = Rc::clone(world);
    world.clone().sim.spawn(OUTSIDE, async move {
        for _ in 0..20 {
            let (sender, answered) = oneshot::channel();
            let asked = Asked::Command(Box::new(command.clone()), id.clone(), sender);
            world.ask(Kind::Gateway, OUTSIDE, asked);
            let told = tokio::select! {
                biased;
                told = answered => told.ok(),
                () = Sim::sleep(&world, 20 * SECOND) => None,
            };
            if matches!(
                told,
                Some(
                    crate::agents::gateway::Answered::Done
                        | crate::agents::gateway::Answered::Accepted
                )
            ) {
                return;
            }
            Sim::sleep(&world, SECOND).await;
        }
    });
}

fn told(verb: &Verb) -> String {
    match verb {
        Verb::Approve { incident, plan_hash } => format!("approve {incident} {plan_hash:.8}"),
        Verb::Reject { incident, .. } => format!("reject {incident}"),
        Verb::Acknowledge { incident } => format!("acknowledge {incident}"),
        Verb::Close { incident, .. } => format!("close {incident}"),
        Verb::Retry { incident } => format!("retry {incident}"),
        Verb::Pause { .. }
        | Verb::Resume
        | Verb::Silence { .. }
        | Verb::Unsilence { .. }
        | Verb::Configure { .. }
        | Verb::ConfigurePart { .. } => verb.as_str().to_owned(),
    }
}
