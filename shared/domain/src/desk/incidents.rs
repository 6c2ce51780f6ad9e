//! All incidents, and what finds the right ones without looking at all of them.
//!
//! Everything here but the incidents themselves follows from them and from the
//! configuration; [`Incidents::change`] is the only way to change one, and keeps the rest
//! true. So the cost of a decision does not grow with the number of open incidents.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use chrono::{DateTime, Utc};

use super::{
    fleet::Fleet,
    flood::{self, OpenUnits},
    row::Row,
};
use crate::{
    event::Severity,
    fact::Escalation,
    id::{IncidentId, digest},
    incident::{Corrupt, Incident, Phase},
    view::Status,
};

/// Incidents that are over and still shown; older ones are in the log.
pub(super) const OVER_MAX: usize = 10_000;
/// Incidents that are over and stay beyond [`OVER_MAX`], since people are still owed notices.
const OWED_MAX: usize = 10_000;

/// All incidents, by id, and what finds them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Incidents {
    all: BTreeMap<IncidentId, Slot>,
    /// Those that are not over.
    open: BTreeSet<IncidentId>,
    /// Those that are not over, by the digest of their fingerprint.
    by_fingerprint: BTreeMap<u128, IncidentId>,
    /// The last one that is over, by the digest of its fingerprint.
    former: BTreeMap<u128, IncidentId>,
    /// Those that are over, the oldest first.
    over: VecDeque<IncidentId>,
    /// Those that are not over, by configured target.
    on_target: BTreeMap<String, BTreeSet<IncidentId>>,
    /// A cause and one that is or was its symptom.
    symptoms: BTreeSet<(IncidentId, IncidentId)>,
    /// Symptoms that need not wait any longer.
    movable: BTreeSet<IncidentId>,
    /// Those under treatment, by the target of their plan.
    treated: BTreeMap<String, BTreeSet<IncidentId>>,
    /// Number of incidents that make a target sick by itself.
    sick: BTreeMap<String, usize>,
    /// Those whose plan a guard holds, by the guard's name.
    held: BTreeMap<String, BTreeSet<IncidentId>>,
    /// Those that wait for the same measurement of their target, by target, the longest first:
    /// it is done for the first one.
    sharing: BTreeMap<String, BTreeSet<(DateTime<Utc>, IncidentId)>>,
    /// Those that want something from the hands.
    wanting: BTreeSet<IncidentId>,
    due: BTreeSet<(DateTime<Utc>, IncidentId)>,
    by_state: BTreeMap<State, usize>,
    /// Those that the configuration in force wants to move on: their target is not configured
    /// any more, or one is that fits at last.
    stray: BTreeSet<IncidentId>,
    /// What those that are not over take of the room that there is for them.
    units: OpenUnits,
    /// When a supervisor took over last: what agents must do in time counts from there.
    led_at: Option<DateTime<Utc>>,
}

/// Where incidents stand, and how bad they are.
type State = (Status, Severity);

/// One incident, and what lists and deadlines look at.
#[derive(Clone, Debug, PartialEq)]
struct Slot {
    incident: Arc<Incident>,
    /// When its phase ends by itself.
    due: Option<DateTime<Utc>>,
    /// When it is looked at: then, or sooner when somebody is to be told.
    wake: Option<DateTime<Utc>>,
    row: Row,
}

/// Why a symptom need not wait any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its cause is over.
    CauseOver,
    /// The fix of its cause made something else sick; this target is still sick.
    CauseRegressed,
    /// Its cause waits for it.
    Circle,
    /// Its cause, on the same target, went to a person.
    BesideEscalated,
    /// Its cause waits for a person, and there is news about this one.
    News,
    /// What was measured for another incident of its target answers it.
    Measured,
}

/// What a change has moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// It has come to another phase.
    pub(super) phase: bool,
    /// The target whose treatment has ended.
    pub(super) freed: Option<String>,
}

/// What finds an incident.
#[derive(PartialEq)]
struct Keys {
    state: State,
    is_sick: bool,
    treated: Option<String>,
    held: Option<String>,
    wants: bool,
    cause: Option<IncidentId>,
    shares_since: Option<DateTime<Utc>>,
}

