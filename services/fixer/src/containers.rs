//! The container engine: one connection, and which containers a name means.

use std::time::Duration;

use bollard::{Docker, query_parameters::InspectContainerOptions};
use host::container::{self, Known};
use tokio::sync::OnceCell;

use crate::actions::{Attempt, Failure};

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
        let docker = self.docker.get_or_try_init(container::connect).await;
        docker.map_err(|error| Failure::of(&error, error.hint()))
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

    /// Returns the containers that a name means and that do not run; with `all`, all of them.
    pub(crate) async fn find_dead(
        &self,
        name: &str,
        all: bool,
    ) -> Result<(&Docker, Vec<String>), Failure> {
        let (docker, names) = self.find(name, Which::DeadFirst).await?;
        if all {
            return Ok((docker, names));
        }
        let mut dead = Vec::new();
        for name in names {
            let found = docker
                .inspect_container(&name, None::<InspectContainerOptions>)
                .await
                .map_err(|error| refused(&name, &error))?;
            let state = found.state.unwrap_or_default();
            let runs = state.running == Some(true)
                && state.paused != Some(true)
                && state.restarting != Some(true);
            if !runs {
                dead.push(name);
            }
        }
        Ok((docker, dead))
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
    // Nothing was touched.
    let refused =
        |error: container::Error| Failure::refused(Failure::of(&error, error.hint()).reason);
    let found = container::resolve(docker, name).await.map_err(refused)?;
    if found.is_empty() {
        let (project, service) = name.split_once('/').unwrap_or(("", name));
        return Err(Failure::new(format!(
            "there is no container of service `{service}` in compose project `{project}`; see `docker compose ls` and `docker ps -a`"
        )));
    }
    Ok(chosen(found, which))
}

fn chosen(found: Vec<Known>, which: Which) -> Vec<String> {
    let any_dead = found.iter().any(|it| it.runs == Some(false));
    let is_meant = |it: &Known| match which {
        Which::DeadFirst => !any_dead || it.runs == Some(false),
        Which::All => true,
    };
    found.into_iter().filter(is_meant).map(|it| it.name).collect()
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

    fn known(name: &str, runs: bool) -> Known {
        Known { name: name.to_owned(), runs: Some(runs) }
    }

    #[test]
    fn of_a_scaled_service_the_dead_containers_are_meant() {
        let found = [known("a", true), known("b", false)];
        assert_eq!(chosen(found.to_vec(), Which::DeadFirst), ["b"]);
        assert_eq!(chosen(found.to_vec(), Which::All), ["a", "b"]);
        assert_eq!(chosen(found[..1].to_vec(), Which::DeadFirst), ["a"]);
    }
}
