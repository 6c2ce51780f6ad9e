//! `status`: agents, leader, queues and broker at a glance.

use std::collections::BTreeMap;

use bus::{inspect::Which, topology::StreamId};
use chrono::{DateTime, Utc};
use domain::{
    view::{HeldConfig, Query, SystemView},
    wire::{Member, WorkKind},
};
use serde::Serialize;

use crate::{
    connection::System,
    exit::Failure,
    terminal::{Tone, ago, plain, table, toned},
};

/// Everything that is known.
#[derive(Debug, Serialize)]
struct Status {
    broker: Broker,
    /// The living agents.
    agents: Vec<Member>,
    /// Work that nobody has done yet, by kind and zone.
    queues: BTreeMap<String, u64>,
    /// Messages and bytes in the streams.
    streams: BTreeMap<String, Stream>,
    /// What a supervisor says; null when none answers.
    system: Option<SystemView>,
}

#[derive(Debug, Serialize)]
struct Broker {
    name: String,
    version: String,
}

/// How full a stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Stream {
    messages: u64,
    bytes: u64,
}

/// Streams that tell how much there is to do.
const SHOWN: [StreamId; 7] = [
    StreamId::Inbox,
    StreamId::Ledger,
    StreamId::Work(WorkKind::Diagnose),
    StreamId::Work(WorkKind::Fix),
    StreamId::Work(WorkKind::Verify),
    StreamId::Work(WorkKind::Notify),
    StreamId::Rejected,
];

/// Prints what is known.
///
/// # Errors
///
/// When no supervisor answers; what else is known is printed before.
pub(crate) async fn run(system: &System) -> Result<(), Failure> {
    let (answer, agents) = tokio::join!(system.query::<SystemView>(&Query::Status), agents(system));
    let (view, failure) = match answer {
        Ok(view) => (Some(view), None),
        Err(failure) => (None, Some(failure)),
    };
    let (name, version) = system.bus.server();
    let mut status = Status {
        broker: Broker { name, version },
        agents,
        queues: BTreeMap::new(),
        streams: BTreeMap::new(),
        system: view,
    };
    status.look_into(system).await;
    if system.terminal.is_json() {
        system.terminal.print_json(&status, true)?;
    } else {
        system.terminal.print(&text(&status, Utc::now()))?;
    }
    failure.map_or(Ok(()), Err)
}

/// How long to wait for the list of the living.
const AGENTS_WAIT: std::time::Duration = std::time::Duration::from_secs(1);

