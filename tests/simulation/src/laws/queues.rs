//! Work in its queues: what there is of one kind takes no room of another, and nothing waits for
//! long once somebody is there who takes it.

use std::{collections::BTreeMap, rc::Rc};

use domain::{desk::Desk, wire::WorkKind};

use crate::{
    broker,
    clock::{Micros, SECOND},
    world::World,
};

/// When all agents are there, work is done so soon: it is published again every 30 s.
const WAITS_MAX: Micros = 240 * SECOND;

/// So often the same may be in its queue, besides once for each leader since: an answer was lost,
/// or all was gone through again before the last time had ended.
const COPIES_MAX: usize = 5;

/// Which work was wanted, and since when.
#[derive(Debug, Default)]
pub(super) struct Queues {
    since: BTreeMap<String, Micros>,
}

impl Queues {
    /// A leader publishes work.
    pub(super) fn published(&mut self, id: &str, now: Micros) {
        self.since.entry(id.to_owned()).or_insert(now);
    }

    /// When all is settled, nobody is owed a notice, and no other work waits.
    pub(super) fn at_the_end(&self, world: &Rc<World>, desk: &Desk) {
        let now = world.sim.now();
        for wish in desk.pending() {
            let Some(since) = self.since.get(wish.id()) else { continue };
            if since + WAITS_MAX < now {
                let why = format!("{} waits since {} s", wish.id(), (now - since) / SECOND);
                return world.fail("no work waits for long when somebody can do it", why);
            }
        }
    }
}

/// A queue did not take a piece of work: it must be full of work of the same kind.
pub(crate) fn refused(world: &Rc<World>, kind: WorkKind) {
    let (n, bytes) = world.broker.borrow().holds(kind);
    let most = broker::bounds(kind);
    world.trace.say(world.sim.now(), || format!("no room for {kind:?}: {n} pieces, {bytes} bytes"));
    // The last one may be larger than what is left.
    if n < most.0 && bytes < most.1 / 2 {
        let why = format!("{kind:?}, with {n} pieces and {bytes} bytes of it in the queue");
        world.fail("work is refused only for what there is of its own kind", why);
    }
}

/// A queue has taken a piece of work: what is there already is published again only by those who
/// do not know it.
pub(crate) fn taken(world: &Rc<World>, id: &str) {
    let Some((n_copies, first)) = world.broker.borrow().copies(id) else { return };
    let n_leaders = world.leaderships.borrow().iter().filter(|at| first <= **at).count();
    if COPIES_MAX + n_leaders < n_copies {
        let why = format!("{id} is there {n_copies} times, with {n_leaders} new leaders since");
        world.fail("what a queue holds is not published again", why);
    }
}
