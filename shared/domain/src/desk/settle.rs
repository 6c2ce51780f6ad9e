//! What follows by itself after a decision: guards are asked, symptoms are released.

use super::{Desk, Turn, incidents::Fate, observable::Proof};
use crate::{
    fact::{Escalation, Fact},
    guard::{self, Authorized, Opinion, Situation, Verdict},
    id::IncidentId,
    incident::{Incident, Phase, Purpose},
    plan::Plan,
};

/// Moves that settling makes after one input, and plans of one guard that it asks about.
/// What is left is not lost: symptoms that can move have a deadline that has come, and so
/// have plans that were held, soon.
pub(super) const MOVES_MAX: usize = 256;

/// Who ends and takes up incidents when the configuration changes.
pub(super) const CONFIGURATION: &str = "selfheal/configuration";

impl Desk {
    /// Lets everything that can move by itself do so. Looks only at what this input has
    /// moved or freed, however many incidents are open.
    pub(super) fn settle(&mut self, turn: &mut Turn) {
        let last = self.n_decisions + u64::try_from(MOVES_MAX).unwrap_or(u64::MAX);
        loop {
            let before = self.n_decisions;
            self.settle_strays(turn);
            self.settle_symptoms(turn);
            let mut moved = std::mem::take(&mut turn.moved);
            moved.sort_unstable();
            moved.dedup();
            for id in &moved {
                self.end_by_word(turn, *id);
            }
            self.settle_diagnoses(turn, &moved);
            self.settle_proposals(turn, &moved);
            self.settle_floods(turn, &moved);
            self.settle_notice_floods(turn, &moved);
            for id in &moved {
                self.hear_news(turn, *id);
            }
            if self.n_decisions == before || last <= self.n_decisions || !turn.has_room() {
                return;
            }
        }
    }

    /// Ends incidents whose target was removed from the configuration, and takes up those for
    /// whose event a target is configured at last.
    fn settle_strays(&mut self, turn: &mut Turn) {
        for id in self.incidents.stray(MOVES_MAX) {
            if !turn.has_room() {
                return;
            }
            let Some(incident) = self.incidents.get(&id) else { continue };
            let by = CONFIGURATION.to_owned();
            if let Some(name) = &incident.target {
                let why = format!("target {name} was removed from the configuration");
                self.record(turn, Some(id), Fact::Closed { by }, why);
            } else if let Some(target) = self.config.target_of(&incident.event.event()) {
                let target = target.name.clone();
                let why = format!("target {target}, which fits the event, is configured now");
                self.record(turn, Some(id), Fact::Retried { by, target: Some(target) }, why);
            }
        }
    }

    /// Looks at symptoms whose cause is over; what waits for a symptom waits for its cause.
    fn settle_symptoms(&mut self, turn: &mut Turn) {
        for id in self.incidents.movable(MOVES_MAX) {
            if !turn.has_room() {
                return;
            }
            let Some(fate) = self.incidents.fate(id) else { continue };
            let of = self.incidents.get(&id).and_then(Incident::symptom_of);
            let of = of.unwrap_or(IncidentId::NONE);
            match fate {
                Fate::Measured => self.take_shared(turn, id),
                Fate::CauseRegressed => {
                    let why =
                        format!("the target of its cause {of} is healthy again, this one is not");
                    self.record(turn, Some(id), Fact::Released, why);
                }
                Fate::CauseOver => {
                    let why = format!("its cause {of} has ended; fresh samples must prove it");
                    self.start_recheck_of_symptom(turn, id, &why);
                }
                Fate::Circle => self.leave_circle(turn, id),
                Fate::News => {
                    let news = self.incidents.get(&id).and_then(|it| it.news.clone());
                    let news = news.map_or_else(String::new, |it| it.text);
                    let why = format!("its cause {of} waits for a person, and {news}");
                    self.record(turn, Some(id), Fact::Released, why);
                }
                Fate::BesideEscalated => self.leave_escalated(turn, id, of),
            }
        }
    }

