//! Notices to people: taken from the work queue, sent, reported, and only then
//! acknowledged. A notice may so be sent twice when we die in between, never not at all.
//!
//! To add a way, write one file and add its two lines below.

mod log;
mod webhook;

use std::{pin::Pin, time::Duration};

use bus::{Bus, InboxWriter, Job};
use domain::{
    policy::Notifier,
    wire::{Envelope, Input, InputKind, NoticeReport, NotifyWork, WorkKind},
};
use service::{
    BoxError, Chain, Context,
    trace::{Open, Role},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

/// All ways, in the order in which they are tried.
const WAYS: [Way; 2] = [log::WAY, webhook::WAY];

/// Notices under way at once. They are few, and their receivers limit them.
const IN_FLIGHT_MAX: usize = 4;

/// How long to wait before a notice whose report was not taken is tried again.
const REPORT_RETRY_AFTER: Duration = Duration::from_secs(2);

/// One way to tell somebody.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    /// Returns nothing when the entry of the configuration does not ask for this way.
    send: for<'a> fn(&'a Tools, &'a NotifyWork, &'a Notifier) -> Option<Sending<'a>>,
}

/// A notice on its way: what is told in the log, or why it failed.
type Sending<'a> = Pin<Box<dyn Future<Output = Result<String, String>> + Send + 'a>>;

/// What the ways share.
#[derive(Clone, Debug)]
struct Tools {
    http: reqwest::Client,
}

impl Tools {
    fn new() -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(webhook::ATTEMPT_TIME_MAX)
            // Where a notice goes is configured; a receiver does not send it on.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("selfheal/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http })
    }
}

/// Sends what the supervisor wants sent.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    bus: Bus,
    writer: InboxWriter,
    zones: Vec<String>,
    by: String,
    stop: CancellationToken,
    tools: Tools,
}

impl Outbox {
    /// Prepares the ways.
    pub(crate) fn new<A>(cx: &Context<A>, writer: InboxWriter) -> Result<Self, BoxError> {
        Ok(Self {
            bus: cx.bus.clone(),
            writer,
            zones: cx.zones.clone(),
            by: cx.member_id.clone(),
            stop: cx.stop.clone(),
            tools: Tools::new()?,
        })
    }

    /// Works until told to stop.
    pub(crate) async fn run(self) -> Result<(), BoxError> {
        let mut queue = self.bus.work().consume(WorkKind::Notify, &self.zones, IN_FLIGHT_MAX);
        let jobs = TaskTracker::new();
        while let Some(job) = self.stop.run_until_cancelled(queue.next()).await {
            let this = self.clone();
            jobs.spawn(async move { this.handle(job).await });
        }
        jobs.close();
        jobs.wait().await;
        Ok(())
    }

    async fn handle(&self, job: Job) {
        let work: NotifyWork = match serde_json::from_slice(&job.payload) {
            Ok(work) => work,
            Err(error) => {
                // Only supervisors can write here: another version did. Asking again changes nothing.
                warn!(error = %Chain(&error), "a notice cannot be read, it is dropped");
                return job.ack().await;
            }
        };
        let still_here = job.keep_alive();
        let mut span = Open::below(job.trace, "notify", Role::Consumer);
        let outcome = deliver(&self.tools, &work).await;
        match &outcome {
            Ok(sent) => {
                info!(incident.id = %work.work.incident, notice = work.notice, sent, "notice sent");
            }
            Err(reason) => {
                span.fail(reason.clone());
                warn!(incident.id = %work.work.incident, notice = work.notice, reason, "notice not sent");
            }
        }
        metrics::counter!("selfheal_gateway_notices_total", "ok" => if outcome.is_ok() { "true" } else { "false" }).increment(1);
        let id = format!("notice/{}/{}", work.work.wish_id(WorkKind::Notify), work.notice);
        let report =
            NoticeReport { work: work.work, notice: work.notice, by: self.by.clone(), outcome };
        let envelope = Envelope::new(id, Input::Notice(report)).traced(span.context());
        let stored = self.writer.submit(InputKind::Notice, envelope).await;
        drop(still_here);
        match stored {
            Ok(_) => job.ack().await,
            Err(error) => {
                warn!(error = %Chain(&error), "the report of a notice was not taken, it is sent again");
                job.nak(REPORT_RETRY_AFTER).await;
            }
        }
    }
}

/// Sends a notice to everybody it is for. It succeeded when all of them have it.
async fn deliver(tools: &Tools, work: &NotifyWork) -> Result<String, String> {
    let (mut sent, mut failed) = (Vec::new(), Vec::new());
    for to in &work.to {
        for way in WAYS {
            let Some(sending) = (way.send)(tools, work, to) else { continue };
            match sending.await {
                Ok(told) => sent.push(format!("{}: {told}", way.name)),
                Err(reason) => failed.push(format!("{}: {reason}", way.name)),
            }
        }
    }
    match (sent.is_empty(), failed.is_empty()) {
        (false, true) => Ok(sent.join("; ")),
        (true, true) => Err("nobody is configured to be told".to_owned()),
        (true, false) => Err(failed.join("; ")),
        (false, false) => Err(format!("{} (but sent to {})", failed.join("; "), sent.join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_in_the_folder_is_in_the_list() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/notifiers");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        let mut listed = WAYS.map(|way| way.name.to_owned());
        listed.sort();
        assert_eq!(files, listed);
    }
}
