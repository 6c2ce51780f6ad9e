//! How many incidents may be open at once. Senders choose what makes two events the same
//! incident, so without a limit one of them could fill the memory of every supervisor.
//!
//! Beyond the limit a new event joins one incident, `event_flood`: people are called once, and
//! every event that joined has its answer and its line in the log.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde_json::json;

use super::{Desk, Turn, events::MONITOR, reopen::SUPERVISOR};
use crate::{
    event::{EVENT_FLOOD, Event, EventType, Severity},
    fact::{Escalation, Fact},
    id::{IncidentId, digest},
    incident::Incident,
    wire::AnswerStatus,
};

/// Units that the open incidents of one origin may take, or of one source where no origin is known: an alert for each target of the largest
/// configuration that is tested, 10,000.
const SOURCE_MAX: usize = 10_000;
/// Units of all sources outside together. A state of this size takes a few hundred MiB of a
/// supervisor's memory, and its snapshot a third of the snapshot bucket.
const TOTAL_MAX: usize = 100_000;
/// Units of each of our own agents: what they report is limited by the configuration, up to five
/// kinds of incidents on 10,000 targets. Apart from the total, so that no sender can stop the
/// healing of configured targets.
const AGENT_MAX: usize = 50_000;
/// An incident takes one unit, and one more for each of these of its event: a large event takes
/// the memory of many small ones.
const UNIT_BYTES: usize = 2 * 1024;
/// Size of the last example that the incident of a flood shows, and of each line in the log.
const EXAMPLE_BYTES: usize = 1024;
/// A flood is over when no event joined it for so long: twice Alertmanager's default
/// `group_interval`.
const SILENT_FOR: TimeDelta = TimeDelta::minutes(10);
/// It is also over when its source needs less than this part of its limit; not at the limit
/// itself, or each end of an incident would end the flood and the next event begin another.
const ENDS_BELOW: usize = 2;

/// The analyzer, which reports what it found to be the cause of something else.
pub(super) const ANALYZER: &str = "selfheal/analyzer";
const AGENTS: [&str; 3] = [MONITOR, SUPERVISOR, ANALYZER];

/// Units that open incidents take.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct OpenUnits {
    by_source: BTreeMap<u128, usize>,
    /// Without those of our own agents.
    total: usize,
}

/// A limit that is reached.
struct Full {
    /// The fingerprint of the flood.
    fingerprint: String,
    /// Whose incidents are so many.
    whose: String,
    max: usize,
}

/// Returns the units that an incident takes while it is open.
pub(super) fn units(incident: &Incident) -> usize {
    if incident.is_over() { 0 } else { 1 + incident.event.bytes() / UNIT_BYTES }
}

impl OpenUnits {
    /// Notes that an incident takes another number of units.
    pub(super) fn change(&mut self, source: &str, from: usize, to: usize) {
        if from == to {
            return;
        }
        let key = digest(&[source]);
        let of_source = self.by_source.entry(key).or_default();
        *of_source = of_source.saturating_sub(from) + to;
        if *of_source == 0 {
            self.by_source.remove(&key);
        }
        if !AGENTS.contains(&source) {
            self.total = self.total.saturating_sub(from) + to;
        }
    }

    fn of(&self, source: &str) -> usize {
        self.by_source.get(&digest(&[source])).copied().unwrap_or_default()
    }

    fn full(&self, source: &str) -> Option<Full> {
        let max = source_max(source);
        if max <= self.of(source) {
            let (fingerprint, whose) = (of_source(source), format!("of {source}"));
            return Some(Full { fingerprint, whose, max });
        }
        let counts = !AGENTS.contains(&source);
        (counts && TOTAL_MAX <= self.total).then(|| Full {
            fingerprint: of_all(),
            whose: "of all sources".to_owned(),
            max: TOTAL_MAX,
        })
    }
}

fn source_max(source: &str) -> usize {
    if AGENTS.contains(&source) { AGENT_MAX } else { SOURCE_MAX }
}

fn of_source(source: &str) -> String {
    format!("{source}#{EVENT_FLOOD}")
}

fn of_all() -> String {
    format!("#{EVENT_FLOOD}")
}

impl Desk {
    /// Returns whether an event that would open an incident joined a flood instead.
    pub(super) fn join_flood(
        &mut self,
        turn: &mut Turn,
        event: &Event,
        target: Option<&str>,
    ) -> bool {
        let Some(full) = self.incidents.units().full(event.whose()) else { return false };
        let flood = flood_event(turn, event, &full);
        let of =
            target.or(event.target.as_deref()).map_or_else(String::new, |it| format!(" of {it}"));
        let what = format!("{} reports {}{of}", event.source, event.kind);
        let open = self.incidents.of_fingerprint(&full.fingerprint);
        let (id, status) = match open {
            Some(id) => {
                let why = format!("{what}; it joins this incident");
                let fact =
                    Fact::Repeated { deliveries: vec![event.delivery()], event: Box::new(flood) };
                self.record(turn, Some(id), fact, why);
                (id, AnswerStatus::IncidentUpdated)
            }
            None => (self.open_flood(turn, flood, &what, full), AnswerStatus::IncidentOpened),
        };
        let message = "Too many incidents are open; the event is counted in `event_flood`.";
        turn.answer(status, Some(id), message);
        true
    }

