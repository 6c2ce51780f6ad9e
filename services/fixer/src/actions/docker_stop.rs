//! `docker.stop`: stops a container; one that is dead is left alone.

use bollard::query_parameters::StopContainerOptionsBuilder;
use domain::action::{Action, ActionName};

use super::{Attempt, Done, Failure, Listed, Running, Tools};
use crate::{
    allow::{AllowList, Denied, Setting},
    containers::{Which, patience, refused, within},
};

pub(super) const LISTED: Listed =
    Listed { name: ActionName::DockerStop, by_default: false, permit, run };

fn permit(action: &Action, allow: &AllowList, setting: Setting<'_>) -> Result<(), Denied> {
    let Action::DockerStop { container } = action else { return Ok(()) };
    allow.container(container, setting)
}

fn run<'a>(action: &'a Action, tools: &'a Tools, attempt: &'a Attempt) -> Running<'a> {
    Box::pin(async move {
        let Action::DockerStop { container } = action else {
            return Err(Failure::misled(action));
        };
        let work = async {
            let (docker, names) = tools.engine.find(container, Which::All).await?;
            for name in &names {
                let options = StopContainerOptionsBuilder::new().t(patience(attempt)).build();
                docker
                    .stop_container(name, Some(options))
                    .await
                    .map_err(|error| refused(name, &error))?;
            }
            Ok(Done::silently(format!("stopped container {}", names.join(", "))))
        };
        within(attempt, container, work).await
    })
}
