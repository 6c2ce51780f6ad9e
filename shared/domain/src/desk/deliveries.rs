//! Deliveries that are remembered, so that a repeated one is no second event.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::Desk;
use crate::{event::Delivery, id::IncidentId, incident::Incident};

/// Deliveries that are remembered.
const REMEMBERED_MAX: usize = 200_000;
/// Those of one piece. A snapshot shares the pieces: copied as a whole, they would be the
/// largest thing that a leader allocates again and again, and leave holes behind.
pub(super) const PIECE: usize = 1000;

/// How long after the end of its incident a repeated delivery is still no event of its own:
/// longer than senders try again. Later it is a new event, whose sender uses its ids again.
const WORTH: TimeDelta = TimeDelta::minutes(10);

type Known = (Delivery, IncidentId);

/// Deliveries, and the incident that each belongs to.
#[derive(Clone, Debug, Default)]
pub(super) struct Deliveries {
    known: BTreeMap<Delivery, IncidentId>,
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
    pub(super) fn get(&self, delivery: Delivery) -> Option<IncidentId> {
        self.known.get(&delivery).copied()
    }

    /// Remembers one, and forgets the oldest when there are too many. One that is known belongs
    /// to the later incident from now on.
    pub(super) fn remember(&mut self, delivery: Delivery, id: IncidentId) {
        if self.known.insert(delivery, id) == Some(id) {
            return;
        }
        self.order.push((delivery, id));
        self.n_remembered += 1;
        while REMEMBERED_MAX < self.n_remembered {
            let Some((oldest, of)) = self.order.pop() else { return };
            self.n_remembered -= 1;
            if self.known.get(&oldest) == Some(&of) {
                self.known.remove(&oldest);
            }
        }
    }

    /// Returns all in their order; it costs little.
    pub(super) fn order(&self) -> Order {
        self.order.clone()
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
        let known = self.deliveries.get(delivery).or_else(|| self.repeats.of(delivery))?;
        // Changes have no incident.
        let is_worth = known == IncidentId::NONE || {
            let ended_at = |it: &Incident| if it.is_over() { it.closed_at } else { Some(at) };
            // One that is not even shown any more was over long ago.
            let ended_at =
                self.incidents.get(&known).map_or_else(|| Some(known.opened_at()), ended_at);
            ended_at.is_some_and(|it| at < it + WORTH)
        };
        is_worth.then_some(known)
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

    fn delivery(n: usize) -> Delivery {
        Delivery::of("test", &n.to_string())
    }

    #[test]
    fn the_oldest_are_forgotten_and_a_copy_in_pieces_is_the_same() {
        let mut all = Deliveries::default();
        let n_all = REMEMBERED_MAX + PIECE + PIECE / 2;
        for n in 0..n_all {
            all.remember(delivery(n), IncidentId::NONE);
            all.remember(delivery(n), IncidentId::NONE);
        }
        let oldest = n_all - REMEMBERED_MAX;
        assert_eq!(all.get(delivery(oldest - 1)), None);
        assert_eq!(all.get(delivery(oldest)), Some(IncidentId::NONE));
        let mut order = all.order();
        let mut copy = Deliveries::default();
        while let Some(piece) = order.take_piece() {
            assert!(piece.len() <= PIECE);
            piece.into_iter().for_each(|(delivery, id)| copy.remember(delivery, id));
        }
        assert_eq!(copy, all);
        copy.remember(delivery(n_all), IncidentId::NONE);
        assert_ne!(copy, all);
    }

    #[test]
    fn one_that_belongs_to_another_incident_later_is_not_forgotten_with_the_former() {
        let other =
            IncidentId::derive(DateTime::UNIX_EPOCH, crate::id::Position::new(1, 0), "other");
        let mut all = Deliveries::default();
        all.remember(delivery(0), IncidentId::NONE);
        all.remember(delivery(0), other);
        for n in 1..REMEMBERED_MAX {
            all.remember(delivery(n), IncidentId::NONE);
        }
        assert_eq!(all.get(delivery(0)), Some(other));
        all.remember(delivery(REMEMBERED_MAX), IncidentId::NONE);
        assert_eq!(all.get(delivery(0)), None);
    }

    #[test]
    fn what_is_remembered_later_is_not_in_an_order_taken_before() {
        let mut all = Deliveries::default();
        all.remember(delivery(1), IncidentId::NONE);
        let mut before = all.order();
        all.remember(delivery(2), IncidentId::NONE);
        assert_eq!(before.take_piece().unwrap().len(), 1);
        assert_eq!(before.take_piece(), None);
        assert_eq!(all.order().take_piece().unwrap().len(), 2);
    }
}
