//! The broker loses its disk, and somebody rebuilds the ledger from the log of a supervisor, with
//! the product's own reading of it. The new inbox counts from 1 again.

use std::{
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;

use crate::{
    clock::{MINUTE, SECOND},
    options::Part,
    rng::Rng,
    senders,
    sim::{NodeId, OUTSIDE, Sim},
    world::{Kind, World},
};

/// What was under way reaches the broker, or is lost.
const IN_FLIGHT: u64 = 10 * SECOND;
/// Orders are older than they may be when fixers go on: their claims are gone.
const FIXERS_REST: u64 = 150 * SECOND;

/// Plans it, where it happens.
pub(crate) fn begin(world: &Rc<World>) {
    if world.options.has(Part::LostDisks) && world.scene.loses_disk {
        senders::burst(world, 2 * SECOND);
        world.sim.spawn(OUTSIDE, lose_disk(Rc::clone(world)));
    }
}

async fn lose_disk(world: Rc<World>) {
    let mut rng = Rng::new(world.options.seed, "restoration");
    let latest = (world.options.minutes * 2 / 3).max(3);
    Sim::sleep(&world, rng.range(2 * MINUTE, latest * MINUTE)).await;
    if !world.net.is_rough.get() {
        return;
    }
    let stopped_at = world.sim.now();
    world.is_held.set(true);
    let held: Vec<NodeId> = [world.all(Kind::Supervisor), world.all(Kind::Fixer)].concat();
    for node in &held {
        world.crash(*node, "ended to restore");
    }
    Sim::sleep(&world, IN_FLIGHT).await;
    if let Some(log) = best_log(&world) {
        let away = rng.range(2, 15) * SECOND;
        world.trace.say(world.sim.now(), || "the broker loses its disk".to_owned());
        world.crash_broker(away);
        world.laws.borrow_mut().disk_lost(&world);
        world.broker.borrow_mut().lose_disk();
        senders::burst(&world, away + 2 * SECOND);
        Sim::sleep(&world, away + rng.range(10, 60) * SECOND).await;
        while !world.broker.borrow().is_up {
            Sim::sleep(&world, SECOND).await;
        }
        restore(&world, log);
    }
    let rest = (stopped_at + FIXERS_REST).saturating_sub(world.sim.now());
    Sim::sleep(&world, rest).await;
    world.is_held.set(false);
    for node in held {
        world.start(node);
    }
}

/// Returns who has all lines. What is decided and in no log is lost for good, which is as it is;
/// here the disk is lost only when nothing is.
fn best_log(world: &Rc<World>) -> Option<NodeId> {
    let n_decisions = world.laws.borrow().core().n_stored();
    let is_whole = |node: &NodeId| {
        let disk = world.node(*node).disk.borrow();
        0 < n_decisions && disk.n_synced() == n_decisions && disk.missing().next().is_none()
    };
    world.all(Kind::Supervisor).into_iter().find(is_whole)
}

/// As `selfheal restore`.
fn restore(world: &Rc<World>, node: NodeId) {
    static N: AtomicU64 = AtomicU64::new(0);
    let n = N.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("simulation-{}-{n}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory for a log");
    let path = dir.join("incident_logs.jsonl");
    let mut text = {
        let disk = world.node(node).disk.borrow();
        disk.lines().iter().flatten().cloned().collect::<Vec<_>>().join(&b"\n"[..])
    };
    text.push(b'\n');
    std::fs::write(&path, text).expect("a log can be written");
    let rebuilt = cli::edges::rebuilt(&path, world.broker.borrow().inbox());
    std::fs::remove_dir_all(&dir).expect("the directory of a log can be removed");
    let entries = match rebuilt {
        Ok(entries) => entries,
        Err(why) => return world.fail("a ledger can be restored from a whole log", why),
    };
    let write = |it| Bytes::from(serde_json::to_vec(it).expect("entries have a form in JSON"));
    let payloads: Vec<Bytes> = entries.iter().map(write).collect();
    world.trace.say(world.sim.now(), || format!("{} messages are restored", payloads.len()));
    let now = world.sim.now();
    if !world.broker.borrow_mut().restore(now, &payloads) {
        return world.fail("a ledger can be restored from a whole log", "it is not taken");
    }
    world.laws.borrow_mut().restored(world, &payloads);
}
