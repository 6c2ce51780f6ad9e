//! Nothing is given up for good: what is diagnosed again, when and why.
//!
//! An incident that waits for a person or for time reacts to news: an event that claims
//! something else than those before. What failed for a reason that may pass is tried again
//! with a back-off that policy limits. And what nobody could do while no supervisor led has
//! its whole time again when one does.

use super::{Desk, Turn, settle::MOVES_MAX};
use crate::{
    event::{self, Event, Status},
    fact::{Escalation, Fact, Trigger},
    id::IncidentId,
    incident::{Incident, Phase},
    wire::cause,
};

/// Who reports that agents are missing or back.
pub(super) const SUPERVISOR: &str = "selfheal/supervisor";

/// Causes without a cure that may pass by themselves.
const MAY_PASS: [&str; 6] = [
    cause::PROGRAM_MISSING,
    cause::IMAGE_MISSING,
    cause::ANSWERED_BY_ANOTHER,
    cause::EVIDENCE_INCOMPLETE,
    cause::STARTING,
    cause::HOST_OVERLOADED,
];

/// Returns whether a cause may pass without anything that we could do.
pub(super) fn may_pass(cause: &str) -> bool {
    MAY_PASS.contains(&cause)
}

impl Desk {
    /// Schedules a retry of an incident that is being diagnosed; escalates it when retries
    /// have gone on for as long as policy allows.
    pub(super) fn try_later(
        &mut self,
        turn: &mut Turn,
        id: IncidentId,
        why: Escalation,
        text: &str,
    ) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let Some(until) = incident.next_retry(&self.config.policy, turn.at) else {
            let tried = incident.retries.map_or_else(String::new, |it| {
                format!("; {} retries since {} did not help", it.n, it.since)
            });
            return self.escalate(turn, id, why, format!("{text}{tried}"));
        };
        let reason = format!("{text}; diagnosed again at {until}");
        self.record(turn, Some(id), Fact::RetryScheduled { why, until }, reason);
    }

    /// Diagnoses an incident again if it listens and has heard news whose time has come.
    pub(super) fn hear_news(&mut self, turn: &mut Turn, id: IncidentId) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let due = incident.news_due(&self.config.policy);
        if let (Some(news), Some(due)) = (incident.news.clone(), due)
            && due <= turn.at
        {
            self.rediagnose(turn, id, Trigger::News, &news.text);
        }
    }

    /// Diagnoses an incident again. A plan that waits is void.
    pub(super) fn rediagnose(
        &mut self,
        turn: &mut Turn,
        id: IncidentId,
        trigger: Trigger,
        why: &str,
    ) {
        let Some(incident) = self.incidents.get(&id) else { return };
        if let Phase::Proposed { plan, .. } | Phase::AwaitingApproval { plan, .. } = &incident.phase
        {
            let void = format!("the plan {} is void: {why}", plan.runbook);
            self.record(turn, Some(id), Fact::PlanExpired, void);
        }
        self.record(turn, Some(id), Fact::RediagnosisStarted { trigger }, why);
    }

    /// Says to the incident that one waits for that another event of its target was reported.
    pub(super) fn report_beside(&mut self, turn: &mut Turn, id: IncidentId, event: &Event) {
        let Some(beside) = self.incidents.get(&id) else { return };
        let Some(cause) = beside.symptom_of().and_then(|of| self.incidents.get(&of)) else {
            return;
        };
        if cause.target != beside.target || !(cause.listens() || cause.phase == Phase::Diagnosing) {
            return;
        }
        // What the diagnosis saw is no news, unless it is worse than what it was asked about.
        let is_worse = cause.event.severity < event.severity;
        if !is_worse && event.check().is_some_and(|check| cause.has_seen_failing(check)) {
            return;
        }
        let (of, why) = (cause.id, format!("{} reports {} beside it", event.source, event.kind));
        self.record(turn, Some(of), Fact::ReportedBeside { incident: id }, why);
        self.hear_news(turn, of);
    }

    /// Lets incidents go on that wait for an agent which serves their zone again.
    pub(super) fn agent_back(&mut self, turn: &mut Turn, event: &Event) {
        let is_back = event.source == SUPERVISOR
            && event.status == Status::Resolved
            && event.kind.as_str() == event::ZONE_UNSERVED;
        let label = |name: &str| event.labels.get(name).map(String::as_str);
        let (true, Some(zone), Some(kind)) = (is_back, label("zone"), label("kind")) else {
            return;
        };
        let missed = |why: Escalation| match kind {
            "analyzer" => why == Escalation::NotDiagnosed,
            "monitor" => why == Escalation::NotVerified,
            _ => false,
        };
        let waits = |it: &&Incident| match &it.phase {
            Phase::RetryWaiting { why, .. } | Phase::Escalated(why) => {
                missed(*why) && self.zone_of(it) == zone
            }
            Phase::Diagnosing
            | Phase::Proposed { .. }
            | Phase::AwaitingApproval { .. }
            | Phase::Fixing { .. }
            | Phase::Verifying { .. }
            | Phase::Undoing { .. }
            | Phase::Symptom { .. }
            | Phase::Over(_) => false,
        };
        // The others are diagnosed again by their retries, or by news.
        let waiting: Vec<_> =
            self.incidents.open().filter(waits).take(MOVES_MAX).map(|it| it.id).collect();
        for id in waiting {
            let why = format!("a {kind} serves zone {zone} again");
            self.rediagnose(turn, id, Trigger::AgentBack, &why);
        }
    }

    /// Takes note that a supervisor has taken over.
    pub(super) fn on_leadership(&mut self, turn: &mut Turn, epoch: u64) {
        // Without an open incident there is no deadline that it could move.
        if self.led_epoch == Some(epoch) || self.incidents.open().next().is_none() {
            return;
        }
        let why = "a supervisor took over; deadlines of pending work count from here";
        self.record(turn, None, Fact::LeadershipTaken { epoch }, why);
    }
}
