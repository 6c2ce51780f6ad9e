//! The agents: what they decide is their own code; around it is a shell that waits for
//! virtual time and a modelled broker instead of real ones.

pub(crate) mod analyzer;
pub(crate) mod fixer;
pub(crate) mod gateway;
pub(crate) mod hand;
pub(crate) mod lane;
pub(crate) mod lease;
pub(crate) mod monitor;
pub(crate) mod supervisor;
pub(crate) mod verifier;
pub(crate) mod watcher;

use std::{rc::Rc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::{sync::mpsc::UnboundedReceiver, time::Instant};

use crate::{
    broker::{Op, Reply},
    clock::{Micros, micros},
    net,
    sim::{NodeId, Sim, Sleep},
    world::{Asked, Kind, World},
};

/// Starts the process of a node.
pub(crate) fn start(world: &Rc<World>, node: NodeId, asked: UnboundedReceiver<Asked>) {
    let agent = Agent::new(world, node);
    match world.node(node).kind {
        Kind::Outside => {}
        Kind::Supervisor => supervisor::start(&agent, asked),
        Kind::Monitor => monitor::start(&agent, asked),
        Kind::Analyzer => analyzer::start(&agent),
        Kind::Fixer => fixer::start(&agent),
        Kind::Gateway => gateway::start(&agent, asked),
    }
}

/// One life of a process: its clock, and its way out.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) world: Rc<World>,
    pub(crate) node: NodeId,
    pub(crate) member: Rc<str>,
}

impl Agent {
    pub(crate) fn new(world: &Rc<World>, node: NodeId) -> Self {
        Self { world: Rc::clone(world), node, member: world.member(node).into() }
    }

    pub(crate) fn now(&self) -> Micros {
        self.world.sim.now()
    }

    pub(crate) fn utc(&self) -> DateTime<Utc> {
        self.world.node(self.node).clock.get().utc(self.now())
    }

    pub(crate) fn instant(&self) -> Instant {
        self.world.node(self.node).clock.get().instant(self.now())
    }

    pub(crate) fn begun(&self) -> ::monitor::sample::Begun {
        ::monitor::sample::Begun { at: self.instant(), utc: self.utc() }
    }

    /// Waits, by the agent's own clock.
    pub(crate) fn sleep(&self, wait: Duration) -> Sleep {
        let real = self.world.node(self.node).clock.get().real(micros(wait));
        Sim::sleep(&self.world, real)
    }

    pub(crate) fn sleep_until(&self, at: Instant) -> Sleep {
        self.sleep(at.saturating_duration_since(self.instant()))
    }

    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.world.sim.spawn(self.node, future);
    }

    pub(crate) fn say(&self, line: impl FnOnce() -> String) {
        self.world.trace.say(self.now(), || format!("{}: {}", self.member, line()));
    }

    /// An output: the process may die before it, or right after it.
    pub(crate) async fn output(&self) {
        if self.world.dies_here(self.node) {
            std::future::pending::<()>().await;
        }
    }

    /// Asks the broker. `None`: no answer in time; nobody knows whether it was done.
    pub(crate) async fn call(&self, op: Op, patience: Duration) -> Option<Reply> {
        self.output().await;
        let answered = net::send(&self.world, self.node, op);
        self.output().await;
        let answer = async {
            match answered.await {
                Ok(reply) => reply,
                // The answer was lost, which nobody notices.
                Err(_lost) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            reply = answer => Some(reply),
            () = self.sleep(patience) => None,
        }
    }

    /// Tells the broker something without waiting for an answer.
    pub(crate) async fn tell(&self, op: Op) {
        self.output().await;
        drop(net::send(&self.world, self.node, op));
    }
}