impl Keys {
    fn of(incident: &Incident) -> Self {
        let is_treated = incident.is_under_treatment();
        Self {
            state: (incident.status(), incident.event.severity),
            is_sick: incident.target.is_some() && is_sick(&incident.phase),
            treated: is_treated.then(|| incident.plan().map(|it| it.target.clone())).flatten(),
            held: incident.held_by().map(str::to_owned),
            wants: incident.wants_hands(),
            cause: incident.cause,
            shares_since: incident.shares_since(),
        }
    }
}

/// What lets a symptom go on, or what shares a measurement, apart from phases.
#[derive(PartialEq)]
struct Waiting {
    has_news: bool,
    is_measured: bool,
    severity: Severity,
}

impl Waiting {
    fn of(incident: &Incident) -> Self {
        Self {
            has_news: incident.news.is_some(),
            is_measured: incident.measured.is_some(),
            severity: incident.event.severity,
        }
    }
}

/// A symptom is not sick by itself, and what a person has, or waits for its time, is not
/// ours to heal now.
const fn is_sick(phase: &Phase) -> bool {
    !matches!(
        phase,
        Phase::Symptom { .. } | Phase::RetryWaiting { .. } | Phase::Escalated(_) | Phase::Over(_)
    )
}

impl Incidents {
    pub(super) fn get(&self, id: &IncidentId) -> Option<&Incident> {
        self.all.get(id).map(|it| it.incident.as_ref())
    }

    /// Shares one incident, as it is now.
    pub(super) fn all_shared(&self) -> impl Iterator<Item = &Arc<Incident>> {
        self.all.values().map(|it| &it.incident)
    }

    pub(super) fn rows(&self) -> impl DoubleEndedIterator<Item = (IncidentId, &Row, &Incident)> {
        self.all.iter().map(|(id, it)| (*id, &it.row, it.incident.as_ref()))
    }

