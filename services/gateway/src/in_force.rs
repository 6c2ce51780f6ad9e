//! The part about notices of the configuration that is in force.

use std::sync::{Arc, Mutex, PoisonError};

use bus::Bus;
use bytes::Bytes;
use domain::{config::Config, notify::Notify};
use service::Chain;
use tokio::sync::{oneshot, watch};
use tracing::warn;

/// Follows the configuration. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct InForce {
    configs: watch::Receiver<Option<(u64, Bytes)>>,
    read: Arc<Mutex<Option<Read>>>,
}

/// What was read of one revision.
type Read = (u64, Arc<Notify>);

impl InForce {
    /// Begins to follow it. The second one hears when it was looked for once.
    pub(crate) fn follow(bus: &Bus) -> (Self, oneshot::Receiver<()>) {
        let (configs, looked) = bus.config_store().watch_from_the_first_look();
        (Self { configs, read: Arc::default() }, looked)
    }

    /// Returns what is configured about notices; nothing while no configuration is known.
    pub(crate) fn notify(&self) -> Arc<Notify> {
        let Some((revision, text)) = self.configs.borrow().clone() else { return Arc::default() };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, notify)) = &*read
            && *known == revision
        {
            return Arc::clone(notify);
        }
        let notify = match serde_json::from_slice::<Config>(&text) {
            Ok(config) => Arc::new(config.notify.with(&config.policy.notify)),
            Err(error) => {
                warn!(error = %Chain(&error), "the configuration cannot be read, the former one stays");
                read.as_ref().map(|(_, former)| Arc::clone(former)).unwrap_or_default()
            }
        };
        *read = Some((revision, Arc::clone(&notify)));
        notify
    }
}
