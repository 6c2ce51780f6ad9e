//! What a service is given.

use bus::Bus;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

use crate::{BoxError, Chain, Latch, Probe};

/// What a service is given. Dropping it gives nothing back.
#[derive(Debug)]
pub struct Context<A> {
    /// The service's own flags.
    pub args: A,
    /// The broker. It reconnects by itself.
    pub bus: Bus,
    /// Who we are among the living agents: the kind and eight hexadecimal digits.
    pub member_id: String,
    /// The zones this agent serves.
    pub zones: Vec<String>,
    /// Cancelled when the process must end.
    pub stop: CancellationToken,
    /// Tasks that must end before the process does.
    pub tasks: TaskTracker,
    /// Held while not ready; dropped when the subscriptions stand.
    pub ready: Latch,
    /// The answers to `/healthz`, `/readyz` and `/metrics`.
    pub probe: Probe,
    /// The version of this build.
    pub version: &'static str,
    pub(crate) failures: mpsc::Sender<BoxError>,
}

impl<A> Context<A> {
    /// Starts a task without which the process is of no use.
    ///
    /// When it ends before the process was told to stop, by an error, a panic or
    /// by returning, the process ends with an error, so that whoever watches it
    /// starts a whole one instead of keeping half of one.
    pub fn essential<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let work = self.tasks.spawn(future);
        let (stop, failures) = (self.stop.clone(), self.failures.clone());
        self.tasks.spawn(async move {
            let failure: BoxError = match work.await {
                Ok(Ok(())) if stop.is_cancelled() => return,
                Ok(Ok(())) => format!("{name} ended by itself").into(),
                Ok(Err(error)) => error,
                Err(error) => error.into(),
            };
            error!(task = name, error = %Chain(&*failure), "a task ended that the process cannot do without");
            // The channel holds one: the first failure is the one to tell.
            if let Err(error) = failures.try_send(failure) {
                tracing::debug!(%error, "another failure was first");
            }
        });
    }
}