    /// Returns the rows before `end`, or all.
    pub(super) fn rows_before(
        &self,
        end: Option<IncidentId>,
    ) -> impl DoubleEndedIterator<Item = (IncidentId, &Row, &Incident)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let range = (Unbounded, end.map_or(Unbounded, Excluded));
        self.all.range(range).map(|(id, it)| (*id, &it.row, it.incident.as_ref()))
    }

    /// Returns those that are not over, the oldest first.
    pub(super) fn open(&self) -> impl Iterator<Item = &Incident> {
        self.open.iter().filter_map(|id| self.get(id))
    }

    /// Returns those that are not over, the oldest first, behind one of them.
    pub(super) fn open_after(&self, after: Option<IncidentId>) -> impl Iterator<Item = &Incident> {
        use std::ops::Bound::{Excluded, Unbounded};
        let range = (after.map_or(Unbounded, Excluded), Unbounded);
        self.open.range(range).filter_map(|id| self.get(id))
    }

    /// Returns those that are over, the first that ended first.
    pub(super) const fn over(&self) -> &VecDeque<IncidentId> {
        &self.over
    }

    /// Returns what those that are not over take of the room that there is for them.
    pub(super) const fn units(&self) -> &OpenUnits {
        &self.units
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns the one that is not over, by fingerprint.
    pub(super) fn of_fingerprint(&self, fingerprint: &str) -> Option<IncidentId> {
        self.by_fingerprint.get(&digest(&[fingerprint])).copied()
    }

    /// Returns the last one that is over, by fingerprint.
    pub(super) fn former(&self, fingerprint: &str) -> Option<IncidentId> {
        self.former.get(&digest(&[fingerprint])).copied()
    }

    /// Returns those on a configured target that are not over, the oldest first.
    pub(super) fn on_target(&self, name: &str) -> impl Iterator<Item = &Incident> {
        self.on_target.get(name).into_iter().flatten().filter_map(|id| self.get(id))
    }

    /// Returns those that are or were symptoms of a cause.
    pub(super) fn symptoms(&self, cause: IncidentId) -> impl Iterator<Item = IncidentId> + '_ {
        self.symptoms.range((cause, IncidentId::NONE)..).map_while(move |(of, id)| {
            let same = *of == cause;
            same.then_some(*id)
        })
    }

    /// Returns symptoms that need not wait any longer, the oldest first.
    pub(super) fn movable(&self, max: usize) -> Vec<IncidentId> {
        self.movable.iter().take(max).copied().collect()
    }

    pub(super) fn is_movable(&self, id: IncidentId) -> bool {
        self.movable.contains(&id)
    }

    /// Returns the targets that others are treating, each once.
    pub(super) fn treated_by_others(&self, than: IncidentId) -> Vec<String> {
        let others = |ids: &BTreeSet<IncidentId>| ids.iter().any(|id| *id != than);
        self.treated.iter().filter(|it| others(it.1)).map(|it| it.0.clone()).collect()
    }

    /// Returns those under treatment.
    pub(super) fn treated(&self) -> impl Iterator<Item = &Incident> {
        self.treated.values().flatten().filter_map(|id| self.get(id))
    }

    /// Returns the number of targets that are sick by themselves.
    pub(super) fn n_sick(&self) -> usize {
        self.sick.len()
    }

    /// Returns the incident for which the measurement is done that others of the target share.
    pub(super) fn measured_for(&self, target: &str) -> Option<IncidentId> {
        self.sharing.get(target)?.first().map(|it| it.1)
    }

    /// Returns since when the last one waits of those that share a measurement of the target.
    pub(super) fn shared_since(&self, target: &str) -> Option<DateTime<Utc>> {
        self.sharing.get(target)?.last().map(|it| it.0)
    }

    /// Returns those that a measurement of the target answers whose samples are as old as that.
    pub(super) fn answered(&self, target: &str, samples_from: DateTime<Utc>) -> Vec<IncidentId> {
        let sharing = self.sharing.get(target).into_iter().flatten();
        sharing.take_while(|it| it.0 <= samples_from).map(|it| it.1).collect()
    }

    /// Returns those whose plan this guard holds, the oldest first.
    pub(super) fn held_by(&self, guard: &str, max: usize) -> Vec<IncidentId> {
        self.held.get(guard).into_iter().flatten().take(max).copied().collect()
    }

    /// Returns those whose plan any guard holds.
    pub(super) fn held(&self, max: usize) -> Vec<IncidentId> {
        let mut ids: Vec<_> = self.held.values().flatten().copied().collect();
        ids.sort_unstable();
        ids.truncate(max);
        ids
    }

    /// Returns those that want something from the hands: first those that are not over.
    pub(super) fn wanting(&self) -> impl Iterator<Item = &Incident> {
        let of = |over: bool| {
            let wanting = self.wanting.iter().filter_map(|id| self.get(id));
            wanting.filter(move |it| it.is_over() == over)
        };
        of(false).chain(of(true))
    }

    /// Returns what has a deadline, the next first.
    pub(super) fn due(&self) -> impl Iterator<Item = (DateTime<Utc>, IncidentId)> + '_ {
        self.due.iter().copied()
    }

    /// Returns the number of incidents by status and severity; none where there are none.
    pub(super) const fn by_state(&self) -> &BTreeMap<State, usize> {
        &self.by_state
    }

    /// Adds one that is new, or comes from a snapshot.
    pub(super) fn add(&mut self, incident: Arc<Incident>, fleet: &Fleet) {
        let id = incident.id;
        let fingerprint = digest(&[&incident.fingerprint]);
        let keys = Keys::of(&incident);
        if !incident.is_over() {
            self.open.insert(id);
            self.by_fingerprint.insert(fingerprint, id);
            if let Some(target) = &incident.target {
                self.on_target.entry(target.clone()).or_default().insert(id);
            }
        }
        self.enter(id, &keys, incident.target.as_deref());
        self.units.change(incident.event.whose(), 0, flood::units(&incident));
        let row = Row::of(&incident);
        self.all.insert(id, Slot { incident, due: None, wake: None, row });
        self.look_at_symptom(id, fleet);
        self.look_at_symptoms_of(id, fleet);
        self.look_at_target(id, fleet);
        self.keep_due(id, fleet);
    }

    /// Takes up one that is over, from a snapshot; in the order in which they ended.
    pub(super) fn add_over(&mut self, id: IncidentId) {
        if let Some(incident) = self.get(&id) {
            let fingerprint = digest(&[&incident.fingerprint]);
            self.former.insert(fingerprint, id);
            self.over.push_back(id);
        }
    }

    /// Changes one incident.
    ///
    /// # Errors
    ///
    /// What `with` returns; nothing has changed then. Or that there is no such incident.
    pub(super) fn change(
        &mut self,
        id: IncidentId,
        fleet: &Fleet,
        unknown: impl FnOnce() -> Corrupt,
        with: impl FnOnce(&mut Incident) -> Result<(), Corrupt>,
    ) -> Result<Moved, Corrupt> {
        let slot = self.all.get_mut(&id).ok_or_else(unknown)?;
        let before = Keys::of(&slot.incident);
        let former = slot.incident.target.clone();
        let units = flood::units(&slot.incident);
        let revision = slot.incident.revision;
        let it = &slot.incident;
        let words = (it.lease, it.said_over, it.telling_due());
        let waits_for = Waiting::of(&slot.incident);
        with(Arc::make_mut(&mut slot.incident))?;
        let incident = Arc::clone(&slot.incident);
        slot.row.update(&incident);
        let after = Keys::of(&incident);
        self.units.change(incident.event.whose(), units, flood::units(&incident));
        let mut moved = Moved { phase: incident.revision != revision, freed: None };
        if before != after {
            self.leave(id, &before, former.as_deref());
            self.enter(id, &after, incident.target.as_deref());
        }
        if let Some(target) = incident.target.as_ref().filter(|_| former.is_none()) {
            // A target that fits was configured later. It moved to another phase, too.
            self.on_target.entry(target.clone()).or_default().insert(id);
        }
        if moved.phase {
            if incident.is_over() && self.open.contains(&id) {
                self.end(&incident);
            }
            self.look_at_symptom(id, fleet);
            self.look_at_symptoms_of(id, fleet);
            self.look_at_target(id, fleet);
            self.keep_due(id, fleet);
            if before.treated != after.treated {
                moved.freed = before.treated;
            }
        } else {
            if incident.target.is_none() && self.look_at_target(id, fleet) {
                self.keep_due(id, fleet);
            }
            if Waiting::of(&incident) != waits_for {
                self.look_at_symptom(id, fleet);
                self.keep_due(id, fleet);
            }
            if (incident.lease, incident.said_over, incident.telling_due()) != words {
                self.keep_due(id, fleet);
            }
        }
        if incident.is_over() {
            self.forget_oldest();
        }
        Ok(moved)
    }

    /// Takes up another configuration: deadlines follow from it.
    pub(super) fn reconfigure(&mut self, fleet: &Fleet) {
        let open: Vec<_> = self.open.iter().copied().collect();
        for id in open {
            self.look_at_target(id, fleet);
            self.keep_due(id, fleet);
        }
    }

    /// Keeps the targets, as they were, of fixes that are under way while another configuration
    /// changes or removes them.
    pub(super) fn keep_targets(&mut self, former: &Fleet, fleet: &Fleet) {
        for (name, ids) in &self.treated {
            let Some(target) = former.target(name) else { continue };
            if fleet.target(name) == Some(target) {
                continue;
            }
            for id in ids {
                if let Some(slot) = self.all.get_mut(id) {
                    let kept = &mut Arc::make_mut(&mut slot.incident).former_target;
                    kept.get_or_insert_with(|| Box::new(target.told()));
                }
            }
        }
    }

    /// Returns those that the configuration in force wants to move on, the oldest first.
    pub(super) fn stray(&self, max: usize) -> Vec<IncidentId> {
        self.stray.iter().take(max).copied().collect()
    }

    /// Looks whether the configuration in force wants an incident to move on; returns whether
    /// that is new.
    fn look_at_target(&mut self, id: IncidentId, fleet: &Fleet) -> bool {
        let is_stray = self.get(&id).is_some_and(|it| is_stray(it, fleet));
        if is_stray { self.stray.insert(id) } else { self.stray.remove(&id) }
    }

    /// Notes when a supervisor took over: deadlines follow from it.
    pub(super) fn lead(&mut self, at: DateTime<Utc>, fleet: &Fleet) {
        self.led_at = Some(at);
        // Which of them are stray does not hang on it, and takes reading their events.
        let open: Vec<_> = self.open.iter().copied().collect();
        for id in open {
            self.keep_due(id, fleet);
        }
    }

    /// Returns when a supervisor took over last, as far as it mattered.
    pub(super) const fn led_at(&self) -> Option<DateTime<Utc>> {
        self.led_at
    }

    /// Takes up when a supervisor took over, from a snapshot, before its incidents.
    pub(super) const fn set_led_at(&mut self, at: Option<DateTime<Utc>>) {
        self.led_at = at;
    }

    fn enter(&mut self, id: IncidentId, keys: &Keys, target: Option<&str>) {
        *self.by_state.entry(keys.state).or_default() += 1;
        if let Some(target) = target.filter(|_| keys.is_sick) {
            *self.sick.entry(target.to_owned()).or_default() += 1;
        }
        if let Some(target) = &keys.treated {
            self.treated.entry(target.clone()).or_default().insert(id);
        }
        if let Some(guard) = &keys.held {
            self.held.entry(guard.clone()).or_default().insert(id);
        }
        if keys.wants {
            self.wanting.insert(id);
        }
        if let Some(cause) = keys.cause {
            self.symptoms.insert((cause, id));
        }
        if let (Some(target), Some(since)) = (target, keys.shares_since) {
            self.sharing.entry(target.to_owned()).or_default().insert((since, id));
        }
    }

    fn leave(&mut self, id: IncidentId, keys: &Keys, target: Option<&str>) {
        lessen(&mut self.by_state, &keys.state);
        if let Some(target) = target.filter(|_| keys.is_sick) {
            lessen(&mut self.sick, target);
        }
        if let Some(target) = &keys.treated {
            take_out(&mut self.treated, target, &id);
        }
        if let Some(guard) = &keys.held {
            take_out(&mut self.held, guard, &id);
        }
        if keys.wants {
            self.wanting.remove(&id);
        }
        if let Some(cause) = keys.cause {
            self.symptoms.remove(&(cause, id));
        }
        if let (Some(target), Some(since)) = (target, keys.shares_since) {
            take_out(&mut self.sharing, target, &(since, id));
        }
    }

    fn end(&mut self, incident: &Incident) {
        let (id, fingerprint) = (incident.id, digest(&[&incident.fingerprint]));
        self.open.remove(&id);
        if self.by_fingerprint.get(&fingerprint) == Some(&id) {
            self.by_fingerprint.remove(&fingerprint);
        }
        if let Some(target) = &incident.target {
            take_out(&mut self.on_target, target, &id);
        }
        self.former.insert(fingerprint, id);
        self.over.push_back(id);
    }

    fn forget_oldest(&mut self) {
        while OVER_MAX < self.over.len() {
            let owes = |id: &IncidentId| self.get(id).is_some_and(|it| !it.notices.is_empty());
            let idx = self.over.iter().position(|id| !owes(id)).unwrap_or(0);
            // The newest stay, so that what has just ended is shown.
            let idx = if idx < OWED_MAX { idx } else { 0 };
            let Some(oldest) = self.over.remove(idx) else { return };
            let Some(gone) = self.all.remove(&oldest) else { continue };
            if let Some(wake) = gone.wake {
                self.due.remove(&(wake, oldest));
            }
            let keys = Keys::of(&gone.incident);
            self.leave(oldest, &keys, gone.incident.target.as_deref());
            let fingerprint = digest(&[&gone.incident.fingerprint]);
            if self.former.get(&fingerprint) == Some(&oldest) {
                self.former.remove(&fingerprint);
            }
        }
    }

    /// Returns why a symptom need not wait any longer; `None` when it must, or is none.
    pub(super) fn fate(&self, id: IncidentId) -> Option<Fate> {
        let symptom = self.get(&id)?;
        if symptom.measured.is_some() {
            return Some(Fate::Measured);
        }
        let of = symptom.symptom_of()?;
        let Some(cause) = self.get(&of).filter(|it| !it.is_over()) else {
            return Some(Fate::CauseOver);
        };
        if cause.phase == Phase::Escalated(Escalation::Regression) {
            return Some(Fate::CauseRegressed);
        }
        match cause.symptom_of() {
            Some(root) if root == id => Some(Fate::Circle),
            // Had it been opened later, it would not have become a symptom either.
            None if symptom.target == cause.target
                && matches!(cause.phase, Phase::Escalated(_))
                && !stays_with(symptom, cause) =>
            {
                Some(Fate::BesideEscalated)
            }
            None if symptom.target != cause.target
                && symptom.news.is_some()
                && matches!(cause.phase, Phase::Escalated(_)) =>
            {
                Some(Fate::News)
            }
            Some(_) | None => None,
        }
    }

    fn look_at_symptom(&mut self, id: IncidentId, fleet: &Fleet) {
        let changed = if self.fate(id).is_some() {
            self.movable.insert(id)
        } else {
            self.movable.remove(&id)
        };
        if changed {
            self.keep_due(id, fleet);
        }
    }

    fn look_at_symptoms_of(&mut self, cause: IncidentId, fleet: &Fleet) {
        let symptoms: Vec<_> = self.symptoms(cause).collect();
        for symptom in symptoms {
            self.look_at_symptom(symptom, fleet);
        }
    }

    fn keep_due(&mut self, id: IncidentId, fleet: &Fleet) {
        let is_movable = self.movable.contains(&id) || self.stray.contains(&id);
        let Some(slot) = self.all.get_mut(&id) else { return };
        let incident = slot.incident.as_ref();
        let proof = super::proof_within(fleet, incident);
        // What can move is looked at with the next input; a timer makes sure of one.
        let due = if is_movable {
            Some(incident.entered_at)
        } else {
            incident.deadline(&fleet.policy, proof, self.led_at)
        };
        let wake = due.into_iter().chain(incident.telling_due()).min();
        slot.due = due;
        if slot.wake == wake {
            return;
        }
        if let Some(former) = std::mem::replace(&mut slot.wake, wake) {
            self.due.remove(&(former, id));
        }
        if let Some(wake) = wake {
            self.due.insert((wake, id));
        }
    }

    /// Returns when the present phase of one ends by itself.
    pub(super) fn deadline(&self, id: IncidentId) -> Option<DateTime<Utc>> {
        self.all.get(&id)?.due
    }
}

