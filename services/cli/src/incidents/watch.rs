//! Every decision and progress line, as it comes.

use domain::{id::IncidentId, view::LogLine};
use serde_json::Value;

use super::{short, tone};
use crate::{
    connection::{System, of_bus},
    exit::{Exit, Failure},
    terminal::{Tone, plain, toned},
};

/// Follows until interrupted.
pub(super) async fn run(system: &System, incident: Option<&str>) -> Result<(), Failure> {
    let subjects = system.bus.subjects();
    let subject = match incident {
        Some(text) => subjects.live(&system.find(text).await?),
        None => subjects.live_all(),
    };
    let mut live = system
        .bus
        .subscribe(subject, None)
        .await
        .map_err(|error| of_bus("cannot follow the incidents", error))?;
    if !system.terminal.is_json() {
        system.terminal.remark(&toned(Tone::Faint, "following; Ctrl-C ends it"));
    }
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            _ = &mut interrupted => return Ok(()),
            message = live.next() => {
                let Some(message) = message else {
                    return Err(Failure::new(Exit::Unavailable, "the broker is gone"));
                };
                if let Some(line) = line(&message.subject, &message.payload, system.terminal.is_json()) {
                    system.terminal.print(&line)?;
                }
            }
        }
    }
}

/// Returns what is printed for one message; `None` if it says nothing.
fn line(subject: &str, payload: &[u8], json: bool) -> Option<String> {
    let value: Value = serde_json::from_slice(payload).ok()?;
    if json {
        return Some(value.to_string());
    }
    let incident = subject.rsplit('.').next().unwrap_or_default();
    match serde_json::from_value::<LogLine>(value.clone()) {
        Ok(decision) => Some(decision_text(&decision)),
        Err(_not_a_decision) => progress_text(incident, &value),
    }
}

fn decision_text(line: &LogLine) -> String {
    let status = match line.status {
        Some(status) => toned(tone(status), format!("{:<17}", status.as_str())),
        None => format!("{:<17}", "-"),
    };
    let id =
        if line.incident_id == IncidentId::NONE { "-".to_owned() } else { short(line.incident_id) };
    format!(
        "{} {id:<12} {status} {:<18} {} {}",
        toned(Tone::Faint, line.timestamp.format("%H:%M:%S%.3fZ")),
        plain(&line.decision),
        toned(Tone::Strong, line.target.as_deref().unwrap_or("-")),
        plain(&line.reason),
    )
}

/// Shows a progress line.
fn progress_text(incident: &str, value: &Value) -> Option<String> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let message = text("progress")?;
    let id = incident.parse().map_or_else(|_not_an_id| plain(incident), short);
    let by = text("by").map(|by| format!(" ({by})")).unwrap_or_default();
    let at = text("at").and_then(|at| chrono::DateTime::parse_from_rfc3339(at).ok());
    let at = at.map(|at| at.to_utc().format("%H:%M:%S%.3fZ").to_string()).unwrap_or_default();
    Some(toned(Tone::Faint, format!("{at:<13} {id:<12} {:<17} {message}{by}", "  …")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SUBJECT: &str = "selfheal.live.01990000-0000-7000-8000-0000000000ab";

    #[test]
    fn a_decision_becomes_one_line() {
        let decision = json!({
            "incident_id": "01990000-0000-7000-8000-0000000000ab", "timestamp": "2026-01-02T03:04:05.678Z",
            "incident_type": "service_down", "analysis": null, "resolution": null, "seq": 7,
            "status": "fixing", "decision": "fix_started", "cause": {"seq": 3, "idx": 0},
            "reason": "all guards allow it", "target": "database", "entry": 5, "covers": {"seq": 3, "idx": 0},
            "detail": {"seq": 7, "at": "2026-01-02T03:04:05.678Z", "cause": {"seq": 3, "idx": 0},
                "fact": {"kind": "released"}, "reason": "all guards allow it"},
        });
        let shown = plain(&line(SUBJECT, decision.to_string().as_bytes(), false).unwrap());
        assert_eq!(
            shown,
            "03:04:05.678Z 0000000000ab fixing            fix_started        database all guards allow it"
        );
        let json = line(SUBJECT, decision.to_string().as_bytes(), true).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), decision);
    }

    #[test]
    fn progress_is_shown_and_what_says_nothing_is_not() {
        let progress = json!({"progress": "stopping", "by": "fixer-1"}).to_string();
        let shown = plain(&line(SUBJECT, progress.as_bytes(), false).unwrap());
        assert!(shown.contains("0000000000ab") && shown.ends_with("stopping (fixer-1)"), "{shown}");
        assert_eq!(line(SUBJECT, b"{}", false), None);
        assert_eq!(line(SUBJECT, b"no json", true), None);
    }
}
