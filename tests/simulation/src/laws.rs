//! What must always be true, looked at after every step by somebody who knows all: the
//! broker's streams, the disks, and the targets themselves.

mod acts;
mod commands;
mod end;
mod given;
mod keep;
mod missed;
mod policy;
pub(crate) mod queues;
mod quiet;
mod restored;
mod truth;
mod who;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use ::supervisor::core::{Core, decode};
use bus::{InboxMessage, Subjects};
use bytes::Bytes;
use chrono::TimeDelta;
use domain::{
    config::Config,
    event::{Delivery, Event, Status},
    fact::{Decision, Fact},
    id::{IncidentId, Position},
    plan::Plan,
    wire::{
        Answer, DiagnoseWork, Envelope, FixMode, FixOrder, Input, LedgerEntry, NotifyWork,
        VerifyWork, WorkKind,
    },
};

use self::{
    acts::Acts,
    commands::Commands,
    given::Givens,
    keep::Kept,
    policy::{Model, Stand},
    queues::Queues,
    quiet::Quiets,
    who::Who,
    words::Words,
};
use crate::{
    broker::Op,
    bug::Bug,
    clock::{MS, Micros, SECOND, moment},
    scene::Scene,
    sim::NodeId,
    world::World,
};

/// So long after it was too old, by the clocks of all, an order hurts most if it is begun.
const OVERDUE: Micros = 100 * MS;
/// Clocks of agents differ from the broker's at most so much.
const SKEW_MAX: Micros = 3 * SECOND;
/// So long after the end of its incident a delivery that is sent again is a new event.
const DELIVERY_WORTH: TimeDelta = TimeDelta::minutes(10);
/// Every so many batches, the leader's state is compared with what the ledger gives.
const COMPARE_EVERY: u64 = 8;

/// A law that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The law.
    pub law: &'static str,
    /// What was seen.
    pub why: String,
    /// When, in microseconds.
    pub at: u64,
}

/// An event in the inbox.
#[derive(Clone, Debug)]
struct Stored {
    key: Option<String>,
    at: Micros,
}

/// A fix that the ledger says was begun.
#[derive(Clone, Debug)]
struct Started {
    plan: Plan,
    plan_hash: String,
    not_after: Micros,
}

/// What was so before a batch, as far as the batch may have changed it.
#[derive(Default)]
struct Former {
    /// Fingerprints of open incidents.
    open: BTreeSet<String>,
    config: Option<Config>,
}

impl Former {
    fn of(core: &Core, entry: &LedgerEntry) -> Self {
        let has = |is: fn(&Fact) -> bool| entry.decisions.iter().any(|it| is(&it.fact));
        let mut former = Self::default();
        if has(|it| matches!(it, Fact::SuppressionEnded { .. })) {
            let open = core.desk().open_incidents().map(|it| it.fingerprint.clone());
            former.open = open.collect();
        }
        if has(|it| matches!(it, Fact::Configured { .. })) {
            former.config = Some(core.desk().config().clone());
        }
        former
    }
}

/// What the laws remember.
#[derive(Debug)]
pub(crate) struct Laws {
    /// What folding the ledger gives.
    core: Core,
    lines: Vec<Bytes>,
    covers: Position,
    n_batches: u64,
    model: Model,
    /// Senders' keys of events in the inbox, by delivery.
    stored: BTreeMap<Delivery, Stored>,
    /// Events that report something, and of which the ledger does not say yet that they were
    /// taken; the first of each delivery.
    pending: BTreeMap<Position, Event>,
    keys: BTreeSet<String>,
    /// With the decision that counts each, and the incident that it belongs to.
    decided: BTreeMap<Delivery, (u64, Option<IncidentId>)>,
    decided_keys: BTreeSet<String>,
    /// Reports in the inbox.
    reports: BTreeSet<String>,
    started: BTreeMap<(IncidentId, u32), Started>,
    undone: BTreeSet<(IncidentId, u32)>,
    effects: BTreeMap<String, Micros>,
    /// Those before the broker lost its disk, and the claims with it.
    effects_before: BTreeSet<String>,
    /// Messages of inboxes that are lost.
    inbox_base: u64,
    /// What a planted bug calls an event without an id, and what that is.
    aliases: BTreeMap<Delivery, Delivery>,
    approvals: BTreeSet<(IncidentId, String)>,
    quiets: Quiets,
    givens: Givens,
    pub(crate) kept: Kept,
    pub(crate) acts: Acts,
    pub(crate) words: Words,
    pub(crate) who: Who,
    queues: Queues,
    commands: Commands,
    pub(crate) counts: Counts,
}

