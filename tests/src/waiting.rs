//! Waiting for a condition instead of sleeping.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

/// How long anything may take on a busy machine before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Looks until it sees what is wanted, and returns it. When the time is over, the test
/// fails and tells what was seen last.
///
/// # Panics
///
/// When it is not seen in time.
pub async fn eventually<T, E: Debug, F: Future<Output = Result<T, E>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        match look().await {
            Ok(seen) => return seen,
            Err(last) => {
                assert!(start.elapsed() < PATIENCE, "not in time: {what}; last seen: {last:#?}");
            }
        }
    }
}
