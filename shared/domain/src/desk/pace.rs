//! How often each receiver is told: what is more waits for its place.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::span::Rates;

/// When receivers that have a limit were or will be told, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Pace(BTreeMap<String, VecDeque<DateTime<Utc>>>);

impl Pace {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the next place of a receiver at `at` or later, and returns its time.
    ///
    /// What is urgent does not stand behind what waits: only notices that were sent count
    /// against it.
    pub(super) fn place(
        &mut self,
        receiver: &str,
        rates: &Rates,
        at: DateTime<Utc>,
        is_urgent: bool,
    ) -> DateTime<Utc> {
        let places = self.0.entry(receiver.to_owned()).or_default();
        let n_before = places.partition_point(|it| *it <= at);
        let n_counted = if is_urgent { n_before } else { places.len() };
        let mut time = at;
        for rate in &rates.0 {
            let count = usize::try_from(rate.count).unwrap_or(usize::MAX);
            let nth = n_counted.checked_sub(count).and_then(|idx| places.get(idx));
            time = nth.map_or(time, |nth| time.max(*nth + rate.per.to_delta()));
        }
        let idx = places.partition_point(|it| *it <= time);
        places.insert(idx, time);
        // Older ones than the largest count say nothing; those that are still to come stay.
        let keep = rates.0.iter().map(|it| it.count).max().unwrap_or(0);
        let keep = usize::try_from(keep).unwrap_or(usize::MAX);
        let n_past = places.partition_point(|it| *it <= at);
        places.drain(..n_past.saturating_sub(keep));
        time
    }

    /// Forgets receivers that are not there any more.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| is_there(name));
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn no_window_of_a_rate_holds_more_than_its_count_and_urgent_ones_do_not_queue() {
        let rates: Rates = "2/m, 3/h".parse().unwrap();
        let mut pace = Pace::default();
        let t0 = DateTime::UNIX_EPOCH;
        let mut place = |s: i64, is_urgent| {
            let time = pace.place("a", &rates, t0 + TimeDelta::seconds(s), is_urgent);
            (time - t0).num_seconds()
        };
        assert_eq!([place(0, false), place(1, false)], [0, 1]);
        assert_eq!(place(2, false), 60, "the third of a minute");
        assert_eq!(place(3, false), 3600, "the fourth of an hour");
        assert_eq!(place(4, false), 3601);
        assert_eq!(place(5, true), 60, "those that wait do not count");
        assert_eq!(place(9000, false), 9000);
    }
}
