//! What people read from the desk.

use std::collections::BTreeMap;

use super::{
    Desk,
    row::{Row, Sieve},
};
use crate::{
    id::IncidentId,
    incident::{Incident, Phase, Step},
    view::{Filter, IncidentDetail, IncidentView, Page, PlanView, SystemView},
};

impl Desk {
    /// Returns one incident as a list shows it.
    #[must_use]
    pub fn view(&self, incident: &Incident) -> IncidentView {
        let (expires_at, waiting) = match &incident.phase {
            Phase::AwaitingApproval { plan, expires_at, .. } => {
                let wanted = self.config.policy.approvals_of(&plan.runbook);
                let n_given = incident.approvals_before.len();
                let what = match wanted {
                    0 | 1 => "an approval".to_owned(),
                    _ => format!("approvals ({n_given} of {wanted} given)"),
                };
                (Some(*expires_at), Some(format!("for {what} until {expires_at}")))
            }
            Phase::Proposed { hold: Some((guard, until)), .. } => {
                (None, Some(format!("held by `{guard}`, reviewed again at {until}")))
            }
            Phase::RetryWaiting { until, .. } => {
                (None, Some(format!("diagnosed again at {until}")))
            }
            Phase::Symptom { of } => (None, Some(format!("for its cause {of}"))),
            Phase::Diagnosing
            | Phase::Proposed { .. }
            | Phase::Fixing { .. }
            | Phase::Verifying { .. }
            | Phase::Undoing { .. }
            | Phase::Over(_) => (None, None),
            // Its resolution is why it was escalated, until it has ended.
            Phase::Escalated(_) => (None, incident.resolution.clone()),
        };
        IncidentView {
            id: incident.id,
            status: incident.status(),
            kind: incident.event.kind.to_string(),
            severity: incident.event.severity,
            target: incident.named_target().map(str::to_owned),
            zone: self.zone_of(incident),
            source: incident.event.source.to_string(),
            fingerprint: incident.fingerprint.clone(),
            opened_at: incident.opened_at,
            updated_at: incident.updated_at,
            closed_at: incident.closed_at,
            count: incident.count,
            attempt: incident.attempt,
            bring_up: incident.attempts.last().is_some_and(|it| it.bring_up),
            analysis: incident.analysis.clone(),
            resolution: incident.resolution.clone().filter(|_| incident.is_over()),
            symptom_of: incident.symptom_of().or(incident.cause),
            previous: incident.previous,
            plan: incident.plan().map(|plan| PlanView {
                hash: plan.hash(),
                summary: plan.to_string(),
                expires_at,
                plan: plan.clone(),
            }),
            waiting,
            acknowledged_by: incident.acknowledged_by.clone(),
            deadline: self.deadline(incident),
            notified_by: incident.notified_by,
        }
    }

    /// Returns one incident, whole.
    #[must_use]
    pub fn detail(&self, id: IncidentId) -> Option<IncidentDetail> {
        let incident = self.incidents.get(&id)?;
        Some(IncidentDetail {
            view: self.view(incident),
            timeline: incident.timeline.iter().map(Step::view).collect(),
            event: incident.event.event(),
            hypotheses: incident.hypotheses.clone(),
            evidence: incident.evidence.clone(),
            attempts: incident.attempts.clone(),
            symptoms: self.incidents.symptoms(id).collect(),
        })
    }

    /// Returns a page of the list, the newest first.
    #[must_use]
    pub fn page(&self, filter: &Filter) -> Page {
        let limit = filter.limit.unwrap_or(Filter::LIMIT_DEFAULT).clamp(1, Filter::LIMIT_MAX);
        let sieve = Sieve::new(filter);
        let fits = |(_, row, it): &(_, &Row, &Incident)| sieve.lets_through(row, it);
        let total = if sieve.is_open() {
            self.incidents.len()
        } else {
            self.incidents.rows().filter(fits).count()
        };
        let mut rest = self.incidents.rows_before(filter.after).rev().filter(fits);
        let shown = rest.by_ref().take(limit);
        let incidents: Vec<_> = shown.map(|(_, _, it)| self.view(it)).collect();
        let next = rest.next().and_then(|_| incidents.last().map(|it| it.id));
        Page { incidents, next, total }
    }

    /// Returns what the desk knows of the whole system; the shell adds the rest.
    #[must_use]
    pub fn system(&self) -> SystemView {
        let mut incidents = BTreeMap::new();
        for (status, _, n) in self.by_state() {
            *incidents.entry(status.as_str().to_owned()).or_default() += n;
        }
        SystemView {
            paused: self.paused.clone(),
            breaker_until: self.breaker_until,
            incidents,
            n_targets: self.config.targets.len(),
            n_decisions: self.n_decisions,
            position: self.position,
            config_held: self.given.held().cloned(),
            config_hash: self.config.hash().chars().take(12).collect(),
            ..SystemView::default()
        }
    }
}
