//! Each fault: whom it meets, how long, how it is done and taken back.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    agents::{Agent, Kind},
    broker::Node,
    chance::Chance,
    proxy::Mode,
    world::World,
};

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An agent is killed with SIGKILL, and started again.
    Kill(usize),
    /// An agent is asked to end, and started again.
    Restart(usize),
    /// An agent is stopped in the middle of what it does, for longer than a lease.
    Freeze(usize),
    /// An agent's network is broken.
    Network(usize),
    /// The supervisor that leads is killed.
    KillLeader,
    /// The supervisor that leads is stopped for longer than its lease.
    FreezeLeader,
    /// The supervisor that leads is cut off.
    CutLeader,
    /// All agents of a kind are killed.
    KillAll(Kind),
    /// The disk of a log is full.
    FillLog(usize),
    /// A node of the broker is killed.
    KillNode(usize),
    /// A node of the broker is asked to end.
    RestartNode(usize),
    /// A node of the broker is stopped.
    FreezeNode(usize),
    /// The disk of a node is full; whoever frees it restarts the node.
    FillNode(usize),
    /// A node is cut off from all others, in a cluster.
    Partition(usize),
    /// The node that leads the ledger's stream is killed, in a cluster.
    KillStreamLeader,
    /// All nodes are killed at once, in a cluster.
    KillCluster,
}

/// Names a node in the set of those who are busy. One node at a time: two would be a
/// majority, and that is a fault of its own.
const BROKER: &str = "broker";

impl Fault {
    /// Returns all faults that this world can have; those that matter more stand more often.
    #[must_use]
    pub fn all(world: &World) -> Vec<Self> {
        let mut all = vec![
            Self::KillLeader,
            Self::KillLeader,
            Self::FreezeLeader,
            Self::CutLeader,
            Self::KillAll(Kind::Supervisor),
            Self::KillAll(Kind::Fixer),
            Self::KillAll(Kind::Monitor),
        ];
        for (idx, agent) in world.agents.iter().enumerate() {
            all.extend([
                Self::Kill(idx),
                Self::Restart(idx),
                Self::Freeze(idx),
                Self::Network(idx),
            ]);
            if agent.disk.is_some() {
                all.extend([Self::FillLog(idx), Self::FillLog(idx)]);
            }
        }
        let nodes = &world.brokers.nodes;
        for (idx, node) in nodes.iter().enumerate() {
            all.extend([Self::KillNode(idx), Self::RestartNode(idx), Self::FreezeNode(idx)]);
            if node.disk.is_some() {
                all.extend([Self::FillNode(idx), Self::FillNode(idx)]);
            }
            if 1 < nodes.len() {
                all.push(Self::Partition(idx));
            }
        }
        if 1 < nodes.len() {
            all.extend([Self::KillStreamLeader, Self::KillStreamLeader, Self::KillCluster]);
        } else {
            all.extend([Self::KillNode(0), Self::KillNode(0)]);
        }
        all
    }

