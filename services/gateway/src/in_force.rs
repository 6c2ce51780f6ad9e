//! The part about notices of the configuration that is in force.

use std::sync::{Arc, Mutex, PoisonError};

use bus::Bus;
use bytes::Bytes;
use domain::{config::Config, notify::Notify, redact::Redactor};
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
#[derive(Clone, Debug)]
struct Read {
    revision: u64,
    notify: Arc<Notify>,
    redactor: Arc<Redactor>,
}

impl InForce {
    /// Begins to follow it. The second one hears when it was looked for once.
    pub(crate) fn follow(bus: &Bus) -> (Self, oneshot::Receiver<()>) {
        let (configs, looked) = bus.config_store().watch_from_the_first_look();
        (Self { configs, read: Arc::default() }, looked)
    }

    /// Returns what is configured about notices; nothing while no configuration is known.
    pub(crate) fn notify(&self) -> Arc<Notify> {
        self.read().map(|it| it.notify).unwrap_or_default()
    }

    /// Returns what leaves credentials of the configuration out of what is shown.
    pub(crate) fn redactor(&self) -> Arc<Redactor> {
        self.read().map(|it| it.redactor).unwrap_or_default()
    }

    fn read(&self) -> Option<Read> {
        let (revision, text) = self.configs.borrow().clone()?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.as_ref().filter(|it| it.revision == revision) {
            return Some(known.clone());
        }
        let (notify, redactor) = match serde_json::from_slice::<Config>(&text) {
            Ok(config) => {
                let notify = config.notify.with(&config.policy.notify);
                (Arc::new(notify), Arc::new(Redactor::new(&config)))
            }
            Err(error) => {
                warn!(error = %Chain(&error), "the configuration cannot be read, the former one stays");
                let former = read.as_ref();
                former
                    .map(|it| (Arc::clone(&it.notify), Arc::clone(&it.redactor)))
                    .unwrap_or_default()
            }
        };
        *read = Some(Read { revision, notify, redactor });
        read.clone()
    }
}
