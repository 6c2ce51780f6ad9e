//! What the active configuration, which supervisors have signed, says of what may be touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use domain::{
    check::Probe,
    target::{ProcessHandle, Target},
};
use host::process::Configured;
use tokio::sync::watch;

/// What is known of all targets, once there is a configuration.
#[derive(Clone, Debug)]
pub struct KnownTargets(Arc<watch::Sender<Option<Arc<Known>>>>);

impl Default for KnownTargets {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl KnownTargets {
    /// Takes the targets of a new configuration.
    pub fn set<'a>(&self, targets: impl IntoIterator<Item = &'a Target>) {
        self.0.send_replace(Some(Arc::new(Known::of(targets))));
    }

    /// Returns what is known.
    pub(crate) fn get(&self) -> Option<Arc<Known>> {
        self.0.borrow().clone()
    }

    /// Waits until there is another configuration, but no longer than this.
    pub(crate) async fn changed_since(&self, seen: Option<&Arc<Known>>, within: Duration) {
        let is_other = |now: &Option<Arc<Known>>| match (now, seen) {
            (Some(now), Some(seen)) => !Arc::ptr_eq(now, seen),
            (Some(_), None) => true,
            (None, Some(_) | None) => false,
        };
        let mut changes = self.0.subscribe();
        // Whether it came in time is seen by whoever looks next.
        drop(tokio::time::timeout(within, changes.wait_for(is_other)).await);
    }
}

/// What one configuration says.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// What tells which process is whose.
    pub(crate) configured: Arc<Configured>,
    processes: BTreeMap<String, ProcessHandle>,
    containers: BTreeSet<String>,
    /// What checks of targets ask: URLs, and addresses to connect to.
    asked: BTreeSet<String>,
}

impl Known {
    pub(crate) fn of<'a>(targets: impl IntoIterator<Item = &'a Target>) -> Self {
        let targets: Vec<&Target> = targets.into_iter().collect();
        let mut known = Self {
            configured: Arc::new(Configured::of(targets.iter().copied())),
            ..Self::default()
        };
        for target in targets {
            if let Some(process) = &target.process {
                known.processes.insert(target.name.clone(), process.clone());
            }
            if let Some(docker) = &target.docker {
                known.containers.insert(docker.container.clone());
            }
            for check in &target.checks {
                if let Ok(Probe::Http(asked) | Probe::Tcp(asked)) = check.probe() {
                    known.asked.insert(asked.to_owned());
                }
            }
        }
        known
    }

    /// Says in what a handle differs from that of the target; `None` when it is the same.
    pub(crate) fn difference(&self, target: &str, handle: &ProcessHandle) -> Option<String> {
        let Some(configured) = self.processes.get(target) else {
            return Some(format!("target `{target}` has no process handle there"));
        };
        let fields = [
            ("command", configured.command == handle.command),
            ("dir", configured.dir == handle.dir),
            ("env", configured.env == handle.env),
            ("log", configured.log == handle.log),
            ("pid_file", configured.pid_file == handle.pid_file),
            ("user", configured.user == handle.user),
            ("group", configured.group == handle.group),
            ("stop_timeout", configured.stop_timeout == handle.stop_timeout),
        ];
        let differs = fields.iter().find(|(_, is_same)| !is_same)?;
        Some(format!("`{}` of target `{target}` is another one there", differs.0))
    }

    /// Returns whether a target is this container.
    pub(crate) fn has_container(&self, name: &str) -> bool {
        self.containers.contains(name)
    }

    /// Returns whether a check of a target asks this URL or address.
    pub(crate) fn is_asked(&self, what: &str) -> bool {
        self.asked.contains(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_configuration_that_comes_a_moment_later_is_waited_for() {
        let (targets, other) = (KnownTargets::default(), KnownTargets::default());
        let later = targets.clone();
        let long = Duration::from_secs(60);
        tokio::join!(targets.changed_since(None, long), async {
            later.set([&Target::named("shop")]);
        });
        let first = targets.get();
        assert!(first.is_some());
        tokio::join!(targets.changed_since(first.as_ref(), long), async {
            later.set([&Target::named("shop")]);
        });
        // What is known already is no other one, and is not waited for for ever.
        targets.changed_since(targets.get().as_ref(), Duration::ZERO).await;
        other.changed_since(None, Duration::ZERO).await;
        assert!(other.get().is_none());
    }
}
