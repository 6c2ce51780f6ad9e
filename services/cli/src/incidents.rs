//! `incidents`: the list, one of them, and all as they happen.

mod detail;
mod list;
mod watch;

use chrono::{DateTime, Utc};
use domain::{
    id::IncidentId,
    view::{Filter, IncidentDetail, Page, Query, Status},
};

use crate::{
    args::{Incidents, List},
    connection::System,
    exit::{Exit, Failure},
    terminal::Tone,
};

/// Runs `incidents`.
///
/// # Errors
///
/// When no supervisor answers, or there is no such incident.
pub(crate) async fn run(system: &System, command: Incidents) -> Result<(), Failure> {
    match command {
        Incidents::Ls(args) => ls(system, args).await,
        Incidents::Show { incident } => show(system, &incident).await,
        Incidents::Watch { incident } => watch::run(system, incident.as_deref()).await,
    }
}

async fn ls(system: &System, args: List) -> Result<(), Failure> {
    let now = Utc::now();
    let wanted = args.limit;
    let mut filter = filter(args, now)?;
    let mut all = Page::default();
    loop {
        filter.limit = Some((wanted - all.incidents.len()).min(Filter::LIMIT_MAX));
        let page: Page = system.query(&Query::Incidents(filter.clone())).await?;
        // A page without incidents would be asked for again and again.
        let is_last = page.next.is_none() || page.incidents.is_empty();
        filter.after = page.next;
        all.incidents.extend(page.incidents);
        (all.next, all.total) = (page.next, page.total);
        if is_last || wanted <= all.incidents.len() {
            break;
        }
    }
    if system.terminal.is_json() {
        return system.terminal.print_json(&all, true);
    }
    system.terminal.print(&list::text(&all, now))
}

fn filter(args: List, now: DateTime<Utc>) -> Result<Filter, Failure> {
    if args.limit == 0 {
        return Err(Failure::new(Exit::Usage, "--limit must be at least 1"));
    }
    let since = match args.since {
        None => None,
        Some(since) => {
            let since = chrono::TimeDelta::from_std(since).ok();
            let since = since.and_then(|since| now.checked_sub_signed(since));
            Some(since.ok_or_else(|| Failure::new(Exit::Usage, "--since lies too far back"))?)
        }
    };
    Ok(Filter {
        status: args.status,
        open: args.open,
        target: args.target,
        kind: args.kind,
        severity: args.severity,
        q: args.q,
        since,
        after: None,
        limit: None,
    })
}

async fn show(system: &System, incident: &str) -> Result<(), Failure> {
    let id = system.find(incident).await?;
    let detail: Option<IncidentDetail> = system.query(&Query::Incident { id }).await?;
    let Some(detail) = detail else {
        return Err(Failure::new(Exit::NotFound, format!("there is no incident {id}"))
            .hint("old ones are in the log of decisions alone"));
    };
    if system.terminal.is_json() {
        return system.terminal.print_json(&detail, true);
    }
    system.terminal.print(&detail::text(&detail, Utc::now()))
}

/// Returns the part of an id that tells it from others: the last, for the first is the time.
fn short(id: IncidentId) -> String {
    let id = id.to_string();
    id.rsplit('-').next().unwrap_or(&id).to_owned()
}

fn tone(status: Status) -> Tone {
    match status {
        Status::Open
        | Status::Diagnosing
        | Status::Proposed
        | Status::Fixing
        | Status::Verifying => Tone::Notice,
        Status::AwaitingApproval | Status::Escalated => Tone::Bad,
        Status::Resolved | Status::SelfResolved => Tone::Good,
        Status::Merged | Status::Suppressed | Status::Closed => Tone::Faint,
    }
}

/// Returns text on one line, cut to a length.
fn cut(text: &str, chars_max: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= chars_max {
        return line;
    }
    let mut short: String = line.chars().take(chars_max.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
pub(crate) mod sample {
    use domain::view::{IncidentDetail, IncidentView};
    use serde_json::json;

    /// An incident in a list, as a supervisor answers.
    pub(crate) fn view() -> IncidentView {
        serde_json::from_value(view_json()).unwrap()
    }

    fn view_json() -> serde_json::Value {
        json!({
            "id": "01990000-0000-7000-8000-0000000000ab", "status": "resolved", "type": "service_down",
            "severity": "error", "target": "database", "zone": "default", "source": "monitor",
            "fingerprint": "service_down@database", "opened_at": "2026-01-02T03:04:00Z",
            "updated_at": "2026-01-02T03:04:05Z", "closed_at": "2026-01-02T03:04:05Z", "count": 2,
            "attempt": 1, "analysis": "its process was killed by signal 9",
            "resolution": "restarted, and healthy for 2 s",
        })
    }

    /// The same, whole.
    pub(crate) fn detail() -> IncidentDetail {
        let mut value = view_json();
        let rest = json!({
            "timeline": [
                {"seq": 1, "at": "2026-01-02T03:04:00Z", "decision": "opened", "status": "open", "reason": "nothing like it is open"},
                {"seq": 2, "at": "2026-01-02T03:04:05.250Z", "decision": "resolved", "status": "resolved", "reason": "verified"},
            ],
            "event": {"id": "e1", "type": "service_down", "source": "monitor"},
            "hypotheses": [{"cause": "process_exited", "confidence_percent": 95, "summary": "its process is gone", "because": ["pid 4711 was killed by signal 9"]}],
            "evidence": [{"source": "log", "target": "database", "summary": "last line: \u{1b}[31mbye"}],
            "attempts": [{"attempt": 1, "runbook": "restart-process", "started_at": "2026-01-02T03:04:01Z", "failure": null}],
            "symptoms": [],
        });
        for (key, field) in rest.as_object().unwrap() {
            value[key] = field.clone();
        }
        serde_json::from_value(value).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_where_they_fill_a_line() {
        assert_eq!(cut("a\n  b", 10), "a b");
        assert_eq!(cut("abcdef", 4), "abc…");
    }

    #[test]
    fn a_short_id_is_the_part_that_differs() {
        assert_eq!(short(sample::view().id), "0000000000ab");
    }

    #[test]
    fn since_counts_back_from_now() {
        let now = DateTime::<Utc>::from_timestamp(7_200, 0).unwrap();
        let args = List {
            since: Some(std::time::Duration::from_secs(3_600)),
            limit: 1,
            ..List::default()
        };
        assert_eq!(filter(args, now).unwrap().since, DateTime::from_timestamp(3_600, 0));
        assert_eq!(filter(List::default(), now).unwrap_err().exit(), Exit::Usage);
    }
}
