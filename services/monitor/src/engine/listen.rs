//! What happens to containers, told by the engine at once.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bollard::{models::EventMessage, query_parameters::EventsOptionsBuilder};
use futures_util::StreamExt as _;
use service::Chain;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Engine, Error};

/// How long to wait before the stream of events is opened again; doubles up to
/// [`REOPEN_MAX`].
const REOPEN_MIN: Duration = Duration::from_millis(200);

/// The longest of these waits: meanwhile containers are looked at each `every`.
const REOPEN_MAX: Duration = Duration::from_secs(10);

/// Nanoseconds in a second.
const NANOS: i64 = 1_000_000_000;

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its main process has ended.
    Died {
        /// With this code.
        exit_code: Option<i64>,
    },
    /// Something else that is worth a look: started, unhealthy, paused, removed.
    Other,
}

/// Something has happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happened {
    /// Id of the container.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Compose project and service, as in a handle.
    pub service: Option<String>,
    /// What has changed.
    pub change: Change,
}

impl Happened {
    fn of(message: EventMessage) -> Option<Self> {
        let actor = message.actor?;
        let attributes = actor.attributes.unwrap_or_default();
        let label = |name: &str| attributes.get(&format!("com.docker.compose.{name}"));
        let service = label("project").zip(label("service"));
        let action = message.action?;
        let change = if action == "die" {
            let code = attributes.get("exitCode").and_then(|code| code.parse().ok());
            Change::Died { exit_code: code }
        } else {
            Change::Other
        };
        Some(Self {
            id: actor.id?,
            name: attributes.get("name").cloned().unwrap_or_default(),
            service: service.map(|(project, service)| format!("{project}/{service}")),
            change,
        })
    }

    /// Returns whether a handle names this container.
    #[must_use]
    pub fn is_about(&self, handle: &str) -> bool {
        // Ids may be shortened; nobody shortens them below this.
        let by_id = 12 <= handle.len() && self.id.starts_with(handle);
        self.name == handle || self.service.as_deref() == Some(handle) || by_id
    }
}

impl Engine {
    /// Keeps one stream of events open while somebody listens.
    pub async fn listen(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.listen_on()).await;
    }

    async fn listen_on(&self) {
        let mut wait = REOPEN_MIN;
        loop {
            while self.events.receiver_count() == 0 {
                self.wanted.notified().await;
            }
            match self.pass_on().await {
                Ok(()) => {
                    info!("the engine has ended its stream of events, opening another");
                    wait = REOPEN_MIN;
                }
                Err(error) if wait == REOPEN_MIN => {
                    warn!(error = %Chain(&error), "no events from the container engine, looking instead");
                }
                Err(error) => debug!(error = %Chain(&error), "still no events from the engine"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(REOPEN_MAX);
        }
    }

    async fn pass_on(&self) -> Result<(), Error> {
        let actions = [
            "die",
            "oom",
            "health_status",
            "start",
            "stop",
            "pause",
            "unpause",
            "destroy",
            "rename",
            "restart",
        ];
        let filters = HashMap::from([("type", vec!["container"]), ("event", actions.to_vec())]);
        // What happened while no stream was open is told first, so that nothing is missed.
        let since = self.since.load(Ordering::Relaxed);
        let since = format!("{}.{:09}", since / NANOS, since % NANOS);
        let options = EventsOptionsBuilder::new().since(&since).filters(&filters).build();
        let mut events = Box::pin(self.docker().await?.events(Some(options)));
        while let Some(message) = events.next().await {
            let message = message.map_err(host::container::Error::Unreachable)?;
            if let Some(at) = message.time_nano {
                self.since.fetch_max(at + 1, Ordering::Relaxed);
            }
            let Some(happened) = Happened::of(message) else { continue };
            if self.events.send(Arc::new(happened)).is_err() {
                // Nobody listens any more.
                return Ok(());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_tells_which_container_died_and_how() {
        let message = r#"{"Type":"container","Action":"die","Actor":{"ID":"0123456789abcdef",
            "Attributes":{"exitCode":"137","name":"db","com.docker.compose.project":"shop",
            "com.docker.compose.service":"store"}}}"#;
        let it = Happened::of(serde_json::from_str(message).unwrap()).unwrap();
        assert_eq!(it.change, Change::Died { exit_code: Some(137) });
        for (handle, is_about) in [
            ("db", true),
            ("shop/store", true),
            ("0123456789ab", true),
            ("0", false),
            ("store", false),
            ("", false),
        ] {
            assert_eq!(it.is_about(handle), is_about, "{handle}");
        }
    }
}