    /// Ends the wait of a symptom for an incident of the same target that went to a person.
    fn leave_escalated(&mut self, turn: &mut Turn, id: IncidentId, of: IncidentId) {
        let (Some(incident), Some(cause)) = (self.incidents.get(&id), self.incidents.get(&of))
        else {
            return;
        };
        let is_found = cause.phase == Phase::Escalated(Escalation::NotObservable)
            && incident.asks_the_same_as(cause);
        match self.proof_of(incident) {
            // The diagnosis of its cause has said so of both.
            Proof::Sender(unproven) if is_found => {
                let by = &incident.event.source;
                let why = format!("{unproven}, as for {of}; watching for the resolve of {by}");
                self.escalate(turn, id, Escalation::NotObservable, why);
            }
            Proof::Sender(_) | Proof::Checks => {
                let why = format!("{of} on the same target was escalated");
                self.record(turn, Some(id), Fact::Released, why);
            }
        }
    }

    fn start_recheck_of_symptom(&mut self, turn: &mut Turn, id: IncidentId, why: &str) {
        match self.incidents.get(&id).map(|it| self.proof_of(it)) {
            Some(Proof::Checks) => self.record(turn, Some(id), Fact::RecheckStarted, why),
            Some(Proof::Sender(unproven)) => {
                let why = format!("its cause has ended; {unproven}");
                self.record(turn, Some(id), Fact::Released, why);
            }
            None => {}
        }
    }

    /// Ends the wait of a symptom whose cause waits for it.
    fn leave_circle(&mut self, turn: &mut Turn, id: IncidentId) {
        let why = "its cause waits for itself";
        match self.incidents.get(&id).map(|it| self.proof_of(it)) {
            Some(Proof::Checks) => self.record(turn, Some(id), Fact::RecheckStarted, why),
            // A new diagnosis would find the same cause again.
            Some(Proof::Sender(unproven)) => {
                let why = format!("{why}; {unproven}");
                self.escalate(turn, id, Escalation::NotObservable, why);
            }
            None => {}
        }
    }

    /// Ends an incident whose sender had said that it is over while it was treated, when only
    /// that word can prove it: nobody will say it again.
    fn end_by_word(&mut self, turn: &mut Turn, id: IncidentId) {
        let Some(incident) =
            self.incidents.get(&id).filter(|it| it.said_over && it.firing.is_empty())
        else {
            return;
        };
        if incident.is_over()
            || matches!(
                incident.phase,
                Phase::Fixing { .. } | Phase::Undoing { .. } | Phase::Verifying { .. }
            )
        {
            return;
        }
        if let Proof::Sender(unproven) = self.proof_of(incident) {
            let why =
                format!("{} had reported that it has ended; {unproven}", incident.event.source);
            self.record(turn, Some(id), Fact::SelfResolved, why);
        }
    }

    /// An incident that is diagnosed again may have become a symptom meanwhile.
    fn settle_diagnoses(&mut self, turn: &mut Turn, moved: &[IncidentId]) {
        for id in moved {
            let again = self
                .incidents
                .get(id)
                .is_some_and(|it| it.phase == Phase::Diagnosing && 1 < it.revision);
            if again && (self.has_needed_cause(*id) || self.is_asked_before(*id)) {
                self.seek_cause(turn, *id);
            }
        }
    }

    /// Returns whether an older incident of the same target asks what this one does, and is not
    /// answered yet.
    fn is_asked_before(&self, id: IncidentId) -> bool {
        let Some(incident) = self.incidents.get(&id) else { return false };
        let Some(target) = incident.target.as_deref() else { return false };
        let older = self.incidents.on_target(target).take_while(|it| it.id < id);
        let mut asked = older.filter(|it| is_root(it));
        asked.any(|it| incident.asks_the_same_as(it))
    }

    fn has_needed_cause(&self, id: IncidentId) -> bool {
        let Some(target) = self.incidents.get(&id).and_then(|it| it.target.as_deref()) else {
            return false;
        };
        let needed = self.config.dependencies(target).into_iter();
        let mut on_them = needed.flat_map(|it| self.incidents.on_target(&it.name));
        on_them.any(is_root)
    }

