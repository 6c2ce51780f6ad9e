//! Deadlines: the shell looks at the clock, the desk never does.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    id::IncidentId,
    wire::{Envelope, Input, TimerFired},
};

/// A deadline that is still there so long after it was told is told again: our clock may
/// be ahead of the broker's, whose time counts. Then each time after twice as long, since
/// every timer is a message of the inbox.
const AGAIN: TimeDelta = TimeDelta::seconds(1);
/// Longest time after which it is told again.
const AGAIN_MAX: TimeDelta = TimeDelta::seconds(32);
/// Deadlines told at once. What was missed while nobody led comes in portions.
const AT_ONCE_MAX: usize = 256;

/// Tells which deadlines have come.
#[derive(Clone, Debug, Default)]
pub struct Wheel {
    /// What was told of the first deadlines. At most [`AT_ONCE_MAX`].
    told: BTreeMap<IncidentId, Told>,
}

/// A deadline that was told.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// The deadline.
    due: DateTime<Utc>,
    /// When it was told last.
    since: DateTime<Utc>,
    /// How long it is not told again.
    wait: TimeDelta,
}

impl Wheel {
    /// Returns how long until something is due, at most `longest`. `deadlines` are those of
    /// the desk, the next first.
    pub fn wait(
        &self,
        deadlines: impl IntoIterator<Item = (DateTime<Utc>, IncidentId)>,
        now: DateTime<Utc>,
        longest: Duration,
    ) -> Duration {
        let first = deadlines.into_iter().take(AT_ONCE_MAX);
        let next = first.map(|(at, id)| match self.told.get(&id) {
            Some(told) if told.due == at => told.since + told.wait,
            Some(_) | None => at,
        });
        let wait = next.min().map(|at| (at - now).to_std().unwrap_or_default());
        wait.unwrap_or(longest).min(longest)
    }

    /// Returns the timers that are to be told now, for the inbox. They are looked at by the
    /// desk at the broker's time; ids are the same when a deadline is told again.
    pub fn due(
        &mut self,
        deadlines: impl IntoIterator<Item = (DateTime<Utc>, IncidentId)>,
        now: DateTime<Utc>,
    ) -> Vec<Envelope> {
        let first = deadlines.into_iter().take(AT_ONCE_MAX).take_while(|(at, _)| *at <= now);
        let former = std::mem::take(&mut self.told);
        let mut fired = Vec::new();
        for (at, incident) in first {
            let told = former.get(&incident).filter(|it| it.due == at);
            // Also when the clock was set back behind the time of telling.
            let is_fresh = |it: &Told| it.since <= now && now < it.since + it.wait;
            match told {
                Some(told) if is_fresh(told) => {
                    self.told.insert(incident, *told);
                }
                Some(_) | None => {
                    let wait = told.map_or(AGAIN, |it| (it.wait * 2).min(AGAIN_MAX));
                    self.told.insert(incident, Told { due: at, since: now, wait });
                    let timer = TimerFired::of(incident, at);
                    let id = format!("timer/{incident}/{}", at.timestamp_millis());
                    fired.push(Envelope::new(id, Input::Timer(timer)));
                }
            }
        }
        fired
    }
}

#[cfg(test)]
mod tests {
    use domain::id::Position;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn id(n: u64) -> IncidentId {
        let at = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
        IncidentId::derive(at, Position::new(n, 0), "a")
    }

    #[test]
    fn a_deadline_is_told_once_and_again_only_while_it_stays() {
        let at = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
        let later = at + TimeDelta::seconds(5);
        let due = [(later, id(1))];
        let mut wheel = Wheel::default();
        assert_eq!(wheel.wait(due, at, MINUTE), Duration::from_secs(5));
        assert_eq!(wheel.wait([], at, MINUTE), MINUTE);
        assert!(wheel.due(due, at).is_empty(), "not yet due");
        assert_eq!(wheel.due(due, later).len(), 1);
        assert!(wheel.due(due, later).is_empty(), "told");
        assert_eq!(wheel.wait(due, later, MINUTE), Duration::from_secs(1));
        assert_eq!(wheel.due(due, later + AGAIN).len(), 1, "nobody decided: told again");
        assert!(wheel.due([], later + AGAIN * 3).is_empty());
        let moved = [(later + AGAIN, id(1))];
        assert_eq!(wheel.due(moved, later + AGAIN).len(), 1, "another deadline of the same");
    }

    /// Our clock is an hour ahead of the broker's: the desk does not find the deadline come.
    #[test]
    fn a_deadline_that_does_not_go_away_is_told_more_and_more_seldom() {
        let at = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
        let due: Vec<_> = (0..AT_ONCE_MAX as u64).map(|n| (at, id(n))).collect();
        let mut wheel = Wheel::default();
        let told = |s: i64| wheel.due(due.iter().copied(), at + TimeDelta::seconds(s)).len();
        let n_told: usize = (0..3600).map(told).sum();
        let each = n_told / AT_ONCE_MAX;
        assert!((100..120).contains(&each), "told {each} times in an hour");
    }

    #[test]
    fn what_was_missed_comes_in_portions() {
        let at = DateTime::from_timestamp_millis(1_700_000_000_000).unwrap();
        let mut due: Vec<_> = (0..1000).map(|n| (at, id(n))).collect();
        let mut wheel = Wheel::default();
        let mut n_rounds = 0;
        while !due.is_empty() {
            let fired = wheel.due(due.iter().copied(), at);
            assert_eq!(fired.len(), AT_ONCE_MAX.min(due.len()));
            assert!(wheel.due(due.iter().copied(), at).is_empty(), "not while they are decided");
            due.drain(..fired.len());
            n_rounds += 1;
        }
        assert_eq!(n_rounds, 4);
    }
}
