//! What follows by itself after a decision: guards are asked, symptoms are released.

use std::collections::BTreeSet;

use super::{Desk, Turn};
use crate::{
    fact::{Escalation, Fact},
    guard::{self, Opinion, START_WITHIN, Situation, Verdict},
    id::IncidentId,
    incident::{Incident, Phase, Purpose},
};

/// Rounds of settling after one input; each moves at least one incident, and what is
/// left is settled with the next input.
const ROUNDS_MAX: usize = 64;

impl Desk {
    /// Lets everything that can move by itself do so.
    pub(super) fn settle(&mut self, turn: &mut Turn) {
        if turn.handled.recorded.is_empty() {
            return;
        }
        for _ in 0..ROUNDS_MAX {
            let before = self.n_decisions;
            self.settle_symptoms(turn);
            self.settle_diagnoses(turn);
            self.settle_proposals(turn);
            if self.n_decisions == before {
                return;
            }
        }
    }

    /// Looks at symptoms whose cause is over; what waits for a symptom waits for its cause.
    fn settle_symptoms(&mut self, turn: &mut Turn) {
        let with_cause = |it: &Incident| Some((it.id, it.symptom_of()?));
        let symptoms: Vec<_> = self.open_incidents().filter_map(with_cause).collect();
        for (id, of) in symptoms {
            let cause = self.incidents.get(&of).filter(|it| !it.is_over());
            if cause.is_some_and(|it| it.phase == Phase::Escalated(Escalation::Regression)) {
                let why = format!("the target of its cause {of} is well again, this one is not");
                self.record(turn, Some(id), Fact::Released, why);
                continue;
            }
            match cause.map(Incident::symptom_of) {
                None => {
                    let why = format!("its cause {of} is over; fresh samples must prove it");
                    self.start_recheck_of_symptom(turn, id, &why);
                }
                Some(Some(root)) if root == id => {
                    self.record(turn, Some(id), Fact::RecheckStarted, "its cause waits for itself");
                }
                Some(None) if self.stands_beside_escalated(id, of) => {
                    let why = format!("{of} on the same target went to a person");
                    self.record(turn, Some(id), Fact::Released, why);
                }
                Some(_) => {}
            }
        }
    }

    /// Returns whether a symptom waits for an incident on its own target that was
    /// escalated. Had it been opened later, it would not have become a symptom either.
    fn stands_beside_escalated(&self, id: IncidentId, of: IncidentId) -> bool {
        let (Some(symptom), Some(cause)) = (self.incidents.get(&id), self.incidents.get(&of))
        else {
            return false;
        };
        symptom.target == cause.target && matches!(cause.phase, Phase::Escalated(_))
    }

    fn start_recheck_of_symptom(&mut self, turn: &mut Turn, id: IncidentId, why: &str) {
        let target = self.incidents.get(&id).and_then(|it| it.target.clone());
        let target = target.and_then(|name| self.config.target(&name));
        if target.is_some_and(|it| !it.all_checks().is_empty()) {
            self.record(turn, Some(id), Fact::RecheckStarted, why);
        } else {
            self.record(turn, Some(id), Fact::Released, "its cause is over");
        }
    }

    /// An incident that is diagnosed again may have become a symptom meanwhile.
    fn settle_diagnoses(&mut self, turn: &mut Turn) {
        let again = |it: &&Incident| {
            it.phase == Phase::Diagnosing && (1 < it.revision) && it.entered_at == turn.at
        };
        let ids: Vec<_> = self.open_incidents().filter(again).map(|it| it.id).collect();
        for id in ids {
            if self.has_needed_cause(id) {
                self.seek_cause(turn, id);
            }
        }
    }

    fn has_needed_cause(&self, id: IncidentId) -> bool {
        let Some(target) = self.incidents.get(&id).and_then(|it| it.target.as_deref()) else {
            return false;
        };
        let needed = self.config.dependencies(target);
        self.open_incidents().any(|it| {
            let on = it.target.as_deref().unwrap_or_default();
            let is_root = !matches!(
                it.phase,
                Phase::Symptom { .. }
                    | Phase::Escalated(_)
                    | Phase::Verifying { purpose: Purpose::Recheck { .. }, .. }
            );
            is_root && needed.iter().any(|one| one.name == on)
        })
    }

    /// Asks the guards for plans that are new, and for those that something may have freed.
    fn settle_proposals(&mut self, turn: &mut Turn) {
        let proposed = |it: &&Incident| matches!(it.phase, Phase::Proposed { .. });
        let ids: Vec<_> = self.open_incidents().filter(proposed).map(|it| it.id).collect();
        for id in ids {
            self.guard(turn, id);
        }
    }

