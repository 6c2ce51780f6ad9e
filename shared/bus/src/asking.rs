//! Asking the broker until it answers.

use tokio::time::Instant;

use crate::{
    Error,
    core::Core,
    error::Cause,
    link::{Backoff, CONNECTION_LOST},
};

use std::time::Duration;

/// How long to ask: longer than the servers of a cluster take to elect a leader.
const PATIENCE: Duration = Duration::from_secs(30);

/// First and last wait between tries of one question.
const RETRY_FIRST: Duration = Duration::from_millis(25);
const RETRY_LAST: Duration = Duration::from_millis(500);

/// Why there is no answer to use.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// It may pass: an election, a connection that broke.
    Passing(Cause),
    /// The broker said no.
    Final(Cause),
}

/// Asks until there is an answer, a refusal, or no patience left.
pub(crate) async fn until_answered<T, F>(
    core: &Core,
    what: &'static str,
    ask: impl Fn() -> F,
) -> Result<T, Error>
where
    F: Future<Output = Result<T, Unanswered>>,
{
    let deadline = Instant::now() + PATIENCE;
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LAST);
    loop {
        core.link.connected_by(deadline).await;
        let error: Cause = match core.link.while_it_lasts(ask()).await {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(Unanswered::Final(error))) => return Err(Error::client(what, error)),
            Some(Err(Unanswered::Passing(error))) => error,
            None => CONNECTION_LOST.into(),
        };
        if deadline <= Instant::now() {
            return Err(Error::client(what, error));
        }
        backoff.wait().await;
    }
}
