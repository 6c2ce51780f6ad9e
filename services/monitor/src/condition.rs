//! One kind of trouble of one target: whether it is there, and what has been said about it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use domain::event::{EventType, Status};
use tokio::time::Instant;

use crate::{
    judge::{Health, Judge},
    sample::Sample,
};

/// How long to wait before the same trouble is reported once more after its incident
/// was over at once, for instance suppressed. Doubles up to [`REPEAT_MAX`], so that a
/// silence does not become a storm of reports.
const REPEAT_MIN: Duration = Duration::from_secs(5);

/// The longest of these waits: the end of a silence is noticed at least so soon.
const REPEAT_MAX: Duration = Duration::from_secs(5 * 60);

/// A report may take so long to become an incident; only then does the absence of one
/// mean that it is over.
const SETTLE: Duration = Duration::from_secs(10);

/// What all checks of one event type say together.
#[derive(Debug)]
pub struct Condition {
    kind: EventType,
    judges: BTreeMap<usize, Judge>,
    state: Health,
    /// The check that made it sick.
    culprit_idx: Option<usize>,
    /// What was acknowledged last by the broker, or is known from an open incident.
    reported: Option<Status>,
    reported_at: Option<Instant>,
    is_sending: bool,
    over_at: Option<Instant>,
    repeat_wait: Duration,
    not_before: Option<Instant>,
    /// A check failed that had passed beside the trouble: to be told, since whoever waits for a
    /// person may have waited because it passed.
    is_worse: bool,
    /// The checks of which that was told since it became sick: once each, as they may flap.
    told: BTreeSet<usize>,
}

/// What a sample has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The check has just recovered while the others still must show that they have.
    pub recovering: bool,
}

impl Condition {
    /// Returns the condition of these checks (by index), with what was said before.
    #[must_use]
    pub fn new(kind: EventType, judges: BTreeMap<usize, Judge>, reported: Option<Status>) -> Self {
        Self {
            kind,
            judges,
            state: Health::Unknown,
            culprit_idx: None,
            reported,
            reported_at: None,
            is_sending: false,
            over_at: None,
            repeat_wait: Duration::ZERO,
            not_before: None,
            is_worse: false,
            told: BTreeSet::new(),
        }
    }

    /// Returns the type of the events.
    #[must_use]
    pub const fn kind(&self) -> &EventType {
        &self.kind
    }

    /// Returns what was said last.
    #[must_use]
    pub const fn reported(&self) -> Option<Status> {
        self.reported
    }

    /// Returns the check that made it sick, and its samples.
    #[must_use]
    pub fn culprit(&self) -> Option<(usize, &Judge)> {
        let idx = self.culprit_idx?;
        Some((idx, self.judges.get(&idx)?))
    }

    /// Returns any of its checks that has been looked at, and its samples.
    #[must_use]
    pub fn any(&self) -> Option<(usize, &Judge)> {
        let mut judges = self.judges.iter().filter(|(_, judge)| judge.last().is_some());
        judges.next().map(|(idx, judge)| (*idx, judge))
    }

    /// Returns whether this check belongs to it.
    #[must_use]
    pub fn has(&self, check_idx: usize) -> bool {
        self.judges.contains_key(&check_idx)
    }

    /// Returns what is thought of one of its checks.
    #[must_use]
    pub fn health_of(&self, check_idx: usize) -> Health {
        self.judges.get(&check_idx).map_or(Health::Unknown, Judge::health)
    }

    /// Returns the checks that are not yet known to be well again.
    pub fn doubted(&self) -> impl Iterator<Item = usize> {
        self.judges.iter().filter(|(_, it)| it.health() == Health::Unknown).map(|(idx, _)| *idx)
    }

    /// Returns whether one of its checks can be asked.
    #[must_use]
    pub fn is_asked(&self, check_idx: usize) -> bool {
        self.judges.get(&check_idx).is_none_or(Judge::is_asked)
    }

