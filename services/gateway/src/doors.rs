//! The doors of integrations, as the configuration in force names them.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use bus::Bus;
use domain::{
    config::{Config, Integration},
    mapping::{Mapper, presets},
};
use service::{BoxError, Chain};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The doors. Cheap to clone; all clones see the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doors(Arc<RwLock<Option<Arc<Known>>>>);

/// No configuration has been seen yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotKnownYet;

#[derive(Debug, Default)]
struct Known {
    by_name: BTreeMap<String, Arc<Door>>,
}

/// One door.
#[derive(Debug)]
pub(crate) struct Door {
    /// As it is configured.
    pub(crate) integration: Integration,
    /// What its messages mean; none for what is built in.
    pub(crate) mapper: Option<Mapper>,
}

impl Doors {
    /// Follows the configuration until told to stop.
    pub(crate) async fn follow(self, bus: Bus, stop: CancellationToken) -> Result<(), BoxError> {
        let mut configs = bus.config_store().watch();
        loop {
            match stop.run_until_cancelled(configs.changed()).await {
                None => return Ok(()),
                // The client has ended, and so does this process.
                Some(Err(_ended)) => {
                    stop.cancelled().await;
                    return Ok(());
                }
                Some(Ok(())) => {}
            }
            let Some((_, text)) = configs.borrow_and_update().clone() else { continue };
            match serde_json::from_slice::<Config>(&text) {
                Ok(config) => self.open(config.integrations),
                Err(error) => {
                    warn!(error = %Chain(&error), "the configuration cannot be read; integrations stay as they are");
                }
            }
        }
    }

    /// Opens these doors and no others, besides those of the ready mappings.
    pub(crate) fn open(&self, integrations: Vec<Integration>) {
        let n_configured = integrations.len();
        let mut by_name = BTreeMap::new();
        let ready = presets().map(|(name, _)| Integration::of_preset(name));
        for integration in ready.chain(integrations) {
            let mapper = integration.mapping().and_then(|mapping| {
                // The supervisor has compiled it as well; another version may think otherwise.
                Mapper::new(&integration.name, &mapping)
                    .inspect_err(|error| {
                        let name = integration.name.as_str();
                        warn!(integration = name, %error, "a mapping cannot be used");
                    })
                    .ok()
            });
            by_name.insert(integration.name.clone(), Arc::new(Door { integration, mapper }));
        }
        info!(n_configured, "the integrations are as configured");
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(Known { by_name }));
    }

    /// Returns the door of this name.
    pub(crate) fn door(&self, name: &str) -> Result<Option<Arc<Door>>, NotKnownYet> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(known.ok_or(NotKnownYet)?.by_name.get(name).cloned())
    }
}