    /// Asks the guards about one plan and does what they say.
    pub(super) fn guard(&mut self, turn: &mut Turn, id: IncidentId) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let Phase::Proposed { plan, diagnosed_at, hold } = &incident.phase else { return };
        let Some(target) = self.config.target(&plan.target) else {
            let why = "its target is not configured any more";
            return self.record(turn, Some(id), Fact::PlanExpired, why);
        };
        let under_treatment = self.under_treatment(id);
        let history: Vec<_> = self.history.iter().cloned().collect();
        let verdict = guard::authorize(&Situation {
            now: turn.at,
            incident,
            target,
            plan,
            diagnosed_at: *diagnosed_at,
            policy: &self.config.policy,
            paused: self.paused.as_deref(),
            breaker_until: self.breaker_until,
            history: &history,
            under_treatment: &under_treatment,
            n_targets: self.config.targets.len(),
            n_sick: self.n_sick(),
        });
        let (hold, plan) = (hold.clone(), plan.clone());
        match verdict {
            Verdict::Allow(plan) => {
                let attempt = incident.attempt + 1;
                let neighbours = self.neighbours(&plan.target);
                let why = match plan.approved_by() {
                    Some(by) => format!("{}, approved by {by}; all guards allow it", *plan),
                    None => format!("{}; all guards allow it", *plan),
                };
                let fact = Fact::FixStarted {
                    attempt,
                    approved_by: plan.approved_by().map(str::to_owned),
                    plan: Box::new((*plan).clone()),
                    not_after: turn.at + START_WITHIN,
                    neighbours,
                };
                self.record(turn, Some(id), fact, why);
            }
            Verdict::Otherwise(_, Opinion::Ask(why)) => {
                let fact = Fact::ApprovalRequested {
                    plan_hash: plan.hash(),
                    expires_at: turn.at + self.config.policy.approval_timeout.to_delta(),
                };
                self.record(turn, Some(id), fact, format!("{why}: {plan}"));
            }
            Verdict::Otherwise(name, Opinion::Hold(until, why)) => {
                // The same guard again is no new decision while its time has not come.
                let same = hold.is_some_and(|(held, at)| held == name && turn.at < at);
                if !same {
                    let fact = Fact::Held { guard: name.to_owned(), until };
                    self.record(turn, Some(id), fact, why);
                }
            }
            Verdict::Otherwise(_, Opinion::Stale(why)) => {
                self.record(turn, Some(id), Fact::PlanExpired, why);
            }
            Verdict::Otherwise(_, Opinion::Suggest(why)) => {
                self.escalate(turn, id, Escalation::SuggestOnly, why);
            }
            Verdict::Otherwise(name, Opinion::Refuse(why)) => {
                self.escalate(turn, id, Escalation::Refused, format!("{name}: {why}"));
            }
            Verdict::Otherwise(_, Opinion::Allow) => {}
        }
    }

    /// Returns the targets that other incidents are treating, each once.
    fn under_treatment(&self, but: IncidentId) -> Vec<String> {
        let others = self.open_incidents().filter(|it| it.id != but && it.is_under_treatment());
        let names: BTreeSet<String> =
            others.filter_map(|it| it.plan().map(|plan| plan.target.clone())).collect();
        names.into_iter().collect()
    }

    /// Returns whether more targets are sick by themselves than the storm brake allows.
    pub(super) fn is_storm(&self) -> bool {
        guard::storm_limit(&self.config.policy, self.config.targets.len()) < self.n_sick()
    }

    /// Returns the number of targets that are sick by themselves: a symptom is not.
    fn n_sick(&self) -> usize {
        let sick = |it: &&Incident| {
            !matches!(it.phase, Phase::Symptom { .. } | Phase::Escalated(_) | Phase::Over(_))
        };
        let names = self.open_incidents().filter(sick).filter_map(|it| it.target.as_deref());
        names.collect::<BTreeSet<_>>().len()
    }

    /// Returns the targets beside one, needed by it or needing it, that are well now.
    fn neighbours(&self, target: &str) -> Vec<String> {
        let sick: BTreeSet<&str> =
            self.open_incidents().filter_map(|it| it.target.as_deref()).collect();
        let needed = self.config.target(target).map(|it| it.depends_on.clone()).unwrap_or_default();
        let needing =
            self.config.targets.iter().filter(|it| it.depends_on.iter().any(|one| one == target));
        let mut names: Vec<String> = needed;
        names.extend(needing.map(|it| it.name.clone()));
        names.retain(|name| !sick.contains(name.as_str()));
        names
    }
}
