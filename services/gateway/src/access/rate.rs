//! How often each caller may come.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use domain::{access::RateLimits, span::Rates};

use super::table::Load;

/// Callers that are remembered at one time; far more than an installation has. Beyond it those
/// go that have not come for so long that their limit says nothing.
const CALLERS_MAX: usize = 10_000;

/// Counts for all callers. Each gateway counts for itself.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    callers: Mutex<HashMap<(String, Load), Vec<Bucket>>>,
}

/// So many at once, and as they come back with time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    max: f64,
    per_second: f64,
    seen: Instant,
}

impl Bucket {
    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.seen).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.max);
        self.seen = now;
    }

    /// Returns how long until there is one.
    fn wait(&self) -> Duration {
        if 1.0 <= self.left {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64((1.0 - self.left) / self.per_second).unwrap_or(Duration::MAX)
    }
}

fn buckets(rates: &Rates, now: Instant) -> Vec<Bucket> {
    let of = |rate: &domain::span::Rate| {
        let max = f64::from(rate.count).max(1.0);
        let seconds = rate.per.to_std().as_secs_f64();
        Bucket { left: max, max, per_second: max / seconds, seen: now }
    };
    rates.0.iter().map(of).collect()
}

impl Limiter {
    /// Takes one of what a caller may, or tells when there will be one again.
    pub(crate) fn take(
        &self,
        caller: &str,
        load: Load,
        rates: &Rates,
        now: Instant,
    ) -> Result<(), Duration> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if CALLERS_MAX <= callers.len() {
            callers.retain(|_, buckets| {
                buckets.iter_mut().for_each(|it| it.refill(now));
                buckets.iter().any(|it| it.left < it.max)
            });
        }
        let known = callers.entry((caller.to_owned(), load)).or_insert_with(|| buckets(rates, now));
        let is_same = |(known, wanted): (&Bucket, &Bucket)| {
            known.max.total_cmp(&wanted.max).is_eq()
                && known.per_second.total_cmp(&wanted.per_second).is_eq()
        };
        // The configuration may have changed since.
        let wanted = buckets(rates, now);
        if known.len() != wanted.len() || !known.iter().zip(&wanted).all(is_same) {
            *known = wanted;
        }
        known.iter_mut().for_each(|it| it.refill(now));
        let wait = known.iter().map(Bucket::wait).max().unwrap_or(Duration::ZERO);
        if !wait.is_zero() {
            return Err(wait);
        }
        known.iter_mut().for_each(|it| it.left -= 1.0);
        Ok(())
    }
}

/// Returns the rates that hold for a request: those of the caller himself, else those for all.
pub(crate) fn of<'a>(
    own: Option<&'a Rates>,
    all: Option<&'a RateLimits>,
    load: Load,
) -> Option<&'a Rates> {
    own.or_else(|| match load {
        Load::Events => all?.events.as_ref(),
        Load::Requests => all?.requests.as_ref(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_then_as_they_come_back() {
        let limiter = Limiter::default();
        let rates: Rates = "2/s, 3/m".parse().unwrap();
        let start = Instant::now();
        let take = |who: &str, load, ms| {
            limiter.take(who, load, &rates, start + Duration::from_millis(ms))
        };
        assert!(take("a", Load::Events, 0).is_ok() && take("a", Load::Events, 0).is_ok());
        assert_eq!(take("a", Load::Events, 0), Err(Duration::from_millis(500)));
        assert!(take("b", Load::Events, 0).is_ok(), "each has his own");
        assert!(take("a", Load::Requests, 0).is_ok(), "and for each kind");
        assert!(take("a", Load::Events, 500).is_ok());
        let wait = take("a", Load::Events, 1500).unwrap_err();
        assert!(Duration::from_secs(15) < wait, "three in a minute: {wait:?}");
    }

    #[test]
    fn a_changed_rate_counts_at_once_and_idle_callers_are_forgotten() {
        let limiter = Limiter::default();
        let now = Instant::now();
        let take = |who: &str, rates: &str, now| {
            limiter.take(who, Load::Requests, &rates.parse().unwrap(), now).is_ok()
        };
        assert!(take("a", "1/h", now) && !take("a", "1/h", now));
        assert!(take("a", "5/h", now), "it was raised");
        for idx in 0..CALLERS_MAX {
            assert!(take(&format!("c{idx}"), "1/s", now));
        }
        assert!(take("last", "1/s", now + Duration::from_secs(2)));
        assert!(limiter.callers.lock().unwrap().len() < 10, "all but those who wait are gone");
    }
}