    /// Asks the guards for plans that are new, and for those that something may have freed.
    fn settle_proposals(&mut self, turn: &mut Turn, moved: &[IncidentId]) {
        for id in moved {
            self.guard(turn, *id);
        }
        let freed = std::mem::take(&mut turn.freed);
        let mut asked: Vec<IncidentId> = Vec::new();
        for target in &freed.targets {
            let on_it = self.incidents.on_target(target);
            let held = on_it.filter(|it| it.held_by() == Some(guard::ONE_FIX_PER_TARGET));
            asked.extend(held.map(|it| it.id));
        }
        if freed.all {
            asked.extend(self.incidents.held(MOVES_MAX));
        } else {
            if !freed.targets.is_empty() {
                asked.extend(self.incidents.held_by(guard::BLAST_RADIUS, MOVES_MAX));
            }
            if freed.storm {
                asked.extend(self.incidents.held_by(guard::STORM_BRAKE, MOVES_MAX));
            }
        }
        for id in asked {
            if !turn.has_room() {
                return;
            }
            self.guard(turn, id);
            let held_by = self.incidents.get(&id).and_then(Incident::held_by);
            if !freed.all && held_by == Some(guard::BLAST_RADIUS) {
                // There is no room for any more of them.
                return;
            }
        }
    }

    /// Asks the guards about one plan and does what they say.
    pub(super) fn guard(&mut self, turn: &mut Turn, id: IncidentId) {
        if self.expire_if_stale(turn, id) {
            return;
        }
        let Some(incident) = self.incidents.get(&id) else { return };
        let Phase::Proposed { plan, diagnosed_at, hold } = &incident.phase else { return };
        let Some(target) = self.config.target(&plan.target) else {
            let why = "its target is not configured any more";
            return self.record(turn, Some(id), Fact::PlanExpired, why);
        };
        let under_treatment = self.incidents.treated_by_others(id);
        let bring_up = guard::is_bring_up(incident, plan, &self.history, turn.at);
        let verdict = guard::authorize(&Situation {
            now: turn.at,
            incident,
            target,
            plan,
            diagnosed_at: *diagnosed_at,
            approver: self.standing_of_all(incident, target, plan, turn.at),
            policy: &self.config.policy,
            paused: self.paused.as_deref().or_else(|| self.config.not_understood()),
            breaker_until: self.breaker_until,
            silenced: self.silenced_until(incident, turn.at),
            history: &self.history,
            under_treatment: &under_treatment,
            n_targets: self.config.targets.len(),
            n_sick: self.incidents.n_sick(),
            bring_up,
        });
        let (hold, plan) = (hold.clone(), plan.clone());
        match verdict {
            Verdict::Allow(plan) => self.start_fix(turn, id, &plan, bring_up),
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

    /// Begins a fix that all guards allowed.
    fn start_fix(
        &mut self,
        turn: &mut Turn,
        id: IncidentId,
        plan: &Authorized<Plan>,
        bring_up: bool,
    ) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let first = if bring_up { "bring-up: " } else { "" };
        let approved =
            plan.approved_by().map_or_else(String::new, |by| format!(", approved by {by}"));
        let why = format!("{first}{}{approved}; all guards allow it", **plan);
        let fact = Fact::FixStarted {
            attempt: incident.attempt + 1,
            approved_by: plan.approved_by().map(str::to_owned),
            plan: Box::new((**plan).clone()),
            not_after: self.begun_until(incident, turn.at),
            neighbours: self.neighbours(&plan.target),
            bring_up,
        };
        self.record(turn, Some(id), fact, why);
    }

    /// Returns whether more targets are sick by themselves than the storm brake allows.
    pub(super) fn is_storm(&self) -> bool {
        guard::storm_limit(&self.config.policy, self.config.targets.len()) < self.incidents.n_sick()
    }

    /// Returns the targets beside one, needed by it or needing it, that are well now.
    fn neighbours(&self, target: &str) -> Vec<String> {
        let mut names =
            self.config.target(target).map(|it| it.depends_on.clone()).unwrap_or_default();
        names.extend(self.config.direct_dependents(target).map(str::to_owned));
        names.retain(|name| self.incidents.on_target(name).next().is_none());
        names
    }
}

/// Returns whether something is being done about an incident itself.
const fn is_root(incident: &Incident) -> bool {
    !matches!(
        incident.phase,
        Phase::Symptom { .. }
            | Phase::Escalated(_)
            | Phase::Verifying { purpose: Purpose::Recheck { .. } | Purpose::Symptom { .. }, .. }
    )
}
