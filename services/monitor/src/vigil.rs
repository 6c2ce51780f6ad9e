//! What is thought of one target, and what must be said about it. Waits for nothing and
//! looks at no clock.

use std::{collections::BTreeMap, sync::Arc};

use domain::{
    check::Check,
    event::{EventType, Status},
    target::Target,
};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::{
    condition::Condition,
    judge::Judge,
    report::Change,
    sample::Sample,
    startup::Startup,
    watch::{Note, Standing},
};

/// All conditions of one target.
#[derive(Debug)]
pub struct Vigil {
    member: Arc<str>,
    target: Arc<Target>,
    standing: Arc<Standing>,
    checks: Vec<Check>,
    conditions: Vec<Condition>,
    startup: Startup,
}

impl Vigil {
    /// Begins, with what was said before.
    #[must_use]
    pub fn new(member: Arc<str>, target: Arc<Target>, standing: Arc<Standing>) -> Self {
        let checks = target.all_checks();
        let mut judges: BTreeMap<EventType, BTreeMap<usize, Judge>> = BTreeMap::new();
        for (idx, check) in checks.iter().enumerate() {
            let judge = Judge::new(check.fail_after, check.pass_after);
            judges.entry(check.event_type()).or_default().insert(idx, judge);
        }
        let reported = standing.reported().clone();
        let conditions = judges.into_iter().map(|(kind, judges)| {
            let before = reported.get(&kind).copied();
            Condition::new(kind, judges, before)
        });
        let conditions = conditions.collect();
        Self { member, target, standing, checks, conditions, startup: Startup::default() }
    }

    /// Returns the checks; samples name them by index.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Takes a sample. Returns the checks that are to be looked at at once.
    pub fn take(&mut self, check_idx: usize, sample: Sample) -> Vec<usize> {
        let Some(check) = self.checks.get(check_idx) else { return Vec::new() };
        if !self.startup.counts(&self.target, check, check_idx, &sample) {
            return Vec::new();
        }
        let Some(condition) = self.conditions.iter_mut().find(|it| it.has(check_idx)) else {
            return Vec::new();
        };
        let before = condition.health_of(check_idx);
        let was_asked = condition.is_asked(check_idx);
        let detail = sample.finding.detail.clone();
        let taken = condition.take(check_idx, sample);
        let after = condition.health_of(check_idx);
        if was_asked && !condition.is_asked(check_idx) {
            let name = &self.target.name;
            warn!(target = %name, check = check.label(), detail, "a check cannot be asked and is left out; correct its configuration");
        }
        let doubted = if taken.recovering { condition.doubted().collect() } else { Vec::new() };
        if before != after {
            let name = &self.target.name;
            debug!(target = %name, check = check.label(), health = ?after, "check has changed");
            self.standing.note(check.label(), after);
        }
        doubted
    }

    /// Takes what others tell. Returns the checks that are to be looked at at once.
    pub fn heed(&mut self, note: &Note, now: Instant) -> Vec<usize> {
        let mut wanted = Vec::new();
        for condition in &mut self.conditions {
            let kind = condition.kind().clone();
            let kind = kind.as_str();
            let look_again = match note {
                Note::Over { kind: over } => over == kind && condition.incident_is_over(now),
                Note::Open { asked_at, by_monitors, all } => {
                    if by_monitors.contains(kind) {
                        condition.incident_is_open(now);
                    }
                    !all.contains(kind) && condition.incident_is_absent(*asked_at)
                }
            };
            if look_again {
                wanted.extend(condition.checks());
            }
        }
        self.remember();
        wanted
    }

    /// Returns what must be said now, by condition. It counts as under way until
    /// [`Vigil::sent`]. `id` names a change, differently each time.
    pub fn due(&mut self, now: Instant, mut id: impl FnMut() -> String) -> Vec<(usize, Change)> {
        let mut changes = Vec::new();
        for (idx, condition) in self.conditions.iter_mut().enumerate() {
            let Some(status) = condition.due(now) else { continue };
            let about = (&self.member, &self.target, self.checks.as_slice());
            let Some(change) = change(about, condition, status, &mut id) else { continue };
            condition.sending();
            changes.push((idx, change));
        }
        changes
    }

    /// Learns that a report was stored.
    pub fn sent(&mut self, condition_idx: usize, status: Status, now: Instant) {
        if let Some(condition) = self.conditions.get_mut(condition_idx) {
            condition.sent(status, now);
        }
        self.remember();
    }

    /// Tells others what was reported; a watch that follows this one begins there.
    fn remember(&self) {
        let mut reported = self.standing.reported();
        for condition in &self.conditions {
            match condition.reported() {
                Some(status) => drop(reported.insert(condition.kind().clone(), status)),
                None => drop(reported.remove(condition.kind())),
            }
        }
    }
}

fn change(
    (member, target, checks): (&Arc<str>, &Arc<Target>, &[Check]),
    condition: &Condition,
    status: Status,
    id: &mut impl FnMut() -> String,
) -> Option<Change> {
    // A recovery that only an incident told of has no culprit: any check can tell.
    let told = condition.culprit().or_else(|| condition.any());
    let (check_idx, judge) = told?;
    let sample = judge.last()?.clone();
    let since = judge.first_failed().map_or(sample.begun.utc, |first| first.begun.utc);
    Some(Change {
        id: id(),
        by: Arc::clone(member),
        target: Arc::clone(target),
        kind: condition.kind().clone(),
        status,
        check: checks.get(check_idx)?.clone(),
        n_samples: judge.n_failed().max(1),
        sample,
        since,
        seen_well: judge.has_seen_well(),
    })
}
