//! Lines that a log lacks, given by other supervisors, as `lending`.

use std::time::Duration;

use super::Office;
use crate::world::Kind;

const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Asks other supervisors for the lines that our log lacks, until it is whole.
pub(super) async fn fill(office: Office) {
    let (agent, world) = (&office.agent, office.agent.world.clone());
    loop {
        let gaps = gaps(world.node(agent.node).disk.borrow().missing());
        for (from, to) in gaps {
            let others = world.all(Kind::Supervisor).into_iter().filter(|it| {
                *it != agent.node && world.is_up(*it) && !world.is_cut(*it) && !world.is_paused(*it)
            });
            let can_ask = !world.is_cut(agent.node) && world.broker.borrow().is_up;
            for other in others.filter(|_| can_ask) {
                // Of a gap that nobody has in one piece, each gives what it has.
                let lines: Vec<_> = {
                    let disk = world.node(other).disk.borrow();
                    (from..=to).filter_map(|seq| Some((seq, disk.line(seq)?))).collect()
                };
                if lines.is_empty() {
                    continue;
                }
                agent.sleep(Duration::from_micros(2 * world.net.way(&world))).await;
                agent.output().await;
                if world.net.loses(&world) || world.is_cut(agent.node) {
                    continue;
                }
                let mut disk = world.node(agent.node).disk.borrow_mut();
                if disk.has_room(agent.now()) {
                    lines.into_iter().for_each(|(seq, line)| disk.give(seq, line));
                }
            }
        }
        agent.sleep(ASK_AGAIN).await;
    }
}

/// Returns the first and the last of each run of numbers.
fn gaps(missing: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut gaps: Vec<(u64, u64)> = Vec::new();
    for seq in missing {
        match gaps.last_mut() {
            Some((_, to)) if *to + 1 == seq => *to = seq,
            _ => gaps.push((seq, seq)),
        }
    }
    gaps
}