/// Returns whether a symptom stays with an incident of the same target that a person has: both
/// ask the same, so another diagnosis would find the same. Where no check measures what is asked,
/// each has a sender of its own that ends it.
pub(super) fn stays_with(symptom: &Incident, cause: &Incident) -> bool {
    match &cause.phase {
        Phase::Escalated(Escalation::NotObservable) => false,
        Phase::Escalated(_) => symptom.asks_the_same_as(cause),
        Phase::Diagnosing
        | Phase::RetryWaiting { .. }
        | Phase::Proposed { .. }
        | Phase::AwaitingApproval { .. }
        | Phase::Fixing { .. }
        | Phase::Verifying { .. }
        | Phase::Undoing { .. }
        | Phase::Symptom { .. }
        | Phase::Over(_) => false,
    }
}

/// Returns whether a configuration wants an incident to move on: its target is gone and no
/// fix of it is under way, or a target is configured that fits its event at last.
fn is_stray(incident: &Incident, fleet: &Fleet) -> bool {
    match &incident.target {
        Some(name) => {
            !incident.is_over() && !incident.is_under_treatment() && fleet.target(name).is_none()
        }
        None => {
            incident.phase == Phase::Escalated(Escalation::UnknownTarget)
                && fleet.target_of(&incident.event.event()).is_some()
        }
    }
}

fn take_out<T: Ord>(map: &mut BTreeMap<String, BTreeSet<T>>, key: &str, item: &T) {
    if let Some(items) = map.get_mut(key) {
        items.remove(item);
        if items.is_empty() {
            map.remove(key);
        }
    }
}

fn lessen<K, Q>(map: &mut BTreeMap<K, usize>, key: &Q)
where
    K: std::borrow::Borrow<Q> + Ord,
    Q: Ord + ?Sized,
{
    if let Some(count) = map.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            map.remove(key);
        }
    }
}