async fn agents(system: &System) -> Vec<Member> {
    let mut living = system.bus.members().watch();
    let somebody = living.wait_for(|living| !living.is_empty());
    match tokio::time::timeout(AGENTS_WAIT, somebody).await {
        Ok(Ok(living)) => living.values().cloned().collect(),
        // Nobody, or nobody who says so.
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

impl Status {
    /// Adds the streams; one that the broker does not tell about stays out.
    async fn look_into(&mut self, system: &System) {
        let inspect = system.bus.inspect(system.timeout, system.timeout);
        let mut work = BTreeMap::new();
        for (which, name, look) in inspect.streams().await {
            let (Which::Stream(id), Ok(look)) = (which, look) else { continue };
            if SHOWN.contains(&id) {
                let stream = Stream { messages: look.state.messages, bytes: look.state.bytes };
                self.streams.insert(name, stream);
            }
            if matches!(id, StreamId::Work(_)) {
                work.extend(look.subjects);
            }
        }
        self.queues = queues(&system.bus.subjects().full("work."), &work);
    }
}

/// Returns how much of each kind of work waits; every kind is named.
fn queues(prefix: &str, subjects: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut queues: BTreeMap<_, _> =
        WorkKind::ALL.iter().map(|kind| (kind.as_str().to_owned(), 0)).collect();
    for (subject, n) in subjects {
        let Some((kind, zone)) = subject.strip_prefix(prefix).and_then(|it| it.split_once('.'))
        else {
            continue;
        };
        *queues.entry(kind.to_owned()).or_default() += n;
        if zone != domain::target::ZONE_DEFAULT {
            queues.insert(format!("{kind} in {zone}"), *n);
        }
    }
    queues
}

fn text(status: &Status, now: DateTime<Utc>) -> String {
    let mut lines = vec![match &status.system {
        Some(view) => summary(view, now),
        None => {
            toned(Tone::Bad, "no supervisor answers: events are stored, but nothing is decided")
        }
    }];
    let broker = &status.broker;
    if let Some(held) = status.system.as_ref().and_then(|it| it.config_held.as_ref()) {
        lines.push(config_held(held, now));
    }
    lines.push(format!("broker nats-server {} ({})", plain(&broker.version), plain(&broker.name)));
    if let Some(view) = &status.system {
        lines.push(String::new());
        lines.push(numbers(view));
    }
    let mut waiting: Vec<String> =
        status.queues.iter().map(|(queue, n)| format!("{} {n}", plain(queue))).collect();
    if waiting.is_empty() {
        waiting.push("unknown".to_owned());
    }
    lines.push(format!("waiting work: {}", waiting.join(", ")));
    let streams = status
        .streams
        .iter()
        .map(|(name, stream)| vec![plain(name), stream.messages.to_string(), size(stream.bytes)]);
    let streams: Vec<_> = streams.collect();
    if !streams.is_empty() {
        lines.push(String::new());
        lines.push(table(&["STREAM", "MESSAGES", "SIZE"], streams));
    }
    lines.push(String::new());
    lines.push(agents_table(status, now));
    lines.join("\n")
}

fn summary(view: &SystemView, now: DateTime<Utc>) -> String {
    let Some(leader) = &view.leader else {
        return toned(Tone::Bad, "no supervisor leads: one takes over within seconds");
    };
    if let Some(why) = &view.paused {
        return toned(
            Tone::Notice,
            format!("paused: {why}; no new fix begins before `selfheal resume`"),
        );
    }
    if let Some(until) = view.breaker_until.filter(|until| now < *until) {
        let words = format!("the breaker is tripped: no new fix begins for {}", ago(until, now));
        return toned(Tone::Notice, words.replace("for in", "for"));
    }
    format!("{}, led by {}", toned(Tone::Good, "ok"), plain(leader))
}

/// Says that a configuration file waits for a person, and how to confirm it.
fn config_held(held: &HeldConfig, now: DateTime<Utc>) -> String {
    let by = plain(&held.by);
    let mut lines = vec![toned(
        Tone::Notice,
        format!("configuration held since {}: the {by} is not in force", ago(held.since, now)),
    )];
    lines.extend(held.differences.iter().map(|it| format!("  {}", plain(it))));
    lines.push("  confirm it with `selfheal apply FILE`, or change the file back".to_owned());
    lines.join("\n")
}

fn numbers(view: &SystemView) -> String {
    let count = |n: u64, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    let n_targets = u64::try_from(view.n_targets).unwrap_or(u64::MAX);
    let mut parts = vec![count(n_targets, "target")];
    let incidents: Vec<String> =
        view.incidents.iter().map(|(status, n)| format!("{n} {}", plain(status))).collect();
    let incidents = if incidents.is_empty() { "none".to_owned() } else { incidents.join(", ") };
    parts.push(format!("incidents: {incidents}"));
    parts.push(count(view.n_decisions, "decision"));
    for (n, what) in [
        (view.inbox_lag, "inputs wait for a decision"),
        (view.log_lag, "decisions wait for the log's disk"),
        (view.n_rejected, "inputs were not understood"),
    ] {
        if 0 < n {
            parts.push(toned(Tone::Notice, format!("{n} {what}")));
        }
    }
    parts.join("; ")
}

fn agents_table(status: &Status, now: DateTime<Utc>) -> String {
    if status.agents.is_empty() {
        return toned(Tone::Bad, "no agent gives a sign of life");
    }
    let leader = status.system.as_ref().and_then(|view| view.leader.as_deref());
    let rows = status.agents.iter().map(|agent| {
        let mark = if leader == Some(agent.id.as_str()) { "leads" } else { "" };
        vec![
            plain(&agent.id),
            mark.to_owned(),
            plain(&agent.zones.join(",")),
            plain(&agent.host),
            agent.pid.to_string(),
            ago(agent.started_at, now),
            plain(&agent.version),
        ]
    });
    table(&["AGENT", "", "ZONES", "HOST", "PID", "STARTED", "VERSION"], rows.collect())
}

fn size(bytes: u64) -> String {
    match bytes {
        ..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KiB", bytes / 1_024),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes / 1_048_576),
        _ => format!("{} GiB", bytes / 1_073_741_824),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(id: &str) -> Member {
        Member {
            id: id.to_owned(),
            kind: "supervisor".to_owned(),
            zones: vec!["default".to_owned()],
            version: "0.1.0".to_owned(),
            host: "here".to_owned(),
            pid: 7,
            started_at: DateTime::UNIX_EPOCH,
            pulse: None,
        }
    }

    fn status(system: Option<SystemView>) -> Status {
        Status {
            broker: Broker { name: "n".to_owned(), version: "2.15.1".to_owned() },
            agents: vec![agent("supervisor-1"), agent("supervisor-2")],
            queues: queues("selfheal.work.", &BTreeMap::new()),
            streams: BTreeMap::from([(
                "SELFHEAL_INBOX".to_owned(),
                Stream { messages: 3, bytes: 2_048 },
            )]),
            system,
        }
    }

    fn led() -> SystemView {
        SystemView { leader: Some("supervisor-2".to_owned()), ..SystemView::default() }
    }

    fn shown(status: &Status) -> String {
        plain(&text(status, DateTime::UNIX_EPOCH + chrono::TimeDelta::minutes(2)))
    }

    #[test]
    fn the_leader_is_marked_and_everything_is_named() {
        let shown = shown(&status(Some(led())));
        assert!(shown.starts_with("ok, led by supervisor-2"), "{shown}");
        let marked: Vec<_> = shown.lines().filter(|line| line.contains("leads")).collect();
        assert_eq!(marked.len(), 1);
        assert!(marked[0].starts_with("supervisor-2"), "{shown}");
        for words in ["2 KiB", "2m ago", "diagnose 0", "nats-server 2.15.1"] {
            assert!(shown.contains(words), "{words} is not in\n{shown}");
        }
    }

    #[test]
    fn trouble_comes_first() {
        let paused = SystemView { paused: Some("storm".to_owned()), ..led() };
        assert!(shown(&status(Some(paused))).starts_with("paused: storm"));
        let until = Some(DateTime::UNIX_EPOCH + chrono::TimeDelta::minutes(5));
        let tripped = SystemView { breaker_until: until, ..led() };
        assert!(
            shown(&status(Some(tripped)))
                .starts_with("the breaker is tripped: no new fix begins for 3m")
        );
        assert!(shown(&status(None)).starts_with("no supervisor answers"));
        assert!(shown(&status(Some(SystemView::default()))).starts_with("no supervisor leads"));
    }

    #[test]
    fn a_held_configuration_is_shown_with_what_must_be_confirmed() {
        let held = HeldConfig {
            sha256: "0".repeat(64),
            by: "file of supervisor-1".to_owned(),
            since: DateTime::UNIX_EPOCH,
            differences: vec!["policy.autonomy: observe -> auto".to_owned()],
        };
        let shown = shown(&status(Some(SystemView { config_held: Some(held), ..led() })));
        for words in ["configuration held since 2m ago", "observe -> auto", "selfheal apply"] {
            assert!(shown.contains(words), "{words} is not in\n{shown}");
        }
    }

    #[test]
    fn waiting_work_is_counted_by_kind_and_zone() {
        let subjects = BTreeMap::from([
            ("selfheal.work.fix.default".to_owned(), 2),
            ("selfheal.work.fix.west".to_owned(), 3),
        ]);
        let queues = queues("selfheal.work.", &subjects);
        assert_eq!(queues["fix"], 5);
        assert_eq!(queues["fix in west"], 3);
        assert_eq!(queues["verify"], 0);
    }
}