    /// Returns its name, as it is counted.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Kill(_) => "kill",
            Self::Restart(_) => "restart",
            Self::Freeze(_) => "freeze",
            Self::Network(_) => "network",
            Self::KillLeader => "kill_leader",
            Self::FreezeLeader => "freeze_leader",
            Self::CutLeader => "cut_leader",
            Self::KillAll(_) => "kill_all",
            Self::FillLog(_) => "fill_log_disk",
            Self::KillNode(_) => "kill_broker",
            Self::RestartNode(_) => "restart_broker",
            Self::FreezeNode(_) => "freeze_broker",
            Self::FillNode(_) => "fill_broker_disk",
            Self::Partition(_) => "partition_broker",
            Self::KillStreamLeader => "kill_stream_leader",
            Self::KillCluster => "kill_cluster",
        }
    }

    /// Returns how long it lasts.
    pub fn span(&self, chance: &mut Chance) -> Duration {
        let (least, most) = match self {
            Self::Kill(_) | Self::Restart(_) | Self::KillLeader => (0, 3000),
            Self::KillAll(_) | Self::KillNode(_) | Self::RestartNode(_) => (0, 2000),
            Self::KillStreamLeader | Self::KillCluster => (0, 3000),
            // Shorter and longer than the lease of 3 s.
            Self::Freeze(_) | Self::FreezeLeader | Self::CutLeader | Self::Network(_) => {
                (500, 8000)
            }
            Self::FreezeNode(_) | Self::Partition(_) => (500, 6000),
            Self::FillLog(_) | Self::FillNode(_) => (1000, 6000),
        };
        chance.between(Duration::from_millis(least), Duration::from_millis(most))
    }

    /// Returns whom it meets now; `None` when there is nobody.
    pub async fn victims(&self, world: &World) -> Option<BTreeSet<String>> {
        let agent = |idx: usize| world.agents.get(idx).map(|it| it.kept.name());
        let one = match self {
            Self::Kill(idx)
            | Self::Restart(idx)
            | Self::Freeze(idx)
            | Self::Network(idx)
            | Self::FillLog(idx) => agent(*idx)?,
            Self::KillLeader | Self::FreezeLeader | Self::CutLeader => {
                agent(world.agent_of(world.http.leader().await?)?)?
            }
            Self::KillAll(kind) => {
                let all = world.agents.iter().filter(|it| it.kind == *kind);
                return Some(all.map(|it| it.kept.name()).collect());
            }
            Self::KillStreamLeader => {
                let leader = world.brokers.stream_leader().await?;
                return Some([BROKER.to_owned(), leader].into());
            }
            Self::KillCluster => BROKER.to_owned(),
            Self::KillNode(idx)
            | Self::RestartNode(idx)
            | Self::FreezeNode(idx)
            | Self::FillNode(idx)
            | Self::Partition(idx) => {
                let node = world.brokers.nodes.get(*idx)?.kept.name();
                return Some([BROKER.to_owned(), node].into());
            }
        };
        Some([one].into())
    }

    /// Does it to these, and takes it back after `span`.
    ///
    /// # Errors
    ///
    /// When it cannot be done or taken back.
    pub async fn run(
        &self,
        world: &World,
        victims: &BTreeSet<String>,
        span: Duration,
        mode: Mode,
    ) -> anyhow::Result<()> {
        let agents: Vec<&Agent> =
            world.agents.iter().filter(|it| victims.contains(&it.kept.name())).collect();
        let nodes = world.brokers.nodes.iter().enumerate();
        let nodes: Vec<(usize, &Node)> =
            nodes.filter(|(_, it)| victims.contains(&it.kept.name())).collect();
        match self {
            Self::Kill(_) | Self::KillLeader | Self::KillAll(_) => {
                agents.iter().for_each(|it| it.kept.kill(span));
                tokio::time::sleep(span).await;
            }
            Self::Restart(_) => {
                agents.iter().for_each(|it| it.kept.terminate(span));
                tokio::time::sleep(span).await;
            }
            Self::Freeze(_) | Self::FreezeLeader => {
                agents.iter().for_each(|it| it.kept.freeze());
                tokio::time::sleep(span).await;
                agents.iter().for_each(|it| it.kept.thaw());
            }
            Self::Network(_) => network(&agents, mode, span).await,
            Self::CutLeader => network(&agents, Mode::Hold, span).await,
            Self::FillLog(_) => {
                let disks = || agents.iter().filter_map(|it| it.disk.as_ref());
                disks().try_for_each(crate::disk::Disk::fill)?;
                tokio::time::sleep(span).await;
                disks().try_for_each(crate::disk::Disk::free)?;
            }
            Self::KillNode(_) | Self::KillStreamLeader => {
                nodes.iter().for_each(|(_, it)| it.kept.kill(span));
                tokio::time::sleep(span).await;
            }
            Self::KillCluster => {
                world.brokers.nodes.iter().for_each(|it| it.kept.kill(span));
                tokio::time::sleep(span).await;
                world.brokers.wait_until_up().await?;
            }
            Self::RestartNode(_) => {
                nodes.iter().for_each(|(_, it)| it.kept.terminate(span));
                tokio::time::sleep(span).await;
            }
            Self::FreezeNode(_) => {
                nodes.iter().for_each(|(_, it)| it.kept.freeze());
                tokio::time::sleep(span).await;
                nodes.iter().for_each(|(_, it)| it.kept.thaw());
            }
            Self::FillNode(_) => fill_nodes(&nodes, span).await?,
            Self::Partition(_) => {
                nodes.iter().for_each(|(idx, _)| world.brokers.isolate(*idx, mode));
                tokio::time::sleep(span).await;
                nodes.iter().for_each(|(idx, _)| world.brokers.isolate(*idx, Mode::Pass));
            }
        }
        Ok(())
    }
}

async fn network(agents: &[&Agent], mode: Mode, span: Duration) {
    agents.iter().for_each(|it| it.network(mode));
    tokio::time::sleep(span).await;
    agents.iter().for_each(|it| it.network(Mode::Pass));
}

/// A broker that could not write does not write again until it is restarted: whoever frees
/// its disk does that as well.
async fn fill_nodes(nodes: &[(usize, &Node)], span: Duration) -> anyhow::Result<()> {
    let disks = || nodes.iter().filter_map(|(_, it)| it.disk.as_ref());
    disks().try_for_each(crate::disk::Disk::fill)?;
    tokio::time::sleep(span).await;
    disks().try_for_each(crate::disk::Disk::free)?;
    nodes.iter().for_each(|(_, it)| it.kept.terminate(Duration::ZERO));
    Ok(())
}