    fn open_flood(&mut self, turn: &mut Turn, event: Event, what: &str, full: Full) -> IncidentId {
        let Full { fingerprint, whose, max } = full;
        let id = IncidentId::derive(turn.at, turn.position, &fingerprint);
        let previous = self.incidents.former(&fingerprint);
        let fact = Fact::Opened { event: Box::new(event), target: None, fingerprint, previous };
        let why = format!("{what}; open incidents {whose} are at their limit of {max}");
        self.record(turn, Some(id), fact, why);
        let why = format!(
            "open incidents {whose} are at their limit of {max}; new events open none until some \
             end: fix the sender, or close what is over"
        );
        self.escalate(turn, id, Escalation::EventFlood, why);
        id
    }

    /// Ends the floods of those whose incidents were too many and are few again.
    pub(super) fn settle_floods(&mut self, turn: &mut Turn, moved: &[IncidentId]) {
        let over = moved.iter().filter_map(|id| self.incidents.get(id)).filter(|it| it.is_over());
        let mut sources: Vec<_> = over.map(|it| it.event.whose().to_owned()).collect();
        sources.sort_unstable();
        sources.dedup();
        for source in sources {
            let units = self.incidents.units();
            if units.of(&source) < source_max(&source) / ENDS_BELOW {
                self.end_flood(turn, &of_source(&source));
            }
            if self.incidents.units().total < TOTAL_MAX / ENDS_BELOW {
                self.end_flood(turn, &of_all());
            }
        }
    }

    fn end_flood(&mut self, turn: &mut Turn, fingerprint: &str) {
        if let Some(id) = self.incidents.of_fingerprint(fingerprint) {
            let why = "few incidents are open again, and new events open their own";
            let by = SUPERVISOR.to_owned();
            self.record(turn, Some(id), Fact::Closed { by }, why);
        }
    }
}

/// Returns what the incident of a flood is told: the last event that joined it.
fn flood_event(turn: &Turn, event: &Event, full: &Full) -> Event {
    let kind = EventType::known(EVENT_FLOOD);
    let mut flood = Event::new(event.id.clone(), kind, event.source.clone());
    flood.origin.clone_from(&event.origin);
    flood.severity = event.severity.max(Severity::Error);
    flood.starts_at = Some(turn.at);
    flood.ends_at = Some(turn.at + SILENT_FOR);
    let whose = &full.whose;
    let summary = format!("open incidents {whose} are at their limit of {}", full.max);
    flood.annotations.insert("summary".to_owned(), summary);
    let example = event.clone().shortened(EXAMPLE_BYTES);
    flood.payload = json!({"limit": full.max, "last_event": example});
    flood
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_of_a_source_of_all_outside_and_of_each_agent() {
        let many: Vec<String> = (0..10).map(|n| format!("source-{n}")).collect();
        // Units of each of the ten sources, of one more, and of the monitor.
        let cases = [
            (0, 0, 0, "new", None),
            (0, 9_999, 0, "one", None),
            (0, 10_000, 0, "one", Some("one#event_flood")),
            (0, 10_000, 0, "new", None),
            (9_999, 9, 0, "new", None),
            (9_999, 10, 0, "new", Some("#event_flood")),
            (9_999, 10, 0, "one", Some("#event_flood")),
            (9_999, 10, 0, MONITOR, None),
            (9_999, 10, 0, SUPERVISOR, None),
            (0, 0, 49_999, MONITOR, None),
            (0, 0, 50_000, MONITOR, Some("selfheal/monitor#event_flood")),
            (9_999, 9, 50_000, "new", None),
        ];
        for (each, one, monitor, source, flood) in cases {
            let mut units = OpenUnits::default();
            many.iter().for_each(|it| units.change(it, 0, each));
            units.change("one", 0, one);
            units.change(MONITOR, 0, monitor);
            let full = units.full(source).map(|it| it.fingerprint);
            assert_eq!(full.as_deref(), flood, "{each} {one} {monitor} {source}");
            many.iter().for_each(|it| units.change(it, each, 0));
            units.change("one", one, 0);
            units.change(MONITOR, monitor, 0);
            assert_eq!(units, OpenUnits::default(), "nothing is left");
        }
    }
}
