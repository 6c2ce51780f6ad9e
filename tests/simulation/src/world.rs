//! The world: nodes, broker, network, targets, and the laws that watch them.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use bytes::Bytes;
use domain::{
    config::Config,
    target::ZONE_DEFAULT,
    wire::{Answer, Member, ProbeReply, ProbeRequest},
};
use tokio::sync::{Notify, oneshot, watch};

use crate::{
    agents::{
        self,
        supervisor::{Seat, archive::Desks},
    },
    broker::Broker,
    bug::Bug,
    clock::{Clock, MS, Micros, SECOND},
    disk::Disk,
    files::Files,
    laws::Laws,
    net::{self, Net},
    options::{Options, Part},
    rng::Rng,
    scene::Scene,
    sim::{NodeId, OUTSIDE, Sim},
    targets::Targets,
    trace::Trace,
};

/// What kind of process a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Outside,
    Supervisor,
    Monitor,
    Analyzer,
    Fixer,
    Gateway,
}

impl Kind {
    /// Those that are members.
    pub(crate) const AGENTS: [Self; 5] =
        [Self::Supervisor, Self::Monitor, Self::Analyzer, Self::Fixer, Self::Gateway];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Outside => "outside",
            Self::Supervisor => "supervisor",
            Self::Monitor => "monitor",
            Self::Analyzer => "analyzer",
            Self::Fixer => "fixer",
            Self::Gateway => "gateway",
        }
    }
}

/// A question from one agent to another.
pub(crate) enum Asked {
    Probe(Box<ProbeRequest>, oneshot::Sender<ProbeReply>),
    /// Which incidents are open?
    Open(oneshot::Sender<monitor::incidents::Open>),
    /// An HTTP request.
    Http(Bytes, oneshot::Sender<agents::gateway::Answered>),
    /// A command of a person.
    Command(Box<domain::wire::Command>, String, oneshot::Sender<agents::gateway::Answered>),
    /// A line that is told live.
    Live(Bytes),
}

/// One process, or rather the place where it is started anew.
pub(crate) struct Node {
    pub(crate) kind: Kind,
    life: Cell<u32>,
    is_up: Cell<bool>,
    is_doomed: Cell<bool>,
    paused_until: Cell<Micros>,
    is_cut: Cell<bool>,
    stopped_until: Cell<Micros>,
    /// Its installation has become smaller: it never comes back.
    is_gone: Cell<bool>,
    /// Since when it leads, if it is a supervisor that does.
    pub(crate) leads_since: Cell<Option<Micros>>,
    pub(crate) clock: Cell<Clock>,
    pub(crate) disk: RefCell<Disk>,
    /// The state of a supervisor, for those who ask it and for the laws.
    pub(crate) seat: RefCell<Option<Rc<RefCell<Seat>>>>,
    asked: RefCell<Option<tokio::sync::mpsc::UnboundedSender<Asked>>>,
    pub(crate) config: watch::Sender<Option<(u64, Rc<Config>)>>,
    pub(crate) members: watch::Sender<Rc<BTreeMap<String, Kind>>>,
    pub(crate) connected: Rc<Notify>,
    pub(crate) file_changed: Rc<Notify>,
}

/// Everything.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) sim: Sim,
    pub(crate) net: Net,
    pub(crate) broker: RefCell<Broker>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) targets: Targets,
    pub(crate) scene: Scene,
    pub(crate) laws: RefCell<Laws>,
    pub(crate) files: Files,
    pub(crate) trace: Trace,
    /// Snapshots that somebody has read.
    pub(crate) desks: Desks,
    /// Who waits for an answer of the leader, by subject.
    pub(crate) inboxes: RefCell<BTreeMap<String, oneshot::Sender<Answer>>>,
    /// The configuration that agents are given, by revision.
    pub(crate) active: RefCell<Option<(u64, Rc<Config>)>>,
    /// When leaderships began.
    pub(crate) leaderships: RefCell<Vec<Micros>>,
    /// How many configurations were sent to the agents.
    pub(crate) n_configured: Cell<u64>,
    /// Which of them came last, by the supervisor that sent it.
    pub(crate) configured: RefCell<BTreeMap<NodeId, u64>>,
    /// All that were ever there, as they say of themselves.
    pub(crate) cards: RefCell<BTreeMap<String, Member>>,
    /// Who is believed to live.
    pub(crate) members: RefCell<Rc<BTreeMap<String, Kind>>>,
    crashes: RefCell<Rng>,
    freezes: RefCell<Rng>,
    busy: RefCell<Rng>,
    pub(crate) intruders: RefCell<Rng>,
    /// Monitors see only part of what they look at until then.
    pub(crate) overloaded_until: Cell<Micros>,
    /// When a supervisor or the broker was in trouble last.
    pub(crate) disturbed_at: Cell<Micros>,
    pub(crate) crash_ppm: Cell<u64>,
    /// Supervisors and fixers are not started until the ledger is restored.
    pub(crate) is_held: Cell<bool>,
    failure: RefCell<Option<crate::laws::Broken>>,
}

