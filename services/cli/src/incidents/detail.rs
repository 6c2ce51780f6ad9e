//! One incident, whole: what is wrong, why, what was done, and every decision.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use domain::view::{IncidentDetail, IncidentView, PlanView};

use super::tone;
use crate::terminal::{Tone, ago, plain, span, table, toned};

/// Returns the incident as people read it.
pub(super) fn text(detail: &IncidentDetail, now: DateTime<Utc>) -> String {
    let view = &detail.view;
    let title = match &view.target {
        Some(target) => format!("{} on {target}", view.kind),
        None => view.kind.clone(),
    };
    let mut text = format!("{}\n{}\n", toned(Tone::Strong, &title), table_of(&facts(detail, now)));
    if let Some(plan) = &view.plan {
        section(&mut text, "Plan", &plan_text(plan, now));
    }
    section(&mut text, "Causes", &causes(detail));
    section(&mut text, "Evidence", &evidence(detail));
    section(&mut text, "Fixes", &fixes(detail, now));
    section(&mut text, "Decisions", &timeline(detail));
    text.trim_end().to_owned()
}

fn facts(detail: &IncidentDetail, now: DateTime<Utc>) -> Vec<(&'static str, String)> {
    let view = &detail.view;
    let mut facts = vec![
        ("id", view.id.to_string()),
        ("status", toned(tone(view.status), view.status.as_str())),
        ("severity", format!("{:?}", view.severity).to_lowercase()),
        (
            "opened",
            format!(
                "{}, {}, by {}",
                time(view.opened_at),
                ago(view.opened_at, now),
                plain(&view.source)
            ),
        ),
    ];
    let mut optional = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    optional("ended", over(view));
    optional("events", (1 < view.count).then(|| view.count.to_string()));
    optional("analysis", view.analysis.as_deref().map(plain));
    optional("resolution", view.resolution.as_deref().map(plain));
    optional("waiting", view.waiting.as_deref().map(plain));
    optional("deadline", view.deadline.filter(|_| !view.status.is_over()).map(|at| ago(at, now)));
    optional("acknowledged", view.acknowledged_by.as_deref().map(|by| format!("by {}", plain(by))));
    optional("notified by", view.notified_by.map(|id| id.to_string()));
    optional("symptom of", view.symptom_of.map(|id| id.to_string()));
    optional("previous", view.previous.map(|id| format!("{id} (same fingerprint)")));
    let symptoms: Vec<_> = detail.symptoms.iter().map(ToString::to_string).collect();
    optional("symptoms", (!symptoms.is_empty()).then(|| symptoms.join(", ")));
    facts
}

fn over(view: &IncidentView) -> Option<String> {
    let closed = view.closed_at?;
    let took = (closed - view.opened_at).num_milliseconds();
    let took = if took < 10_000 { format!("{took} ms") } else { span(took / 1_000) };
    Some(format!("{}, after {took}", time(closed)))
}

fn plan_text(plan: &PlanView, now: DateTime<Utc>) -> String {
    let mut text = format!("{}\nhash {}\n", plain(&plan.summary), plain(&plan.hash));
    if let Some(at) = plan.expires_at {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "approval expires {}", ago(at, now));
    }
    let _infallible = writeln!(text, "{}", plain(&domain::plan::render(&plan.plan)));
    text
}

fn causes(detail: &IncidentDetail) -> String {
    let mut text = String::new();
    for it in &detail.hypotheses {
        let percent = format!("{}%", it.confidence_percent);
        let _infallible =
            writeln!(text, "{percent:>4} {}: {}", plain(&it.cause), plain(&it.summary));
        for because in &it.because {
            let _infallible = writeln!(text, "     because {}", plain(because));
        }
        if let Some(target) = &it.elsewhere {
            let _infallible = writeln!(text, "     the cause is {}", plain(target));
        }
    }
    text
}

fn evidence(detail: &IncidentDetail) -> String {
    let rows = detail.evidence.iter().map(|it| {
        vec![plain(&it.source), plain(it.target.as_deref().unwrap_or("-")), plain(&it.summary)]
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() { String::new() } else { table(&["FROM", "TARGET", "SEEN"], rows) }
}

fn fixes(detail: &IncidentDetail, now: DateTime<Utc>) -> String {
    let rows = detail.attempts.iter().map(|it| {
        let outcome = match &it.failure {
            Some(why) => plain(why),
            None => "no failure recorded".to_owned(),
        };
        let outcome = if it.bring_up { format!("bring-up: {outcome}") } else { outcome };
        vec![it.attempt.to_string(), plain(&it.runbook), ago(it.started_at, now), outcome]
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        String::new()
    } else {
        table(&["NO", "RUNBOOK", "STARTED", "OUTCOME"], rows)
    }
}

fn timeline(detail: &IncidentDetail) -> String {
    let rows = detail.timeline.iter().map(|it| {
        vec![
            it.at.format("%H:%M:%S%.3fZ").to_string(),
            toned(tone(it.status), it.status.as_str()),
            plain(&it.decision),
            plain(&it.reason),
        ]
    });
    table(&["AT", "STATUS", "DECISION", "REASON"], rows.collect())
}

fn section(text: &mut String, title: &str, body: &str) {
    if body.is_empty() {
        return;
    }
    let _infallible = writeln!(text, "\n{}", toned(Tone::Strong, title));
    for line in body.trim_end().lines() {
        let _infallible = writeln!(text, "  {line}");
    }
}

fn table_of(facts: &[(&'static str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = facts.iter().map(|(name, value)| {
        let pad = " ".repeat(width - name.len());
        // A value of several lines stays in its column: none of them is another fact.
        let value = value.replace('\n', &format!("\n  {}  ", " ".repeat(width)));
        format!("  {}{pad}  {value}", toned(Tone::Faint, name))
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::sample;

    #[test]
    fn everything_that_is_known_is_shown() {
        let detail = sample::detail();
        let shown = plain(&text(&detail, detail.view.opened_at + chrono::TimeDelta::hours(1)));
        for words in [
            "service_down on database",
            "after 5000 ms",
            "95% process_exited: its process is gone",
            "because pid 4711 was killed by signal 9",
            "restart-process",
            "nothing like it is open",
            "03:04:05.250Z",
        ] {
            assert!(shown.contains(words), "{words} is not in\n{shown}");
        }
        assert!(!shown.contains('\u{1b}'), "a target's log reached the terminal raw");
    }

    #[test]
    fn what_is_unknown_takes_no_room() {
        let mut detail = sample::detail();
        detail.hypotheses.clear();
        detail.evidence.clear();
        detail.attempts.clear();
        let shown = text(&detail, Utc::now());
        for title in ["Causes", "Evidence", "Fixes", "Plan"] {
            assert!(!shown.contains(title), "{shown}");
        }
    }
}
