//! Latencies of millions of requests in a few kilobytes.

use std::time::Duration;

use serde_json::{Value, json};

/// Each power of two is divided into so many buckets: values are right within 3 %.
const PER_OCTAVE: u64 = 32;
const PER_OCTAVE_BITS: u32 = 5;
/// Buckets up to 2^37 µs, which is more than a day.
const N_BUCKETS: usize = 34 * 32;

/// Counts durations in buckets that grow with the value.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    n: u64,
    sum_us: u64,
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; N_BUCKETS], n: 0, sum_us: 0, max_us: 0 }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get_mut(bucket(us)) {
            *bucket += 1;
        }
        self.n += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.n += other.n;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
    }

    /// Returns how many were counted.
    #[must_use]
    pub const fn n(&self) -> u64 {
        self.n
    }

    /// Returns the duration that `per_mille` of all do not exceed, in milliseconds.
    #[must_use]
    pub fn quantile_ms(&self, per_mille: u64) -> Option<f64> {
        if self.n == 0 {
            return None;
        }
        let wanted = (self.n * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (idx, count) in self.buckets.iter().enumerate() {
            seen += count;
            if wanted <= seen {
                return Some(ms(upper_us(idx).min(self.max_us)));
            }
        }
        Some(ms(self.max_us))
    }

    /// Returns the usual figures, in milliseconds.
    #[must_use]
    pub fn summary(&self) -> Value {
        json!({
            "n": self.n,
            "p50": self.quantile_ms(500),
            "p90": self.quantile_ms(900),
            "p99": self.quantile_ms(990),
            "max": ms(self.max_us),
        })
    }
}

fn bucket(us: u64) -> usize {
    let octave = 64 - us.leading_zeros();
    let shift = octave.saturating_sub(PER_OCTAVE_BITS + 1);
    let idx = u64::from(shift) * PER_OCTAVE + (us >> shift);
    usize::try_from(idx).unwrap_or(usize::MAX)
}

/// Returns the largest value of a bucket.
fn upper_us(idx: usize) -> u64 {
    let idx = u64::try_from(idx).unwrap_or(u64::MAX);
    let shift = (idx / PER_OCTAVE).saturating_sub(1);
    ((idx - shift * PER_OCTAVE + 1) << shift) - 1
}

fn ms(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bucket_that_is_at_most_a_thirty_second_too_large() {
        for us in (0..5000).chain([123_456, 9_999_999, 3_600_000_000]) {
            let upper = upper_us(bucket(us));
            assert!(us <= upper && upper - us <= us / 32, "{us} is told as {upper}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut all = Histogram::default();
        assert_eq!(all.quantile_ms(500), None);
        for ms in 1..=100 {
            let mut one = Histogram::default();
            one.record(Duration::from_millis(ms));
            all.merge(&one);
        }
        let near = |per_mille, wanted: f64| {
            let found = all.quantile_ms(per_mille).unwrap();
            assert!((found - wanted).abs() <= wanted / 30.0, "{found} for {wanted}");
        };
        near(500, 50.0);
        near(990, 99.0);
        near(1000, 100.0);
    }
}
