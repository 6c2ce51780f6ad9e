//! Wishes: the work that the state wants. They are derived, never stored.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::Desk;
use crate::{
    check::Check,
    guard::Authorized,
    id::IncidentId,
    incident::{Incident, Notice, Phase, Purpose, Step},
    target::{Target, ZONE_DEFAULT},
    trace::TraceContext,
    wire::{
        Change, DiagnoseWork, Evidence, FixMode, FixOrder, NotifyWork, VerifyWork, WorkKind,
        WorkRef,
    },
};

/// Changes that one diagnosis is told.
const CHANGES_TOLD_MAX: usize = 20;
/// Steps of the timeline that a notice tells, the newest.
const STEPS_MAX: usize = 20;

/// A piece of work that is wanted. Only a desk makes one, and a fix only out of what
/// the guards authorized.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    zone: String,
    id: String,
    work: Work,
}

#[derive(Clone, Debug, PartialEq)]
enum Work {
    Diagnose(Box<DiagnoseWork>),
    Fix(Box<Authorized<FixOrder>>),
    Verify(Box<VerifyWork>),
    Notify(Box<NotifyWork>),
}

impl Wish {
    /// Returns the id under which it is published; the same whenever it is published.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the zone whose agents can do it.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// Returns the span that the work belongs below: that of the incident's phase; of a
    /// notice, which no phase waits for, that of the incident.
    #[must_use]
    pub fn trace(&self) -> TraceContext {
        match &self.work {
            Work::Diagnose(it) => TraceContext::of_work(it.work),
            Work::Fix(it) => TraceContext::of_work(it.work),
            Work::Verify(it) => TraceContext::of_work(it.work),
            Work::Notify(it) => TraceContext::of_incident(it.work.incident),
        }
    }

    /// Returns the queue it goes to.
    #[must_use]
    pub const fn kind(&self) -> WorkKind {
        match self.work {
            Work::Diagnose(_) => WorkKind::Diagnose,
            Work::Fix(_) => WorkKind::Fix,
            Work::Verify(_) => WorkKind::Verify,
            Work::Notify(_) => WorkKind::Notify,
        }
    }

    /// Returns the name of the notice, when it is one.
    #[must_use]
    pub fn notice(&self) -> Option<&str> {
        match &self.work {
            Work::Notify(work) => Some(&work.notice),
            Work::Diagnose(_) | Work::Fix(_) | Work::Verify(_) => None,
        }
    }

    /// Returns the message.
    ///
    /// # Errors
    ///
    /// When a payload holds what JSON cannot.
    pub fn payload(&self) -> Result<Vec<u8>, serde_json::Error> {
        match &self.work {
            Work::Diagnose(work) => serde_json::to_vec(work),
            Work::Fix(order) => serde_json::to_vec::<FixOrder>(order),
            Work::Verify(work) => serde_json::to_vec(work),
            Work::Notify(work) => serde_json::to_vec(work),
        }
    }
}

/// Returns the labels of checks that passed in the diagnosis before a fix.
fn passed_before(incident: &Incident, purpose: &Purpose) -> Vec<String> {
    let passed = |it: &Evidence| {
        let is_own = it.source == Evidence::CHECK && it.target == incident.target;
        let ok = it.detail.get("ok").and_then(Value::as_bool) == Some(true);
        let label = it.detail.get("check").and_then(Value::as_str);
        label.filter(|_| is_own && ok).map(str::to_owned)
    };
    match purpose {
        Purpose::Fix { .. } => incident.evidence.iter().filter_map(passed).collect(),
        Purpose::Recheck { .. } | Purpose::Symptom { .. } => Vec::new(),
    }
}

impl Desk {
    /// Returns all work that is wanted now, the oldest incident first.
    #[must_use]
    pub fn pending(&self) -> Vec<Wish> {
        self.incidents.wanting().flat_map(|it| self.wishes(it)).collect()
    }

