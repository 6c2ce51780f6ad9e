//! The log, written and synced beside everything else; answers go out behind it.

use std::time::Duration;

use ::supervisor::core::Lines;
use bytes::Bytes;
use domain::wire::Answer;
use tokio::sync::{mpsc::UnboundedReceiver, oneshot};

use crate::{
    agents::Agent,
    bug::Bug,
    world::{Asked, Kind},
};

/// How often a disk without room is tried again.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(1);

/// A batch whose lines are to be written.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) lines: Lines,
    pub(super) answers: Vec<(String, Answer)>,
}

/// Returns how long the disk takes.
pub(super) fn sync_time(agent: &Agent) -> Duration {
    Duration::from_micros(agent.world.net.way(&agent.world) * 4)
}

/// Writes lines without syncing them.
pub(super) fn write(agent: &Agent, lines: &Lines) {
    let world = &agent.world;
    let written = world.node(agent.node).disk.borrow_mut().write(agent.now(), lines);
    if let Err(seq) = written {
        world.fail("line n of the log is decision n", format!("{} lacks {seq}", agent.member));
    }
    world.laws.borrow_mut().log(world, agent.node);
}

/// Writes what is handed over, until nothing more is, and then rings.
pub(super) async fn write_all(
    agent: Agent,
    mut waiting: UnboundedReceiver<Page>,
    ended: oneshot::Sender<()>,
) {
    loop {
        let is_failing = agent.world.node(agent.node).disk.borrow().is_failing();
        let page = tokio::select! {
            biased;
            page = waiting.recv() => page,
            // Also when nothing else happens.
            () = agent.sleep(TRY_AGAIN), if is_failing => Some(Page::default()),
        };
        let Some(page) = page else { break };
        let is_hasty = agent.world.bug(Bug::LogSyncedLate);
        if is_hasty {
            answer(&agent, &page).await;
        }
        write(&agent, &page.lines);
        let last = agent.world.node(agent.node).disk.borrow().last_seq();
        agent.output().await;
        agent.sleep(sync_time(&agent)).await;
        agent.world.node(agent.node).disk.borrow_mut().sync(last);
        if !is_hasty {
            answer(&agent, &page).await;
        }
        news(&agent, &page.lines).await;
    }
    // Whoever led may be gone.
    ended.send(()).ok();
}

async fn answer(agent: &Agent, page: &Page) {
    let world = &agent.world;
    for (to, answer) in &page.answers {
        agent.output().await;
        world.laws.borrow_mut().answer(world, agent.node, answer, page.lines.last_seq());
        if world.is_cut(agent.node) || !world.broker.borrow().is_up || world.net.loses(world) {
            continue;
        }
        let (to, answer) = (to.clone(), answer.clone());
        world.sim.after(2 * world.net.way(world), move |world| {
            let waiting = world.inboxes.borrow_mut().remove(&to);
            if let Some(waiting) = waiting {
                drop(waiting.send(answer));
            }
        });
    }
}

/// Tells the monitors of incidents that are over; nobody here listens to the rest.
async fn news(agent: &Agent, lines: &Lines) {
    for line in lines.iter().filter(|it| it.is_over) {
        tell(agent, &line.json).await;
    }
}

async fn tell(agent: &Agent, line: &Bytes) {
    agent.output().await;
    let world = &agent.world;
    if world.is_cut(agent.node) || !world.broker.borrow().is_up {
        return;
    }
    for monitor in world.all(Kind::Monitor) {
        if !world.net.loses(world) {
            world.deliver(monitor, Asked::Live(line.clone()));
        }
    }
}
