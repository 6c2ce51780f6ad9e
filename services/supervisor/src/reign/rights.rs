//! Which tokens of callers there are: whoever approved a plan with one must still hold it when
//! the plan is carried out.

use std::{sync::Arc, time::Duration};

use bus::Tokens;
use tokio::{sync::watch, time::timeout};
use tracing::warn;

use super::Reign;

/// How long a new leader waits to learn of them. Later, what was approved with a token is held
/// until they are known; all else goes on.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);

impl Reign {
    /// Learns which there are before anything is decided.
    pub(super) async fn learn_tokens(&mut self) {
        let Some(tokens) = &mut self.tokens else { return };
        let known = timeout(KNOWN_WITHIN, tokens.wait_for(Option::is_some)).await;
        let known = known.ok().and_then(Result::ok).and_then(|it| (*it).clone());
        match known {
            Some(known) => self.know_tokens(&known).await,
            None => warn!("the tokens of callers are not known; what was approved with one waits"),
        }
    }

    /// Takes them up.
    pub(super) async fn know_tokens(&self, tokens: &Tokens) {
        let records = tokens.iter().map(|(name, (_, record))| (name.clone(), record.clone()));
        let records = Arc::new(records.collect());
        self.state.write().await.core.know_tokens(Some(records));
    }
}

/// Waits until they are others. When they cannot be followed any more, those that were known
/// last count.
pub(super) async fn changed(
    tokens: &mut Option<watch::Receiver<Option<Arc<Tokens>>>>,
) -> Arc<Tokens> {
    if let Some(now) = tokens {
        while now.changed().await.is_ok() {
            if let Some(known) = now.borrow_and_update().clone() {
                return known;
            }
        }
    }
    *tokens = None;
    std::future::pending().await
}
