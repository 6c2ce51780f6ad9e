//! What fixers do and leave undone, against the ledger: nothing is done for an attempt that is
//! over or was withdrawn, and what failed half-way is taken back.

use std::{collections::BTreeMap, rc::Rc};

use chrono::{DateTime, Utc};
use domain::{
    fact::{Decision, Escalation, Fact},
    id::IncidentId,
    plan::Plan,
    wire::{FixMode, FixOrder, FixOutcome, FixReport},
};

use super::policy::{Model, Stand};
use crate::{
    clock::{Micros, SECOND, moment},
    sim::NodeId,
    world::World,
};

/// While nothing is wrong between leader and broker, an order is withdrawn so soon, and a fixer
/// that has claimed it and is silent is kept from beginning: also when some tries are lost.
const WITHDRAWN_WITHIN: Micros = 25 * SECOND;

/// A leader that was stopped for a shorter time goes on.
const AWAY_MAX: Micros = 17 * SECOND;

type Attempt = (IncidentId, u32);

/// What is known of the attempts.
#[derive(Debug, Default)]
pub(crate) struct Acts {
    /// When it was decided that an order must not begin any more.
    recalled: BTreeMap<Attempt, Micros>,
    /// Attempts whose fixer may not act any more, by its own word.
    lost: BTreeMap<Attempt, ()>,
    /// When the ledger says that somebody took over, the last time.
    led_at: Option<Micros>,
}

impl Acts {
    /// A fixer has lost the right to act on an order.
    pub(crate) fn lost(&mut self, order: &FixOrder) {
        self.lost.insert((order.work.incident, order.work.attempt), ());
    }

    /// Takes a decision, before the model does.
    pub(super) fn decide(
        &mut self,
        world: &Rc<World>,
        model: &Model,
        decision: &Decision,
        by: NodeId,
    ) {
        if let Fact::LeadershipTaken { .. } = decision.fact {
            self.led_at = Some(moment(decision.at));
        }
        let Some(id) = decision.incident else { return };
        let attempt = (id, model.attempt(id));
        match &decision.fact {
            Fact::RecallRequested { .. } => {
                self.recalled.insert(attempt, moment(decision.at));
            }
            Fact::FixRecalled { .. } => {
                self.recalled.remove(&attempt);
            }
            Fact::RetryScheduled { why: Escalation::NotDiagnosed, .. }
            | Fact::Escalated { why: Escalation::NotDiagnosed }
                // And not one that waits for a person again, after its recovery was not proven.
                if model.is_diagnosing(id) =>
            {
                self.not_diagnosed(world, model, (id, decision.at), by);
            }
            _ => {}
        }
    }

    /// Looks at a step that is about to touch a target.
    pub(super) fn effect(
        &self,
        world: &Rc<World>,
        model: &Model,
        order: &FixOrder,
        is_first: bool,
    ) {
        let (id, attempt) = (order.work.incident, order.work.attempt);
        let Some(case) = model.cases.get(&id) else { return };
        let is_under_way = match order.mode {
            FixMode::Apply => case.stand == Stand::Fixing,
            FixMode::Undo => case.stand == Stand::Undoing,
        };
        // A person who closes an incident ends no step.
        if case.stand != Stand::Over && !(is_under_way && model.attempt(id) == attempt) {
            let why = format!("{id} attempt {attempt}, while it is {:?}", case.stand);
            return world.fail("nothing is done for an attempt that is over", why);
        }
        let now = world.sim.now();
        if let Some(at) = self.recalled.get(&(id, attempt))
            && is_first
            && *at + WITHDRAWN_WITHIN < now
            && world.disturbed_at.get() < *at
        {
            let why = format!("{id} attempt {attempt}, {} s later", (now - at) / SECOND);
            world.fail("what was stopped does not begin", why);
        }
    }

    /// Looks at a fixer's report that was stored.
    pub(super) fn report(
        &self,
        world: &Rc<World>,
        report: &FixReport,
        plan: Option<&Plan>,
        is_done: impl Fn(usize, bool) -> bool,
    ) {
        let (id, attempt) = (report.work.incident, report.work.attempt);
        let is_failed = matches!(report.outcome, FixOutcome::Failed { .. });
        if report.mode != FixMode::Apply || !is_failed || self.lost.contains_key(&(id, attempt)) {
            return;
        }
        let Some(plan) = plan else { return };
        for (idx, step) in plan.steps.iter().enumerate() {
            if step.undo.is_some() && is_done(idx, false) && !is_done(idx, true) {
                let why = format!("{id} attempt {attempt}: `{}` was begun and stays", step.name);
                return world.fail("what failed half-way is taken back", why);
            }
        }
    }

    /// Nobody is given up for want of a diagnosis who could not be diagnosed: whoever leads must
    /// have led for as long as a diagnosis may take. A deadline that a former leader has told may
    /// come when the next one leads already, before the ledger says so.
    fn not_diagnosed(
        &self,
        world: &Rc<World>,
        model: &Model,
        (id, at): (IncidentId, DateTime<Utc>),
        by: NodeId,
    ) {
        // Where the ledger does not say it, what is so counts.
        let own = || world.node(by).leads_since.get().filter(|it| *it <= moment(at));
        let leaderships = world.leaderships.borrow();
        let before = || leaderships.iter().rev().copied().find(|it| *it <= moment(at));
        let Some(since) = self.led_at.or_else(own).or_else(before) else { return };
        let allowed = model.config.policy.diagnosis_timeout;
        let led = moment(at).saturating_sub(since);
        if led + AWAY_MAX < crate::clock::micros(allowed.to_std()) {
            let why = format!("{id}: {} s of {allowed} after the take-over", led / SECOND);
            world.fail("nobody is given up before it could be diagnosed", why);
        }
    }
}
