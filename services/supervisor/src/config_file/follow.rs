//! Looks at the file again and again, whether we lead or not: what changes while another one
//! leads is known when we do.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use service::Chain;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    ConfigFile, Found, FoundNow, Look, quiet_needed,
    seen::{Seen, SeenFile},
};
use crate::state::Shared;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// After this time it is said that a text is waited for.
const SAID_AFTER: Duration = Duration::from_secs(60);

/// Follows the file until told to stop.
pub(crate) async fn follow(
    mut file: ConfigFile,
    seen: SeenFile,
    is_at_rest: bool,
    state: Shared,
    found: watch::Sender<FoundNow>,
    stop: CancellationToken,
) {
    if let Some(before) = seen.read() {
        file.remember_end(before.ends_line);
    }
    if is_at_rest {
        take(&mut file, &seen, &state, &found).await;
    }
    let mut ticker = tokio::time::interval(LOOK);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut writing: Option<(Instant, bool)> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticker.tick() => {}
        }
        // A file system that hangs must keep nobody from deciding.
        let looked = tokio::task::spawn_blocking(move || {
            let look = file.look(Instant::now());
            (file, look)
        });
        let Ok((back, look)) = looked.await else { return };
        file = back;
        match look {
            Look::Same => writing = None,
            Look::Writing => {
                let (since, is_said) = writing.get_or_insert_with(|| (Instant::now(), false));
                if SAID_AFTER < since.elapsed() && !std::mem::replace(is_said, true) {
                    let process = file.writer();
                    warn!(
                        process,
                        "the configuration file is still being written, the old one stays"
                    );
                }
            }
            Look::Quiet(quiet) => {
                if needed(&file, &state).await <= quiet {
                    writing = None;
                    take(&mut file, &seen, &state, &found).await;
                }
            }
        }
    }
}

/// Returns how long the text must be the same before it is taken.
async fn needed(file: &ConfigFile, state: &Shared) -> Duration {
    match file.candidate() {
        Some(Ok(config)) => {
            let state = state.read().await;
            let desk = state.core.desk();
            let is_held = desk.given().is_configured()
                && !desk.config().to_confirm(config, Utc::now()).is_empty();
            quiet_needed(false, is_held)
        }
        Some(Err(_)) | None => quiet_needed(true, false),
    }
}

async fn take(
    file: &mut ConfigFile,
    seen: &SeenFile,
    state: &Shared,
    found: &watch::Sender<FoundNow>,
) {
    let n_decisions = state.read().await.core.n_stored();
    let taken = file.take(|sha256, ends_line| {
        let text = seen.found(sha256, n_decisions);
        if let Err(failure) = seen.write(&Seen { text: text.clone(), ends_line }) {
            warn!(error = %Chain(&failure), "cannot remember the text of the configuration file");
        }
        text
    });
    let Some(taken) = taken else { return };
    let Found { text, content, .. } = &taken;
    if text.changed && found.borrow().is_some() {
        let targets = content.as_ref().map_or(0, |it| it.targets.len());
        info!(targets, "the configuration file has changed");
    }
    found.send_replace(Some(Arc::new(taken)));
}