/// How much happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Inputs in the inbox, frames not unpacked.
    pub inputs: u64,
    /// Decisions in the ledger.
    pub decisions: u64,
    /// Incidents opened.
    pub incidents: u64,
    /// Fixes begun.
    pub fixes: u64,
    /// Steps that touched a target.
    pub effects: u64,
    /// Incidents proven to be resolved by a fix.
    pub resolved: u64,
    /// Incidents that went to a person.
    pub escalated: u64,
}

impl Laws {
    pub(crate) fn new(_scene: &Scene) -> Self {
        Self {
            core: Core::new(Subjects::new("selfheal")),
            lines: Vec::new(),
            covers: Position::default(),
            n_batches: 0,
            model: Model::default(),
            stored: BTreeMap::new(),
            pending: BTreeMap::new(),
            keys: BTreeSet::new(),
            decided: BTreeMap::new(),
            decided_keys: BTreeSet::new(),
            reports: BTreeSet::new(),
            started: BTreeMap::new(),
            undone: BTreeSet::new(),
            effects: BTreeMap::new(),
            effects_before: BTreeSet::new(),
            inbox_base: 0,
            aliases: BTreeMap::new(),
            approvals: BTreeSet::new(),
            quiets: Quiets::default(),
            givens: Givens::default(),
            kept: Kept::default(),
            acts: Acts::default(),
            words: Words::default(),
            who: Who,
            queues: Queues::default(),
            commands: Commands::default(),
            counts: Counts::default(),
        }
    }

    /// Returns what folding the ledger gives, as people see it.
    pub(crate) const fn core(&self) -> &Core {
        &self.core
    }

    /// Returns how large the decisions about all whose quiet has ended would be in one batch.
    pub(crate) fn bytes_due(&self, now: Micros) -> usize {
        self.quiets.bytes_due(crate::clock::utc(now))
    }

    /// Notes that a person said yes to exactly this plan.
    pub(crate) fn approve(&mut self, incident: IncidentId, plan_hash: String) {
        self.approvals.insert((incident, plan_hash));
    }

    /// Looks at an operation before the broker does it.
    pub(crate) fn before(&mut self, world: &Rc<World>, op: &Op, node: NodeId) {
        match op {
            Op::Publish { id, .. } => self.queues.published(id, world.sim.now()),
            Op::Ack(token) => self.acknowledged(world, *token, node),
            Op::LedgerPurge { up_to, by } => {
                world.trace.say(world.sim.now(), || format!("purge up to message {up_to}"));
                self.kept.purge(world, *up_to, *by);
            }
            Op::SnapshotWrite { seq, parts } => {
                world.trace.say(world.sim.now(), || format!("snapshot behind message {seq}"));
                self.snapshot_is_written(world, *seq, parts);
            }
            Op::SnapshotDelete(old) => {
                world.trace.say(world.sim.now(), || format!("snapshots are deleted: {old:?}"));
            }
            _ => {}
        }
    }

    fn acknowledged(&self, world: &Rc<World>, token: u64, node: NodeId) {
        let Some((kind, payload)) = world.broker.borrow().given_out(token) else { return };
        let key = match kind {
            WorkKind::Diagnose => {
                read::<DiagnoseWork>(&payload).map(|it| it.work.wish_id(WorkKind::Diagnose))
            }
            WorkKind::Fix => read::<FixOrder>(&payload).map(|it| it.work.wish_id(WorkKind::Fix)),
            WorkKind::Verify => read::<VerifyWork>(&payload)
                // What nobody waits for any more is not done; clocks may differ.
                .filter(|it| world.sim.now() < moment(it.not_after) + 55 * SECOND)
                .map(|it| it.work.wish_id(WorkKind::Verify)),
            WorkKind::Notify => read::<NotifyWork>(&payload)
                .map(|it| format!("{}/notice/{}", it.work.incident, it.notice)),
        };
        if let Some(key) = key.filter(|it| !self.reports.contains(it)) {
            let member = world.member(node);
            let why = format!("{member} acknowledged {key}, whose report is not in the inbox");
            world.fail("work is acknowledged after its report is stored", why);
        }
    }

