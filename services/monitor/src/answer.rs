//! The probe service: how are these targets, now?

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use bus::{ServeError, Served};
use bytes::Bytes;
use domain::{
    check::Check,
    measure::MEASURES_MAX,
    target::Target,
    wire::{CheckResult, ContainerState, ProbeReply, ProbeRequest, TargetProbe},
};
use futures_util::future::join_all;
use tokio::time::{Instant, error::Elapsed, timeout};

use crate::{
    host,
    instruments::Instruments,
    known::Known,
    listeners::{self, Answering, Owner},
    measure,
    probes::{self, Question},
    program,
    roster::Standings,
    sample::{Outcome, Sample},
};

/// Targets of one question.
const N_TARGETS_MAX: usize = 64;

/// The longest time that an answer may take.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// Lines of a log that are told.
const LOG_LINES: usize = 30;

/// Processes that are named in one line.
const SHOWN_MAX: usize = 5;

/// The type of the event of a target that does not work.
const SERVICE_DOWN: &str = "service_down";

/// In the evidence of a process check: processes that may be the target's.
const UNCLEAR: &str = "unclear_pids";

/// In the evidence of a process check: what the last run has left behind.
const LEFT: &str = "left_pids";

/// Answers questions.
#[derive(Clone, Debug)]
pub struct Answerer {
    /// The member that looks.
    pub member: Arc<str>,
    /// What all probes share.
    pub instruments: Instruments,
    /// What is thought of the targets that are watched here.
    pub standings: Standings,
    /// What may be looked at for those who ask over the wire.
    pub known: Known,
}

impl Answerer {
    /// Answers a question that came over the wire.
    ///
    /// # Errors
    ///
    /// 400 when it cannot be read, 500 when the answer cannot be written.
    pub async fn serve(self, asked: Served) -> Result<Bytes, ServeError> {
        let mut request: ProbeRequest = serde_json::from_slice(&asked.payload)
            .map_err(|error| ServeError::new(400, format!("this is no probe request: {error}")))?;
        if N_TARGETS_MAX < request.targets.len() {
            let why = format!("more than {N_TARGETS_MAX} targets in one probe request");
            return Err(ServeError::new(400, why));
        }
        let unknown = self.known.only(&mut request);
        let mut reply = self.answer(request).await;
        unknown.fill(&mut reply);
        let reply = serde_json::to_vec(&reply);
        let reply = reply.map_err(|error| ServeError::new(500, error.to_string()))?;
        Ok(reply.into())
    }

    /// Looks at all targets at once.
    pub async fn answer(&self, request: ProbeRequest) -> ProbeReply {
        let limit = Duration::from_millis(request.timeout_ms).min(TIMEOUT_MAX);
        let targets = request.targets.into_iter().map(Arc::new);
        let probes = targets.map(|target| self.target(target, request.logs, limit));
        let measures = request.measures.iter().take(MEASURES_MAX);
        let measures = measures.map(|it| measure::measure(&self.instruments, it, limit));
        let host = host::state(&self.instruments);
        let (targets, measured, host) = tokio::join!(join_all(probes), join_all(measures), host);
        ProbeReply { by: (*self.member).to_owned(), targets, measured, host }
    }

    async fn target(&self, target: Arc<Target>, logs: bool, limit: Duration) -> TargetProbe {
        let around = self.around(&target, logs, limit);
        let (looks, around) = tokio::join!(self.looks(&target, limit), around);
        let mut probe = TargetProbe {
            target: target.name.clone(),
            healthy: looks.iter().all(|look| look.result.ok),
            ..around
        };
        if target.handle().is_some() && looks.iter().any(Look::is_handle_down) {
            let left = looks.iter().flat_map(Look::left_pids).collect();
            (probe.answered_by, probe.answered_by_left) = answered_by(&looks, left).await;
            probe.program_missing = program_missing(&target).await;
        }
        for Look { check: _, result, sample } in looks {
            match sample.finding.outcome {
                Outcome::Passed | Outcome::Failed | Outcome::Between => {}
                Outcome::Unseen => probe.unseen_checks.push(result.check.clone()),
                Outcome::NotAsked => probe.not_asked.push(result.check.clone()),
            }
            complete(&mut probe, &sample);
            probe.checks.push(result);
        }
        probe
    }

    async fn looks(&self, target: &Arc<Target>, limit: Duration) -> Vec<Look> {
        let looks = target.all_checks().into_iter().map(|check| {
            let instruments = self.instruments.clone();
            let question = Question { target: Arc::clone(target), check, instruments };
            async move {
                let limit = limit.min(question.check.timeout.to_std());
                let sample = probes::look_within(&question, limit).await;
                let ok = self.is_ok(&question, &sample);
                Look { result: sample.result(&question.check, ok), sample, check: question.check }
            }
        });
        join_all(looks).await
    }

    fn is_ok(&self, question: &Question, sample: &Sample) -> bool {
        match sample.finding.outcome {
            Outcome::Passed => true,
            Outcome::Failed | Outcome::Unseen | Outcome::NotAsked => false,
            Outcome::Between => {
                let standings = self.standings.read().unwrap_or_else(PoisonError::into_inner);
                let standing = standings.get(&question.target.name);
                !standing.is_some_and(|it| it.is_sick(&question.check.label()))
            }
        }
    }

