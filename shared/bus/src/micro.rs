//! Being a NATS micro service, so that `nats micro ls` shows the fleet.

use std::{collections::HashMap, fmt, sync::Arc};

use async_nats::service::{Service, ServiceExt as _, endpoint::Endpoint};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::{Error, ServeError, Served, Server, core::Core};

/// Requests that one endpoint works on at one time.
const UNDER_WAY_MAX: usize = 64;

/// This process, as it answers `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`.
pub struct MicroService {
    core: Core,
    service: Service,
}

impl fmt::Debug for MicroService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MicroService").finish_non_exhaustive()
    }
}

pub(crate) async fn start(
    core: &Core,
    kind: &str,
    version: &str,
    id: &str,
) -> Result<MicroService, Error> {
    let name = format!("{}-{kind}", core.subjects.prefix());
    let started = core
        .client
        .service_builder()
        .description(format!("Self-Heal {kind}"))
        .metadata(HashMap::from([("member".to_owned(), id.to_owned())]))
        .start(name, version)
        .await;
    let service = started.map_err(|error| Error::client("become a micro service", error))?;
    Ok(MicroService { core: core.clone(), service })
}

impl MicroService {
    /// Answers requests on `subject` like [`crate::Bus::serve`], and counts them in the
    /// service's statistics.
    ///
    /// # Errors
    ///
    /// [`Error::Client`] when the subject is no subject.
    pub async fn endpoint<H, F>(
        &self,
        name: &str,
        subject: String,
        queue: &str,
        handler: H,
    ) -> Result<Server, Error>
    where
        H: Fn(Served) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Bytes, ServeError>> + Send + 'static,
    {
        let builder = self.service.endpoint_builder().name(name).queue_group(queue);
        let added = builder.add(subject).await;
        let endpoint = added.map_err(|error| Error::client("add an endpoint", error))?;
        self.core.round_trip().await;
        let task = tokio::spawn(answer_all(endpoint, Arc::new(handler)));
        Ok(Server::of(AbortOnDropHandle::new(task)))
    }

    /// Ends the service, so that it is no longer listed.
    pub async fn stop(self) {
        if let Err(error) = self.service.stop().await {
            debug!(%error, "the micro service did not end well");
        }
    }
}

async fn answer_all<H, F>(mut requests: Endpoint, handler: Arc<H>)
where
    H: Fn(Served) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Bytes, ServeError>> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let mut under_way = JoinSet::new();
    while let Some(request) = requests.next().await {
        while let Some(done) = under_way.try_join_next() {
            if let Err(error) = done {
                debug!(%error, "a request was not answered");
            }
        }
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let handler = Arc::clone(&handler);
        under_way.spawn(async move {
            let served = Served::of(&request.message);
            let answer = handler(served).await.map_err(|error| async_nats::service::error::Error {
                status: error.message,
                code: usize::from(error.code),
            });
            if let Err(error) = request.respond(answer).await {
                debug!(%error, "an answer could not be sent");
            }
            drop(slot);
        });
    }
}
