//! A container as the engine describes it.

use bollard::models::{ContainerInspectResponse, ContainerState as Described};
use chrono::{DateTime, Utc};
use domain::wire::ContainerState;

use crate::sample::RunId;

/// So much of the last health check's output is told.
const HEALTH_LOG_MAX: usize = 500;

/// A container.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its state as others see it.
    pub state: ContainerState,
    /// Runs of all replicas that were looked at, this one's among them.
    runs: Vec<String>,
}

impl Container {
    pub(super) fn of(found: ContainerInspectResponse) -> Self {
        let described = found.state.unwrap_or_default();
        let image = found.config.and_then(|config| config.image).or(found.image);
        let id = found.id.unwrap_or_default();
        let started = described.started_at.as_deref().unwrap_or_default();
        Self {
            runs: vec![format!("{id} from {started}")],
            id,
            state: state(described, found.restart_count, image),
        }
    }

    /// Returns what is wrong with it, if anything.
    #[must_use]
    pub fn sickness(&self) -> Option<String> {
        let state = &self.state;
        if state.status != "running" {
            let code = state.exit_code.map(|code| format!(" with code {code}")).unwrap_or_default();
            let oom = if state.oom_killed { ", killed for want of memory" } else { "" };
            let error =
                if state.error.is_empty() { String::new() } else { format!(": {}", state.error) };
            return Some(match state.status.as_str() {
                "exited" | "dead" => format!("container {}{code}{oom}{error}", state.status),
                _ => format!("container is {}{error}", state.status),
            });
        }
        (state.health == "unhealthy")
            .then(|| format!("container runs but is unhealthy: {}", state.health_log))
    }

    /// Returns what tells this run from the next.
    #[must_use]
    pub fn run(&self) -> RunId {
        RunId(self.runs.join(", "))
    }

    /// Adds another replica: a restart of any of them is a restart.
    #[must_use]
    pub(super) fn and(mut self, other: Self) -> Self {
        self.runs.extend(other.runs);
        self.runs.sort();
        self
    }
}

fn state(
    described: Described,
    restart_count: Option<i64>,
    image: Option<String>,
) -> ContainerState {
    let health = described.health.unwrap_or_default();
    let last_check = health.log.unwrap_or_default().pop().and_then(|check| check.output);
    let health_name = health.status.map(|status| status.to_string()).unwrap_or_default();
    ContainerState {
        exists: true,
        status: described.status.map(|status| status.to_string()).unwrap_or_default(),
        health: if health_name == "none" { String::new() } else { health_name },
        exit_code: described.exit_code,
        oom_killed: described.oom_killed.unwrap_or(false),
        restart_count: restart_count.unwrap_or(0),
        started_at: time(described.started_at.as_deref()),
        finished_at: time(described.finished_at.as_deref()),
        image: image.unwrap_or_default(),
        error: described.error.unwrap_or_default(),
        health_log: last_check
            .map(|text| text.trim().chars().take(HEALTH_LOG_MAX).collect())
            .unwrap_or_default(),
    }
}

/// Reads a time; the engine writes the year 1 for "never".
fn time(text: Option<&str>) -> Option<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(text?).ok()?.with_timezone(&Utc);
    (DateTime::UNIX_EPOCH < time).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(state: &str) -> Container {
        let text = format!(
            r#"{{"Id":"abc","RestartCount":2,"Config":{{"Image":"shop:1"}},"State":{state}}}"#
        );
        Container::of(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn only_a_container_that_runs_and_is_not_unhealthy_is_well() {
        for (state, sickness) in [
            (r#"{"Status":"running"}"#, None),
            (r#"{"Status":"running","Health":{"Status":"healthy"}}"#, None),
            (r#"{"Status":"running","Health":{"Status":"starting"}}"#, None),
            (
                r#"{"Status":"running","Health":{"Status":"unhealthy","Log":[{"Output":"no\n"}]}}"#,
                Some("container runs but is unhealthy: no"),
            ),
            (r#"{"Status":"exited","ExitCode":3}"#, Some("container exited with code 3")),
            (
                r#"{"Status":"exited","ExitCode":137,"OOMKilled":true}"#,
                Some("container exited with code 137, killed for want of memory"),
            ),
            (r#"{"Status":"paused"}"#, Some("container is paused")),
            (
                r#"{"Status":"created","Error":"no such file"}"#,
                Some("container is created: no such file"),
            ),
        ] {
            assert_eq!(container(state).sickness().as_deref(), sickness, "{state}");
        }
    }

    #[test]
    fn a_container_that_never_ended_has_no_time_of_its_end() {
        let it = container(
            r#"{"Status":"running","StartedAt":"2026-01-02T03:04:05.6Z","FinishedAt":"0001-01-01T00:00:00Z"}"#,
        );
        assert_eq!(it.state.finished_at, None);
        assert_eq!(it.state.started_at.unwrap().timestamp(), 1_767_323_045);
        assert_eq!((it.state.image.as_str(), it.state.restart_count), ("shop:1", 2));
    }
}