    /// Says whether a fix is ordered, or under way.
    pub(crate) fn is_any_ordered(&self) -> bool {
        self.model.cases.values().any(|it| it.stand == Stand::Fixing)
    }

    /// Returns when the next order becomes too old, whatever a clock says, that nobody has begun.
    pub(crate) fn overdue_at(&self, now: Micros) -> Option<Micros> {
        let waits = |(id, attempt): &(IncidentId, u32)| {
            let is_ordered = self.model.cases.get(id).is_some_and(|it| it.stand == Stand::Fixing);
            let key = effect_key((*id, *attempt), FixMode::Apply, false, 0);
            is_ordered && self.model.attempt(*id) == *attempt && !self.effects.contains_key(&key)
        };
        let orders = self.started.iter().filter(|(key, _)| waits(key));
        let times = orders.map(|(_, it)| it.not_after + SKEW_MAX + OVERDUE);
        times.filter(|at| now <= *at + SECOND).min()
    }

    /// Looks at what the broker has stored.
    pub(crate) fn after(&mut self, world: &Rc<World>, op: &Op, _node: NodeId, stored: Option<u64>) {
        let Some(seq) = stored else { return };
        match op {
            Op::Append { subject, headers, payload, .. } => {
                self.inbox(world, seq, subject, headers, payload);
            }
            Op::LedgerAppend { payload, by, .. } => self.ledger(world, seq, payload, *by),
            _ => {}
        }
    }

    fn inbox(
        &mut self,
        world: &Rc<World>,
        seq: u64,
        subject: &str,
        headers: &[(String, String)],
        payload: &Bytes,
    ) {
        self.counts.inputs += 1;
        world.trace.mark(3, seq);
        if subject.starts_with("selfheal.event.") {
            let message = InboxMessage {
                seq,
                at: crate::clock::utc(world.sim.now()),
                subject: subject.to_owned(),
                headers: headers.to_vec(),
                payload: payload.clone(),
            };
            for part in decode::parts(&Subjects::new("selfheal"), &message) {
                let Ok((Input::Event(event), _)) = part.content else { continue };
                if headers.is_empty() && world.bug(Bug::InboxIdWithoutTime) {
                    let alias = Event { id: format!("inbox-{seq}"), ..event.clone() };
                    self.aliases.insert(alias.delivery(), event.delivery());
                }
                self.event(world, part.position, &event);
            }
            return;
        }
        let Ok(envelopes) = serde_json::from_slice::<Vec<Envelope>>(payload) else { return };
        for (idx, envelope) in (0_u32..).zip(envelopes) {
            match envelope.input {
                Input::Event(event) => self.event(world, Position::new(seq, idx), &event),
                Input::Analysis(it) => self.report(it.work.wish_id(WorkKind::Diagnose)),
                Input::Fix(it) => {
                    let (id, attempt) = (it.work.incident, it.work.attempt);
                    let plan = self.started.get(&(id, attempt)).map(|it| &it.plan);
                    let effects = &self.effects;
                    let is_done = |step, is_back| {
                        effects.contains_key(&effect_key(
                            (id, attempt),
                            FixMode::Apply,
                            is_back,
                            step,
                        ))
                    };
                    self.words.report(&it);
                    self.acts.report(world, &it, plan, is_done);
                    self.report(it.work.wish_id(WorkKind::Fix));
                }
                Input::Verification(it) => self.report(it.work.wish_id(WorkKind::Verify)),
                Input::Notice(it) => {
                    self.report(format!("{}/notice/{}", it.work.incident, it.notice));
                }
                Input::Command(command) => {
                    let position = Position::new(seq, idx);
                    self.commands.stored(position, &envelope.id, &command.verb);
                }
                Input::Timer(_) => {}
            }
        }
    }

    fn report(&mut self, key: String) {
        self.reports.insert(key);
    }

