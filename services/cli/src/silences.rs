//! `silences`: what is kept quiet, and for how long.

use chrono::{DateTime, Utc};
use domain::{
    matcher::Matchers,
    silence::{SilenceId, SilenceRequest, Window},
    view::{MutedView, Query, SilenceView, SilencesView},
    wire::Verb,
};

use crate::{
    args::silences::{Add, Silences},
    connection::System,
    exit::{Exit, Failure},
    terminal::{ago, plain, table},
};

/// Does it.
pub(crate) async fn run(system: &System, command: Silences) -> Result<(), Failure> {
    match command {
        Silences::Ls => list(system).await,
        Silences::Add(args) => add(system, args).await,
        Silences::End { id, by } => {
            system.command(&by.by, Verb::Unsilence { id: SilenceId(id) }).await
        }
    }
}

async fn add(system: &System, args: Add) -> Result<(), Failure> {
    let begin = args.from.unwrap_or_else(Utc::now);
    let until = args.until.or_else(|| args.lasts.map(|it| begin + it.to_delta()));
    let until = until.ok_or_else(|| {
        Failure::new(Exit::Usage, "a silence always ends").hint("give --for or --until")
    })?;
    let Add { matchers, from, comment, by, .. } = args;
    let request = SilenceRequest { matchers: Matchers(matchers), from, until, comment };
    system.command(&by.by, Verb::Silence { request }).await
}

async fn list(system: &System) -> Result<(), Failure> {
    let view: SilencesView = system.query(&Query::Silences).await?;
    if system.terminal.is_json() {
        return system.terminal.print_json(&serde_json::json!(view), true);
    }
    system.terminal.print(&text(&view, Utc::now()))
}

fn text(view: &SilencesView, now: DateTime<Utc>) -> String {
    let mut parts = Vec::new();
    if !view.silences.is_empty() {
        let rows = view.silences.iter().map(|it| silence(it, now)).collect();
        parts.push(table(&["SILENCE", "MATCHERS", "STATE", "UNTIL", "QUIET", "BY", "WHY"], rows));
    }
    if !view.windows.is_empty() {
        let rows = view.windows.iter().map(|it| window(it, now)).collect();
        parts.push(table(&["WINDOW", "MATCHERS", "STATE", "WHEN", "WHY"], rows));
    }
    if !view.suppressed.is_empty() {
        let rows = view.suppressed.iter().map(|it| muted(it, now)).collect();
        parts.push(table(&["SUPPRESSED", "TARGET", "SINCE", "UNTIL", "WHY"], rows));
        let n_more = view.n_suppressed.saturating_sub(view.suppressed.len());
        if 0 < n_more {
            parts.push(format!("{n_more} more are suppressed"));
        }
    }
    if parts.is_empty() {
        "no active silences or suppressed alerts".to_owned()
    } else {
        parts.join("\n\n")
    }
}

fn silence(it: &SilenceView, now: DateTime<Utc>) -> Vec<String> {
    let silence = &it.silence;
    let state = if silence.is_active(now) { "active" } else { "pending" };
    vec![
        plain(&silence.id.to_string()),
        plain(&silence.matchers.to_string()),
        state.to_owned(),
        silence.until.to_string(),
        it.n_suppressed.to_string(),
        plain(&silence.by),
        plain(&silence.comment),
    ]
}

fn window(it: &Window, now: DateTime<Utc>) -> Vec<String> {
    let state = match it.active_until(now) {
        Some(until) => format!("active until {until}"),
        None => "-".to_owned(),
    };
    let when = match (&it.cron, it.lasts, it.from, it.until) {
        (Some(cron), Some(lasts), _, _) => {
            format!("{cron} {} for {lasts}", it.time_zone)
        }
        (_, _, Some(from), Some(until)) => format!("{from} to {until}"),
        (_, _, _, _) => "-".to_owned(),
    };
    vec![plain(&it.name), plain(&it.matchers.to_string()), state, plain(&when), plain(&it.reason)]
}

fn muted(it: &MutedView, now: DateTime<Utc>) -> Vec<String> {
    vec![
        plain(&it.kind),
        plain(it.target.as_deref().unwrap_or("-")),
        ago(it.since, now),
        it.until.to_string(),
        plain(&it.reason),
    ]
}

#[cfg(test)]
mod tests {
    use domain::silence::{Cause, Silence};

    use super::*;

    #[test]
    fn silences_and_what_they_keep_quiet_are_shown() {
        assert_eq!(
            text(&SilencesView::default(), Utc::now()),
            "no active silences or suppressed alerts"
        );
        let now: DateTime<Utc> = "2026-03-01T00:00:00Z".parse().unwrap();
        let until = "2026-03-01T02:00:00Z".parse().unwrap();
        let id = SilenceId("0123456789abcdef".to_owned());
        let silence = Silence {
            id: id.clone(),
            matchers: Matchers(vec!["target=database".parse().unwrap()]),
            from: now,
            until,
            by: "ann".to_owned(),
            comment: "moving it".to_owned(),
        };
        let muted = MutedView {
            fingerprint: "a".to_owned(),
            kind: "service_down".to_owned(),
            source: "monitor".to_owned(),
            target: Some("database".to_owned()),
            by: Cause::Silence { id },
            since: now,
            until,
            reason: "silence of ann".to_owned(),
        };
        let view = SilencesView {
            silences: vec![SilenceView { silence, n_suppressed: 1 }],
            windows: Vec::new(),
            n_suppressed: 3,
            suppressed: vec![muted],
        };
        let shown = text(&view, now);
        for word in ["0123456789abcdef", "target=database", "active", "moving it", "2 more"] {
            assert!(shown.contains(word), "{word}: {shown}");
        }
    }
}
