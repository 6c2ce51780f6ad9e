//! Carries wishes to the work queues, beside everything else.

use domain::desk::Wish;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::deliver::Deliver;

/// Batches whose wishes wait to be published. When there are more, deciding waits: the
/// broker is slow.
const WAITING_MAX: usize = 64;
/// Wishes that are on their way to the broker at one time.
const UNDER_WAY_MAX: usize = 256;

/// Carries wishes until it is dropped.
#[derive(Debug)]
pub(super) struct Courier {
    queue: mpsc::Sender<Vec<Wish>>,
}

impl Courier {
    pub(super) fn begin(deliver: &Deliver, tasks: &TaskTracker) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let deliver = deliver.clone();
        tasks.spawn(async move {
            let next = async |mut waiting: mpsc::Receiver<Vec<Wish>>| {
                let wishes = waiting.recv().await?;
                Some((stream::iter(wishes), waiting))
            };
            let all = stream::unfold(waiting, next).flatten();
            all.for_each_concurrent(UNDER_WAY_MAX, |wish| deliver.wish(wish)).await;
        });
        Self { queue }
    }

    /// Hands wishes over.
    pub(super) async fn send(&self, wishes: Vec<Wish>) {
        if wishes.is_empty() {
            return;
        }
        if self.queue.send(wishes).await.is_err() {
            tracing::debug!("work items were not published, the next leader will retry");
        }
    }
}
