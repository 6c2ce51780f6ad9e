//! What a service is given.

use bus::Bus;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

use crate::{BoxError, Chain, Latch, Probe, outgoing::Outgoing};

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
    /// Which addresses its connections may reach.
    pub outgoing: Outgoing,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Readiness;

    #[tokio::test]
    async fn a_process_ends_with_the_first_task_it_cannot_do_without() {
        let broker = bus::testing::Broker::start().await;
        let stop = CancellationToken::new();
        let (readiness, ready) = Readiness::new(stop.clone());
        let (failures, mut failed) = mpsc::channel(1);
        let cx = Context {
            args: (),
            bus: broker.connect().await.unwrap(),
            member_id: "test-00000000".to_owned(),
            zones: Vec::new(),
            outgoing: Outgoing::default(),
            stop: stop.clone(),
            tasks: TaskTracker::new(),
            ready,
            probe: Probe::install("test", "0.0.0", readiness).unwrap(),
            version: "0.0.0",
            failures,
        };
        cx.essential("ends by itself", async { Ok(()) });
        assert_eq!(failed.recv().await.unwrap().to_string(), "ends by itself ended by itself");
        cx.essential("fails", async { Err("no luck".into()) });
        assert_eq!(failed.recv().await.unwrap().to_string(), "no luck");
        cx.essential("panics", async { panic!("a defect") });
        assert!(failed.recv().await.unwrap().to_string().contains("a defect"));

        // When the process stops, all its tasks end, and that is well.
        stop.cancel();
        cx.essential("stops", async { Ok(()) });
        cx.tasks.close();
        cx.tasks.wait().await;
        assert!(failed.try_recv().is_err());
    }
}
