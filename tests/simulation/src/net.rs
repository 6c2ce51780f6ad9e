//! The network between agents and broker: it loses, doubles, delays and cuts off.

use std::{cell::RefCell, rc::Rc};

use tokio::sync::oneshot;

use crate::{
    broker::{Broker, Op, Outcome, Reply},
    clock::{MS, Micros, SECOND},
    laws::queues,
    options::Part,
    rng::Rng,
    sim::{NodeId, OUTSIDE},
    world::World,
};

/// Where an answer goes.
#[derive(Clone, Debug)]
pub(crate) struct ReplyTo {
    pub(crate) node: NodeId,
    pub(crate) life: u32,
    answer: Rc<RefCell<Option<oneshot::Sender<Reply>>>>,
}

/// What goes wrong at present.
#[derive(Debug)]
pub(crate) struct Net {
    rng: RefCell<Rng>,
    /// Set while faults happen.
    pub(crate) is_rough: std::cell::Cell<bool>,
    loss_ppm: u64,
    duplicate_ppm: u64,
    delay_ppm: u64,
    /// Messages that wait for the end of a partition.
    held: RefCell<Vec<(NodeId, Op, ReplyTo)>>,
    /// When the broker looks at its queues again.
    look_at: std::cell::Cell<Option<Micros>>,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, "network");
        let rate = |rng: &mut Rng, of: &[u64]| *rng.pick(of);
        Self {
            loss_ppm: rate(&mut rng, &[0, 500, 5_000, 30_000]),
            duplicate_ppm: rate(&mut rng, &[0, 500, 5_000, 30_000]),
            delay_ppm: rate(&mut rng, &[0, 1_000, 10_000, 50_000]),
            rng: RefCell::new(rng),
            is_rough: std::cell::Cell::new(true),
            held: RefCell::default(),
            look_at: std::cell::Cell::new(None),
        }
    }

    fn chance(&self, world: &World, part: Part, ppm: u64) -> bool {
        let hit = self.rng.borrow_mut().ppm(ppm);
        hit && self.is_rough.get() && world.options.has(part)
    }

    /// Returns how long one way takes.
    pub(crate) fn way(&self, world: &World) -> Micros {
        let short = self.rng.borrow_mut().range(80, 900);
        if !self.chance(world, Part::Delays, self.delay_ppm) {
            return short;
        }
        let mut rng = self.rng.borrow_mut();
        if rng.percent(10) { rng.range(SECOND, 8 * SECOND) } else { rng.range(5 * MS, 400 * MS) }
    }

    /// Returns whether a message without an answer is lost.
    pub(crate) fn loses(&self, world: &World) -> bool {
        self.chance(world, Part::Losses, self.loss_ppm)
    }
}

/// Sends an operation to the broker and returns what takes the answer. When the answer is
/// lost, nothing ever comes.
pub(crate) fn send(world: &Rc<World>, node: NodeId, op: Op) -> oneshot::Receiver<Reply> {
    let (answer, answered) = oneshot::channel();
    let life = world.life(node);
    let to = ReplyTo { node, life, answer: Rc::new(RefCell::new(Some(answer))) };
    if world.is_cut(node) {
        // A client sends what waits when it is connected again; or it gives up before.
        if world.net.rng.borrow_mut().percent(50) {
            world.net.held.borrow_mut().push((node, op, to));
        }
        return answered;
    }
    travel(world, op, to);
    answered
}

fn travel(world: &Rc<World>, op: Op, to: ReplyTo) {
    let net = &world.net;
    if net.chance(world, Part::Duplicates, net.duplicate_ppm) {
        let (op, to) = (op.clone(), to.clone());
        world.sim.after(net.way(world), move |world| arrive(world, op, to));
    }
    if net.chance(world, Part::Losses, net.loss_ppm) {
        return;
    }
    world.sim.after(net.way(world), move |world| arrive(world, op, to));
}

/// Sends what waited for the end of a partition.
pub(crate) fn healed(world: &Rc<World>, node: NodeId) {
    let all = world.net.held.take();
    let (sent, held): (Vec<_>, Vec<_>) = all.into_iter().partition(|(it, ..)| *it == node);
    *world.net.held.borrow_mut() = held;
    for (_, op, to) in sent {
        // What a process had not sent dies with it.
        if to.life == world.life(node) {
            travel(world, op, to);
        }
    }
}

fn arrive(world: &Rc<World>, op: Op, to: ReplyTo) {
    if !world.broker.borrow().is_up || (to.node != OUTSIDE && world.is_cut(to.node)) {
        return;
    }
    world.laws.borrow_mut().before(world, &op, to.node);
    let told = op.clone();
    let outcome = {
        let mut broker = world.broker.borrow_mut();
        broker.handle(world.sim.now(), op, to.clone())
    };
    let stored = outcome.replies.iter().find_map(|(_, reply)| match reply {
        Reply::Stored(seq) => Some(*seq),
        _ => None,
    });
    let is_full = outcome.replies.iter().any(|(_, reply)| matches!(reply, Reply::Full));
    answer(world, outcome);
    if let Op::Publish { kind, id, .. } = &told {
        if is_full {
            queues::refused(world, *kind);
        } else {
            queues::taken(world, id);
        }
    } else if is_full {
        world.laws.borrow_mut().kept.refused(world);
    }
    world.laws.borrow_mut().after(world, &told, to.node, stored);
}

/// Sends answers back, and looks again when something comes due.
pub(crate) fn answer(world: &Rc<World>, outcome: Outcome) {
    for (to, reply) in outcome.replies {
        if world.net.chance(world, Part::Losses, world.net.loss_ppm) {
            continue;
        }
        world.sim.after(world.net.way(world), move |world| {
            let heard = to.life == world.life(to.node) && !world.is_cut(to.node);
            let answer = if heard { to.answer.borrow_mut().take() } else { None };
            if let Some(answer) = answer {
                // Whoever waited may have given up.
                drop(answer.send(reply));
            }
        });
    }
    let Some(at) = outcome.look_at else { return };
    if world.net.look_at.get().is_none_or(|set| at < set || set <= world.sim.now()) {
        world.net.look_at.set(Some(at));
        world.sim.at(at, move |world| {
            if world.net.look_at.get() != Some(at) {
                return;
            }
            world.net.look_at.set(None);
            let mut outcome = Outcome::default();
            let now = world.sim.now();
            Broker::serve(&mut world.broker.borrow_mut(), now, &mut outcome);
            answer(world, outcome);
        });
    }
}
