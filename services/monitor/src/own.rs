//! Whether it is the target's own run that answers its checks.
//!
//! A check that passed before a fix may pass after it because something else answers: what
//! outlived the target, or another program. Such a pass counts only if a socket of the target's
//! own process or container listens there.

use std::collections::BTreeSet;

use domain::{target::Handle, wire::VerifyWork};
use serde_json::Value;

use crate::{
    listeners::{self, Answering, Owner},
    probes::Question,
    sample::{Finding, Outcome, RunId, Sample},
};

/// What is known of who answers.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// The run for which the owner of sockets was looked at.
    run: Option<RunId>,
    /// Checks that this run answers itself, or of which that cannot be seen.
    accepted: BTreeSet<String>,
}

impl Own {
    /// Makes failures of samples that another process has answered.
    pub(crate) async fn judge(
        &mut self,
        work: &VerifyWork,
        questions: &[Question],
        samples: &mut [Sample],
    ) {
        if work.passed_before.is_empty() || work.target.handle().is_none() {
            return;
        }
        let Some((run, owner)) = owner(work, questions, samples).await else { return };
        if self.run.as_ref() != Some(&run) {
            self.accepted.clear();
            self.run = Some(run);
        }
        for (question, sample) in questions.iter().zip(samples) {
            let label = question.check.label();
            let is_doubtful = work.passed_before.contains(&label)
                && sample.finding.outcome == Outcome::Passed
                && !self.accepted.contains(&label);
            if !is_doubtful {
                continue;
            }
            match listeners::answering(&question.check, owner.clone()).await {
                Answering::Owner | Answering::Elsewhere => drop(self.accepted.insert(label)),
                Answering::Unseen => {
                    sample.finding.detail.push_str(", by a process that cannot be seen");
                    self.accepted.insert(label);
                }
                Answering::Another { port, who } => {
                    sample.finding = Finding::failed(format!(
                        "port {port} is answered by {who}, not by the target's process"
                    ));
                }
            }
        }
    }
}

/// Returns the target's present run, and whose sockets are its own.
async fn owner(
    work: &VerifyWork,
    questions: &[Question],
    samples: &[Sample],
) -> Option<(RunId, Owner)> {
    let seen = samples.iter().find(|sample| sample.finding.run.is_some())?;
    let run = seen.finding.run.clone()?;
    let owner = match work.target.handle()? {
        Handle::Process(_) => {
            let pid = seen.finding.evidence.get("pid").and_then(Value::as_i64)?;
            Owner::Process(i32::try_from(pid).ok()?)
        }
        Handle::Docker(docker) => {
            let engine = &questions.first()?.instruments.engine;
            Owner::Container(engine.find(&docker.container).await.ok()??.id)
        }
    };
    Some((run, owner))
}
