//! Scenes for tests: a target, what happened to it, and what a monitor saw.

mod dependencies;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    check::Check,
    event::{Event, EventType},
    id::IncidentId,
    runbook::Runbook,
    span::Span,
    target::{DockerHandle, ProcessHandle, Target},
    wire::{
        AttemptRecord, Change, CheckResult, ContainerState, DiagnoseWork, HostState, ProcessState,
        TargetProbe, WorkRef,
    },
};

use crate::{
    case::Case,
    findings::Findings,
    suspicion::{Rule, Suspicion},
};

pub(crate) const HTTP: &str = "http http://127.0.0.1:1/health";
pub(crate) const TCP: &str = "tcp 127.0.0.1:1";
pub(crate) const DISK: &str = "disk /data";
pub(crate) const MEMORY: &str = "memory";
pub(crate) const CPU: &str = "cpu";

/// A target, what happened to it, and what a monitor saw.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) work: DiagnoseWork,
    pub(crate) findings: Findings,
}

/// Returns what a rule finds in a scene.
pub(crate) fn find(rule: &Rule, scene: &Scene) -> Option<Suspicion> {
    (rule.find)(&Case::new(&scene.work, &scene.findings).unwrap())
}

/// Returns how sure a rule is in a scene.
pub(crate) fn found(rule: &Rule, scene: &Scene) -> Option<u8> {
    find(rule, scene).map(|it| it.confidence_percent)
}

/// Reads a runbook.
pub(crate) fn runbook(text: &str) -> Runbook {
    domain::config::parse_runbook(text).unwrap()
}

