//! What a scene's target needs.

use domain::{
    check::Check,
    target::{DockerHandle, Target},
    wire::{CheckResult, ProcessState, TargetProbe},
};

use super::{DISK, Scene, handle, set};

/// The check of a dependency's port.
const DEPENDENCY: &str = "tcp 127.0.0.1:2";

impl Scene {
    /// Adds a dependency that is well and needs others itself.
    pub(crate) fn needs(mut self, name: &str, needs: &[&str]) -> Self {
        self.target().depends_on.push(name.to_owned());
        self.needs_indirectly(name, needs)
    }

    /// Adds what a dependency needs.
    pub(crate) fn needs_indirectly(mut self, name: &str, needs: &[&str]) -> Self {
        let mut target = Target::named(name);
        target.depends_on = needs.iter().map(|it| (*it).to_owned()).collect();
        target.process = Some(handle());
        let tcp = Some("127.0.0.1:2".to_owned());
        let disk = Some("/data".to_owned());
        target.checks = vec![Check { tcp, ..Check::blank() }, Check { disk, ..Check::blank() }];
        self.work.dependencies.push(target);
        let process = Some(ProcessState { running: true, ..ProcessState::default() });
        let probe = TargetProbe { target: name.to_owned(), process, ..TargetProbe::default() };
        self.findings.dependencies.push(probe);
        self.dependency(name, "process", true, "runs").dependency(name, DEPENDENCY, true, "open")
    }

    fn dependency(mut self, name: &str, check: &str, ok: bool, detail: &str) -> Self {
        let probe = self.findings.dependencies.iter_mut().find(|it| it.target == name).unwrap();
        let (check, detail) = (check.to_owned(), detail.to_owned());
        set(probe, CheckResult { check, ok, detail, took_ms: 1 });
        self
    }

    pub(crate) fn dead_dependency(mut self, name: &str) -> Self {
        let probe = self.findings.dependencies.iter_mut().find(|it| it.target == name).unwrap();
        probe.process = Some(ProcessState::default());
        self.dependency(name, "process", false, "does not run").dependency(
            name,
            DEPENDENCY,
            false,
            "connection refused",
        )
    }

    pub(crate) fn failing_dependency(self, name: &str, detail: &str) -> Self {
        self.dependency(name, DEPENDENCY, false, detail)
    }

    /// A dependency whose container nobody can look at.
    pub(crate) fn blind_dependency(mut self, name: &str) -> Self {
        let target = self.work.dependencies.iter_mut().find(|it| it.name == name).unwrap();
        target.process = None;
        target.docker = Some(DockerHandle { container: name.to_owned() });
        let probe = self.findings.dependencies.iter_mut().find(|it| it.target == name).unwrap();
        (probe.process, probe.checks) = (None, Vec::new());
        self.dependency(name, "docker", false, "cannot reach the container engine")
    }

    pub(crate) fn full_dependency(self, name: &str) -> Self {
        self.dependency(name, DISK, false, "95 % used")
    }

    pub(crate) fn unseen_dependency(mut self, name: &str) -> Self {
        self.findings.dependencies.retain(|it| it.target != name);
        self
    }

    pub(crate) fn open_incident(mut self, name: &str) -> Self {
        self.work.sick_dependencies.push(name.to_owned());
        self
    }
}