impl World {
    pub(crate) fn new(options: Options) -> Rc<Self> {
        let scene = Scene::new(&options);
        let mut rng = Rng::new(options.seed, "nodes");
        let mut broker = Broker::new(scene.ledger_bytes_max);
        broker.has_one_queue = options.bug == Some(Bug::OneQueueForAll);
        let mut nodes = vec![node(Kind::Outside, Clock::default())];
        for kind in &scene.kinds {
            let mut clock = Clock::default();
            if options.has(Part::Clocks) {
                let off = i64::try_from(rng.range(0, 2_400_000)).unwrap_or(0) - 1_200_000;
                let drift = i64::try_from(rng.range(0, 400)).unwrap_or(0) - 200;
                clock = Clock { offset_us: off, drift_ppm: drift };
            }
            nodes.push(node(*kind, clock));
        }
        let files = Files::new(options.seed, nodes.len());
        Rc::new(Self {
            files,
            sim: Sim::default(),
            net: Net::new(options.seed),
            broker: RefCell::new(broker),
            nodes,
            targets: Targets::new(&scene, &options),
            laws: RefCell::new(Laws::new(&scene)),
            trace: Trace::new(options.trace),
            desks: Desks::default(),
            inboxes: RefCell::default(),
            active: RefCell::default(),
            leaderships: RefCell::default(),
            n_configured: Cell::new(0),
            configured: RefCell::default(),
            cards: RefCell::default(),
            members: RefCell::default(),
            crashes: RefCell::new(Rng::new(options.seed, "crashes")),
            freezes: RefCell::new(Rng::new(options.seed, "freezes")),
            busy: RefCell::new(Rng::new(options.seed, "busy")),
            intruders: RefCell::new(Rng::new(options.seed, "intruders")),
            overloaded_until: Cell::new(0),
            disturbed_at: Cell::new(0),
            crash_ppm: Cell::new(*rng.pick(&[0, 300, 1_000, 4_000])),
            is_held: Cell::new(false),
            failure: RefCell::new(None),
            scene,
            options,
        })
    }

    pub(crate) fn bug(&self, bug: Bug) -> bool {
        self.options.bug == Some(bug)
    }

    /// Notes the first broken law. Nothing happens after it.
    pub(crate) fn fail(&self, law: &'static str, why: impl Into<String>) {
        let broken = crate::laws::Broken { law, why: why.into(), at: self.sim.now() };
        self.trace.say(self.sim.now(), || format!("BROKEN {law}: {}", broken.why));
        self.failure.borrow_mut().get_or_insert(broken);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }

    pub(crate) fn failure(&self) -> Option<crate::laws::Broken> {
        self.failure.borrow().clone()
    }

