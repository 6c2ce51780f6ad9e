//! How long a dead child stays dead.

use std::time::Duration;

/// The first restart comes at once, as far as a person can tell.
pub(crate) const FIRST: Duration = Duration::from_millis(100);

/// No restart waits longer: what was repaired must come back soon.
pub(crate) const LONGEST: Duration = Duration::from_secs(5);

/// A child that lived this long was well; the next restart comes quickly again.
pub(crate) const WELL_AFTER: Duration = Duration::from_secs(10);

/// Doubles the wait from [`FIRST`] to [`LONGEST`] while a child keeps dying.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// Begins with [`FIRST`].
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self { next: FIRST }
    }

    /// Returns how long to wait before the restart of a child that lived for `lived`.
    pub(crate) fn after(&mut self, lived: Duration) -> Duration {
        if WELL_AFTER <= lived {
            self.next = FIRST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_a_good_while() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> =
            (0..8).map(|_| backoff.after(Duration::from_secs(1)).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.after(WELL_AFTER), FIRST);
        assert_eq!(backoff.after(Duration::ZERO), FIRST * 2);
    }
}
