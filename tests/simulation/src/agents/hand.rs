//! What all hands do: take work, keep it alive while it is done, acknowledge it.

use std::{cell::Cell, rc::Rc, time::Duration};

use domain::wire::WorkKind;

use super::Agent;
use crate::{
    broker::{ACK_WAIT, Job, Op, Reply},
    bug::Bug,
    clock::SECOND,
};

const PULL: Duration = Duration::from_micros(31 * SECOND);
const ALIVE_EVERY: Duration = Duration::from_micros(ACK_WAIT / 3);

/// What becomes of a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    Later(Duration),
}

/// Takes work of a kind, up to `parallel` pieces at once, and does it.
pub(crate) async fn serve<F: Future<Output = Fate> + 'static>(
    agent: Agent,
    kind: WorkKind,
    parallel: usize,
    work: impl Fn(Job) -> F + 'static,
) {
    let under_way = Rc::new(Cell::new(0_usize));
    let free = Rc::new(tokio::sync::Notify::new());
    loop {
        while parallel <= under_way.get() {
            free.notified().await;
        }
        let Some(Reply::Job(job)) = agent.call(Op::Pull(kind), PULL).await else { continue };
        under_way.set(under_way.get() + 1);
        let (token, future) = (job.token, work(job));
        let (agent, under_way, free) = (agent.clone(), Rc::clone(&under_way), Rc::clone(&free));
        agent.clone().spawn(async move {
            if agent.world.bug(Bug::AckBeforeStore) {
                agent.tell(Op::Ack(token)).await;
            }
            let fate = tokio::select! {
                biased;
                fate = future => fate,
                () = keep_alive(&agent, token) => Fate::Later(Duration::ZERO),
            };
            match fate {
                Fate::Done => agent.tell(Op::Ack(token)).await,
                Fate::Later(wait) => {
                    let delay = u64::try_from(wait.as_micros()).unwrap_or(0);
                    agent.tell(Op::Nak { token, delay }).await;
                }
            }
            under_way.set(under_way.get() - 1);
            free.notify_one();
        });
    }
}

async fn keep_alive(agent: &Agent, token: u64) {
    loop {
        agent.sleep(ALIVE_EVERY).await;
        agent.tell(Op::Alive(token)).await;
    }
}
