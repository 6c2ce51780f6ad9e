//! The container engine of this host: one client, one stream of its events.

mod container;
mod listen;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bollard::{
    Docker,
    query_parameters::{ListContainersOptionsBuilder, LogsOptionsBuilder},
};
use futures_util::StreamExt as _;
use tokio::{
    sync::{Notify, OnceCell, broadcast},
    time::timeout,
};

pub use container::Container;
pub use listen::{Change, Happened};

/// Containers of one compose service that are looked at.
const REPLICAS_MAX: usize = 32;

/// Events that wait for a slow reader; one that has missed some looks for itself.
const EVENTS_WAITING: usize = 256;

/// Longest line of a log that is told.
const LOG_LINE_MAX: usize = 500;

/// Time for all of a log.
const LOGS_TIMEOUT: Duration = Duration::from_millis(500);

/// Why the engine did not tell.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be reached.
    #[error(
        "cannot reach the Docker engine; it must run, and its socket (/var/run/docker.sock, or DOCKER_HOST) must be open to the monitor"
    )]
    Unreachable(#[source] bollard::errors::Error),
    /// It answered with an error.
    #[error("the Docker engine cannot describe container {container}")]
    Refused {
        /// The container.
        container: String,
        /// The engine's words.
        #[source]
        source: bollard::errors::Error,
    },
}

/// The container engine of this host. Cheap to clone; connects at its first use.
#[derive(Clone, Debug)]
pub struct Engine {
    docker: Arc<OnceCell<Docker>>,
    events: broadcast::Sender<Arc<Happened>>,
    wanted: Arc<Notify>,
    /// Time of the last event that was passed on, or of the first wish for events, in
    /// nanoseconds of the Unix epoch: what came later is asked for when the stream opens.
    since: Arc<AtomicI64>,
}

impl Default for Engine {
    fn default() -> Self {
        let (events, _) = broadcast::channel(EVENTS_WAITING);
        Self { docker: Arc::default(), events, wanted: Arc::default(), since: Arc::default() }
    }
}

impl Engine {
    async fn docker(&self) -> Result<&Docker, Error> {
        let connect = || async { Docker::connect_with_local_defaults()?.negotiate_version().await };
        self.docker.get_or_try_init(connect).await.map_err(Error::Unreachable)
    }

    /// Returns what happens to containers from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Arc<Happened>> {
        if self.events.receiver_count() == 0 {
            let now = chrono::Utc::now().timestamp_nanos_opt().unwrap_or(0);
            self.since.store(now, Ordering::Relaxed);
        }
        let events = self.events.subscribe();
        self.wanted.notify_one();
        events
    }

    /// Describes the container that a handle names: a name, an id, or `project/service`
    /// of a compose project. Of several replicas, a sick one.
    ///
    /// # Errors
    ///
    /// When the engine cannot be reached, or refuses to answer.
    pub async fn find(&self, name: &str) -> Result<Option<Container>, Error> {
        let Some((project, service)) = name.split_once('/') else {
            return self.inspect(name).await;
        };
        let mut found: Option<Container> = None;
        for id in self.replicas(project, service).await? {
            match self.inspect(&id).await? {
                Some(sick) if sick.sickness().is_some() => return Ok(Some(sick)),
                Some(well) => {
                    found = Some(match found {
                        Some(former) => former.and(well),
                        None => well,
                    });
                }
                // It was removed while we looked.
                None => {}
            }
        }
        Ok(found)
    }

    async fn inspect(&self, name: &str) -> Result<Option<Container>, Error> {
        use bollard::errors::Error::DockerResponseServerError;
        match self.docker().await?.inspect_container(name, None).await {
            Ok(found) => Ok(Some(Container::of(found))),
            Err(DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(source @ DockerResponseServerError { .. }) => {
                Err(Error::Refused { container: name.to_owned(), source })
            }
            Err(error) => Err(Error::Unreachable(error)),
        }
    }

    async fn replicas(&self, project: &str, service: &str) -> Result<Vec<String>, Error> {
        let labels = vec![
            format!("com.docker.compose.project={project}"),
            format!("com.docker.compose.service={service}"),
        ];
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let listed = self.docker().await?.list_containers(Some(options)).await;
        let listed = listed.map_err(Error::Unreachable)?;
        Ok(listed.into_iter().filter_map(|it| it.id).take(REPLICAS_MAX).collect())
    }

    /// Returns the last lines that a container has printed; none when the engine does not
    /// tell them in time.
    pub async fn log_tail(&self, container: &Container, n_lines: usize) -> Vec<String> {
        let Ok(docker) = self.docker().await else { return Vec::new() };
        let options =
            LogsOptionsBuilder::new().stdout(true).stderr(true).tail(&n_lines.to_string()).build();
        let logs = docker.logs(&container.id, Some(options));
        let lines = logs.take(n_lines).filter_map(|line| async {
            let text = line.ok()?.to_string();
            Some(text.trim_end().chars().take(LOG_LINE_MAX).collect::<String>())
        });
        timeout(LOGS_TIMEOUT, lines.collect()).await.unwrap_or_default()
    }
}
