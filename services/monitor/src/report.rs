//! Changes, told to the supervisor: built with their evidence, delivered until stored.

use std::{sync::Arc, time::Duration};

use bus::{Accepted, InboxWriter, NotAccepted};
use chrono::{DateTime, Utc};
use domain::{
    check::Check,
    event::{Event, EventType, Severity, Status},
    target::Target,
    wire::{Envelope, Input, InputKind},
};
use serde_json::{Map, Value, json};
use service::Chain;
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::{instruments::Instruments, probes, sample::Sample};

/// Who observed what monitors report.
pub const SOURCE: &str = "selfheal/monitor";

/// Lines of a log that are evidence.
const LOG_LINES: usize = 20;

/// So much of a log is evidence.
const LOG_BYTES: usize = 4 * 1024;

/// Starts that are told with a change.
const N_STARTS: usize = 5;

/// How long the container engine may take for the log: the news must not wait for it.
const ENGINE_LOG_TIMEOUT: Duration = Duration::from_millis(30);

/// How long to wait before a change is sent again; doubles up to [`AGAIN_MAX`].
const AGAIN_MIN: Duration = Duration::from_millis(250);

/// The longest of these waits.
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// How long a report that is under way may still take when the process must end. Where
/// the broker is away, another monitor will see what this one cannot tell.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// A change on its way.
#[derive(Debug)]
pub struct Report {
    /// What is told.
    pub event: Event,
    /// Resolves when the broker has stored it.
    pub stored: oneshot::Sender<()>,
}

/// A change of one condition of one target.
#[derive(Clone, Debug)]
pub struct Change {
    /// Unique id; the same each time it is sent.
    pub id: String,
    /// The member that reports.
    pub by: Arc<str>,
    /// The target.
    pub target: Arc<Target>,
    /// Type of the event.
    pub kind: EventType,
    /// There, or gone.
    pub status: Status,
    /// The check that tells it.
    pub check: Check,
    /// Its newest sample.
    pub sample: Sample,
    /// How many samples in a row said so.
    pub n_samples: u32,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Whether the check was ever well here.
    pub seen_well: bool,
}

impl Change {
    /// Builds the event, with what can be found out at once.
    pub async fn into_event(self, instruments: &Instruments) -> Event {
        let mut event = self.bare_event();
        if self.status == Status::Firing
            && let Value::Object(payload) = &mut event.payload
        {
            self.gather(instruments, payload).await;
        }
        event
    }

    /// Builds the event, with what the samples say.
    #[must_use]
    pub fn bare_event(&self) -> Event {
        let mut event = Event::new(self.id.clone(), self.kind.clone(), SOURCE);
        event.target = Some(self.target.name.clone());
        event.status = self.status;
        event.severity =
            if self.kind.as_str() == "service_down" { Severity::Critical } else { Severity::Error };
        event.starts_at = Some(self.since);
        event.ends_at = (self.status == Status::Resolved).then_some(self.sample.begun.utc);
        let probe = probes::name_of(&self.check);
        for (name, value) in
            [("zone", self.target.zone.as_str()), ("probe", probe), ("check", &self.check.label())]
        {
            event.labels.insert(name.to_owned(), value.to_owned());
        }
        event.annotations.insert("summary".to_owned(), self.summary());
        let mut payload = self.sample.finding.evidence.clone();
        payload.insert("service".to_owned(), json!(self.target.name));
        payload.insert("timestamp".to_owned(), json!(self.sample.begun.utc));
        payload.insert("check".to_owned(), json!(self.check.label()));
        payload.insert("detail".to_owned(), json!(self.sample.finding.detail));
        payload.insert("samples".to_owned(), json!(self.n_samples));
        payload.insert("monitor".to_owned(), json!(*self.by));
        if self.status == Status::Firing {
            payload.insert("seen_well".to_owned(), json!(self.seen_well));
        }
        event.payload = Value::Object(payload);
        event
    }

    fn summary(&self) -> String {
        let (name, check) = (&self.target.name, self.check.label());
        let detail = &self.sample.finding.detail;
        match self.status {
            Status::Firing | Status::Acknowledged | Status::Change => {
                format!("{name}: {check}: {detail}")
            }
            Status::Resolved => format!("{name} is healthy again: {check}: {detail}"),
        }
    }