    fn event(&mut self, world: &Rc<World>, position: Position, event: &Event) {
        let key = key_of(event);
        self.keys.extend(key.clone());
        if self.stored.contains_key(&event.delivery()) {
            return;
        }
        self.words.stored(self.inbox_base + position.seq, event);
        if event.status == Status::Firing {
            self.quiets.said(event, crate::clock::utc(world.sim.now()), self.core.desk().config());
        }
        self.stored.insert(event.delivery(), Stored { key, at: world.sim.now() });
        if event.status == Status::Firing {
            self.pending.insert(position, event.clone());
        }
    }

    /// Looks at a batch of decisions that was just stored.
    fn ledger(&mut self, world: &Rc<World>, seq: u64, payload: &Bytes, by: NodeId) {
        world.trace.mark(4, seq);
        world.trace.bytes(payload);
        let Ok(entry) = serde_json::from_slice::<LedgerEntry>(payload) else {
            return world.fail("a ledger can be read", format!("message {seq}"));
        };
        world.trace.say(world.sim.now(), || {
            format!(
                "message {seq} of the ledger, by {}, up to input {}",
                world.member(by),
                entry.covers
            )
        });
        let before = Former::of(&self.core, &entry);
        match self.core.fold(seq, payload, 1) {
            Ok(lines) => {
                self.lines.extend(lines.iter().map(|it| it.json));
                self.kept.appended(self.core.desk().n_decisions());
                world.desks.folded(seq, self.core.desk());
            }
            Err(error) => {
                return world.fail(
                    "the ledger has one history",
                    format!("message {seq} by {}: {error}", world.member(by)),
                );
            }
        }
        if entry.covers < self.covers {
            let why = format!("message {seq} covers {} after {}", entry.covers, self.covers);
            return world.fail("positions only grow", why);
        }
        for decision in &entry.decisions {
            if decision.cause <= self.covers || entry.covers < decision.cause {
                let why = format!(
                    "decision {} is about input {}, of ({}, {}]",
                    decision.seq, decision.cause, self.covers, entry.covers
                );
                return world.fail("an input is decided once", why);
            }
            self.commands.decided(decision.cause);
            self.decision(world, decision, by);
        }
        self.covers = entry.covers;
        self.commands.covered(world, entry.covers);
        let config = before.config.as_ref();
        self.taken(world, config, |it| *it <= entry.covers);
        let config = self.core.desk().config();
        if let Some(why) = self.quiets.batch_is_over(&before.open, config) {
            world.fail("what is not kept quiet any more is looked at again", why);
        }
    }

    /// Looks at events that were taken: each was decided about, or is the same as one that is
    /// kept quiet, by its fingerprint under the configuration in force or under a `former` one.
    fn taken(
        &mut self,
        world: &Rc<World>,
        former: Option<&Config>,
        is_taken: impl Fn(&Position) -> bool,
    ) {
        let now = self.core.desk().config();
        while let Some(first) = self.pending.first_entry()
            && is_taken(first.key())
        {
            let (position, event) = first.remove_entry();
            let fingerprint = |config: &Config| {
                event.fingerprint(config.target_of(&event).map(|it| it.name.as_str()))
            };
            let is_kept = |config: &Config| self.quiets.keeps(&fingerprint(config));
            let delivery = event.delivery();
            if !self.decided.contains_key(&delivery)
                && !is_kept(now)
                && !former.is_some_and(is_kept)
            {
                let at = self.stored.get(&delivery).map_or(0, |it| it.at / SECOND);
                let (key, fingerprint) = (key_of(&event), fingerprint(now));
                let why = format!(
                    "nothing was decided about {delivery}, {key:?}: {fingerprint} at {at} s, input {position}"
                );
                world.fail("no accepted event is lost", why);
            }
        }
    }

