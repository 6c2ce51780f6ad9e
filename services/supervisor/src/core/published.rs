//! Where in their queues the pieces of work lie that are pending: what a queue still holds is not
//! published again, so that work which nobody takes does not fill its queue.

use std::collections::HashMap;

/// Places of wishes in their queues.
#[derive(Debug, Default)]
pub struct Published {
    /// Since all that is pending was gone through last.
    now: HashMap<String, u64>,
    /// Before that: what is not met again is not pending any more.
    before: HashMap<String, u64>,
}

impl Published {
    /// Returns the place at which a wish was published. If its queue still holds it there, it is
    /// not to be published again.
    pub fn place(&mut self, wish: &str) -> Option<u64> {
        let place = self.now.get(wish).or_else(|| self.before.get(wish)).copied()?;
        self.now.insert(wish.to_owned(), place);
        Some(place)
    }

    /// Notes the place at which a wish was published.
    pub fn note(&mut self, wish: &str, place: u64) {
        self.now.insert(wish.to_owned(), place);
    }

    /// Begins to go through all that is pending: forgets what was not met since the last time.
    pub fn turn(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_what_is_not_pending_any_more_are_forgotten() {
        let mut published = Published::default();
        published.note("a", 1);
        published.note("b", 2);
        published.turn();
        assert_eq!((published.place("a"), published.place("c")), (Some(1), None));
        published.turn();
        assert_eq!((published.place("a"), published.place("b")), (Some(1), None));
    }
}
