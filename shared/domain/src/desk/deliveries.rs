//! Deliveries that are remembered, so that a repeated one is no second event.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Desk, incidents::Incidents};
use crate::{event::Delivery, id::IncidentId, incident::Incident};

/// Room for what is remembered. In a flood the oldest are forgotten before their time: a
/// thousand events a second are known for ten minutes.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// What one takes, in the map and in the order, about.
const BYTES_EACH: usize = 112;
/// Deliveries that are remembered at most.
const REMEMBERED_MAX: usize = BYTES_MAX / BYTES_EACH;
/// Those of one piece. A snapshot shares the pieces: copied as a whole, they would be the
/// largest thing that a leader allocates again and again, and leave holes behind.
pub(super) const PIECE: usize = 1000;
/// Old ones that are looked at for each that is new: more than one, so that they become fewer.
const LOOKED_AT: usize = 2;

/// How long after the end of its incident a repeated delivery is still no event of its own:
/// longer than senders try again. Later it is a new event, whose sender uses its ids again.
const WORTH: TimeDelta = TimeDelta::minutes(10);

/// A delivery, its incident, and since when it is remembered; of one that belongs to an incident,
/// when it was looked at last.
pub(super) type Known = (Delivery, IncidentId, DateTime<Utc>);

/// Deliveries, and the incident that each belongs to.
#[derive(Clone, Debug, Default)]
pub(super) struct Deliveries {
    known: BTreeMap<Delivery, (IncidentId, DateTime<Utc>)>,
    order: Order,
    /// Length of `order`.
    n_remembered: usize,
}

/// The same in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    /// The oldest first.
    pieces: VecDeque<Arc<Vec<Known>>>,
    /// Those of the first piece that are forgotten.
    n_gone: usize,
}

impl PartialEq for Deliveries {
    /// Where pieces begin does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.known == other.known && self.order.iter().eq(other.order.iter())
    }
}

impl Deliveries {
    fn get(&self, delivery: Delivery) -> Option<(IncidentId, DateTime<Utc>)> {
        self.known.get(&delivery).copied()
    }

    /// Remembers one, and forgets old ones that `is_worth` does not want any more. One that is
    /// known belongs to the later incident from now on.
    pub(super) fn remember(
        &mut self,
        delivery: Delivery,
        id: IncidentId,
        now: DateTime<Utc>,
        is_worth: impl Fn(IncidentId) -> bool,
    ) {
        let is_known = self.known.get(&delivery).is_some_and(|it| it.0 == id);
        if !is_known || id == IncidentId::NONE {
            self.take_up((delivery, id, now));
        }
        for _ in 0..LOOKED_AT {
            if self.order.first().is_none_or(|it| now < it.2 + WORTH) {
                break;
            }
            self.look_at_oldest(now, &is_worth);
        }
        while REMEMBERED_MAX < self.n_remembered {
            self.look_at_oldest(now, |_| false);
        }
    }

    /// Takes one up at the end of the order.
    pub(super) fn take_up(&mut self, known: Known) {
        let (delivery, id, at) = known;
        self.known.insert(delivery, (id, at));
        self.order.push(known);
        self.n_remembered += 1;
    }

    /// Forgets the oldest, or puts it behind the others.
    fn look_at_oldest(&mut self, now: DateTime<Utc>, is_worth: impl Fn(IncidentId) -> bool) {
        let Some((delivery, id, at)) = self.order.pop() else { return };
        self.n_remembered -= 1;
        // It was remembered again since.
        if self.known.get(&delivery) != Some(&(id, at)) {
            return;
        }
        if id != IncidentId::NONE && is_worth(id) {
            self.take_up((delivery, id, now));
        } else {
            self.known.remove(&delivery);
        }
    }

    /// Returns all in their order; it costs little.
    pub(super) fn order(&self) -> Order {
        self.order.clone()
    }
}

impl Incidents {
    /// Returns whether deliveries of an incident are still no events of their own.
    fn wants_deliveries(&self, id: IncidentId, now: DateTime<Utc>) -> bool {
        let ended_at = |it: &Incident| if it.is_over() { it.closed_at } else { Some(now) };
        // One that is not even shown any more was over long ago.
        let ended_at = self.get(&id).map_or_else(|| Some(id.opened_at()), ended_at);
        ended_at.is_some_and(|it| now < it + WORTH)
    }
}

impl Desk {
    /// Returns the incident that a delivery belongs to which was decided before; `None` when it
    /// is a new event.
    pub(super) fn known_delivery(
        &self,
        delivery: Delivery,
        at: DateTime<Utc>,
    ) -> Option<IncidentId> {
        let remembered = self.deliveries.get(delivery);
        let (known, since) = remembered.or_else(|| Some((self.repeats.of(delivery)?, at)))?;
        let is_worth = match known {
            // What has no incident, such as a change.
            IncidentId::NONE => at < since + WORTH,
            id => self.incidents.wants_deliveries(id, at),
        };
        is_worth.then_some(known)
    }

    /// Remembers a delivery that was decided.
    pub(super) fn remember(&mut self, delivery: Delivery, id: IncidentId, now: DateTime<Utc>) {
        let incidents = &self.incidents;
        self.deliveries.remember(delivery, id, now, |id| incidents.wants_deliveries(id, now));
    }
}

