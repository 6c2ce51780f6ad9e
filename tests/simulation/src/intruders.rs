//! Programs that are no target and take its number or its port, people who start a target by
//! hand, and hosts that are started anew.

use std::rc::Rc;

use host::process::Run;

use crate::{
    clock::{MINUTE, MS, Micros, SECOND},
    hosts::NUMBER_RESTS,
    options::Part,
    rng::Rng,
    sim::{OUTSIDE, Sim},
    world::World,
};

/// Starts them.
pub(crate) fn begin(world: &Rc<World>) {
    if world.options.has(Part::Intruders) && has_processes(world) {
        world.sim.spawn(OUTSIDE, reboot(Rc::clone(world)));
    }
}

fn has_processes(world: &World) -> bool {
    (0..world.targets.spots.len()).any(|idx| world.targets.hosts.has(idx))
}

/// A target has died by itself: its number and its port are free.
pub(crate) fn died(world: &Rc<World>, idx: usize, number: Option<i32>, lived: Micros) {
    let Some(number) = number else { return };
    if !world.options.has(Part::Intruders) || world.targets.is_calm.get() {
        return;
    }
    let mut rng = world.intruders.borrow_mut();
    if rng.percent(60) && NUMBER_RESTS < lived {
        let wait = rng.range(20 * MS, 6 * SECOND);
        take(world, Some(number), None, wait, rng.range(20, 400) * SECOND);
    }
    if rng.percent(15) {
        let wait = rng.range(10, 3000) * MS;
        take(world, None, Some(idx), wait, rng.range(5, 200) * SECOND);
    }
    if rng.percent(35) {
        let wait = rng.range(200, 15_000) * MS;
        world.sim.after(wait, move |world| world.targets.start_by_hand(world, idx));
    }
    // What it has left behind ends some time.
    let wait = rng.range(10, 200) * SECOND;
    world.sim.after(wait, move |world| {
        world.targets.hosts.end_leftovers(idx);
        world.targets.touch(world, idx);
    });
}

/// Somebody starts a program after a while, and ends it.
fn take(world: &Rc<World>, number: Option<i32>, at: Option<usize>, wait: Micros, lasts: Micros) {
    world.sim.after(wait, move |world| {
        let now = world.sim.now();
        let Some(run) = world.targets.hosts.intrude(number, at, now) else { return };
        world.trace.say(now, || format!("another program is process {}", run.pid));
        changed(world);
        world.sim.after(lasts, move |world| leave(world, run));
    });
}

fn leave(world: &Rc<World>, run: Run) {
    if world.targets.hosts.end_run(&run) {
        changed(world);
    }
}

/// Lets those who watch look again.
fn changed(world: &Rc<World>) {
    for idx in (0..world.targets.spots.len()).filter(|idx| world.targets.hosts.has(*idx)) {
        world.targets.touch(world, idx);
    }
}

/// Starts the host anew, now and then: files stay, processes do not.
async fn reboot(world: Rc<World>) {
    let mut rng = Rng::new(world.options.seed, "reboots");
    loop {
        Sim::sleep(&world, rng.waiting(40 * MINUTE)).await;
        if !world.net.is_rough.get() {
            return;
        }
        let (targets, now) = (&world.targets, world.sim.now());
        world.trace.say(now, || "the host of the processes is started anew".to_owned());
        targets.hosts.reboot(now);
        for idx in (0..targets.spots.len()).filter(|idx| targets.hosts.has(*idx)) {
            if rng.percent(60)
                && let Some(number) = targets.hosts.noted(idx)
            {
                let soon = rng.range(NUMBER_RESTS, 8 * SECOND);
                take(&world, Some(number), None, soon, rng.range(20, 400) * SECOND);
            }
            if rng.percent(50) {
                let soon = rng.range(1, 20) * SECOND;
                world.sim.after(soon, move |world| world.targets.start_by_hand(world, idx));
            }
            targets.rebooted(&world, idx);
        }
    }
}