    /// Returns all of its checks.
    pub fn checks(&self) -> impl Iterator<Item = usize> {
        self.judges.keys().copied()
    }

    /// Takes one more sample of one of its checks.
    pub fn take(&mut self, check_idx: usize, sample: Sample) -> Taken {
        let Some(judge) = self.judges.get_mut(&check_idx) else { return Taken::default() };
        let before = judge.health();
        let after = judge.take(sample);
        if after == Health::Sick && before != Health::Sick {
            // What the others saw before this moment does not show that they survived it.
            let others = self.judges.iter_mut().filter(|(idx, _)| **idx != check_idx);
            others.for_each(|(_, judge)| judge.doubt());
        }
        if after == Health::Sick && self.state != Health::Sick {
            self.state = Health::Sick;
            self.culprit_idx = Some(check_idx);
        } else if after == Health::Sick && before == Health::Well {
            self.become_worse(check_idx);
        } else if self.all_well() {
            self.state = Health::Well;
            self.repeat_wait = Duration::ZERO;
            self.not_before = None;
            self.is_worse = false;
            self.told.clear();
        }
        self.settle_over();
        let recovered = before != Health::Well && after == Health::Well;
        Taken { recovering: recovered && self.state == Health::Sick }
    }

    /// Takes note of a check that fails beside trouble that was told, and had passed beside it.
    fn become_worse(&mut self, check_idx: usize) {
        let is_told = matches!(self.reported, Some(Status::Firing | Status::Acknowledged));
        if is_told && self.told.insert(check_idx) {
            self.is_worse = true;
            self.culprit_idx = Some(check_idx);
        }
    }

    /// Returns whether all checks that can be asked count as passed, and there is one.
    fn all_well(&self) -> bool {
        let mut asked = self.judges.values().filter(|judge| judge.is_asked()).peekable();
        asked.peek().is_some() && asked.all(|judge| judge.health() == Health::Well)
    }

    /// Decides what the end of an incident means, once there are samples newer than it.
    fn settle_over(&mut self) {
        let Some(over_at) = self.over_at else { return };
        let still_sick = self
            .judges
            .iter()
            .find(|(_, judge)| judge.health() == Health::Sick && judge.has_looked_since(over_at));
        if let Some((idx, _)) = still_sick {
            self.culprit_idx = Some(*idx);
            self.over_at = None;
            self.reported = None;
        } else if self.state == Health::Well {
            self.over_at = None;
            self.reported = Some(Status::Resolved);
        }
    }

    /// Learns that there is an open incident which a monitor has reported. Counts only
    /// when nothing has been said by this one.
    pub fn incident_is_open(&mut self, now: Instant) {
        if self.reported.is_none() && !self.is_sending {
            self.reported = Some(Status::Firing);
            self.reported_at = Some(now);
        }
    }

    /// Learns that there was no open incident when somebody asked at `asked_at`.
    pub fn incident_is_absent(&mut self, asked_at: Instant) -> bool {
        let settled = self.reported_at.is_none_or(|at| at + SETTLE < asked_at);
        settled && self.incident_is_over(asked_at)
    }

    /// Learns that an incident about it is over. Returns whether fresh samples are
    /// wanted: if it is still sick by them, it is reported again.
    pub fn incident_is_over(&mut self, now: Instant) -> bool {
        if self.reported != Some(Status::Firing) || self.over_at.is_some() {
            return false;
        }
        self.over_at = Some(now);
        self.not_before = (self.repeat_wait != Duration::ZERO).then(|| now + self.repeat_wait);
        self.repeat_wait = (self.repeat_wait * 2).clamp(REPEAT_MIN, REPEAT_MAX);
        true
    }

