//! The container engine of this host: how it is reached, and which containers a name means.

use std::collections::HashMap;

use bollard::{
    Docker,
    models::{ContainerSummary, ContainerSummaryStateEnum},
    query_parameters::ListContainersOptionsBuilder,
};

/// Most containers of one service that are looked at, or acted on by one step.
pub const CONTAINERS_MAX: usize = 32;

/// Why the containers of a name are not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine cannot be reached.
    #[error("cannot reach the container engine")]
    Unreachable(#[source] bollard::errors::Error),
    /// It is no name.
    #[error("`{0}` is no name of a container")]
    Name(String),
    /// There are more than one step acts on.
    #[error("{name} means {n} containers, and at most {CONTAINERS_MAX} are supported")]
    TooMany {
        /// The name.
        name: String,
        /// How many.
        n: usize,
    },
}

impl Error {
    /// Returns what the reader can do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => {
                "the engine must run, and its socket (/var/run/docker.sock, or what DOCKER_HOST names) must be open to this agent"
            }
            Self::Name(_) => "write its name, its id, or `project/service`",
            Self::TooMany { .. } => "name containers instead of the service",
        }
    }
}

/// Connects to the engine that `DOCKER_HOST` names (`unix://`, `tcp://`, `http://`), or to
/// that of this host.
///
/// # Errors
///
/// [`Error::Unreachable`].
pub async fn connect() -> Result<Docker, Error> {
    let docker = Docker::connect_with_defaults().map_err(Error::Unreachable)?;
    docker.negotiate_version().await.map_err(Error::Unreachable)
}

/// What a name of a handle means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// One container, by name or id.
    Container(&'a str),
    /// The containers of a service of a compose project.
    Service {
        /// The project.
        project: &'a str,
        /// The service.
        service: &'a str,
    },
}

impl<'a> Named<'a> {
    /// Reads a name: it becomes part of a path of the engine's interface.
    ///
    /// # Errors
    ///
    /// [`Error::Name`].
    pub fn read(name: &'a str) -> Result<Self, Error> {
        let plain = |part: &'a str| {
            let legal =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            let first = part.bytes().next().is_some_and(|it| it.is_ascii_alphanumeric());
            (first && part.bytes().all(legal)).then_some(part).ok_or(Error::Name(name.to_owned()))
        };
        Ok(match name.split_once('/') {
            None => Self::Container(plain(name)?),
            Some((project, service)) => {
                Self::Service { project: plain(project)?, service: plain(service)? }
            }
        })
    }
}

/// A container that a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What to call it.
    pub name: String,
    /// Whether it runs, if the engine was asked.
    pub runs: Option<bool>,
}

/// Returns the containers that a name means, sorted; a single one without asking the engine.
///
/// # Errors
///
/// [`Error`].
pub async fn resolve(docker: &Docker, name: &str) -> Result<Vec<Known>, Error> {
    let (project, service) = match Named::read(name)? {
        Named::Container(name) => return Ok(vec![Known { name: name.to_owned(), runs: None }]),
        Named::Service { project, service } => (project, service),
    };
    let labels = vec![
        format!("com.docker.compose.project={project}"),
        format!("com.docker.compose.service={service}"),
    ];
    let filters = HashMap::from([("label".to_owned(), labels)]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let listed = docker.list_containers(Some(options)).await.map_err(Error::Unreachable)?;
    known(name, &listed)
}

fn known(name: &str, listed: &[ContainerSummary]) -> Result<Vec<Known>, Error> {
    if CONTAINERS_MAX < listed.len() {
        return Err(Error::TooMany { name: name.to_owned(), n: listed.len() });
    }
    let mut found: Vec<Known> = listed
        .iter()
        .filter_map(|it| {
            let runs = Some(it.state == Some(ContainerSummaryStateEnum::RUNNING));
            Some(Known { name: name_of(it)?, runs })
        })
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

fn name_of(found: &ContainerSummary) -> Option<String> {
    let name = found.names.iter().flatten().next().map(|it| it.trim_start_matches('/').to_owned());
    name.or_else(|| found.id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(n: usize, state: ContainerSummaryStateEnum) -> ContainerSummary {
        ContainerSummary {
            names: Some(vec![format!("/c{n:02}")]),
            state: Some(state),
            ..ContainerSummary::default()
        }
    }

    #[test]
    fn a_name_cannot_lead_to_another_path_of_the_engine() {
        for name in ["../images", "a b", "", "a?force=1", "-a", ".", "a/b/c", "a/", "/b"] {
            assert!(matches!(Named::read(name), Err(Error::Name(_))), "{name}");
        }
        assert_eq!(Named::read("shop-db_1.x").unwrap(), Named::Container("shop-db_1.x"));
        let service = Named::Service { project: "shop", service: "db" };
        assert_eq!(Named::read("shop/db").unwrap(), service);
    }

    #[test]
    fn more_containers_than_one_step_acts_on_are_refused_and_not_cut() {
        let many: Vec<_> = (0..=CONTAINERS_MAX)
            .map(|n| container(n, ContainerSummaryStateEnum::RUNNING))
            .collect();
        let found = known("shop/db", &many);
        assert!(matches!(found, Err(Error::TooMany { n: 33, .. })), "{found:?}");
        assert_eq!(known("shop/db", &many[1..]).unwrap().len(), CONTAINERS_MAX);
    }

    #[test]
    fn a_container_is_known_by_its_name_and_whether_it_runs() {
        let listed = [
            container(2, ContainerSummaryStateEnum::EXITED),
            container(1, ContainerSummaryStateEnum::RUNNING),
        ];
        let known = known("shop/db", &listed).unwrap();
        let expected = [
            Known { name: "c01".to_owned(), runs: Some(true) },
            Known { name: "c02".to_owned(), runs: Some(false) },
        ];
        assert_eq!(known, expected);
    }
}
