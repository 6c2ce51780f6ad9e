//! What people read from the desk.

use std::collections::BTreeMap;

use super::Desk;
use crate::{
    id::IncidentId,
    incident::{Incident, Phase},
    view::{Filter, IncidentDetail, IncidentView, Page, PlanView, SystemView},
};

impl Desk {
    /// Returns one incident as a list shows it.
    #[must_use]
    pub fn view(&self, incident: &Incident) -> IncidentView {
        let (expires_at, waiting) = match &incident.phase {
            Phase::AwaitingApproval { expires_at, .. } => {
                (Some(*expires_at), Some(format!("for an approval until {expires_at}")))
            }
            Phase::Proposed { hold: Some((guard, until)), .. } => {
                (None, Some(format!("held by `{guard}`, looked at again at {until}")))
            }
            Phase::Symptom { of } => (None, Some(format!("for its cause {of}"))),
            Phase::Diagnosing
            | Phase::Proposed { .. }
            | Phase::Fixing { .. }
            | Phase::Verifying { .. }
            | Phase::Undoing { .. }
            | Phase::Escalated(_)
            | Phase::Over(_) => (None, None),
        };
        IncidentView {
            id: incident.id,
            status: incident.status(),
            kind: incident.event.kind.to_string(),
            severity: incident.event.severity,
            target: incident.target.clone().or_else(|| incident.event.target.clone()),
            zone: self.zone_of(incident),
            source: incident.event.source.clone(),
            fingerprint: incident.fingerprint.clone(),
            opened_at: incident.opened_at,
            updated_at: incident.updated_at,
            closed_at: incident.closed_at,
            count: incident.count,
            attempt: incident.attempt,
            analysis: incident.analysis.clone(),
            resolution: incident.resolution.clone(),
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
        }
    }

    /// Returns one incident, whole.
    #[must_use]
    pub fn detail(&self, id: IncidentId) -> Option<IncidentDetail> {
        let incident = self.incidents.get(&id)?;
        let is_symptom = |it: &&Incident| it.cause == Some(id);
        Some(IncidentDetail {
            view: self.view(incident),
            timeline: incident.timeline.clone(),
            event: incident.event.clone(),
            hypotheses: incident.hypotheses.clone(),
            evidence: incident.evidence.clone(),
            attempts: incident.attempts.clone(),
            symptoms: self.incidents.values().filter(is_symptom).map(|it| it.id).collect(),
        })
    }

    /// Returns a page of the list, the newest first.
    #[must_use]
    pub fn page(&self, filter: &Filter) -> Page {
        let limit = filter.limit.unwrap_or(Filter::LIMIT_DEFAULT).clamp(1, Filter::LIMIT_MAX);
        let fitting = || self.incidents.values().rev().filter(|it| fits(it, filter));
        let total = fitting().count();
        let mut rest = fitting().filter(|it| filter.after.is_none_or(|after| it.id < after));
        let incidents: Vec<_> = rest.by_ref().take(limit).map(|it| self.view(it)).collect();
        let next = rest.next().and_then(|_| incidents.last().map(|it| it.id));
        Page { incidents, next, total }
    }

    /// Returns what the desk knows of the whole system; the shell adds the rest.
    #[must_use]
    pub fn system(&self) -> SystemView {
        let mut incidents = BTreeMap::new();
        for incident in self.incidents.values() {
            *incidents.entry(incident.status().as_str().to_owned()).or_insert(0) += 1;
        }
        SystemView {
            paused: self.paused.clone(),
            breaker_until: self.breaker_until,
            incidents,
            n_targets: self.config.targets.len(),
            n_decisions: self.n_decisions,
            position: self.position,
            config_hash: self.config.hash().chars().take(12).collect(),
            ..SystemView::default()
        }
    }
}

fn fits(incident: &Incident, filter: &Filter) -> bool {
    let target = incident.target.as_deref().or(incident.event.target.as_deref());
    let contains = |text: &str| {
        let text = text.to_lowercase();
        let fields = [
            Some(incident.id.to_string()),
            Some(incident.event.kind.to_string()),
            target.map(str::to_owned),
            incident.analysis.clone(),
            incident.resolution.clone(),
        ];
        fields.iter().flatten().any(|it| it.to_lowercase().contains(&text))
    };
    (filter.status.is_empty() || filter.status.contains(&incident.status()))
        && !(filter.open && incident.is_over())
        && filter.target.as_deref().is_none_or(|it| target == Some(it))
        && filter.kind.as_deref().is_none_or(|it| incident.event.kind.as_str() == it)
        && filter.severity.is_none_or(|it| it <= incident.event.severity)
        && filter.since.is_none_or(|it| it <= incident.opened_at)
        && filter.q.as_deref().is_none_or(contains)
}
