//! All agents' cores and a model of the broker, in one thread with virtual time.
//!
//! [`run`] simulates one seed: processes, broker, network, targets, people. What the agents
//! decide is their own code; what they wait for is modelled. Laws are looked at after every
//! step by somebody who knows everything. See `docs/simulation.md`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    missing_debug_implementations,
    clippy::needless_pass_by_value,
    clippy::format_push_string,
    reason = "a simulation that goes wrong must stop at once, and it looks at few of many cases"
)]

mod agents;
mod batch;
mod broker;
mod bug;
mod clock;
mod disk;
mod faults;
mod files;
mod hosts;
mod intruders;
mod laws;
mod members;
mod net;
mod options;
mod people;
mod restoration;
mod rng;
mod scene;
mod senders;
mod shrink;
mod sim;
mod targets;
mod trace;
mod world;

use std::rc::Rc;

use clock::{HOUR, MINUTE};
use domain::wire::Verb;
use sim::Sim;
use targets::Targets;
use world::{Kind, World};

pub use batch::{Batch, Found, Report, find_bugs, run_many};
pub use bug::Bug;
pub use laws::{Broken, Counts};
pub use options::{Options, Part};
pub use shrink::{Shrunk, shrink};

/// The world may take so long to settle. Approvals, holds, attempts and rechecks have
/// deadlines, one after the other.
const SETTLE_MAX: u64 = 3 * HOUR;
/// It gets at least so long.
const SETTLE_MIN: u64 = 8 * MINUTE;

/// So long when agents are gone for good, until nobody misses them any more.
const SETTLE_SMALLER: u64 = HOUR + 5 * MINUTE;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The first law that was broken.
    pub broken: Option<Broken>,
    /// How much happened.
    pub counts: Counts,
    /// Simulated time, in microseconds.
    pub simulated: u64,
    /// Hash of everything that happened.
    pub hash: u64,
    /// Lines of the trace, when they were kept.
    pub trace: Vec<(u64, String)>,
}

/// Simulates.
#[must_use]
pub fn run(options: &Options) -> Outcome {
    let world = World::new(options.clone());
    for node in 1..world.nodes.len() {
        world.start(node);
    }
    faults::begin(&world);
    people::begin(&world);
    restoration::begin(&world);
    senders::begin(&world);
    Targets::begin(&world);
    intruders::begin(&world);
    Sim::run(&world, options.minutes * MINUTE);
    settle(&world);
    let outcome = Outcome {
        broken: world.failure(),
        counts: world.laws.borrow().counts,
        simulated: world.sim.now(),
        hash: world.trace.hash(),
        trace: world.trace.lines(),
    };
    world.sim.clear();
    outcome
}

/// Lets everything go well, until nothing moves any more; then looks at everything.
fn settle(world: &Rc<World>) {
    if world.has_failed() {
        return;
    }
    world.net.is_rough.set(false);
    world.targets.is_calm.set(true);
    world.start_all();
    world.trace.say(world.sim.now(), || "nothing goes wrong any more".to_owned());
    world.sim.after(30 * clock::SECOND, |world| people::send(world, Verb::Resume));
    let begun = world.sim.now();
    let is_smaller = Kind::AGENTS.iter().any(|it| 0 < world.n_gone(*it));
    let settle_min = if is_smaller { SETTLE_SMALLER } else { SETTLE_MIN };
    loop {
        Sim::run(world, world.sim.now() + 2 * MINUTE);
        if world.has_failed() {
            return;
        }
        let passed = world.sim.now() - begun;
        let is_settled = settle_min <= passed && world.laws.borrow().is_settled();
        if is_settled || SETTLE_MAX <= passed {
            break;
        }
    }
    let stands = world.laws.borrow().stands();
    world.trace.say(world.sim.now(), || format!("at the end: {stands:?}"));
    world.laws.borrow_mut().at_the_end(world);
}
