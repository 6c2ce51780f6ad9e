//! What becomes of what was reported: the incidents, as the supervisors tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bus::Bus;
use bytes::Bytes;
use domain::view::{Filter, Page, Query, Status};
use serde::Deserialize;
use service::Chain;
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tracing::{debug, warn};

use crate::report::SOURCE;

/// How long a supervisor may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to wait before asking again when nobody has answered; doubles up to
/// [`AGAIN_MAX`].
const AGAIN_MIN: Duration = Duration::from_millis(250);

/// The longest of these waits.
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// Pages of open incidents that are read at most.
const N_PAGES_MAX: usize = 40;

/// An incident that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// The target.
    pub target: String,
    /// Type of the event that had opened it.
    pub kind: String,
}

/// Reads a line of the log; `None` when it does not tell the end of an incident of a target.
#[must_use]
pub fn over(line: &[u8]) -> Option<Over> {
    #[derive(Deserialize)]
    struct Line {
        incident_type: String,
        target: Option<String>,
        status: Option<Status>,
    }
    let line: Line = serde_json::from_slice(line).ok()?;
    let is_over = line.status.is_some_and(Status::is_over);
    let target = line.target.filter(|_| is_over)?;
    Some(Over { target, kind: line.incident_type })
}

/// Which incidents are open, by target.
#[derive(Clone, Debug)]
pub struct Open {
    /// When somebody asked.
    pub asked_at: Instant,
    /// Types of those that a monitor has opened.
    pub by_monitors: BTreeMap<String, BTreeSet<String>>,
    /// Types of all.
    pub all: BTreeMap<String, BTreeSet<String>>,
}

/// Asks the supervisors for the open incidents whenever `wanted`, until one has answered.
pub async fn ask(bus: Bus, wanted: Arc<Notify>, answers: mpsc::Sender<Open>) {
    loop {
        wanted.notified().await;
        let mut wait = AGAIN_MIN;
        let mut is_told = false;
        let open = loop {
            match open(&bus).await {
                Ok(open) => break open,
                Err(error) if wait == AGAIN_MAX && !is_told => {
                    warn!(error = %Chain(&error), "no supervisor reports open incidents, still asking");
                    is_told = true;
                }
                Err(error) => debug!(error = %Chain(&error), "open incidents are not known yet"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
        };
        if answers.send(open).await.is_err() {
            return;
        }
    }
}

async fn open(bus: &Bus) -> Result<Open, bus::Error> {
    let mut open =
        Open { asked_at: Instant::now(), by_monitors: BTreeMap::new(), all: BTreeMap::new() };
    let mut after = None;
    for _ in 0..N_PAGES_MAX {
        let filter =
            Filter { open: true, after, limit: Some(Filter::LIMIT_MAX), ..Filter::default() };
        let page = page(bus, Query::Incidents(filter)).await?;
        for incident in page.incidents {
            let Some(target) = incident.target else { continue };
            if incident.source == SOURCE {
                let by_monitors = open.by_monitors.entry(target.clone()).or_default();
                by_monitors.insert(incident.kind.clone());
            }
            open.all.entry(target).or_default().insert(incident.kind);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(open)
}

async fn page(bus: &Bus, query: Query) -> Result<Page, bus::Error> {
    let unreadable = |source: serde_json::Error| bus::Error::Unreadable {
        what: "the list of open incidents",
        source: source.into(),
    };
    let question = serde_json::to_vec(&query).map(Bytes::from).map_err(unreadable)?;
    let subject = bus.subjects().query(query.subject());
    let answer = bus.request(subject, question, ANSWER_TIMEOUT).await?;
    serde_json::from_slice(&answer).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_an_incident_of_a_target_is_news() {
        let line = |status: &str, target: &str| {
            format!(
                r#"{{"incident_id":"x","incident_type":"service_down","status":{status},"target":{target},"detail":{{"a":1}}}}"#
            )
        };
        let over_database =
            Some(Over { target: "database".to_owned(), kind: "service_down".to_owned() });
        for (status, target, wanted) in [
            (r#""resolved""#, r#""database""#, over_database.clone()),
            (r#""self_resolved""#, r#""database""#, over_database.clone()),
            (r#""closed""#, r#""database""#, over_database),
            (r#""fixing""#, r#""database""#, None),
            (r#""escalated""#, r#""database""#, None),
            ("null", r#""database""#, None),
            (r#""resolved""#, "null", None),
        ] {
            assert_eq!(over(line(status, target).as_bytes()), wanted, "{status} {target}");
        }
        assert_eq!(over(b"progress: half done"), None);
    }
}