    async fn gather(&self, instruments: &Instruments, payload: &mut Map<String, Value>) {
        let processes = &instruments.processes;
        let lines = if self.target.process.is_some() {
            let starts = processes.recent_starts(&self.target).await;
            let from = starts.len().saturating_sub(N_STARTS);
            let last: Vec<_> = starts.into_iter().skip(from).collect();
            payload.insert("recent_starts".to_owned(), json!(last));
            processes.log_tail(&self.target, LOG_LINES).await.unwrap_or_default()
        } else if let Some(docker) = &self.target.docker {
            let log = async {
                let container = instruments.engine.find(&docker.container).await.ok().flatten()?;
                Some(instruments.engine.log_tail(&container, LOG_LINES).await)
            };
            tokio::time::timeout(ENGINE_LOG_TIMEOUT, log).await.ok().flatten().unwrap_or_default()
        } else {
            Vec::new()
        };
        if !lines.is_empty() {
            payload.insert("log_tail".to_owned(), json!(bounded(&lines)));
        }
    }
}

/// Leaves out the oldest lines until the rest is small enough.
fn bounded(lines: &[String]) -> Vec<String> {
    let mut room = LOG_BYTES;
    let fits = |line: &String| {
        room = room.checked_sub(line.len() + 1)?;
        Some(line.clone())
    };
    let mut kept: Vec<String> = lines.iter().rev().map_while(fits).collect();
    kept.reverse();
    kept
}

/// Delivers changes, each until it is stored, nobody wants it any more, or `stop`.
pub async fn deliver(
    writer: InboxWriter,
    mut reports: mpsc::Receiver<Report>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    while let Some(Some(report)) = stop.run_until_cancelled(reports.recv()).await {
        tasks.spawn(deliver_one(writer.clone(), report, stop.clone()));
    }
}

/// Submits an input. `None` when the process must end and there is no answer yet.
pub async fn submit(
    writer: &InboxWriter,
    kind: InputKind,
    envelope: Envelope,
    stop: &CancellationToken,
) -> Option<Result<Accepted, NotAccepted>> {
    let end = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_GRACE).await;
    };
    tokio::select! {
        answer = writer.submit(kind, envelope) => Some(answer),
        () = end => None,
    }
}

async fn deliver_one(writer: InboxWriter, report: Report, stop: CancellationToken) {
    let Report { event, mut stored } = report;
    let (id, kind, status) = (event.id.clone(), event.kind.clone(), event.status);
    let target = event.target.clone().unwrap_or_default();
    let envelope = Envelope::new(id.clone(), Input::Event(event));
    let mut wait = AGAIN_MIN;
    loop {
        let Some(answer) = submit(&writer, InputKind::Event, envelope.clone(), &stop).await else {
            return;
        };
        match answer {
            Ok(accepted) => {
                info!(event.id = %id, target, kind = %kind, ?status, position = %accepted.position, "change reported");
                break;
            }
            Err(error @ (NotAccepted::TooLarge { .. } | NotAccepted::Unwritable(_))) => {
                error!(event.id = %id, target, error = %Chain(&error), "change cannot be reported");
                break;
            }
            Err(error @ (NotAccepted::Full(_) | NotAccepted::Unavailable(_))) => {
                warn!(event.id = %id, target, error = %Chain(&error), "change not stored yet, trying again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(AGAIN_MAX),
            // Another monitor has the target, or will have it.
            () = stored.closed() => return,
            () = stop.cancelled() => return,
        }
    }
    metrics::counter!("selfheal_changes_total", "type" => kind.to_string(),
        "status" => if status == Status::Firing { "firing" } else { "resolved" })
    .increment(1);
    // The target may have gone to another monitor meanwhile.
    if stored.send(()).is_err() {
        tracing::debug!(event.id = %id, "this report is no longer awaited");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_the_newest_lines_are_evidence() {
        let lines: Vec<String> = (0..20).map(|n| format!("{n}{}", "x".repeat(1000))).collect();
        let kept = bounded(&lines);
        assert_eq!(kept.len(), 4);
        assert!(kept[3].starts_with("19"));
        assert_eq!(bounded(&["a".to_owned()]), ["a"]);
    }
}
