//! The target's container runs and is not unhealthy. The engine tells changes at once.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::json;
use service::Chain;
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep_until},
};

use super::{Follower, Question, count, look};
use crate::{
    engine::{Change, Happened},
    sample::{Begun, Finding},
};

/// So many looks in a row must find no engine before its containers count as down: an
/// engine that is restarted may keep them running.
const N_UNREACHABLE_MAX: u32 = 3;

/// Marks a finding that tells nothing about the container itself.
pub(super) const UNREACHABLE: &str = "engine_unreachable";

pub(super) fn sample(question: &Question) -> BoxFuture<'_, Finding> {
    Box::pin(async {
        let Some(name) = handle(question) else {
            return Finding::failed("the target has no docker handle");
        };
        let container = match question.instruments.engine.find(name).await {
            Ok(Some(container)) => container,
            Ok(None) => return Finding::failed(format!("there is no container {name}")),
            Err(error) => {
                let finding = Finding::failed(Chain(&error).to_string());
                return if error.is_unreachable() {
                    finding.with(UNREACHABLE, json!(true))
                } else {
                    finding
                };
            }
        };
        let finding = match container.sickness() {
            Some(sickness) => Finding::failed(sickness),
            None => Finding::passed(format!("container {name} runs")),
        };
        finding.with("container", json!(container.state)).of_run(container.run())
    })
}

fn handle(question: &Question) -> Option<&str> {
    question.target.docker.as_ref().map(|docker| docker.container.as_str())
}

pub(super) fn follow(question: Arc<Question>, follower: Follower) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let Some(name) = handle(&question) else {
            return super::poll(question, follower).await;
        };
        let every = question.check.every.to_std();
        let mut events = question.instruments.engine.events();
        let mut n_unreachable = 0;
        loop {
            let next = Instant::now() + every;
            let sample = look(&question).await;
            let is_unreachable = sample.finding.evidence.contains_key(UNREACHABLE);
            n_unreachable = if is_unreachable { n_unreachable + 1 } else { 0 };
            if !is_unreachable || N_UNREACHABLE_MAX <= n_unreachable {
                follower.tell(sample).await;
            }
            tokio::select! {
                () = sleep_until(next) => {}
                () = follower.hurry.notified() => {}
                change = next_change(&mut events, name) => {
                    if let Change::Died { exit_code } = change {
                        let begun = Begun::now();
                        let sample = begun.ended(died(exit_code));
                        count(&question, &sample);
                        follower.tell(sample).await;
                    }
                }
            }
        }
    })
}

fn died(exit_code: Option<i64>) -> Finding {
    let words = match exit_code {
        Some(code) => format!("container exited with code {code}"),
        None => "container exited".to_owned(),
    };
    Finding::failed(words).with("exit_code", json!(exit_code))
}

/// Waits for the next change of this container.
async fn next_change(events: &mut Receiver<Arc<Happened>>, name: &str) -> Change {
    loop {
        match events.recv().await {
            Ok(happened) if happened.is_about(name) => return happened.change.clone(),
            Ok(_) => {}
            // What was missed may have been about this one.
            Err(RecvError::Lagged(_)) => return Change::Other,
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}
