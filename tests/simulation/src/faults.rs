//! What goes wrong with processes, broker and network, at random times.

use std::rc::Rc;

use crate::{
    clock::{MINUTE, MS, Micros, SECOND},
    files,
    options::Part,
    people,
    rng::Rng,
    senders,
    sim::{NodeId, OUTSIDE, Sim},
    world::{Kind, World},
};

/// Starts all of it.
pub(crate) fn begin(world: &Rc<World>) {
    for part in [
        Part::Crashes,
        Part::BrokerCrashes,
        Part::FullDisks,
        Part::Partitions,
        Part::Pauses,
        Part::Absences,
        Part::Vacancies,
        Part::Overloads,
        Part::Desertions,
        Part::Evictions,
    ] {
        if world.options.has(part) {
            world.sim.spawn(OUTSIDE, go_on(Rc::clone(world), part));
        }
    }
}

/// Stops new fixes just when one is ordered that nobody begins.
async fn think_better_of_it(world: Rc<World>, soon: Micros) {
    for second in 0..30 {
        Sim::sleep(&world, SECOND).await;
        if world.laws.borrow().is_any_ordered() {
            Sim::sleep(&world, soon).await;
            return people::pause_for_a_while(&world, 150 * SECOND);
        }
        if second % 5 == 0 {
            world.targets.break_one(&world);
        }
    }
}

/// Lets all fixers go on just when an order that waits for them has become too old, and nobody has
/// given it up yet.
async fn go_on_too_late(world: Rc<World>, wait: Micros) {
    let until = world.sim.now() + wait;
    while world.sim.now() < until {
        let now = world.sim.now();
        let overdue = world.laws.borrow().overdue_at(now).filter(|at| *at <= now + SECOND);
        Sim::sleep(&world, overdue.map_or(SECOND, |at| at.saturating_sub(now))).await;
        // It may have been withdrawn meanwhile.
        let is_left = overdue.is_some() && world.laws.borrow().overdue_at(now) == overdue;
        if is_left {
            return world.all(Kind::Fixer).into_iter().for_each(|fixer| world.go_on(fixer));
        }
    }
}

async fn go_on(world: Rc<World>, part: Part) {
    let mut rng = Rng::new(world.options.seed, part.as_str());
    // Some worlds are quiet, some are not.
    let mean = *rng.pick(&[2, 5, 5, 12, 40]) * MINUTE;
    let mean = if part == Part::Desertions { 4 * mean } else { mean };
    loop {
        Sim::sleep(&world, rng.waiting(mean)).await;
        if !world.net.is_rough.get() {
            return;
        }
        let node = 1 + rng.index(world.nodes.len() - 1);
        match part {
            Part::Crashes => world.crash(node, "at any time"),
            Part::BrokerCrashes => {
                let is_long = rng.percent(25);
                let wait = if is_long { rng.range(11_000, 25_000) } else { rng.range(50, 8000) };
                world.crash_broker(wait * MS);
                if is_long {
                    // Somebody edits the file just then.
                    files::edit(&world);
                }
            }
            Part::FullDisks => fill_disk(&world, &mut rng),
            Part::Partitions if world.is_up(node) && !world.is_cut(node) => {
                let wait = rng.range(1, 40) * SECOND;
                world.cut(node, wait);
            }
            Part::Pauses if world.is_up(node) && !world.is_paused(node) => {
                let wait = rng.range(200, 20_000) * MS;
                world.pause(node, wait);
            }
            Part::Overloads => {
                let until = world.sim.now() + rng.range(10, 90) * SECOND;
                world.overloaded_until.set(until);
                world.targets.break_one(&world);
            }
            _ => strike_agents(&world, part, &mut rng, node),
        }
    }
}

/// Agents are away for longer.
fn strike_agents(world: &Rc<World>, part: Part, rng: &mut Rng, node: NodeId) {
    match part {
        Part::Absences => {
            // Longer than an order may wait to be begun.
            let wait = if rng.percent(70) { rng.range(45, 120) } else { rng.range(120, 240) };
            let wait = wait * SECOND;
            for fixer in world.all(Kind::Fixer) {
                if world.is_up(fixer) && !world.is_paused(fixer) {
                    world.pause(fixer, wait);
                }
            }
            world.targets.break_one(world);
            if 120 * SECOND <= wait {
                world.sim.spawn(OUTSIDE, go_on_too_late(Rc::clone(world), wait));
            }
            if rng.percent(70) && world.options.has(Part::People) {
                let soon = rng.range(200, 4000) * MS;
                world.sim.spawn(OUTSIDE, think_better_of_it(Rc::clone(world), soon));
            }
        }
        Part::Vacancies => {
            // Longer than a diagnosis may take, and than an order may wait.
            let wait = rng.range(40, 200) * SECOND;
            let are_killed = rng.percent(50);
            let soon = rng.range(0, 20) * SECOND;
            world.sim.after(soon, |world| world.targets.break_one(world));
            for supervisor in world.all(Kind::Supervisor) {
                if are_killed {
                    world.stop(supervisor, wait);
                } else if world.is_up(supervisor) && !world.is_paused(supervisor) {
                    world.pause(supervisor, wait);
                }
            }
        }
        Part::Evictions => {
            let kind = world.node(node).kind;
            let n_left = world.all(kind).len() - world.n_gone(kind);
            if 1 < n_left && world.n_gone(kind) == 0 && rng.percent(8) {
                world.remove(node);
            } else {
                // Longer than an agent may be away before it is missed.
                world.stop(node, rng.range(8, 90) * SECOND);
            }
        }
        Part::Desertions => {
            // Gateways most often: what people are owed waits for them.
            let kinds = [Kind::Gateway, Kind::Gateway, Kind::Gateway, Kind::Analyzer];
            let (kind, wait) = (*rng.pick(&kinds), rng.range(4, 15) * MINUTE);
            for node in world.all(kind) {
                world.stop(node, wait);
            }
            if world.options.has(Part::Floods) && rng.percent(60) {
                let (n, soon) = (rng.range(50, 350), rng.range(5, 60) * SECOND);
                world.sim.after(soon, move |world| senders::flood_raw(world, n));
            }
        }
        _ => {}
    }
}

/// Lets the disk of a log take nothing for a while, mostly that of the leader; and much that is
/// large happens meanwhile.
fn fill_disk(world: &Rc<World>, rng: &mut Rng) {
    let supervisors = world.all(Kind::Supervisor);
    let leader = supervisors.iter().find(|it| world.node(**it).leads_since.get().is_some());
    let node = match leader {
        Some(leader) if rng.percent(70) => *leader,
        _ => *rng.pick(&supervisors),
    };
    let wait = rng.range(20, 400) * SECOND;
    world.trace.say(world.sim.now(), || format!("the disk of {} is full", world.member(node)));
    world.node(node).disk.borrow_mut().full_until = world.sim.now() + wait;
    let n = rng.range(40, 120);
    let has_floods = world.options.has(Part::Senders) && world.options.has(Part::Floods);
    // Only where so much fills the ledger.
    if world.scene.ledger_bytes_max.is_some() && has_floods && rng.percent(60) {
        senders::flood(world, n, 12_000);
    }
}
