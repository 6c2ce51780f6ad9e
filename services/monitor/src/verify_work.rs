//! Verifications on request: taken from the queue, done, reported, then acknowledged.

use std::{sync::Arc, time::Duration};

use bus::{Bus, InboxWriter, Job, NotAccepted};
use chrono::{DateTime, Utc};
use domain::{
    trace::TraceContext,
    wire::{Envelope, Input, InputKind, VerificationReport, VerifyWork, WorkKind},
};
use service::{
    Chain,
    trace::{KeyValue, Open, Role},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info, warn};

use crate::{instruments::Instruments, report, sample::Begun, verify};

/// Verifications of one zone at the same time. Each mostly waits.
const IN_FLIGHT_MAX: usize = 64;

/// Clocks may differ so much; work that is later than this is of no use to anybody.
const CLOCK_TOLERANCE: chrono::TimeDelta = chrono::TimeDelta::seconds(60);

/// How long to wait before a report is sent again, or work that we cannot read is offered again.
const AGAIN: Duration = Duration::from_millis(500);

/// Who verifies, and with what.
#[derive(Clone, Debug)]
pub struct Verifier {
    /// The member that reports.
    pub member: Arc<str>,
    /// Zones whose targets can be reached.
    pub zones: Arc<[String]>,
    /// What all probes share.
    pub instruments: Instruments,
    /// Takes the reports.
    pub writer: InboxWriter,
}

/// Takes work until `stop`.
pub async fn serve(bus: Bus, verifier: Verifier, tasks: TaskTracker, stop: CancellationToken) {
    let mut queue = bus.work().consume(WorkKind::Verify, &verifier.zones, IN_FLIGHT_MAX);
    while let Some(job) = stop.run_until_cancelled(queue.next()).await {
        let (verifier, stop) = (verifier.clone(), stop.clone());
        tasks.spawn(async move { verifier.handle(job, stop).await });
    }
}

/// Returns whether nobody waits for a verification any more.
#[must_use]
pub fn is_too_late(work: &VerifyWork, now: DateTime<Utc>) -> bool {
    work.not_after + CLOCK_TOLERANCE < now
}

/// Returns the id of a member's report: the same each time it is sent.
#[must_use]
pub fn report_id(work: &VerifyWork, member: &str) -> String {
    format!("{}/{member}", work.work.wish_id(WorkKind::Verify))
}

impl Verifier {
    async fn handle(&self, job: Job, stop: CancellationToken) {
        let received = Begun::now();
        let work: VerifyWork = match serde_json::from_slice(&job.payload) {
            Ok(work) => work,
            Err(error) => {
                // A monitor of the version that wrote it may be there. What we do not know of it
                // may be what is to be proven.
                metrics::counter!("selfheal_work_unreadable_total").increment(1);
                warn!(subject = job.subject, %error, "a request to verify cannot be read, it is left to others; are all versions the same?");
                return job.nak(AGAIN).await;
            }
        };
        if is_too_late(&work, received.utc) {
            debug!(incident.id = %work.work.incident, "this verification is no longer awaited");
            return job.ack().await;
        }
        let alive = job.keep_alive();
        let mut span = Open::below(job.trace, "verify", Role::Consumer);
        let verified =
            verify::verify(&work, &self.instruments, &self.member, &self.zones, received);
        let Some(report) = stop.run_until_cancelled(verified).await else {
            drop(alive);
            span.fail("given back, this monitor ends");
            // Another monitor begins anew: half a soak proves nothing.
            return job.nak(Duration::ZERO).await;
        };
        info!(
            incident.id = %work.work.incident,
            attempt = work.work.attempt,
            target = work.target.name,
            passed = report.passed,
            summary = report.summary,
            "verified"
        );
        metrics::counter!("selfheal_verifications_total",
            "result" => if report.passed { "passed" } else { "failed" })
        .increment(1);
        span.say(|| about(&work, &report));
        if !report.passed {
            span.fail(report.summary.clone());
        }
        if self.store(&work, report, span.context(), &stop).await {
            drop(alive);
            job.ack().await;
        }
    }

    /// Returns whether the report is stored, or never can be.
    async fn store(
        &self,
        work: &VerifyWork,
        report: VerificationReport,
        trace: Option<TraceContext>,
        stop: &CancellationToken,
    ) -> bool {
        let id = report_id(work, &self.member);
        let envelope = Envelope::new(id, Input::Verification(report)).traced(trace);
        loop {
            let kind = InputKind::Verification;
            let sent = report::submit(&self.writer, kind, envelope.clone(), stop).await;
            let Some(answer) = sent else { return false };
            match answer {
                Ok(_) => return true,
                Err(error @ (NotAccepted::TooLarge { .. } | NotAccepted::Unwritable(_))) => {
                    error!(incident.id = %work.work.incident, error = %Chain(&error), "verification cannot be reported");
                    return true;
                }
                Err(error @ (NotAccepted::Full(_) | NotAccepted::Unavailable(_))) => {
                    warn!(incident.id = %work.work.incident, error = %Chain(&error), "verification not stored yet, trying again");
                }
            }
            if stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await.is_none() {
                return false;
            }
        }
    }
}

/// What the span of a verification says.
fn about(work: &VerifyWork, report: &VerificationReport) -> Vec<KeyValue> {
    vec![
        KeyValue::new("selfheal.incident.id", report.work.incident.to_string()),
        KeyValue::new("selfheal.attempt", i64::from(report.work.attempt)),
        KeyValue::new("selfheal.member", report.by.clone()),
        KeyValue::new("selfheal.target", work.target.name.clone()),
        KeyValue::new("selfheal.passed", report.passed),
        KeyValue::new("selfheal.n_samples", i64::from(report.n_samples)),
        KeyValue::new("selfheal.summary", report.summary.clone()),
    ]
}
