//! Writes the log beside everything else, and answers when it is synced.

use std::sync::Arc;

use domain::wire::Answer;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::{deliver::Deliver, herald::Herald};
use crate::{
    core::Lines,
    state::{self, Log, Stored, Written},
};

/// Batches that wait for the log. When there are more, appends wait: the disk is slow.
const WAITING_MAX: usize = 8;

/// A batch whose lines are to be written; answers go out behind them.
#[derive(Debug, Default)]
struct Page {
    lines: Lines,
    answers: Vec<(String, Answer)>,
}

/// Writes the log on a thread of its own. A batch is handed over when the ledger has
/// acknowledged it, never before.
#[derive(Debug)]
pub(super) struct Scribe {
    queue: mpsc::Sender<Page>,
    written: watch::Receiver<Written>,
    ended: Arc<tokio::sync::Notify>,
}

impl Scribe {
    pub(super) fn begin(
        log: Log,
        stored: watch::Sender<Stored>,
        (deliver, herald): (&Deliver, &Herald),
        tasks: &TaskTracker,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let (told, written) = watch::channel(Written::Synced);
        let ended = Arc::new(tokio::sync::Notify::new());
        let (deliver, herald, end) = (deliver.clone(), herald.clone(), Arc::clone(&ended));
        let runtime = tokio::runtime::Handle::current();
        tasks.spawn_blocking(move || {
            write_all(&log, waiting, &told, |pages| {
                state::told(&stored, pages.iter().rev().find_map(|it| it.lines.last_seq()));
                let (lines, answers): (Vec<_>, Vec<_>) =
                    pages.into_iter().map(|it| (it.lines, it.answers)).unzip();
                let answers: Vec<_> = answers.into_iter().flatten().collect();
                runtime.block_on(async {
                    deliver.answers(&answers).await;
                    herald.tell(lines).await;
                });
            });
            end.notify_one();
        });
        Self { queue, written, ended }
    }

    /// Waits until there is room for a batch. One is appended at a time, so the room is
    /// still there when it is stored.
    pub(super) fn room(&self) -> impl Future<Output = ()> + Send + use<> {
        let queue = self.queue.clone();
        async move {
            if queue.reserve().await.is_err() {
                warn!("the log is not written any more");
            }
        }
    }

    /// Hands a batch over.
    pub(super) async fn write(&self, lines: Lines, answers: Vec<(String, Answer)>) {
        if lines.is_empty() && answers.is_empty() {
            return;
        }
        if self.queue.send(Page { lines, answers }).await.is_err() {
            warn!("lines are not written, they are read from the ledger again");
        }
    }

    /// Tries to write what the disk did not take, also when nothing else happens.
    pub(super) fn retry(&self) {
        if matches!(*self.written.borrow(), Written::Failing | Written::Waiting) {
            // When the queue is full it is being tried.
            drop(self.queue.try_send(Page::default()));
        }
    }

    /// Waits until what became of the lines has changed.
    pub(super) async fn changed(&mut self) -> Written {
        if self.written.changed().await.is_err() {
            return std::future::pending().await;
        }
        *self.written.borrow_and_update()
    }

    /// Ends when all is written that was handed over.
    pub(super) async fn end(self) {
        drop(self.queue);
        self.ended.notified().await;
    }
}

/// Writes what waits, all of it with one sync.
fn write_all(
    log: &Log,
    mut waiting: mpsc::Receiver<Page>,
    told: &watch::Sender<Written>,
    mut seen: impl FnMut(Vec<Page>),
) {
    while let Some(first) = waiting.blocking_recv() {
        let mut pages = vec![first];
        // The number is looked at first: what is taken out of the queue must be written.
        while pages.len() < WAITING_MAX
            && let Ok(next) = waiting.try_recv()
        {
            pages.push(next);
        }
        let written = log.write(pages.iter().map(|it| it.lines.clone()).collect());
        told.send_if_modified(|it| std::mem::replace(it, written) != written);
        seen(pages);
    }
}

#[cfg(test)]
mod tests {
    use bus::Keys;

    use super::*;
    use crate::{
        core::tests_lines::lines,
        journal::{
            Journal,
            tests::{KEEP, seqs},
        },
    };

    /// More batches wait than are written at once, as when the disk was slow for a while.
    #[test]
    fn every_batch_that_waits_is_written_and_answered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("incident_logs.jsonl");
        let log = Log::new(Journal::open(&path, KEEP, Keys::default()).unwrap());
        let n_pages = u64::try_from(WAITING_MAX).unwrap() * 3;
        let (queue, waiting) = mpsc::channel(WAITING_MAX * 3);
        for seq in 1..=n_pages {
            queue.try_send(Page { lines: lines([seq]), answers: Vec::new() }).unwrap();
        }
        drop(queue);
        let (told, _written) = watch::channel(Written::Synced);
        let mut n_seen = 0;
        write_all(&log, waiting, &told, |pages| n_seen += pages.len());
        assert_eq!(seqs(&path), (1..=n_pages).collect::<Vec<_>>());
        assert_eq!(n_seen, WAITING_MAX * 3);
    }
}
