//! `docker.restart`: restarts a container; one that is dead is started. One that has been started
//! since it was found dead is left alone.

use bollard::query_parameters::RestartContainerOptionsBuilder;
use domain::action::{Action, ActionName};

use super::{Attempt, Done, Failure, Listed, Running, Tools};
use crate::{
    allow::{AllowList, Denied, Setting},
    containers::{patience, refused, within},
};

pub(super) const LISTED: Listed =
    Listed { name: ActionName::DockerRestart, by_default: true, permit, run };

fn permit(action: &Action, allow: &AllowList, setting: Setting<'_>) -> Result<(), Denied> {
    let Action::DockerRestart { container } = action else { return Ok(()) };
    allow.container(container, setting)
}

fn run<'a>(action: &'a Action, tools: &'a Tools, attempt: &'a Attempt) -> Running<'a> {
    Box::pin(async move {
        let Action::DockerRestart { container } = action else {
            return Err(Failure::misled(action));
        };
        let work = async {
            // What runs now although nothing ran when the plan was made is somebody else's start.
            let (docker, names) = tools.engine.find_dead(container, !attempt.is_start).await?;
            if names.is_empty() {
                return Ok(Done::idle(format!(
                    "found container {container} running and left it alone"
                )));
            }
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
