//! Progress lines, for those who watch an incident live.

use bytes::Bytes;
use chrono::{SecondsFormat, Utc};
use domain::id::IncidentId;
use serde::Serialize;
use tokio::sync::mpsc;

/// Most lines that wait to be sent. Nothing depends on them, so more are dropped
/// rather than waited for.
const WAITING_MAX: usize = 256;

/// One line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    incident_id: IncidentId,
    progress: &'a str,
    attempt: u32,
    by: &'a str,
    at: String,
}

/// Takes progress lines without making the work wait.
#[derive(Clone, Debug)]
pub struct Progress {
    by: String,
    lines: mpsc::Sender<(IncidentId, Bytes)>,
}

impl Progress {
    /// Returns where lines go in, and where they come out.
    #[must_use]
    pub fn new(by: String) -> (Self, mpsc::Receiver<(IncidentId, Bytes)>) {
        let (lines, out) = mpsc::channel(WAITING_MAX);
        (Self { by, lines }, out)
    }

    /// Tells how far an attempt is.
    pub(crate) fn tell(&self, incident: IncidentId, attempt: u32, progress: &str) {
        let at = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        let line = Line { incident_id: incident, progress, attempt, by: &self.by, at };
        // Plain fields cannot fail to serialise.
        let Ok(line) = serde_json::to_vec(&line) else { return };
        if let Err(error) = self.lines.try_send((incident, line.into())) {
            tracing::debug!(incident.id = %incident, %error, "a progress line was dropped");
        }
    }
}