    /// Returns the incidents that want work now: first those that are not over, the oldest
    /// first. [`Desk::wishes_of`] tells what.
    pub fn wanting(&self) -> impl Iterator<Item = IncidentId> + '_ {
        self.incidents.wanting().map(|it| it.id)
    }

    /// Returns the work that one incident wants now.
    #[must_use]
    pub fn wishes_of(&self, id: IncidentId) -> Vec<Wish> {
        self.incidents.get(&id).map(|it| self.wishes(it)).unwrap_or_default()
    }

    fn wishes(&self, incident: &Incident) -> Vec<Wish> {
        let due = self.deadline(incident).unwrap_or(incident.entered_at);
        let work = match &incident.phase {
            Phase::Diagnosing => Some(Work::Diagnose(Box::new(self.diagnose(incident, due)))),
            Phase::Fixing { plan, not_after, .. } => {
                Some(fix(incident, plan, FixMode::Apply, *not_after))
            }
            Phase::Undoing { plan, not_after } => {
                Some(fix(incident, plan, FixMode::Undo, *not_after))
            }
            Phase::Verifying { .. } if self.is_measured_by_another(incident) => None,
            Phase::Verifying { purpose, since } => {
                let since = self.samples_wanted_since(incident, *since);
                Some(Work::Verify(Box::new(self.verify(incident, purpose, since, due))))
            }
            Phase::RetryWaiting { .. }
            | Phase::Proposed { .. }
            | Phase::AwaitingApproval { .. }
            | Phase::Symptom { .. }
            | Phase::Escalated(_)
            | Phase::Over(_) => None,
        };
        let zone = self.zone_of(incident);
        let wish = |work: Work| {
            let mut wish = Wish { zone: zone.clone(), id: String::new(), work };
            wish.id = incident.work().wish_id(wish.kind());
            wish
        };
        let mut wishes: Vec<_> = work.into_iter().map(wish).collect();
        wishes.extend(self.notices(incident));
        wishes
    }

    pub(super) fn zone_of(&self, incident: &Incident) -> String {
        let configured = incident.target.as_deref().and_then(|name| self.config.target(name));
        let zone = configured.map(|it| it.zone.as_str());
        zone.or_else(|| incident.plan().map(|it| it.zone.as_str()))
            .unwrap_or(ZONE_DEFAULT)
            .to_owned()
    }

    fn diagnose(&self, incident: &Incident, not_after: DateTime<Utc>) -> DiagnoseWork {
        let name = incident.target.as_deref().unwrap_or_default();
        let dependencies: Vec<Target> =
            self.config.dependencies(name).into_iter().map(Target::told).collect();
        let is_sick = |name: &str| self.incidents.on_target(name).next().is_some();
        let sick = dependencies.iter().map(|it| it.name.clone()).filter(|it| is_sick(it));
        let earlier = |it: &&Incident| self.incidents.get(&it.previous?);
        let recent = std::iter::successors(Some(incident), earlier);
        let mut recent_incidents: Vec<_> = recent.take(20).map(|it| it.opened_at).collect();
        recent_incidents.reverse();
        let concerns = |it: &&Change| match &it.target {
            Some(changed) => changed == name || dependencies.iter().any(|it| it.name == *changed),
            None => true,
        };
        let changes = self.changes.iter().rev().filter(concerns).take(CHANGES_TOLD_MAX);
        let mut changes: Vec<_> = changes.cloned().collect();
        changes.reverse();
        let target = self.config.target(name);
        DiagnoseWork {
            work: incident.work(),
            event: incident.event.event(),
            target: target.map(Target::told),
            measures: target.map(|it| it.evidence.clone()).unwrap_or_default(),
            sick_dependencies: sick.collect(),
            dependencies,
            attempts: incident.tried().to_vec(),
            recent_incidents,
            changes,
            soak: self.config.policy.soak,
            within: self.config.policy.verify_within,
            not_after,
        }
    }

    fn verify(
        &self,
        incident: &Incident,
        purpose: &Purpose,
        since: DateTime<Utc>,
        not_after: DateTime<Utc>,
    ) -> VerifyWork {
        let policy = &self.config.policy;
        let name = incident.target.as_deref().unwrap_or_default();
        let former = incident.former_target.as_deref();
        let target = former.or_else(|| self.config.target(name));
        let target = target.map_or_else(|| Target::named(name), Target::told);
        let own = |target: &Target| -> Vec<Check> { target.all_checks() };
        let after_fix = matches!(purpose, Purpose::Fix { .. });
        let (checks, soak, within, neighbours) = match purpose {
            Purpose::Fix { plan, neighbours } => (
                plan.success.checks.clone(),
                plan.success.soak,
                plan.success.within,
                neighbours.as_slice(),
            ),
            Purpose::Recheck { .. } | Purpose::Symptom { .. } => {
                let within = policy.verify_within.plus(target.longest_start());
                (own(&target), super::soak(&self.config, incident), within, &[][..])
            }
        };
        let known = |name: &String| self.config.target(name).map(Target::told);
        VerifyWork {
            work: incident.work(),
            target,
            checks,
            passed_before: passed_before(incident, purpose),
            neighbours: neighbours.iter().filter_map(known).collect(),
            since,
            soak,
            within,
            after_fix,
            not_after,
        }
    }

    fn notices(&self, incident: &Incident) -> Vec<Wish> {
        if incident.notices.is_empty() {
            return Vec::new();
        }
        let zone = self.zone_of(incident);
        let view = serde_json::to_value(self.view(incident)).unwrap_or(Value::Null);
        let shown = incident.timeline.len().saturating_sub(STEPS_MAX);
        let measured = || {
            let all = incident.evidence.iter().filter(|it| it.source == Evidence::METRIC);
            all.map(|it| it.summary.clone()).collect()
        };
        let steps = || incident.timeline.iter().skip(shown).map(Step::view).collect();
        let wish = |notice: &Notice| {
            let to = self.config.people().receiver(&notice.to);
            // What an older version owes goes to all whom that version knew.
            let older = to.map_or_else(
                || self.config.policy.notify.clone(),
                |it| it.as_older().into_iter().collect(),
            );
            Wish {
                zone: zone.clone(),
                id: format!("{}/notice/{}", incident.id, notice.name()),
                work: Work::Notify(Box::new(NotifyWork {
                    work: WorkRef { ..incident.work() },
                    notice: notice.name(),
                    title: notice.title.clone(),
                    text: notice.text.clone(),
                    incident: view.clone(),
                    to: older,
                    receiver: to.cloned().map(Box::new),
                    occasion: notice.occasion,
                    kept: incident.told.get(&notice.to).filter(|it| !it.is_empty()).cloned(),
                    steps: steps(),
                    measured: measured(),
                })),
            }
        };
        incident.notices_wanted().map(wish).collect()
    }
}

fn fix(
    incident: &Incident,
    plan: &Authorized<crate::plan::Plan>,
    mode: FixMode,
    not_after: DateTime<Utc>,
) -> Work {
    Work::Fix(Box::new(plan.order(incident.work(), mode, not_after)))
}
