//! Our own tokens, as the broker told them last.

use std::{collections::HashMap, sync::Arc};

use bus::{Bus, Tokens};
use chrono::Utc;
use domain::access::{TokenRecord, TokenState};
use tokio::sync::watch;
use tracing::info;

/// The tokens, by what is kept of them. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Keyring {
    told: watch::Receiver<Option<Arc<Tokens>>>,
    by_hash: watch::Sender<Option<Arc<HashMap<String, TokenRecord>>>>,
}

impl Keyring {
    /// Begins to follow the broker's bucket.
    pub(crate) fn new(bus: &Bus) -> Self {
        Self { told: bus.token_store().watch(), by_hash: watch::Sender::new(None) }
    }

    /// Takes over what the broker tells. Ends with the client.
    pub(crate) async fn follow(&self) {
        let mut told = self.told.clone();
        loop {
            let tokens = told.borrow_and_update().clone();
            if let Some(tokens) = tokens {
                let records = tokens.values().map(|(_, record)| record);
                let by_hash: HashMap<_, _> =
                    records.map(|record| (record.hash.clone(), record.clone())).collect();
                info!(n_tokens = by_hash.len(), "the tokens are known");
                self.by_hash.send_replace(Some(Arc::new(by_hash)));
            }
            if told.changed().await.is_err() {
                return;
            }
        }
    }

    /// Returns whether the broker has told the tokens once.
    pub(crate) fn is_known(&self) -> bool {
        self.by_hash.borrow().is_some()
    }

    /// Waits until the broker has told the tokens once.
    pub(crate) async fn known(&self) {
        // Its other end is with us: it does not close.
        let _known = self.by_hash.subscribe().wait_for(Option::is_some).await.is_ok();
    }

    /// Returns the record of the token that has this hash.
    pub(crate) fn find(&self, hash: &str) -> Option<TokenRecord> {
        self.by_hash.borrow().as_ref()?.get(hash).cloned()
    }

    /// Returns all tokens.
    pub(crate) fn tokens(&self) -> Option<Arc<Tokens>> {
        self.told.borrow().clone()
    }

    /// Waits until the token that has this hash counts no more.
    pub(crate) async fn ended(&self, hash: &str) {
        let mut changes = self.by_hash.subscribe();
        loop {
            changes.borrow_and_update();
            let Some(record) = self.find(hash) else { return };
            let now = Utc::now();
            if record.state(now) != TokenState::Valid {
                return;
            }
            let left = record.expires_at.map(|end| (end - now).to_std().unwrap_or_default());
            let expired = async {
                match left {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = expired => {}
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }
}
