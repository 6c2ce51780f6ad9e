//! Everything that runs: broker, agents, targets.

use std::{path::Path, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    agents::{Agent, Kind, Places},
    broker::Brokers,
    clients::Http,
    ground::Ground,
    process::Kept,
    proxy::Mode,
};

/// How many there are of each agent.
const N_EACH: usize = 2;
/// How often processes are looked after.
const LOOK: Duration = Duration::from_millis(50);

/// Everything that runs. It ends when this is dropped.
#[derive(Debug)]
pub struct World {
    /// The broker.
    pub brokers: Brokers,
    /// The agents.
    pub agents: Vec<Agent>,
    /// The targets.
    pub ground: Ground,
    /// How the run itself reaches the system.
    pub http: Http,
}

impl World {
    /// Starts everything below a directory: a broker of so many nodes, agents, targets.
    ///
    /// # Errors
    ///
    /// When something is missing or does not start.
    pub async fn start(
        places: &Places,
        server: &Path,
        program: &Path,
        n_nodes: usize,
    ) -> anyhow::Result<Arc<Self>> {
        let records = places.dir.join("targets");
        let ground = Ground::make(&records, &places.state_dir(), program)?;
        std::fs::create_dir_all(places.state_dir())?;
        std::fs::write(places.dir.join("selfheal.yaml"), ground.config())?;
        let brokers = Brokers::start(&places.dir, server, n_nodes, places.small).await?;
        let mut agents = Vec::new();
        for kind in Kind::ALL {
            for n in 1..=N_EACH {
                agents.push(Agent::start(kind, n, places, &brokers).await?);
            }
        }
        let http = Http::new(agents.iter().filter_map(|it| it.listen).collect(), None)?;
        Ok(Arc::new(Self { brokers, agents, ground, http }))
    }

    /// Returns all processes that are looked after.
    pub fn kept(&self) -> impl Iterator<Item = &Kept> {
        let agents = self.agents.iter().map(|it| &it.kept);
        let nodes = self.brokers.nodes.iter().map(|it| &it.kept);
        agents.chain(nodes).chain(self.ground.kept())
    }

    /// Looks after all processes until `stop`.
    ///
    /// # Errors
    ///
    /// When one cannot be started again.
    pub async fn look_after(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(LOOK);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            for kept in self.kept() {
                kept.look()?;
            }
        }
        Ok(())
    }

    /// Takes back whatever a fault may have left: all go on, reach each other, and have room.
    ///
    /// # Errors
    ///
    /// When a disk cannot be freed.
    pub fn restore(&self) -> anyhow::Result<()> {
        for agent in &self.agents {
            agent.network(Mode::Pass);
            agent.disk.as_ref().map_or(Ok(()), crate::disk::Disk::free)?;
        }
        for (idx, node) in self.brokers.nodes.iter().enumerate() {
            self.brokers.isolate(idx, Mode::Pass);
            node.disk.as_ref().map_or(Ok(()), crate::disk::Disk::free)?;
        }
        for kept in self.kept() {
            kept.thaw();
        }
        self.ground.relent()
    }

    /// Returns the agent that is the process `pid`.
    #[must_use]
    pub fn agent_of(&self, pid: u32) -> Option<usize> {
        self.agents.iter().position(|it| it.kept.pid() == Some(pid))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The processes among the targets are nobody's children.
        self.ground.end();
    }
}
