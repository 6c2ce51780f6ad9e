//! Who is believed to live, and which configuration agents are given: told by the broker
//! to those who are connected.

use std::{collections::BTreeMap, rc::Rc};

use domain::config::Config;

use crate::{
    broker::LEASE_TTL,
    clock::{MS, Micros, SECOND},
    sim::{NodeId, OUTSIDE},
    world::{Kind, World},
};

impl World {
    fn is_reachable(&self, node: NodeId) -> bool {
        self.is_up(node) && !self.is_cut(node) && !self.is_paused(node)
    }

    /// Notes that a process gives signs of life (again).
    pub(crate) fn seen(self: &Rc<Self>, node: NodeId) {
        let wait = self.net.way(self) + 20 * MS;
        self.sim.after(wait, move |world| {
            if !world.is_reachable(node) {
                return;
            }
            if !world.broker.borrow().is_up {
                return;
            }
            let mut all: BTreeMap<_, _> = (**world.members.borrow()).clone();
            all.insert(world.member(node), world.nodes[node].kind);
            world.tell_members(all);
            world.catch_up(node);
        });
    }

    /// Notes that a process gives no signs of life for now: it is missed after a while.
    pub(crate) fn unseen(self: &Rc<Self>, node: NodeId) {
        let (member, life) = (self.member(node), self.life(node));
        self.sim.after(LEASE_TTL, move |world| {
            if world.life(node) == life && world.is_reachable(node) {
                return;
            }
            let mut all: BTreeMap<_, _> = (**world.members.borrow()).clone();
            if all.remove(&member).is_some() {
                world.tell_members(all);
            }
        });
    }

    fn tell_members(self: &Rc<Self>, all: BTreeMap<String, Kind>) {
        let all = Rc::new(all);
        *self.members.borrow_mut() = Rc::clone(&all);
        for node in 1..self.nodes.len() {
            if self.is_up(node) && !self.is_cut(node) {
                self.nodes[node].members.send_replace(Rc::clone(&all));
            }
        }
    }

    /// Tells a node what it has missed.
    fn catch_up(&self, node: NodeId) {
        self.nodes[node].members.send_replace(Rc::clone(&self.members.borrow()));
        if let Some(active) = &*self.active.borrow() {
            self.nodes[node].config.send_replace(Some(active.clone()));
        }
    }

    /// Puts a configuration where agents follow it. None overtakes a later one of the same
    /// supervisor, which writes one after the other.
    pub(crate) fn configure(self: &Rc<Self>, from: NodeId, config: Config) {
        if self.is_cut(from) || !self.broker.borrow().is_up {
            return;
        }
        let number = self.n_configured.get() + 1;
        self.n_configured.set(number);
        self.sim.after(self.net.way(self), move |world| {
            let former = world.configured.borrow_mut().insert(from, number);
            if let Some(later) = former.filter(|it| number < *it) {
                world.configured.borrow_mut().insert(from, later);
                return;
            }
            let revision = world.active.borrow().as_ref().map_or(0, |it| it.0) + 1;
            let active = (revision, Rc::new(config));
            *world.active.borrow_mut() = Some(active.clone());
            for node in 1..world.nodes.len() {
                if world.is_up(node) && !world.is_cut(node) {
                    world.nodes[node].config.send_replace(Some(active.clone()));
                }
            }
        });
    }

    /// The broker dies, and is started again after a while.
    pub(crate) fn crash_broker(self: &Rc<Self>, wait: Micros) {
        if !self.broker.borrow().is_up {
            return;
        }
        self.trace.say(self.sim.now(), || "the broker dies".to_owned());
        self.broker.borrow_mut().crash();
        self.disturbed(OUTSIDE);
        self.tell_members(BTreeMap::new());
        self.sim.after(wait, |world| {
            world.trace.say(world.sim.now(), || "the broker is back".to_owned());
            world.broker.borrow_mut().is_up = true;
            world.disturbed(OUTSIDE);
            for node in 1..world.nodes.len() {
                let wait = world.net.way(world) * 50 % SECOND;
                world.sim.after(wait, move |world| {
                    if world.is_reachable(node) {
                        world.nodes[node].connected.notify_waiters();
                        world.seen(node);
                    }
                });
            }
        });
    }
}
