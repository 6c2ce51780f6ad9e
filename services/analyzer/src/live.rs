//! The catalogue as the active configuration makes it.

use std::{sync::Arc, time::Duration};

use bus::Bus;
use bytes::Bytes;
use domain::{catalogue::Catalogue, config::Config};
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, timeout_at},
};
use tracing::{info, warn};

/// Work comes from a configuration, so there is one; after our start its copy may come a
/// moment later than the first work.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// Follows the active configuration.
pub(crate) struct Live {
    bus: Bus,
    /// Until then, the first work waits for the first configuration.
    wait_until: Instant,
    state: Mutex<State>,
}

struct State {
    configs: watch::Receiver<Option<(u64, Bytes)>>,
    /// The revision that `current` was made of; 0 before the first.
    revision: u64,
    current: Arc<Catalogue>,
}

impl Live {
    pub(crate) fn new(bus: &Bus) -> Self {
        let configs = bus.config_store().watch();
        let current = Arc::new(Catalogue::default());
        let state = Mutex::new(State { configs, revision: 0, current });
        Self { bus: bus.clone(), wait_until: Instant::now() + FIRST_WAIT, state }
    }

    /// Returns the catalogue of the newest configuration that is known here.
    pub(crate) async fn catalogue(&self) -> Arc<Catalogue> {
        let mut first = self.state.lock().await.configs.clone();
        // Without one there are no runbooks but the built-in ones.
        drop(timeout_at(self.wait_until, first.wait_for(Option::is_some)).await);
        let mut state = self.state.lock().await;
        if state.configs.has_changed().is_err() {
            // The old one ended; what it said last is kept until the new one speaks.
            state.configs = self.bus.config_store().watch();
        }
        let newest = state.configs.borrow_and_update().clone();
        if let Some((revision, bytes)) = newest.filter(|(revision, _)| *revision != state.revision)
        {
            state.revision = revision;
            match serde_json::from_slice::<Config>(&bytes) {
                Ok(config) => {
                    info!(revision, n_runbooks = config.runbooks.len(), "configuration taken");
                    state.current = Arc::new(Catalogue::with(&config.runbooks));
                }
                Err(error) => {
                    warn!(revision, %error, "configuration cannot be read, the one before is kept");
                }
            }
        }
        Arc::clone(&state.current)
    }
}
