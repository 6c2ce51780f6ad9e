//! Tells those who watch, beside everything else.
//!
//! In a storm there are tens of thousands of lines a second, and mostly nobody who watches:
//! so the first line of many is told in a way that shows whether anybody listens. If not, the
//! others are left out, but for lines about incidents that were known before: somebody may
//! watch one of these alone.

use bus::{Bus, Ear};
use service::Chain;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::core::{Line, Lines};

/// Batches whose lines wait to be told. When there are more, the log waits: the broker is slow.
const WAITING_MAX: usize = 64;
/// With fewer lines, finding out whether anybody listens costs more than telling them.
const MANY: usize = 8;

/// Tells until it is dropped.
#[derive(Clone, Debug)]
pub(super) struct Herald {
    queue: mpsc::Sender<Vec<Lines>>,
}

impl Herald {
    pub(super) fn begin(bus: &Bus, tasks: &TaskTracker) -> Self {
        let (queue, mut waiting) = mpsc::channel::<Vec<Lines>>(WAITING_MAX);
        let bus = bus.clone();
        tasks.spawn(async move {
            let mut ear = None;
            while let Some(all) = waiting.recv().await {
                tell(&bus, &mut ear, &all).await;
            }
        });
        Self { queue }
    }

    /// Hands lines over.
    pub(super) async fn tell(&self, lines: Vec<Lines>) {
        if self.queue.send(lines).await.is_err() {
            debug!("lines are no longer published");
        }
    }
}

async fn tell(bus: &Bus, ear: &mut Option<Ear>, all: &[Lines]) {
    let n_lines: usize = all.iter().map(Lines::len).sum();
    let mut lines = all.iter().flat_map(Lines::iter);
    let mut is_heard = true;
    if MANY <= n_lines
        && let Some(first) = lines.next()
    {
        to_monitors(bus, &first).await;
        is_heard = ask(bus, ear, first).await;
    }
    for line in lines {
        to_monitors(bus, &line).await;
        if is_heard || !line.is_of_new {
            publish(bus, bus.subjects().live(&line.incident), line).await;
        }
    }
}

/// Tells one line, and returns whether anybody listens to all of them.
async fn ask(bus: &Bus, ear: &mut Option<Ear>, line: Line) -> bool {
    let subject = bus.subjects().live(&line.incident);
    if ear.is_none() {
        match bus.ear().await {
            Ok(opened) => *ear = Some(opened),
            Err(failure) => warn!(error = %Chain(&failure), "cannot hear whether anybody listens"),
        }
    }
    let Some(ear) = ear else {
        publish(bus, subject, line).await;
        return true;
    };
    ear.tell(subject, line.json).await.unwrap_or_else(|failure| {
        warn!(error = %Chain(&failure), "a live message could not be published");
        true
    })
}

async fn to_monitors(bus: &Bus, line: &Line) {
    if line.is_over {
        publish(bus, bus.subjects().over(), line.clone()).await;
    }
}

async fn publish(bus: &Bus, subject: String, line: Line) {
    if let Err(failure) = bus.publish_core(subject, line.json).await {
        warn!(error = %Chain(&failure), "a live message could not be published");
    }
}
