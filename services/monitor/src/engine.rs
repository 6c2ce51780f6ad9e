//! The container engine of this host: one client, one stream of its events.

mod container;
mod listen;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bollard::{Docker, query_parameters::LogsOptionsBuilder};
use futures_util::StreamExt as _;
use tokio::{
    sync::{Notify, OnceCell, broadcast},
    time::timeout,
};

pub use container::Container;
pub use listen::{Change, Happened};

/// Events that wait for a slow reader; one that has missed some looks for itself.
const EVENTS_WAITING: usize = 256;

/// Longest line of a log that is told.
const LOG_LINE_MAX: usize = 500;

/// Time for all of a log.
const LOGS_TIMEOUT: Duration = Duration::from_millis(500);

/// Why the engine did not tell.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be reached, or a name means nothing that can be looked at.
    #[error("{hint}", hint = .0.hint())]
    NotFound(#[from] host::container::Error),
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

impl Error {
    /// Returns whether the engine itself did not answer.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        match self {
            Self::NotFound(host::container::Error::Unreachable(_)) | Self::Refused { .. } => true,
            Self::NotFound(
                host::container::Error::Name(_) | host::container::Error::TooMany { .. },
            ) => false,
        }
    }
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
        Ok(self.docker.get_or_try_init(host::container::connect).await?)
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
        let mut found: Option<Container> = None;
        for replica in host::container::resolve(self.docker().await?, name).await? {
            match self.inspect(&replica.name).await? {
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
            Err(error) => Err(host::container::Error::Unreachable(error).into()),
        }
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