    fn decision(&mut self, world: &Rc<World>, decision: &Decision, by: NodeId) {
        self.counts.decisions += 1;
        world.trace.say(world.sim.now(), || {
            let id = decision.incident.map(|it| it.to_string()).unwrap_or_default();
            format!("ledger: {} {id} {}: {}", decision.seq, decision.fact.name(), decision.reason)
        });
        let expected = u64::try_from(self.lines.len()).unwrap_or(0);
        if expected < decision.seq {
            return world.fail("decisions have no gap", format!("{} of {expected}", decision.seq));
        }
        let is_again = self.quiets.decide(decision);
        for delivery in deliveries(&decision.fact).into_iter().filter(|_| !is_again) {
            let delivery = self.aliases.get(&delivery).copied().unwrap_or(delivery);
            let key = self.stored.get(&delivery).and_then(|it| it.key.clone());
            let doubled = key.is_some_and(|key| !self.decided_keys.insert(key));
            let former = self.decided.insert(delivery, (decision.seq, decision.incident));
            // Our own agents tell what goes on under one id, also after a person has closed it.
            let forgotten_at = decision.at - DELIVERY_WORTH;
            let is_forgotten = former
                .and_then(|(_, incident)| incident)
                .is_some_and(|it| self.model.was_over(it, forgotten_at));
            let may_count = is_forgotten || self.quiets.may_count(delivery);
            if (former.is_some() || doubled) && !may_count {
                let before = former.map(|(seq, _)| seq);
                let key = self.stored.get(&delivery).and_then(|it| it.key.as_deref());
                let why = format!(
                    "decision {} counts {delivery}, {key:?}, again, after {before:?}",
                    decision.seq
                );
                return world.fail("an accepted event is decided once", why);
            }
        }
        self.acts.decide(world, &self.model, decision, by);
        let effects = &self.effects;
        let is_touched = |id: IncidentId, attempt: u32| {
            let prefix = format!("{id}/{attempt}/");
            effects.range(prefix.clone()..).next().is_some_and(|(key, _)| key.starts_with(&prefix))
        };
        let seq = self.inbox_base + decision.cause.seq;
        self.words.decide(world, &self.model, (decision, seq), is_touched);
        let id = decision.incident.unwrap_or(IncidentId::NONE);
        match &decision.fact {
            Fact::Opened { .. } => self.counts.incidents += 1,
            Fact::FixStarted { attempt, plan, not_after, approved_by, .. } => {
                self.counts.fixes += 1;
                let plan_hash = plan.hash();
                if approved_by.is_some() && !self.approvals.contains(&(id, plan_hash.clone())) {
                    let why = format!("{id} attempt {attempt}: {}", **plan);
                    world.fail("an approval is for exactly the plan that was shown", why);
                }
                let not_after = moment(*not_after);
                let plan = (**plan).clone();
                self.started.insert((id, *attempt), Started { plan, plan_hash, not_after });
            }
            Fact::UndoStarted { .. } => {
                let attempt = self.model.attempt(id);
                self.undone.insert((id, attempt));
            }
            Fact::Resolved => self.counts.resolved += 1,
            Fact::Escalated { .. } => self.counts.escalated += 1,
            Fact::Verified { report } => {
                let (target, since, soak) = self.model.proof(id);
                truth::proven(world, decision, report, target, since, soak);
            }
            _ => {}
        }
        let whole = self.givens.decide(world, decision);
        if let Err(why) = self.model.decide(decision, whole) {
            world.fail("no fix is begun that policy does not allow", why);
        }
    }

    /// Looks at a step that is about to touch a target.
    pub(crate) fn effect(
        &mut self,
        world: &Rc<World>,
        order: &FixOrder,
        step_idx: usize,
        is_back: bool,
        idx: usize,
    ) {
        let Some(step) = order.plan.steps.get(step_idx) else { return };
        let (id, attempt, now) = (order.work.incident, order.work.attempt, world.sim.now());
        self.counts.effects += 1;
        world.trace.mark(5, u64::try_from(idx).unwrap_or(0));
        let Some(started) = self.started.get(&(id, attempt)) else {
            let why = format!("{id} attempt {attempt}: {}", step.action);
            return world.fail("nothing is touched before the ledger says so", why);
        };
        if started.plan_hash != order.plan.hash() {
            let why = format!("{id} attempt {attempt}: {}", step.action);
            return world.fail("only the plan that was authorized is carried out", why);
        }
        let late = started.not_after + SKEW_MAX < now;
        if order.mode == FixMode::Apply && step_idx == 0 && !is_back && late {
            let why = format!("{id} attempt {attempt}, {} s too late", {
                (now - started.not_after) / SECOND
            });
            return world.fail("an order that is too old is not begun", why);
        }
        if order.mode == FixMode::Undo && !self.undone.contains(&(id, attempt)) {
            let why = format!("{id} attempt {attempt}: {}", step.action);
            return world.fail("nothing is taken back before the ledger says so", why);
        }
        // A step that failed is taken back at once; that is another effect.
        let is_first = order.mode == FixMode::Apply && step_idx == 0 && !is_back;
        self.acts.effect(world, &self.model, order, is_first);
        let key = effect_key((id, attempt), order.mode, is_back, step_idx);
        let before = self.effects.insert(key.clone(), now);
        if let Some(before) = before.filter(|_| !self.effects_before.contains(&key)) {
            let why = format!("{key} at {} s and at {} s", before / SECOND, now / SECOND);
            world.fail("an attempt's effect happens once", why);
        }
    }

