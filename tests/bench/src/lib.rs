//! Load generators and measurements: each figure beside its floor, from the same run.
//!
//! `cargo xtask bench` builds the binaries and calls this; see `docs/performance.md`.

pub mod cost;
pub mod floor;
pub mod histogram;
pub mod ingest;
pub mod load;
pub mod proc;
pub mod react;
pub mod recover;
pub mod stack;
pub mod storm;

use std::{path::PathBuf, time::Duration};

/// What every measurement needs.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The broker's program.
    pub server: PathBuf,
    /// The directory of the product's binaries.
    pub binaries: PathBuf,
    /// How long each load runs.
    pub span: Duration,
    /// How many kills or events.
    pub runs: u32,
    /// How often the broker syncs.
    pub sync: String,
    /// Share of the full sizes, for quick runs.
    pub scale: f64,
}

/// Returns a count as a number to calculate with.
#[must_use]
pub fn float(n: u64) -> f64 {
    // Exact up to 2^32 in each half; counts here are far below 2^53.
    let high = u32::try_from(n >> 32).map_or(0.0, f64::from);
    let low = u32::try_from(n & u64::from(u32::MAX)).map_or(0.0, f64::from);
    high.mul_add(4_294_967_296.0, low)
}

/// Returns the share of a full size that a quick run takes, at least 1.
#[must_use]
pub fn scaled(full: u64, scale: f64) -> u64 {
    let millionths = Duration::from_secs_f64(scale.clamp(0.0, 1000.0)).as_micros();
    let share = u128::from(full) * millionths / 1_000_000;
    u64::try_from(share).unwrap_or(full).max(1)
}

/// Returns a figure as it is shown: large ones whole, small ones with two digits.
#[must_use]
pub fn rounded(value: f64) -> f64 {
    if value.abs() < 100.0 { (value * 100.0).round() / 100.0 } else { value.round() }
}
