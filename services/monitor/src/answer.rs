//! The probe service: how are these targets, now?

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use bus::{ServeError, Served};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::{
    measure::MEASURES_MAX,
    target::Target,
    wire::{CheckResult, ContainerState, ProbeReply, ProbeRequest, TargetProbe},
};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::{
    host,
    instruments::Instruments,
    measure,
    probes::{self, Question},
    roster::Standings,
    sample::{Outcome, Sample},
};

/// Targets of one question.
const N_TARGETS_MAX: usize = 64;

/// The longest time that an answer may take.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// Lines of a log that are told.
const LOG_LINES: usize = 30;

/// Answers questions.
#[derive(Clone, Debug)]
pub struct Answerer {
    /// The member that looks.
    pub member: Arc<str>,
    /// What all probes share.
    pub instruments: Instruments,
    /// What is thought of the targets that are watched here.
    pub standings: Standings,
}

impl Answerer {
    /// Answers a question that came over the wire.
    ///
    /// # Errors
    ///
    /// 400 when it cannot be read, 500 when the answer cannot be written.
    pub async fn serve(self, asked: Served) -> Result<Bytes, ServeError> {
        let request: ProbeRequest = serde_json::from_slice(&asked.payload)
            .map_err(|error| ServeError::new(400, format!("this is no probe request: {error}")))?;
        if N_TARGETS_MAX < request.targets.len() {
            let why = format!("more than {N_TARGETS_MAX} targets in one probe request");
            return Err(ServeError::new(400, why));
        }
        let reply = serde_json::to_vec(&self.answer(request).await);
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
        let checks = self.checks(&target, limit);
        // What is not known in time is left out: the checks are what counts.
        let around = timeout(limit, self.around(&target, logs));
        let (checks, around) = tokio::join!(checks, around);
        let (process, container, log_tail, recent_starts) = around.unwrap_or_default();
        TargetProbe {
            target: target.name.clone(),
            healthy: checks.iter().all(|check| check.ok),
            checks,
            process,
            container,
            log_tail,
            recent_starts,
        }
    }

    async fn checks(&self, target: &Arc<Target>, limit: Duration) -> Vec<CheckResult> {
        let looks = target.all_checks().into_iter().map(|check| {
            let instruments = self.instruments.clone();
            let question = Question { target: Arc::clone(target), check, instruments };
            async move {
                let limit = limit.min(question.check.timeout.to_std());
                let sample = probes::look_within(&question, limit).await;
                let ok = self.is_ok(&question, &sample);
                sample.result(&question.check, ok)
            }
        });
        join_all(looks).await
    }

    fn is_ok(&self, question: &Question, sample: &Sample) -> bool {
        match sample.finding.outcome {
            Outcome::Passed => true,
            Outcome::Failed => false,
            Outcome::Between => {
                let standings = self.standings.read().unwrap_or_else(PoisonError::into_inner);
                let standing = standings.get(&question.target.name);
                !standing.is_some_and(|it| it.is_sick(&question.check.label()))
            }
        }
    }

    async fn around(&self, target: &Target, logs: bool) -> Around {
        if target.process.is_some() {
            let processes = &self.instruments.processes;
            let log = async {
                if logs { processes.log_tail(target, LOG_LINES).await } else { Vec::new() }
            };
            let (state, log, starts) =
                tokio::join!(processes.state(target), log, processes.recent_starts(target));
            return (state, None, log, starts);
        }
        let Some(docker) = &target.docker else { return Around::default() };
        let engine = &self.instruments.engine;
        let Ok(found) = engine.find(&docker.container).await else { return Around::default() };
        let Some(container) = found else {
            return (None, Some(ContainerState::default()), Vec::new(), Vec::new());
        };
        let log = if logs { engine.log_tail(&container, LOG_LINES).await } else { Vec::new() };
        let starts = container.state.started_at.into_iter().collect();
        (None, Some(container.state), log, starts)
    }
}

/// Process, container, log, starts.
type Around =
    (Option<domain::wire::ProcessState>, Option<ContainerState>, Vec<String>, Vec<DateTime<Utc>>);