impl Order {
    fn push(&mut self, known: Known) {
        if self.pieces.back().is_none_or(|it| PIECE <= it.len()) {
            self.pieces.push_back(Arc::new(Vec::with_capacity(PIECE)));
        }
        if let Some(last) = self.pieces.back_mut() {
            Arc::make_mut(last).push(known);
        }
    }

    fn first(&self) -> Option<&Known> {
        self.pieces.front()?.get(self.n_gone)
    }

    fn pop(&mut self) -> Option<Known> {
        let first = self.pieces.front()?;
        let oldest = first.get(self.n_gone).copied();
        self.n_gone += 1;
        if first.len() <= self.n_gone {
            self.pieces.pop_front();
            self.n_gone = 0;
        }
        oldest
    }

    /// Takes the oldest piece.
    pub(super) fn take_piece(&mut self) -> Option<Vec<Known>> {
        let piece = self.pieces.pop_front()?;
        let n_gone = std::mem::take(&mut self.n_gone);
        Some(piece.iter().skip(n_gone).copied().collect())
    }

    fn iter(&self) -> impl Iterator<Item = &Known> {
        self.pieces.iter().flat_map(|it| it.iter()).skip(self.n_gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Position;

    fn delivery(n: usize) -> Delivery {
        Delivery::of("test", &n.to_string())
    }

    fn at(s: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(s)
    }

    fn incident(n: u64) -> IncidentId {
        IncidentId::derive(DateTime::UNIX_EPOCH, Position::new(n, 0), "incident")
    }

    #[test]
    fn what_has_no_incident_is_forgotten_after_its_time_and_others_with_theirs() {
        let (open, over) = (incident(1), incident(2));
        let mut all = Deliveries::default();
        let is_open = |id: IncidentId| id == open;
        for n in 0..300 {
            let id = [IncidentId::NONE, open, over][n % 3];
            all.remember(delivery(n), id, at(0), is_open);
        }
        for n in 300..600 {
            all.remember(delivery(n), IncidentId::NONE, at(599), is_open);
        }
        assert!((0..600).all(|n| all.get(delivery(n)).is_some()), "all of it is young");
        for n in 600..900 {
            all.remember(delivery(n), IncidentId::NONE, at(601), is_open);
        }
        let left: Vec<_> = (0..300).filter(|n| all.get(delivery(*n)).is_some()).collect();
        assert!(left.iter().all(|n| n % 3 == 1) && left.len() == 100, "{left:?}");
        // It is looked at again, and goes when its incident is over.
        for n in 900..1500 {
            all.remember(delivery(n), IncidentId::NONE, at(2000), |_| false);
        }
        assert!((0..900).all(|n| all.get(delivery(n)).is_none()));
        assert_eq!(all.n_remembered, 600);
        assert_eq!(all.known.len(), 600, "nothing is left behind");
    }

    #[test]
    fn there_is_a_bound_and_a_copy_in_pieces_is_the_same() {
        let mut all = Deliveries::default();
        let n_all = REMEMBERED_MAX + PIECE + PIECE / 2;
        for n in 0..n_all {
            all.remember(delivery(n), incident(1), at(0), |_| true);
            all.remember(delivery(n), incident(1), at(0), |_| true);
        }
        let oldest = n_all - REMEMBERED_MAX;
        assert_eq!(all.get(delivery(oldest - 1)), None);
        assert_eq!(all.get(delivery(oldest)), Some((incident(1), at(0))));
        let mut order = all.order();
        let mut copy = Deliveries::default();
        while let Some(piece) = order.take_piece() {
            assert!(piece.len() <= PIECE);
            piece.into_iter().for_each(|it| copy.take_up(it));
        }
        assert_eq!(copy, all);
        copy.remember(delivery(n_all), incident(1), at(0), |_| true);
        assert_ne!(copy, all);
    }

    #[test]
    fn one_that_is_remembered_again_is_not_forgotten_with_the_former() {
        let mut all = Deliveries::default();
        let never = |_: IncidentId| false;
        all.remember(delivery(0), incident(1), at(0), never);
        all.remember(delivery(0), incident(2), at(300), never);
        all.remember(delivery(1), IncidentId::NONE, at(0), never);
        all.remember(delivery(1), IncidentId::NONE, at(300), never);
        for n in 2..20 {
            all.remember(delivery(n), incident(1), at(700), never);
        }
        assert_eq!(all.get(delivery(0)), Some((incident(2), at(300))));
        assert_eq!(all.get(delivery(1)), Some((IncidentId::NONE, at(300))));
        for n in 20..40 {
            all.remember(delivery(n), incident(1), at(901), never);
        }
        assert_eq!((all.get(delivery(0)), all.get(delivery(1))), (None, None));
    }

    #[test]
    fn what_is_remembered_later_is_not_in_an_order_taken_before() {
        let mut all = Deliveries::default();
        all.remember(delivery(1), IncidentId::NONE, at(0), |_| true);
        let mut before = all.order();
        all.remember(delivery(2), IncidentId::NONE, at(0), |_| true);
        assert_eq!(before.take_piece().unwrap().len(), 1);
        assert_eq!(before.take_piece(), None);
        assert_eq!(all.order().take_piece().unwrap().len(), 2);
    }
}
