//! One piece of work: look, judge, report, and only then acknowledge.

use std::{sync::Arc, time::Duration};

use bus::{Bus, InboxWriter, Job, NotAccepted};
use domain::{
    trace::TraceContext,
    wire::{AnalysisReport, DiagnoseWork, Envelope, Input, InputKind, WorkKind},
};
use service::{
    Chain, Metric,
    trace::{KeyValue, Open, Role},
};
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
    let mut span = Open::below(job.trace, "diagnose", Role::Consumer);
    let looking = Open::below(span.context(), "gather evidence", Role::Internal);
    let (findings, catalogue) =
        futures_util::future::join(gather(&bench.bus, &work, &bench.stop), bench.live.catalogue())
            .await;
    drop(looking);
    let unseen = work.target.is_some() && findings.target.is_none();
    if unseen && bench.stop.is_cancelled() {
        debug!(incident.id = %incident, "given back, as we end before a monitor answered");
        return job.nak(Duration::ZERO).await;
    }
    let found = diagnose(&work, &findings, &catalogue);
    let took = begun.elapsed();
    let cause = found.hypotheses.first().map_or_else(|| "none".to_owned(), |it| it.cause.clone());
    let report = report_of(&work, found, &bench.member_id, took);
    span.say(|| about(&report, &cause, job.deliveries));
    match store(&bench.inbox, report, span.context()).await {
        Ok(()) => {
            metrics::counter!("selfheal_diagnoses_total", "cause" => cause.clone()).increment(1);
            metrics::histogram!("selfheal_diagnosis_seconds").record(took.as_secs_f64());
            let took_ms = took.as_millis();
            info!(incident.id = %incident, cause, took_ms, "diagnosed");
            job.ack().await;
        }
        Err(error) => {
            warn!(incident.id = %incident, error = %Chain(&error), "report not stored, the work comes again");
            span.fail("report not stored");
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
async fn store(
    inbox: &InboxWriter,
    report: AnalysisReport,
    trace: Option<TraceContext>,
) -> Result<(), NotAccepted> {
    let id = report_id(&report);
    let incident = report.work.incident;
    let whole = Envelope::new(id.clone(), Input::Analysis(report.clone())).traced(trace);
    match inbox.submit(InputKind::Analysis, whole).await {
        Err(error @ NotAccepted::TooLarge { .. }) => {
            warn!(incident.id = %incident, error = %Chain(&error), "evidence left out of a report");
            let bare = AnalysisReport { evidence: Vec::new(), ..report };
            let bare = Envelope::new(id, Input::Analysis(bare)).traced(trace);
            inbox.submit(InputKind::Analysis, bare).await.map(drop)
        }
        stored => stored.map(drop),
    }
}

/// What the span of a diagnosis says.
fn about(report: &AnalysisReport, cause: &str, n_deliveries: u64) -> Vec<KeyValue> {
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    vec![
        KeyValue::new("selfheal.incident.id", report.work.incident.to_string()),
        KeyValue::new("selfheal.member", report.by.clone()),
        KeyValue::new("selfheal.cause", cause.to_owned()),
        KeyValue::new("selfheal.n_hypotheses", count(report.hypotheses.len())),
        KeyValue::new("selfheal.n_evidence", count(report.evidence.len())),
        KeyValue::new("selfheal.n_deliveries", i64::try_from(n_deliveries).unwrap_or(i64::MAX)),
    ]
}

/// What an analyzer counts.
pub const METRICS: [Metric; 2] = [
    Metric::counter(
        "selfheal_diagnoses_total",
        &["cause"],
        "Reported diagnoses, by likeliest cause; none when no diagnosis rule matched.",
    ),
    Metric::histogram(
        "selfheal_diagnosis_seconds",
        &[],
        "From the receipt of work to the diagnosis, samples of monitors included.",
    ),
];
