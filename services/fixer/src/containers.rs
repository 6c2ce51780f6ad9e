//! The container engine: one connection, and which containers a name means.

use std::{collections::HashMap, time::Duration};

use bollard::{
    Docker,
    models::{ContainerSummary, ContainerSummaryStateEnum},
    query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder},
};
use tokio::sync::OnceCell;

use crate::actions::{Attempt, Failure};

/// Most containers of one service that one step acts on.
const CONTAINERS_MAX: usize = 32;

/// Longest time a container gets to end by itself before it is killed, as the engine's
/// own default.
const PATIENCE_MAX: Duration = Duration::from_secs(10);

/// Which containers of a service are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that do not run; if all run, all.
    DeadFirst,
    /// All.
    All,
}

/// The connection to the engine, made at its first use.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    docker: OnceCell<Docker>,
}

impl Engine {
    async fn docker(&self) -> Result<&Docker, Failure> {
        let connect = || async { Docker::connect_with_defaults()?.negotiate_version().await };
        self.docker.get_or_try_init(connect).await.map_err(|error| {
            Failure::of(
                &error,
                "the fixer of a target in a container needs the engine's socket: mount /var/run/docker.sock, or set DOCKER_HOST",
            )
        })
    }

    /// Returns the engine, and the containers that a name means.
    pub(crate) async fn find(
        &self,
        name: &str,
        which: Which,
    ) -> Result<(&Docker, Vec<String>), Failure> {
        let docker = self.docker().await?;
        let names = resolve(docker, name, which).await?;
        Ok((docker, names))
    }

    /// Returns whether all containers that a name means run and are not unhealthy.
    pub(crate) async fn is_well(&self, name: &str) -> Result<bool, Failure> {
        let docker = self.docker().await?;
        for id in resolve(docker, name, Which::All).await? {
            let found = docker
                .inspect_container(&id, None::<InspectContainerOptions>)
                .await
                .map_err(|error| refused(&id, &error))?;
            let state = found.state.unwrap_or_default();
            let unhealthy = state
                .health
                .and_then(|it| it.status)
                .is_some_and(|it| matches!(it, bollard::models::HealthStatusEnum::UNHEALTHY));
            if state.running != Some(true) || unhealthy {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Does the engine's work on a container within the time of the step.
pub(crate) async fn within<T>(
    attempt: &Attempt,
    name: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout_at(attempt.deadline, work).await.unwrap_or_else(|_elapsed| {
        Err(Failure::timed_out(&format!("the engine's work on {name}"), attempt.timeout))
    })
}

/// Returns the seconds that a container gets to end by itself: most of what is left,
/// so that the engine can still kill it in time.
pub(crate) fn patience(attempt: &Attempt) -> i32 {
    let patience = attempt.remaining().mul_f64(0.8).min(PATIENCE_MAX);
    i32::try_from(patience.as_secs()).unwrap_or(0)
}

/// Returns what to call the containers that a name means.
async fn resolve(docker: &Docker, name: &str, which: Which) -> Result<Vec<String>, Failure> {
    let (project, service) = match name.split_once('/') {
        None => return plain(name).map(|name| vec![name.to_owned()]),
        Some((project, service)) => (plain(project)?, plain(service)?),
    };
    let labels = vec![
        format!("com.docker.compose.project={project}"),
        format!("com.docker.compose.service={service}"),
    ];
    let filters = HashMap::from([("label".to_owned(), labels)]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let found =
        docker.list_containers(Some(options)).await.map_err(|error| refused(name, &error))?;
    if found.is_empty() {
        return Err(Failure::new(format!(
            "there is no container of service `{service}` in compose project `{project}`; see `docker compose ls` and `docker ps -a`"
        )));
    }
    if CONTAINERS_MAX < found.len() {
        return Err(Failure::new(format!(
            "{name} means {} containers; one step acts on at most {CONTAINERS_MAX}",
            found.len()
        )));
    }
    Ok(chosen(&found, which))
}

fn chosen(found: &[ContainerSummary], which: Which) -> Vec<String> {
    let running = |it: &&ContainerSummary| it.state == Some(ContainerSummaryStateEnum::RUNNING);
    let dead: Vec<_> = found.iter().filter(|it| !running(it)).filter_map(id_of).collect();
    match which {
        Which::DeadFirst if !dead.is_empty() => dead,
        Which::DeadFirst | Which::All => found.iter().filter_map(id_of).collect(),
    }
}

fn id_of(found: &ContainerSummary) -> Option<String> {
    let name = found.names.iter().flatten().next().map(|it| it.trim_start_matches('/').to_owned());
    name.or_else(|| found.id.clone())
}

/// Checks a part of a name: it becomes part of a path of the engine's interface.
fn plain(name: &str) -> Result<&str, Failure> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let first = name.bytes().next().is_some_and(|it| it.is_ascii_alphanumeric());
    if first && name.bytes().all(legal) {
        return Ok(name);
    }
    Err(Failure::new(format!(
        "`{name}` is no name of a container; write its name, its id, or `project/service`"
    )))
}

/// Tells why the engine did not do something.
pub(crate) fn refused(name: &str, error: &bollard::errors::Error) -> Failure {
    if let bollard::errors::Error::DockerResponseServerError { status_code: 404, .. } = error {
        return Failure::new(format!(
            "there is no container `{name}`; see `docker ps -a`, or write `project/service`"
        ));
    }
    Failure::of(error, "see the engine's log, and `docker ps -a`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(name: &str, state: ContainerSummaryStateEnum) -> ContainerSummary {
        ContainerSummary {
            names: Some(vec![format!("/{name}")]),
            state: Some(state),
            ..ContainerSummary::default()
        }
    }

    #[test]
    fn of_a_scaled_service_the_dead_containers_are_meant() {
        let found = [
            container("a", ContainerSummaryStateEnum::RUNNING),
            container("b", ContainerSummaryStateEnum::EXITED),
        ];
        assert_eq!(chosen(&found, Which::DeadFirst), ["b"]);
        assert_eq!(chosen(&found, Which::All), ["a", "b"]);
        assert_eq!(chosen(&found[..1], Which::DeadFirst), ["a"]);
    }

    #[test]
    fn a_name_cannot_lead_to_another_path_of_the_engine() {
        for name in ["../images", "a b", "", "a?force=1", "-a", ".", "a/b"] {
            assert!(plain(name).is_err(), "{name}");
        }
        assert_eq!(plain("shop-db_1.x").unwrap(), "shop-db_1.x");
    }
}
