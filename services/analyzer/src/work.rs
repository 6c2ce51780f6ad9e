//! One piece of work: look, judge, report, and only then acknowledge.

use std::{sync::Arc, time::Duration};

use bus::{Bus, InboxWriter, Job, NotAccepted};
use domain::wire::{AnalysisReport, DiagnoseWork, Envelope, Input, InputKind, WorkKind};
use service::Chain;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    diagnosis::{Diagnosis, diagnose},
    gather::gather,
    live::Live,
};

/// When the inbox did not take the report, or the work is of a version that we do not know,
/// it comes again after this time.
const AGAIN: Duration = Duration::from_secs(1);

/// What every diagnosis needs.
pub(crate) struct Bench {
    pub(crate) bus: Bus,
    pub(crate) inbox: InboxWriter,
    pub(crate) live: Live,
    pub(crate) member_id: String,
    pub(crate) stop: CancellationToken,
}

/// Does a piece of work. Done twice, it reports twice under one id.
pub(crate) async fn run(bench: Arc<Bench>, job: Job) {
    let begun = Instant::now();
    let alive = job.keep_alive();
    let work: DiagnoseWork = match serde_json::from_slice(&job.payload) {
        Ok(work) => work,
        Err(error) => {
            // An analyzer of the version that wrote it may be there.
            warn!(subject = job.subject, %error, "work cannot be read, it is left to others; are all versions the same?");
            metrics::counter!("selfheal_work_unreadable_total").increment(1);
            return job.nak(AGAIN).await;
        }
    };
    let incident = work.work.incident;
    let (findings, catalogue) =
        futures_util::future::join(gather(&bench.bus, &work, &bench.stop), bench.live.catalogue())
            .await;
    let unseen = work.target.is_some() && findings.target.is_none();
    if unseen && bench.stop.is_cancelled() {
        debug!(incident.id = %incident, "given back, as we end before a monitor answered");
        return job.nak(Duration::ZERO).await;
    }
    let found = diagnose(&work, &findings, &catalogue);
    let took = begun.elapsed();
    let cause = found.hypotheses.first().map_or_else(|| "none".to_owned(), |it| it.cause.clone());
    let report = report_of(&work, found, &bench.member_id, took);
    match store(&bench.inbox, report).await {
        Ok(()) => {
            metrics::counter!("selfheal_diagnoses_total", "cause" => cause.clone()).increment(1);
            metrics::histogram!("selfheal_diagnosis_seconds").record(took.as_secs_f64());
            let took_ms = took.as_millis();
            info!(incident.id = %incident, cause, took_ms, "diagnosed");
            job.ack().await;
        }
        Err(error) => {
            warn!(incident.id = %incident, error = %Chain(&error), "report not stored, the work comes again");
            job.nak(AGAIN).await;
        }
    }
    drop(alive);
}

/// Writes the report of member `by`.
#[must_use]
pub fn report_of(
    work: &DiagnoseWork,
    found: Diagnosis,
    by: &str,
    took: Duration,
) -> AnalysisReport {
    AnalysisReport {
        work: work.work,
        by: by.to_owned(),
        hypotheses: found.hypotheses,
        evidence: found.evidence,
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Returns the id of a report: of two analyzers that did the same work, one is heard.
#[must_use]
pub fn report_id(report: &AnalysisReport) -> String {
    format!("{}/report", report.work.wish_id(WorkKind::Diagnose))
}

/// Stores a report; one that is too large for the inbox without its evidence.
async fn store(inbox: &InboxWriter, report: AnalysisReport) -> Result<(), NotAccepted> {
    let id = report_id(&report);
    let incident = report.work.incident;
    let whole = Envelope::new(id.clone(), Input::Analysis(report.clone()));
    match inbox.submit(InputKind::Analysis, whole).await {
        Err(error @ NotAccepted::TooLarge { .. }) => {
            warn!(incident.id = %incident, error = %Chain(&error), "evidence left out of a report");
            let bare = AnalysisReport { evidence: Vec::new(), ..report };
            let bare = Envelope::new(id, Input::Analysis(bare));
            inbox.submit(InputKind::Analysis, bare).await.map(drop)
        }
        stored => stored.map(drop),
    }
}

/// Names the metrics for those who read them.
pub(crate) fn describe_metrics() {
    metrics::describe_counter!(
        "selfheal_diagnoses_total",
        "reported diagnoses, by likeliest cause"
    );
    metrics::describe_histogram!(
        "selfheal_diagnosis_seconds",
        metrics::Unit::Seconds,
        "from the receipt of work to the diagnosis, looks of monitors included"
    );
    metrics::describe_counter!("selfheal_work_unreadable_total", "work that could not be read");
}
