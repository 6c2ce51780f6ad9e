//! The leader's lease, as `bus::Lease`.

use std::{rc::Rc, time::Duration};

use tokio::sync::Notify;

use super::Agent;
use crate::broker::{HEARTBEAT, Holder, LEASE_TTL, Op, Reply};

const TRY: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(100);

/// Leading, until another is seen in our place.
pub(crate) struct Lease {
    pub(crate) epoch: u64,
    pub(crate) lost: Rc<Notify>,
}

/// Waits until we may lead.
pub(crate) async fn lead(agent: &Agent) -> Lease {
    loop {
        let look = agent.call(Op::LeaseLook, TRY).await;
        let Some(Reply::Lease { seq, holder }) = look else {
            agent.sleep(AGAIN).await;
            continue;
        };
        let before = match holder {
            None => 0,
            // The data directory is locked: who had it in our name is dead.
            Some(held) if held.node == agent.node => held.epoch,
            Some(_) => {
                // Others watch the key; it is gone a little after the last renewal.
                agent.sleep(Duration::from_micros(LEASE_TTL / 3)).await;
                continue;
            }
        };
        let by_clock = u64::try_from(agent.utc().timestamp_millis()).unwrap_or(0);
        let holder = Holder { node: agent.node, id: agent.now(), epoch: by_clock.max(before + 1) };
        let epoch = holder.epoch;
        let written =
            agent.call(Op::LeaseWrite { holder: holder.clone(), expected: seq }, TRY).await;
        let seq = match written {
            Some(Reply::Stored(seq)) => seq,
            _ => match agent.call(Op::LeaseLook, TRY).await {
                Some(Reply::Lease { seq, holder: Some(held) }) if held == holder => seq,
                _ => continue,
            },
        };
        let lost = Rc::new(Notify::new());
        let lease = Lease { epoch, lost: Rc::clone(&lost) };
        let renewing = agent.clone();
        agent.spawn(async move { renew(&renewing, holder, seq, &lost).await });
        return lease;
    }
}

/// Renews until another is seen in our place. While the broker is away nobody else could
/// have taken it, so it is kept.
async fn renew(agent: &Agent, holder: Holder, mut seq: u64, lost: &Notify) {
    loop {
        tokio::select! {
            biased;
            () = agent.world.node(agent.node).connected.notified() => {}
            () = agent.sleep(Duration::from_micros(HEARTBEAT)) => {}
        }
        let op = Op::LeaseWrite { holder: holder.clone(), expected: seq };
        if let Some(Reply::Stored(new)) = agent.call(op, TRY).await {
            seq = new;
            continue;
        }
        match agent.call(Op::LeaseLook, TRY).await {
            Some(Reply::Lease { seq: new, holder: None }) => seq = new,
            Some(Reply::Lease { seq: new, holder: Some(held) }) if held == holder => seq = new,
            Some(Reply::Lease { .. }) => {
                agent.say(|| "the lease is lost".to_owned());
                return lost.notify_one();
            }
            _ => {}
        }
    }
}
