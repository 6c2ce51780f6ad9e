//! `docker.restart`: restarts a container; one that is dead is started.

use bollard::query_parameters::RestartContainerOptionsBuilder;
use domain::action::{Action, ActionName};

use super::{Attempt, Done, Failure, Listed, Running, Tools};
use crate::{
    allow::{AllowList, Denied},
    containers::{Which, patience, refused, within},
    environment::Environment,
};

pub(super) const LISTED: Listed =
    Listed { name: ActionName::DockerRestart, by_default: true, permit, run };

fn permit(action: &Action, allow: &AllowList, _: &Environment) -> Result<(), Denied> {
    let Action::DockerRestart { container } = action else { return Ok(()) };
    allow.container(container)
}

fn run<'a>(action: &'a Action, tools: &'a Tools, attempt: &'a Attempt) -> Running<'a> {
    Box::pin(async move {
        let Action::DockerRestart { container } = action else {
            return Err(Failure::misled(action));
        };
        let work = async {
            let (docker, names) = tools.engine.find(container, Which::DeadFirst).await?;
            for name in &names {
                let options = RestartContainerOptionsBuilder::new().t(patience(attempt)).build();
                docker
                    .restart_container(name, Some(options))
                    .await
                    .map_err(|error| refused(name, &error))?;
            }
            Ok(Done::silently(format!("restarted container {}", names.join(", "))))
        };
        within(attempt, container, work).await
    })
}