    /// Returns what must be said now, if anything.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Status> {
        if self.is_sending || self.not_before.is_some_and(|time| now < time) {
            return None;
        }
        match (self.state, self.reported) {
            // Only the first two are ever reported by us; the others change nothing.
            (Health::Sick, None | Some(Status::Resolved | Status::Change)) => Some(Status::Firing),
            (Health::Well, Some(Status::Firing | Status::Acknowledged)) => Some(Status::Resolved),
            (Health::Sick, Some(Status::Firing | Status::Acknowledged)) if self.is_worse => {
                Some(Status::Firing)
            }
            (Health::Sick, Some(Status::Firing | Status::Acknowledged))
            | (Health::Well, None | Some(Status::Resolved | Status::Change))
            | (Health::Unknown, _) => None,
        }
    }

    /// Notes that a report is on its way; the next one waits for it.
    pub fn sending(&mut self) {
        self.is_sending = true;
        self.is_worse = false;
    }

    /// Notes that a report was stored.
    pub fn sent(&mut self, status: Status, now: Instant) {
        self.is_sending = false;
        self.reported = Some(status);
        self.reported_at = Some(now);
        if status == Status::Resolved {
            self.over_at = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Begun, Finding};

    const PROCESS: usize = 0;
    const HTTP: usize = 1;

    fn condition(reported: Option<Status>) -> Condition {
        let judges = BTreeMap::from([(PROCESS, Judge::new(1, 1)), (HTTP, Judge::new(2, 1))]);
        Condition::new(EventType::known("service_down"), judges, reported)
    }

    fn passed() -> Sample {
        Begun::now().ended(Finding::passed(""))
    }

    fn failed() -> Sample {
        Begun::now().ended(Finding::failed(""))
    }

    /// Reports what is due, as the broker would take it.
    fn report(condition: &mut Condition) -> Option<Status> {
        let due = condition.due(Instant::now());
        if let Some(status) = due {
            condition.sending();
            assert_eq!(condition.due(Instant::now()), None, "one report at a time");
            condition.sent(status, Instant::now());
        }
        due
    }

    #[test]
    fn a_check_that_cannot_be_asked_neither_hides_trouble_nor_recovery() {
        let mut it = condition(None);
        let not_asked = || Begun::now().ended(Finding::not_asked("no such program"));
        it.take(HTTP, not_asked());
        assert_eq!(report(&mut it), None);
        for _ in 0..2 {
            it.take(PROCESS, failed());
            it.take(HTTP, not_asked());
            assert_eq!(report(&mut it), Some(Status::Firing));
            it.take(PROCESS, passed());
            assert_eq!(report(&mut it), Some(Status::Resolved));
        }
    }

    #[test]
    fn one_sick_check_is_trouble_and_all_must_be_well_again() {
        let mut it = condition(None);
        it.take(PROCESS, passed());
        it.take(HTTP, passed());
        assert_eq!(report(&mut it), None, "health is not news");
        it.take(PROCESS, failed());
        assert_eq!(report(&mut it), Some(Status::Firing));
        assert_eq!(it.culprit().unwrap().0, PROCESS);
        it.take(HTTP, failed());
        it.take(HTTP, failed());
        assert_eq!(report(&mut it), None, "the same trouble is reported once");
        assert!(it.take(PROCESS, passed()).recovering);
        assert_eq!(report(&mut it), None);
        it.take(HTTP, passed());
        assert_eq!(report(&mut it), Some(Status::Resolved));
    }

    /// Goal: whoever waits because something answers in the target's place hears when it does not
    /// any more.
    #[test]
    fn a_check_that_passed_beside_the_trouble_is_told_once_when_it_fails() {
        let mut it = condition(None);
        it.take(PROCESS, failed());
        assert_eq!(report(&mut it), Some(Status::Firing));
        for due in [Some(Status::Firing), None, None] {
            it.take(HTTP, passed());
            assert_eq!(report(&mut it), None);
            it.take(HTTP, failed());
            assert_eq!(report(&mut it), None, "once is not enough for this check");
            it.take(HTTP, failed());
            assert_eq!(report(&mut it), due);
            assert_eq!(it.culprit().unwrap().0, HTTP);
            it.take(PROCESS, failed());
            assert_eq!(report(&mut it), None);
        }
        it.take(PROCESS, passed());
        it.take(HTTP, passed());
        assert_eq!(report(&mut it), Some(Status::Resolved));
        it.take(PROCESS, failed());
        assert_eq!(report(&mut it), Some(Status::Firing));
        it.take(HTTP, passed());
        it.take(HTTP, failed());
        it.take(HTTP, failed());
        assert_eq!(report(&mut it), Some(Status::Firing), "it is another outage");
    }

    #[test]
    fn a_pass_from_before_the_crash_does_not_count_as_recovery() {
        let mut it = condition(None);
        it.take(PROCESS, passed());
        it.take(HTTP, passed());
        it.take(PROCESS, failed());
        assert_eq!(report(&mut it), Some(Status::Firing));
        it.take(PROCESS, passed());
        assert_eq!(it.doubted().collect::<Vec<_>>(), [HTTP]);
        assert_eq!(report(&mut it), None);
        it.take(HTTP, passed());
        assert_eq!(report(&mut it), Some(Status::Resolved));
    }

    #[test]
    fn trouble_that_outlives_its_incident_is_reported_again() {
        let mut it = condition(None);
        it.take(PROCESS, failed());
        assert_eq!(report(&mut it), Some(Status::Firing));
        let over_at = Instant::now();
        assert!(it.incident_is_over(over_at));
        let mut sample = failed();
        sample.begun.at = over_at;
        it.take(PROCESS, sample.clone());
        assert_eq!(report(&mut it), None, "samples from before do not count");
        sample.begun.at = over_at + Duration::from_millis(1);
        it.take(PROCESS, sample);
        assert_eq!(report(&mut it), Some(Status::Firing));
    }

    #[test]
    fn a_recovery_that_the_incident_has_seen_is_not_reported() {
        let mut it = condition(None);
        it.take(PROCESS, failed());
        it.take(HTTP, passed());
        assert_eq!(report(&mut it), Some(Status::Firing));
        assert!(it.incident_is_over(Instant::now()));
        it.take(PROCESS, passed());
        it.take(HTTP, passed());
        assert_eq!(report(&mut it), None);
        assert_eq!(it.reported(), Some(Status::Resolved));
        it.take(PROCESS, failed());
        assert_eq!(report(&mut it), Some(Status::Firing));
    }

    #[test]
    fn trouble_that_nobody_wants_to_hear_of_is_repeated_ever_more_rarely() {
        let mut it = condition(None);
        it.take(PROCESS, failed());
        assert_eq!(report(&mut it), Some(Status::Firing));
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..9 {
            assert!(it.incident_is_over(now));
            let mut sample = failed();
            sample.begun.at = now + Duration::from_millis(1);
            it.take(PROCESS, sample);
            let wait = (0..=600)
                .find(|wait| it.due(now + Duration::from_secs(*wait)) == Some(Status::Firing));
            waits.push(wait.unwrap());
            now += Duration::from_secs(wait.unwrap());
            it.sending();
            it.sent(Status::Firing, now);
        }
        assert_eq!(waits, [0, 5, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn what_a_former_monitor_has_reported_is_known_from_its_open_incident() {
        let mut it = condition(None);
        it.incident_is_open(Instant::now());
        it.take(PROCESS, passed());
        it.take(HTTP, passed());
        assert_eq!(report(&mut it), Some(Status::Resolved), "the recovery is news");
        let mut it = condition(None);
        it.incident_is_open(Instant::now());
        it.take(PROCESS, failed());
        assert_eq!(report(&mut it), None, "the trouble is not");
    }

    #[test]
    fn an_incident_that_is_absent_long_after_the_report_is_over() {
        let mut it = condition(None);
        it.take(PROCESS, failed());
        assert_eq!(report(&mut it), Some(Status::Firing));
        assert!(!it.incident_is_absent(Instant::now()), "it may still be under way");
        assert!(it.incident_is_absent(Instant::now() + 2 * SETTLE));
    }
}