    /// Looks at what stands around the checks. What does not answer within `limit` is named.
    async fn around(&self, target: &Target, logs: bool, limit: Duration) -> TargetProbe {
        let mut around = TargetProbe::default();
        if target.process.is_some() {
            let processes = &self.instruments.processes;
            let log = async {
                if logs { processes.log_tail(target, LOG_LINES).await } else { Some(Vec::new()) }
            };
            let (state, log, starts) = tokio::join!(
                timeout(limit, processes.state(target)),
                timeout(limit, log),
                timeout(limit, processes.recent_starts(target)),
            );
            around.process = known("process", state, &mut around.unseen).flatten();
            let log = known("log", log, &mut around.unseen);
            if log == Some(None) {
                // It may not be read here.
                around.unseen.push("log".to_owned());
            }
            around.log_tail = log.flatten().unwrap_or_default();
            around.recent_starts = known("starts", starts, &mut around.unseen).unwrap_or_default();
            return around;
        }
        let Some(docker) = &target.docker else { return around };
        let begun = Instant::now();
        let engine = &self.instruments.engine;
        let found = timeout(limit, engine.find(&docker.container)).await;
        let container = match known("container", found, &mut around.unseen) {
            Some(Ok(Some(container))) => container,
            Some(Ok(None)) => {
                around.container = Some(ContainerState::default());
                return around;
            }
            // The engine cannot be asked; its check says why.
            Some(Err(_)) | None => return around,
        };
        if logs {
            let left = limit.saturating_sub(begun.elapsed());
            let log = timeout(left, engine.log_tail(&container, LOG_LINES)).await;
            around.log_tail = known("log", log, &mut around.unseen).unwrap_or_default();
        }
        around.recent_starts = container.state.started_at.into_iter().collect();
        around.container = Some(container.state);
        around
    }
}

/// One check, looked at.
struct Look {
    check: Check,
    result: CheckResult,
    sample: Sample,
}

impl Look {
    /// Returns whether this says that no process of the target runs.
    fn is_handle_down(&self) -> bool {
        let is_handle = self.check.process == Some(true) || self.check.docker == Some(true);
        is_handle && self.sample.finding.outcome == Outcome::Failed
    }

    fn left_pids(&self) -> Vec<i32> {
        let pids = self.sample.finding.evidence.get(LEFT).cloned();
        pids.and_then(|it| serde_json::from_value(it).ok()).unwrap_or_default()
    }

    /// Returns who answers this check, if something on this host does.
    async fn answered_by(&self, left: &[i32]) -> Option<Other> {
        // A process runs, and whether it is the target's cannot be told: no second copy.
        if self.sample.finding.evidence.contains_key(UNCLEAR) {
            return Some(Other::Stranger(self.sample.finding.detail.clone()));
        }
        if self.sample.finding.outcome != Outcome::Passed {
            return None;
        }
        let label = &self.result.check;
        if self.check.command.is_some() && self.check.event_type().as_str() == SERVICE_DOWN {
            let words = format!("check `{label}` passes");
            // It connects to nothing that could be seen, and nothing else of the target runs.
            let is_left = !left.is_empty();
            return Some(if is_left { Other::Left(words) } else { Other::Stranger(words) });
        }
        let owner = Owner::Nobody { left: left.to_vec() };
        match listeners::answering(&self.check, owner).await {
            Answering::Another { port, who } => Some(Other::Stranger(format!(
                "check `{label}` passes: port {port} is answered by {who}"
            ))),
            Answering::Owner => {
                let pids: Vec<String> = left.iter().take(SHOWN_MAX).map(i32::to_string).collect();
                let pids = pids.join(", ");
                Some(Other::Left(format!(
                    "check `{label}` passes, answered by what the target has left behind: pid {pids}"
                )))
            }
            Answering::Unseen => Some(Other::Stranger(format!(
                "check `{label}` passes, answered by a process that cannot be seen"
            ))),
            Answering::Elsewhere => None,
        }
    }
}

/// Who answers a check of a target that does not run, in words.
enum Other {
    /// What its last run has left behind.
    Left(String),
    /// Anything else.
    Stranger(String),
}

/// Returns what the start of a target needs and is not there.
async fn program_missing(target: &Target) -> Option<String> {
    let handle = target.process.clone()?;
    tokio::task::spawn_blocking(move || program::missing(&handle)).await.ok().flatten()
}

/// Returns who answers the checks of a target that does not run: strangers, and what its last
/// run has left behind.
async fn answered_by(looks: &[Look], left: Vec<i32>) -> (Vec<String>, Vec<String>) {
    let all = join_all(looks.iter().map(|it| it.answered_by(&left))).await;
    let (mut strangers, mut left) = (Vec::new(), Vec::new());
    for it in all.into_iter().flatten() {
        match it {
            Other::Stranger(words) => strangers.push(words),
            Other::Left(words) => left.push(words),
        }
    }
    (strangers, left)
}

/// Returns what was seen in time; names what was not.
fn known<T>(what: &str, seen: Result<T, Elapsed>, unseen: &mut Vec<String>) -> Option<T> {
    if seen.is_err() {
        unseen.push(what.to_owned());
    }
    seen.ok()
}

/// Takes the state of the container from its check, if that was quicker than the look at it.
fn complete(probe: &mut TargetProbe, sample: &Sample) {
    let described = sample.finding.evidence.get("container").cloned();
    if probe.container.is_none()
        && let Some(Ok(state)) = described.map(serde_json::from_value::<ContainerState>)
    {
        probe.container = Some(state);
        probe.unseen.retain(|it| it != "container");
    }
}
