//! One order per target at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// Gives each target its queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<String, Arc<Turn<()>>>>>);

impl Turns {
    /// Waits until nothing else is done to the target, and keeps it until dropped.
    ///
    /// At most as many wait as orders are handled at once.
    pub(crate) async fn wait(&self, target: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody holds or waits for are not needed any more.
            all.retain(|_, turn| 1 < Arc::strong_count(turn));
            Arc::clone(all.entry(target.to_owned()).or_default())
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_target_is_one_order_s_and_another_is_free() {
        let turns = Turns::default();
        let first = turns.wait("shop").await;
        assert!(turns.wait("shop").now_or_never().is_none());
        assert!(turns.wait("database").now_or_never().is_some());
        drop(first);
        assert!(turns.wait("shop").now_or_never().is_some());
        assert!(turns.0.lock().unwrap().len() <= 1);
    }
}
