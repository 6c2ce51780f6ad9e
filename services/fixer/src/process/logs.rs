//! Keeps the logs of running targets within their limit.

use std::{path::PathBuf, time::Duration};

use host::process::logs::cut_all;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often they are looked at: a program that prints 100 MB a second is 1 GB beyond.
const STEP: Duration = Duration::from_secs(10);

/// Sets aside what has grown too large, until told to stop.
pub(crate) async fn keep_bounded(state_dir: PathBuf, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(STEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let dir = state_dir.clone();
        let cut = tokio::task::spawn_blocking(move || cut_all(&dir)).await;
        for result in cut.unwrap_or_default() {
            match result {
                Ok(log) => info!(log = %log.display(), "a log was set aside"),
                Err(error) => {
                    warn!(error = %service::Chain(&error), hint = error.hint(), "a log was not set aside");
                }
            }
        }
    }
}