fn now() -> DateTime<Utc> {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

/// Returns scenes in which together every rule finds its cause.
pub(crate) fn all_scenes() -> Vec<Scene> {
    let four = [1, 20, 40, 60];
    let hung = |name| Scene::process(name).fails(HTTP, "timed out");
    vec![
        Scene::process("well"),
        Scene::process("unseen").unseen(),
        Scene::process("unseen state").unseen_part("process"),
        Scene::process("another type").kind("cache_stale"),
        Scene::process("not there").killed(9).without_program(),
        Scene::process("starting").start_period_s(60).age_s(5).fails(HTTP, "connection refused"),
        Scene::container("no image").container_exit(1).engine_error("No such image"),
        Scene::process("in its place").killed(9).passes(TCP).answered_by("pid 1 (init)"),
        Scene::process("workers").killed(9).passes(TCP).answered_by_left("pid 7 (shop)"),
        Scene::process("killed").killed(9),
        Scene::process("oom").killed(9).oom(),
        Scene::process("loop").exited(70).starts_s_ago(&four),
        Scene::process("config").exited(2).log(&["invalid configuration"]),
        Scene::process("port").exited(1).log(&["Address already in use"]).passes(TCP),
        Scene::process("stopped").state("T").fails(HTTP, "timed out"),
        Scene::process("closed").fails(HTTP, "connection refused"),
        Scene::process("wrong").fails(HTTP, "status 500"),
        Scene::process("disk").fails(DISK, "95 % used"),
        Scene::process("memory").fails(MEMORY, "95 % used"),
        Scene::process("cpu").fails(CPU, "95 % busy"),
        hung("hung"),
        hung("descriptors").fds(1024, 1024),
        hung("on a busy host").tried("restart-process", 1).runnable(9.5),
        hung("flapping").incidents_s_ago(&[1, 20, 40, 60, 80]),
        hung("symptom").needs("db", &[]).dead_dependency("db"),
        Scene::bare("unreachable").fails(HTTP, "connection refused"),
        Scene::bare("name").fails(HTTP, "dns error: no such host"),
        Scene::container("exited").container_exit(137),
        Scene::container("unhealthy").health("unhealthy"),
        Scene::container("missing").missing(),
        Scene::container("paused").container_state("paused"),
        Scene::container("hung").fails(HTTP, "timed out"),
        Scene::container("away").engine_away(),
    ]
}

impl Scene {
    /// A target with a process that is well.
    pub(crate) fn process(name: &'static str) -> Self {
        let mut scene = Self::bare(name);
        scene.target().process = Some(handle());
        let state = ProcessState {
            running: true,
            pid: Some(4711),
            state: Some("S".to_owned()),
            started_at: Some(now() - TimeDelta::hours(1)),
            ..ProcessState::default()
        };
        scene.probe().process = Some(state);
        scene.result("process", true, "process 4711 runs", 1)
    }

    /// A target with a container that is well.
    pub(crate) fn container(name: &'static str) -> Self {
        let mut scene = Self::bare(name);
        scene.target().docker = Some(DockerHandle { container: "shop-1".to_owned() });
        let state = ContainerState {
            exists: true,
            status: "running".to_owned(),
            started_at: Some(now() - TimeDelta::hours(1)),
            ..ContainerState::default()
        };
        scene.probe().container = Some(state);
        scene.result("docker", true, "running", 1)
    }

    /// A target without a handle that is well.
    pub(crate) fn bare(name: &'static str) -> Self {
        let mut target = Target::named("shop");
        let http = Some("http://127.0.0.1:1/health".to_owned());
        let tcp = Some("127.0.0.1:1".to_owned());
        target.checks = vec![Check { http, ..Check::blank() }, Check { tcp, ..Check::blank() }];
        let event = Event::new("1", EventType::known("service_down"), "test");
        let work = DiagnoseWork {
            work: WorkRef { incident: IncidentId::NONE, attempt: 0, revision: 1 },
            event,
            target: Some(target),
            measures: Vec::new(),
            dependencies: Vec::new(),
            sick_dependencies: Vec::new(),
            attempts: Vec::new(),
            recent_incidents: vec![now()],
            changes: Vec::new(),
            soak: Span::from_secs(3),
            within: Span::from_secs(30),
            not_after: now() + TimeDelta::minutes(1),
        };
        let probe =
            TargetProbe { target: "shop".to_owned(), healthy: true, ..TargetProbe::default() };
        let findings = Findings {
            target: Some(probe),
            host: Some(HostState::default()),
            n_samples: 1,
            ..Findings::none(now())
        };
        let scene = Self { name, work, findings };
        scene.passes(HTTP).passes(TCP)
    }

    fn target(&mut self) -> &mut Target {
        self.work.target.as_mut().unwrap()
    }

    fn probe(&mut self) -> &mut TargetProbe {
        self.findings.target.as_mut().unwrap()
    }

    fn host(&mut self) -> &mut HostState {
        self.findings.host.as_mut().unwrap()
    }

    fn result(mut self, check: &str, ok: bool, detail: &str, took_ms: u64) -> Self {
        let result =
            CheckResult { check: check.to_owned(), ok, detail: detail.to_owned(), took_ms };
        set(self.probe(), result);
        self
    }

    pub(crate) fn passes(self, check: &str) -> Self {
        self.result(check, true, "well", 1)
    }

    pub(crate) fn fails(self, check: &str, detail: &str) -> Self {
        self.fails_in(check, detail, 1)
    }

    pub(crate) fn fails_in(mut self, check: &str, detail: &str, took_ms: u64) -> Self {
        let on = Some(true);
        let declared = match check {
            DISK => Some(Check { disk: Some("/data".to_owned()), ..Check::blank() }),
            MEMORY => Some(Check { memory: on, ..Check::blank() }),
            CPU => Some(Check { cpu: on, ..Check::blank() }),
            _ => None,
        };
        self.target().checks.extend(declared);
        self.result(check, false, detail, took_ms)
    }

    pub(crate) fn without_checks(mut self) -> Self {
        self.target().checks.clear();
        self.probe().checks.clear();
        self
    }

    fn dead(self, handle: &str) -> Self {
        self.fails(handle, "does not run")
            .fails(HTTP, "connection refused")
            .fails(TCP, "connection refused")
    }

    /// Its process is gone, and nobody saw how.
    pub(crate) fn vanished(mut self) -> Self {
        let process = self.probe().process.as_mut().unwrap();
        (process.running, process.state, process.started_at) = (false, None, None);
        self.dead("process")
    }

    pub(crate) fn killed(self, signal: i32) -> Self {
        let mut scene = self.vanished();
        scene.probe().process.as_mut().unwrap().signal = Some(signal);
        scene
    }

    pub(crate) fn exited(self, code: i32) -> Self {
        let mut scene = self.vanished();
        scene.probe().process.as_mut().unwrap().exit_code = Some(code);
        scene
    }

    /// The kernel did it.
    pub(crate) fn oom(mut self) -> Self {
        if let Some(process) = &mut self.probe().process {
            process.oom_killed = Some(true);
        }
        if let Some(container) = &mut self.probe().container {
            container.oom_killed = true;
        }
        self
    }

    pub(crate) fn state(mut self, letter: &str) -> Self {
        self.probe().process.as_mut().unwrap().state = Some(letter.to_owned());
        self
    }

    pub(crate) fn age_s(mut self, seconds: i64) -> Self {
        let at = Some(now() - TimeDelta::seconds(seconds));
        if let Some(process) = &mut self.probe().process {
            process.started_at = at;
        }
        if let Some(container) = &mut self.probe().container {
            container.started_at = at;
        }
        self
    }

    pub(crate) fn fds(mut self, n: u64, max: u64) -> Self {
        let process = self.probe().process.as_mut().unwrap();
        (process.n_fds, process.fds_max) = (Some(n), Some(max));
        self
    }

    pub(crate) fn container_state(mut self, status: &str) -> Self {
        self.probe().container.as_mut().unwrap().status = status.to_owned();
        if status == "paused" { self.fails("docker", "paused") } else { self.dead("docker") }
    }

    pub(crate) fn container_exit(self, code: i64) -> Self {
        let mut scene = self.container_state("exited");
        scene.probe().container.as_mut().unwrap().exit_code = Some(code);
        scene
    }

    pub(crate) fn engine_restarts(mut self, status: &str, n: i64) -> Self {
        let container = self.probe().container.as_mut().unwrap();
        (container.status, container.restart_count) = (status.to_owned(), n);
        self
    }

    pub(crate) fn engine_error(mut self, words: &str) -> Self {
        self.probe().container.as_mut().unwrap().error = words.to_owned();
        self
    }

    pub(crate) fn missing(mut self) -> Self {
        self.probe().container = Some(ContainerState::default());
        self.dead("docker")
    }

    /// Nobody can say how the container is.
    pub(crate) fn engine_away(mut self) -> Self {
        self.probe().container = None;
        self.fails("docker", "cannot reach the container engine")
    }

    pub(crate) fn health(mut self, health: &str) -> Self {
        self.probe().container.as_mut().unwrap().health = health.to_owned();
        if health == "unhealthy" { self.fails("docker", "unhealthy") } else { self }
    }

    pub(crate) fn log(mut self, lines: &[&str]) -> Self {
        self.probe().log_tail = lines.iter().map(|line| (*line).to_owned()).collect();
        self
    }

    /// This part of the look did not arrive in time.
    pub(crate) fn unseen_part(mut self, what: &str) -> Self {
        let probe = self.probe();
        probe.unseen.push(what.to_owned());
        match what {
            "process" => probe.process = None,
            "container" => probe.container = None,
            "log" => probe.log_tail.clear(),
            _ => probe.recent_starts.clear(),
        }
        self
    }

    /// This check was not seen in time.
    pub(crate) fn unseen_check(mut self, check: &str) -> Self {
        self.probe().unseen_checks.push(check.to_owned());
        self.result(check, false, "no answer within 2000 ms", 2000)
    }

    /// Something on its host answers while it does not run.
    pub(crate) fn answered_by(mut self, whom: &str) -> Self {
        self.probe().answered_by.push(whom.to_owned());
        self
    }

    /// What its last run has left behind answers while it does not run.
    pub(crate) fn answered_by_left(mut self, whom: &str) -> Self {
        self.probe().answered_by_left.push(whom.to_owned());
        self
    }

    /// What would be started is not there.
    pub(crate) fn without_program(mut self) -> Self {
        self.probe().program_missing = Some("the program shop does not exist".to_owned());
        self
    }

    /// The last attempt failed, with these words.
    pub(crate) fn failed_with(self, words: &str) -> Self {
        let mut scene = self.tried("start-container", 1);
        scene.work.attempts[0].failure = Some(words.to_owned());
        scene
    }

    /// It has this long to start.
    pub(crate) fn start_period_s(mut self, seconds: u64) -> Self {
        self.target().start_period = Span::from_secs(seconds);
        self
    }

    /// This check cannot be asked.
    pub(crate) fn not_asked(mut self, check: &str) -> Self {
        self.probe().not_asked.push(check.to_owned());
        self
    }

    /// Who sent the event.
    pub(crate) fn by(mut self, source: &str) -> Self {
        source.clone_into(&mut self.work.event.source);
        self
    }

    /// No monitor answered.
    pub(crate) fn unseen(mut self) -> Self {
        let zone = self.target().zone.clone();
        self.findings = Findings { silent_zones: vec![zone], ..Findings::none(now()) };
        self
    }

    /// The event's payload says so.
    pub(crate) fn says(mut self, key: &str, number: i64) -> Self {
        self.work.event.payload = serde_json::json!({ key: number });
        self
    }

    /// The event is about a check that runs a program, which failed.
    pub(crate) fn by_command(mut self) -> Self {
        self.work.event.labels.insert("probe".to_owned(), "command".to_owned());
        self.says("exit_code", 1)
    }

    pub(crate) fn kind(mut self, kind: &str) -> Self {
        self.work.event.kind = kind.parse().unwrap();
        self
    }

    pub(crate) fn samples(mut self, n: u32) -> Self {
        self.findings.n_samples = n;
        self
    }

    pub(crate) fn starts_s_ago(mut self, seconds: &[i64]) -> Self {
        self.probe().recent_starts = times(seconds);
        self
    }

    pub(crate) fn incidents_s_ago(mut self, seconds: &[i64]) -> Self {
        self.work.recent_incidents = times(seconds);
        self
    }

    /// So many attempts with a runbook did not help.
    pub(crate) fn tried(mut self, runbook: &str, n: u32) -> Self {
        self.work.attempts = (1..=n)
            .map(|attempt| AttemptRecord {
                attempt,
                runbook: runbook.to_owned(),
                started_at: now(),
                failure: Some("in vain".to_owned()),
                step_failed: false,
                bring_up: false,
                outcome_unknown: false,
            })
            .collect();
        self
    }

    /// Attempts so many seconds ago, of which a step failed.
    pub(crate) fn failed_s_ago(mut self, runbook: &str, ago: &[i64]) -> Self {
        self = self.tried(runbook, u32::try_from(ago.len()).unwrap());
        for (record, ago) in self.work.attempts.iter_mut().zip(ago) {
            record.started_at = now() - TimeDelta::seconds(*ago);
            record.step_failed = true;
        }
        self
    }

    /// Attempts so many seconds ago, of which nobody knows how they ended.
    pub(crate) fn unknown_s_ago(mut self, runbook: &str, ago: &[i64]) -> Self {
        self = self.tried(runbook, u32::try_from(ago.len()).unwrap());
        for (record, ago) in self.work.attempts.iter_mut().zip(ago) {
            record.started_at = now() - TimeDelta::seconds(*ago);
            record.outcome_unknown = true;
        }
        self
    }

    pub(crate) fn changed(mut self, what: &str) -> Self {
        let at = now() - TimeDelta::minutes(1);
        self.work.changes.push(Change::of_all(at, what.to_owned()));
        self
    }

    pub(crate) fn disk(mut self, mount: &str, percent: f32) -> Self {
        self.host().disks_percent.insert(mount.to_owned(), percent);
        self
    }

    pub(crate) fn memory(mut self, percent: f32) -> Self {
        self.host().memory_percent = percent;
        self
    }

    pub(crate) fn runnable(mut self, per_cpu: f64) -> Self {
        self.host().runnable_per_cpu = Some(per_cpu);
        self
    }

    pub(crate) fn cpu(mut self, percent: f32) -> Self {
        self.host().cpu_percent = percent;
        self
    }
}

fn handle() -> ProcessHandle {
    let handle = serde_json::json!({"command": ["shop"]});
    serde_json::from_value(handle).unwrap()
}

fn times(seconds_ago: &[i64]) -> Vec<DateTime<Utc>> {
    let mut times: Vec<_> =
        seconds_ago.iter().map(|seconds| now() - TimeDelta::seconds(*seconds)).collect();
    times.sort();
    times
}

fn set(probe: &mut TargetProbe, result: CheckResult) {
    probe.checks.retain(|it| it.check != result.check);
    probe.checks.push(result);
    probe.healthy = probe.checks.iter().all(|it| it.ok);
}