    /// Looks at an answer that is about to be sent.
    pub(crate) fn answer(
        &mut self,
        world: &Rc<World>,
        node: NodeId,
        answer: &Answer,
        last_seq: Option<u64>,
    ) {
        let disk = world.node(node).disk.borrow();
        // What a full disk does not take is in the ledger.
        let is_excused = disk.is_failing();
        let last = last_seq.filter(|last| disk.n_synced() < *last && !is_excused);
        if let Some(last) = last {
            let why = format!("`{}` before line {last} was on disk", answer.message);
            world.fail("an answer comes after its line is on disk", why);
        }
    }

    /// Looks at a log that was just written.
    pub(crate) fn log(&mut self, world: &Rc<World>, node: NodeId) {
        let disk = world.node(node).disk.borrow();
        let own = disk.lines();
        if self.lines.len() < own.len() {
            let why =
                format!("{} has {} lines of {}", world.member(node), own.len(), self.lines.len());
            return world.fail("a log is a prefix of the ledger", why);
        }
        // Older lines were compared when they were written.
        let from = own.len().saturating_sub(64);
        let pairs = own.iter().zip(&self.lines).skip(from);
        let differs =
            pairs.into_iter().position(|(own, line)| own.as_ref().is_some_and(|it| it != line));
        if let Some(at) = differs {
            let why = format!("line {} of {} differs", from + at + 1, world.member(node));
            world.fail("a log is a prefix of the ledger", why);
        }
    }

    /// Compares a leader's state with what the ledger gives.
    pub(crate) fn leader(&mut self, world: &Rc<World>, core: &Core) {
        self.n_batches += 1;
        if self.n_batches.is_multiple_of(COMPARE_EVERY) {
            self.compare(world, core);
        }
    }

    fn compare(&self, world: &Rc<World>, core: &Core) {
        let is_same_age = core.is_settled()
            && core.ledger_seq() == self.core.ledger_seq()
            && core.desk().n_decisions() == self.core.desk().n_decisions();
        if !is_same_age {
            return;
        }
        let mut folded = self.core.desk().clone();
        folded.cover(core.desk().position());
        if folded != *core.desk() {
            let why = format!("after decision {}", folded.n_decisions());
            world.fail("deciding and folding give the same state", why);
        }
    }

    /// A sender was told that its event is accepted.
    pub(crate) fn accepted(&mut self, world: &Rc<World>, key: &str) {
        if !self.keys.contains(key) {
            world.fail("accepted means acknowledged by the broker", format!("event {key}"));
        }
    }
}

fn effect_key(
    (id, attempt): (IncidentId, u32),
    mode: FixMode,
    is_back: bool,
    step: usize,
) -> String {
    format!("{id}/{attempt}/{mode:?}/{is_back}/{step}")
}

/// Returns what the sender itself calls the event.
fn key_of(event: &Event) -> Option<String> {
    event.payload.get("key").and_then(|it| it.as_str()).map(str::to_owned)
}

fn deliveries(fact: &Fact) -> Vec<Delivery> {
    match fact {
        // What an analyzer found is no event that anybody sent.
        Fact::Opened { event, .. } | Fact::Suppressed { event, .. } => vec![event.delivery()],
        Fact::Repeated { deliveries, .. } => deliveries.clone(),
        Fact::RecoveryReported { delivery, .. }
        | Fact::RecoveryNoted { delivery, .. }
        | Fact::EventOver { delivery, .. } => vec![*delivery],
        _ => Vec::new(),
    }
}

fn read<T: serde::de::DeserializeOwned>(payload: &Bytes) -> Option<T> {
    serde_json::from_slice(payload).ok()
}