    pub(crate) fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node]
    }

    pub(crate) fn life(&self, node: NodeId) -> u32 {
        self.nodes[node].life.get()
    }

    pub(crate) fn is_up(&self, node: NodeId) -> bool {
        node == OUTSIDE || self.nodes[node].is_up.get()
    }

    pub(crate) fn is_cut(&self, node: NodeId) -> bool {
        self.nodes[node].is_cut.get()
    }

    pub(crate) fn is_paused(&self, node: NodeId) -> bool {
        self.sim.now() < self.nodes[node].paused_until.get()
    }

    /// Returns the name under which a process of this life is a member.
    pub(crate) fn member(&self, node: NodeId) -> String {
        let kind = self.nodes[node].kind.as_str();
        format!("{kind}-{node:02x}{:06x}", self.life(node))
    }

    pub(crate) fn all(&self, kind: Kind) -> Vec<NodeId> {
        (0..self.nodes.len()).filter(|it| self.nodes[*it].kind == kind).collect()
    }

    /// Starts a process.
    pub(crate) fn start(self: &Rc<Self>, node: NodeId) {
        let place = &self.nodes[node];
        let is_held = self.is_held.get() && matches!(place.kind, Kind::Supervisor | Kind::Fixer);
        if place.is_up.get() || place.is_gone.get() || node == OUTSIDE || is_held {
            return;
        }
        place.life.set(place.life.get() + 1);
        place.is_up.set(true);
        place.is_doomed.set(false);
        place.paused_until.set(0);
        let card = self.card(node);
        self.cards.borrow_mut().insert(card.id.clone(), card);
        place.connected.notify_waiters();
        self.trace.say(self.sim.now(), || format!("{} starts", self.member(node)));
        let (asked, questions) = tokio::sync::mpsc::unbounded_channel();
        *place.asked.borrow_mut() = Some(asked);
        place.config.send_replace(None);
        place.members.send_replace(Rc::default());
        agents::start(self, node, questions);
        self.seen(node);
        self.disturbed(node);
    }

    /// Ends a process at once; only what is on its disk stays.
    pub(crate) fn crash(self: &Rc<Self>, node: NodeId, why: &str) {
        let place = &self.nodes[node];
        if !self.is_up(node) || node == OUTSIDE {
            return;
        }
        self.trace.say(self.sim.now(), || format!("{} dies ({why})", self.member(node)));
        self.trace.mark(1, u64::try_from(node).unwrap_or(0));
        place.is_up.set(false);
        place.is_doomed.set(false);
        self.sim.kill(node);
        *place.asked.borrow_mut() = None;
        *place.seat.borrow_mut() = None;
        place.leads_since.set(None);
        place.disk.borrow_mut().crash(&mut self.crashes.borrow_mut());
        let wait = self.crashes.borrow_mut().range(20_000, 9_000_000);
        let life = self.life(node);
        // Whoever was stopped for longer meanwhile is started later.
        self.sim.after(wait, move |world| {
            if world.life(node) == life && world.nodes[node].stopped_until.get() <= world.sim.now()
            {
                world.start(node);
            }
        });
        self.unseen(node);
        self.disturbed(node);
    }

    /// Ends a process; nobody starts it for a while.
    pub(crate) fn stop(self: &Rc<Self>, node: NodeId, wait: Micros) {
        let place = &self.nodes[node];
        let until = (self.sim.now() + wait).max(place.stopped_until.get());
        place.stopped_until.set(until);
        self.crash(node, "stopped");
        self.sim.at(until, move |world| {
            if world.nodes[node].stopped_until.get() <= world.sim.now() {
                world.start(node);
            }
        });
    }

    /// Returns what a process of this life says of itself. A pod has another name in each life.
    fn card(&self, node: NodeId) -> Member {
        let (kind, life) = (self.nodes[node].kind.as_str(), self.life(node));
        let host = match self.scene.are_pods {
            true => format!("{kind}-{node}-{life:x}"),
            false => format!("host-{node}"),
        };
        Member {
            id: self.member(node),
            kind: kind.to_owned(),
            zones: vec![ZONE_DEFAULT.to_owned()],
            version: "1.0.0".to_owned(),
            host,
            pid: life,
            started_at: self.nodes[node].clock.get().utc(self.sim.now()),
            pulse: None,
        }
    }

    /// Ends a process for good: its installation becomes smaller.
    pub(crate) fn remove(self: &Rc<Self>, node: NodeId) {
        self.nodes[node].is_gone.set(true);
        self.crash(node, "for good");
    }

    /// Returns how many processes of a kind do not come back.
    pub(crate) fn n_gone(&self, kind: Kind) -> usize {
        self.all(kind).into_iter().filter(|it| self.nodes[*it].is_gone.get()).count()
    }

    /// Starts all that is stopped: nothing goes wrong any more.
    pub(crate) fn start_all(self: &Rc<Self>) {
        for node in 1..self.nodes.len() {
            self.nodes[node].stopped_until.set(0);
            self.start(node);
        }
    }

    /// Notes that something went wrong on the way to decisions.
    pub(crate) fn disturbed(&self, node: NodeId) {
        if matches!(self.nodes[node].kind, Kind::Supervisor | Kind::Outside) {
            self.disturbed_at.set(self.sim.now());
        }
    }

    /// Says whether a monitor is too busy to see something in time.
    pub(crate) fn is_unseen(&self) -> bool {
        self.sim.now() < self.overloaded_until.get()
            && self.net.is_rough.get()
            && self.busy.borrow_mut().percent(50)
    }

    /// Stops or cuts off a process that has just begun to act, now and then.
    pub(crate) fn freeze(self: &Rc<Self>, node: NodeId, percent: u64) {
        if !self.net.is_rough.get() || !self.options.has(Part::Freezes) {
            return;
        }
        let mut rng = self.freezes.borrow_mut();
        let (hit, is_cut) = (rng.percent(percent), rng.percent(60));
        let (soon, wait) = (rng.range(1, 300) * MS, rng.range(5, 60) * SECOND);
        drop(rng);
        if !hit {
            return;
        }
        let life = self.life(node);
        self.sim.after(soon, move |world| {
            if world.life(node) != life || !world.is_up(node) {
            } else if is_cut && !world.is_cut(node) {
                world.cut(node, wait);
            } else if !is_cut && !world.is_paused(node) {
                world.pause(node, wait);
            }
        });
    }

    /// Called after each poll of a node's task.
    pub(crate) fn reap(self: &Rc<Self>, node: NodeId) {
        if self.nodes[node].is_doomed.get() {
            self.crash(node, "between two outputs");
        }
    }

    /// Says whether a node dies at this output. The caller must wait for ever then.
    pub(crate) fn dies_here(&self, node: NodeId) -> bool {
        let hit = self.crashes.borrow_mut().ppm(self.crash_ppm.get());
        let dies =
            hit && node != OUTSIDE && self.net.is_rough.get() && self.options.has(Part::Crashes);
        if dies {
            self.nodes[node].is_doomed.set(true);
        }
        dies || self.nodes[node].is_doomed.get()
    }

    pub(crate) fn pause(self: &Rc<Self>, node: NodeId, wait: Micros) {
        let until = self.sim.now() + wait;
        self.trace.say(self.sim.now(), || format!("{} is stopped", self.member(node)));
        self.nodes[node].paused_until.set(until);
        self.unseen(node);
        self.disturbed(node);
        self.sim.at(until, move |world| {
            if !world.is_paused(node) {
                world.trace.say(world.sim.now(), || format!("{} goes on", world.member(node)));
                world.sim.resume(node);
                world.seen(node);
                world.disturbed(node);
            }
        });
    }

    /// Lets a process go on that is stopped, before its time.
    pub(crate) fn go_on(self: &Rc<Self>, node: NodeId) {
        if !self.is_paused(node) {
            return;
        }
        self.trace.say(self.sim.now(), || format!("{} goes on", self.member(node)));
        self.nodes[node].paused_until.set(0);
        self.sim.resume(node);
        self.seen(node);
        self.disturbed(node);
    }

    pub(crate) fn cut(self: &Rc<Self>, node: NodeId, wait: Micros) {
        self.trace.say(self.sim.now(), || format!("{} is cut off", self.member(node)));
        self.nodes[node].is_cut.set(true);
        self.unseen(node);
        self.disturbed(node);
        self.sim.after(wait, move |world| {
            world.trace.say(world.sim.now(), || format!("{} is connected", world.member(node)));
            world.nodes[node].is_cut.set(false);
            net::healed(world, node);
            world.nodes[node].connected.notify_waiters();
            world.seen(node);
            world.disturbed(node);
        });
    }

    /// Asks any living agent of a kind. `None`: there is none, or the question was lost.
    pub(crate) fn ask(self: &Rc<Self>, kind: Kind, from: NodeId, question: Asked) {
        if self.is_cut(from) || !self.broker.borrow().is_up || self.net.loses(self) {
            return;
        }
        let there: Vec<_> =
            self.all(kind).into_iter().filter(|it| self.is_up(*it) && !self.is_cut(*it)).collect();
        if there.is_empty() {
            return;
        }
        let node = *self.crashes.borrow_mut().pick(&there);
        self.deliver(node, question);
    }

    /// Brings something to one agent.
    pub(crate) fn deliver(self: &Rc<Self>, node: NodeId, what: Asked) {
        let life = self.life(node);
        self.sim.after(self.net.way(self), move |world| {
            if world.life(node) != life || world.is_cut(node) {
                return;
            }
            if let Some(asked) = &*world.nodes[node].asked.borrow() {
                drop(asked.send(what));
            }
        });
    }
}

fn node(kind: Kind, clock: Clock) -> Node {
    Node {
        kind,
        life: Cell::new(0),
        is_up: Cell::new(false),
        is_doomed: Cell::new(false),
        paused_until: Cell::new(0),
        is_cut: Cell::new(false),
        stopped_until: Cell::new(0),
        is_gone: Cell::new(false),
        leads_since: Cell::new(None),
        clock: Cell::new(clock),
        disk: RefCell::default(),
        seat: RefCell::new(None),
        asked: RefCell::new(None),
        config: watch::Sender::new(None),
        members: watch::Sender::new(Rc::default()),
        connected: Rc::default(),
        file_changed: Rc::default(),
    }
}
