//! What must be true when nothing goes wrong any more and the world has settled.

use std::{collections::BTreeMap, rc::Rc};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{desk::Desk, id::IncidentId};

use super::{
    Laws, missed,
    policy::{Case, Stand},
};
use crate::{
    clock::{MINUTE, SECOND, utc},
    sim::NodeId,
    world::{Kind, World},
};

/// Time that a decision, its broadcast and the work may take beyond its own deadline.
const SLACK: TimeDelta = TimeDelta::seconds(40);
/// A sick target whose incident was closed is reported again after 5 min at most.
const REPORTED_WITHIN: u64 = 6 * MINUTE;

impl Laws {
    /// Returns whether nothing moves any more but what waits for a person.
    pub(crate) fn is_settled(&self) -> bool {
        self.model.cases.values().all(|it| match it.stand {
            Stand::Over | Stand::Escalated => true,
            Stand::Symptom(of) => self.is_with_a_person(of),
            Stand::Diagnosing
            | Stand::Waiting
            | Stand::Proposed
            | Stand::Awaiting
            | Stand::Fixing
            | Stand::Undoing
            | Stand::Proving { .. } => false,
        })
    }

    fn is_with_a_person(&self, mut id: IncidentId) -> bool {
        // A symptom of a symptom; circles are resolved by the desk.
        for _ in 0..self.model.cases.len() {
            match self.model.cases.get(&id).map(|it| &it.stand) {
                Some(Stand::Symptom(of)) => id = *of,
                Some(Stand::Escalated) => return true,
                _ => return false,
            }
        }
        false
    }

    /// Looks at everything once more.
    pub(crate) fn at_the_end(&mut self, world: &Rc<World>) {
        let now = utc(world.sim.now());
        for (id, case) in &self.model.cases {
            if let Some(late) = self.overdue(case, now) {
                let why = format!("{id} is {:?} since {}, {late}", case.stand, case.since);
                return world.fail("every incident ends or waits for a person in time", why);
            }
        }
        self.taken(world, None, |_| true);
        self.givens.at_the_end(world);
        self.quiets.at_the_end(world);
        self.queues.at_the_end(world, self.core.desk());
        missed::at_the_end(world, self.core.desk());
        self.words.at_the_end(world, &self.model);
        self.kept.at_the_end(world);
        self.starvation(world);
        for node in world.all(Kind::Supervisor) {
            self.supervisor(world, node);
        }
        self.snapshot(world);
    }

    fn overdue(&self, case: &Case, now: DateTime<Utc>) -> Option<String> {
        let policy = &self.model.config.policy;
        let plan = case.plan.as_ref();
        let timeout = plan.map_or(TimeDelta::zero(), |it| it.timeout().to_delta());
        let success = plan.map(|it| &it.success);
        let allowed = match &case.stand {
            Stand::Over | Stand::Escalated => return None,
            // The longest wait of a retry that may be configured here.
            Stand::Waiting => policy.retry.max.max(policy.retry.first).to_delta(),
            Stand::Diagnosing => policy.diagnosis_timeout.to_delta(),
            Stand::Proposed => policy.hold_timeout.to_delta() + policy.plan_max_age.to_delta(),
            // Asked under a former policy, perhaps.
            Stand::Awaiting => TimeDelta::minutes(10),
            Stand::Fixing | Stand::Undoing => TimeDelta::seconds(135) + timeout,
            Stand::Proving { is_fix: true } => {
                let own = success.map(|it| it.soak.plus(it.within).to_delta());
                TimeDelta::seconds(60) + own.unwrap_or_default()
            }
            Stand::Proving { is_fix: false } => TimeDelta::seconds(60 + 10 + 30),
            Stand::Symptom(_) => TimeDelta::hours(6),
        };
        let since = match case.stand {
            Stand::Proposed => case.held_since.unwrap_or(case.since),
            _ => case.since,
        };
        (since + allowed + SLACK < now).then(|| format!("allowed are {allowed}"))
    }

    /// What is sick has an incident, so that somebody cares.
    fn starvation(&self, world: &Rc<World>) {
        let now = world.sim.now();
        for target in &self.model.config.targets {
            let Some(idx) = world.targets.index(&target.name) else { continue };
            let Some((since, is_well)) = world.targets.truth(idx).last().copied() else { continue };
            // Opened before the target was configured, an incident knows its name only.
            let is_about = |it: &Case| {
                [&it.target, &it.named].into_iter().flatten().any(|name| *name == target.name)
            };
            let is_known =
                self.model.cases.values().any(|it| it.stand != Stand::Over && is_about(it))
                    || self.quiets.is_about(&target.name);
            if !is_well && !is_known && REPORTED_WITHIN < now - since {
                let why = format!("{} is sick since {} s", target.name, (now - since) / SECOND);
                return world.fail("nobody who is sick is forgotten", why);
            }
        }
    }

    fn supervisor(&mut self, world: &Rc<World>, node: NodeId) {
        self.log(world, node);
        let place = world.node(node);
        let Some(seat) = place.seat.borrow().clone() else { return };
        let seat = seat.borrow();
        if seat.core.ledger_seq() == self.core.ledger_seq() {
            self.compare(world, &seat.core);
        } else {
            let (own, all) = (seat.core.ledger_seq(), self.core.ledger_seq());
            let why = format!("{} has folded {own} of {all} messages", world.member(node));
            world.fail("every supervisor follows the ledger", why);
        }
        let disk = place.disk.borrow();
        let n_lines = disk.last_seq();
        if n_lines != self.core.desk().n_decisions() {
            let n = self.core.desk().n_decisions();
            let why = format!("{} has {n_lines} lines of {n}", world.member(node));
            world.fail("every supervisor has the whole log", why);
        }
        // All lines are known to somebody, but for those that a full ledger had to forget.
        let lost = disk.missing().find(|seq| !self.kept.is_excused(*seq));
        if let Some(seq) = lost {
            let why = format!("{} lacks line {seq}", world.member(node));
            world.fail("every supervisor has the whole log", why);
        }
    }

    /// A desk that was stored is the same when it is read.
    fn snapshot(&self, world: &Rc<World>) {
        let desk = self.core.desk();
        let lines = desk.snapshot().collect::<Result<Vec<_>, _>>();
        let lines = lines.expect("a desk has a form in JSON");
        match Desk::from_snapshot(lines) {
            Ok(restored) if restored == *desk => {}
            Ok(_) => world.fail("a snapshot is the desk", "it differs"),
            Err(error) => world.fail("a snapshot is the desk", error.to_string()),
        }
    }

    /// Returns how many incidents stand where, for reports.
    pub(crate) fn stands(&self) -> BTreeMap<String, u64> {
        let mut stands = BTreeMap::new();
        for case in self.model.cases.values() {
            *stands.entry(format!("{:?}", case.stand)).or_insert(0) += 1;
        }
        stands
    }
}
