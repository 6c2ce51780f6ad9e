//! The whole desk as lines of text, so that a start need not fold the whole ledger.
//!
//! The first line tells the form and what is there once; every other line is one incident
//! or a bounded piece of a list. What only finds incidents is not in it: it is made anew.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    Desk, LastDecision,
    deliveries::{self, Deliveries, Known, Order},
    ended::Ended,
    fleet::Fleet,
    given::Given,
    incidents::Incidents,
    notice_flood::Calls,
    pace::Pace,
    quiet::{Muted, Quiet},
    repeats::Repeats,
    rights::Rights,
    staged::{Staged, Staging},
};
use crate::{
    config::Config,
    event::{Delivery, json_len},
    guard::FixRecord,
    id::{IncidentId, Position},
    incident::Incident,
    silence::Silence,
    wire::Change,
};

/// The form that is written and read.
const FORM: u32 = 1;
/// The rules by which facts are folded, such as how many incidents that are over are kept. A
/// state that was folded by newer rules than ours is not taken up: the ledger would be folded
/// on by others. Raised when the same ledger would give another state. Each message of the ledger
/// names the rules of its leader, so that nobody folds it by older ones.
pub const FOLD: u32 = 7;
/// Items of a list that one line holds.
const ITEMS_MAX: usize = deliveries::PIECE;
/// Size of the items after which a line is ended: what reads it holds a line in memory.
const LINE_BYTES: usize = 1024 * 1024;

/// The directory of archived snapshots, beside the log.
pub const ARCHIVE_DIR: &str = "snapshots";

/// The name of a snapshot beside the log: with the lines behind it, it stands for the log from
/// its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArchivedSnapshot {
    /// Decisions that are in it.
    pub n_decisions: u64,
    /// The message of the ledger that it stands behind.
    pub ledger_seq: u64,
}

impl ArchivedSnapshot {
    /// Returns the name of its file.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("snapshot.{:012}.{:012}.jsonl", self.n_decisions, self.ledger_seq)
    }

    /// Reads the name of a file; `None` when it is none of ours.
    #[must_use]
    pub fn of_file_name(name: &str) -> Option<Self> {
        let numbers = name.strip_prefix("snapshot.")?.strip_suffix(".jsonl")?;
        let (n_decisions, ledger_seq) = numbers.split_once('.')?;
        let number = |text: &str| text.parse().ok();
        Some(Self { n_decisions: number(n_decisions)?, ledger_seq: number(ledger_seq)? })
    }
}

/// One line of a snapshot.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "one lives at a time")]
enum Line {
    Begin(Begin),
    Incident(#[serde(with = "shared")] Arc<Incident>),
    Over(Vec<IncidentId>),
    History(Vec<FixRecord>),
    /// Of older versions, which did not tell since when.
    Deliveries(Vec<(Delivery, IncidentId)>),
    Remembered(Vec<Known>),
    Silences(Vec<Silence>),
    Muted(Vec<Muted>),
    Staged(String, Staging),
    /// Number of the lines before: a snapshot without it is cut off.
    End(u64),
}

/// Writes an incident that is shared as if it were not.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::incident::Incident;

    pub(super) fn serialize<S: Serializer>(
        incident: &Arc<Incident>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Incident::serialize(incident, serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<Incident>, D::Error> {
        Incident::deserialize(deserializer).map(Arc::new)
    }
}

/// What is there once.
#[derive(Clone, Serialize, Deserialize)]
struct Begin {
    form: u32,
    #[serde(default)]
    fold: u32,
    config: Config,
    /// Snapshots of older versions do not have it.
    #[serde(default)]
    given: Given,
    paused: Option<String>,
    breaker_until: Option<DateTime<Utc>>,
    breaker_since: Option<DateTime<Utc>>,
    storm_told: bool,
    #[serde(default, skip_serializing_if = "Pace::is_empty")]
    pace: Pace,
    #[serde(default, skip_serializing_if = "Calls::is_empty")]
    calls: Calls,
    changes: VecDeque<Change>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    stale: BTreeSet<IncidentId>,
    #[serde(default)]
    looked_at: DateTime<Utc>,
    n_decisions: u64,
    /// By which a log is known to be the one that the snapshot belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<LastDecision>,
    position: Position,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    led: Option<(u64, DateTime<Utc>)>,
    #[serde(default, skip_serializing_if = "Ended::is_empty")]
    ended: Ended,
}

/// Why a snapshot cannot be taken up. The ledger, or an older one, can.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A line is none of ours.
    #[error("line {line} of the snapshot cannot be read")]
    Unreadable {
        /// The line; the first is 1.
        line: u64,
        /// The cause.
        source: serde_json::Error,
    },
    /// Another version has written it.
    #[error("the snapshot has form {found}, this version reads form {FORM}")]
    Form {
        /// Its form.
        found: u32,
    },
    /// A newer version has folded it by other rules.
    #[error("the snapshot was folded by the rules {found}, this version has the rules {FOLD}")]
    Rules {
        /// Their number.
        found: u32,
    },
    /// It does not begin, or goes on after its end.
    #[error("line {line} of the snapshot is out of place")]
    OutOfPlace {
        /// The line; the first is 1.
        line: u64,
    },
    /// Its end is missing.
    #[error("the snapshot ends after line {line}, before its end")]
    CutOff {
        /// The last line.
        line: u64,
    },
}

/// A desk at one moment, as lines without line breaks. Sharing the incidents with the desk,
/// it costs little until the desk goes on.
#[derive(Debug)]
pub struct Snapshot {
    desk: Option<Desk>,
    incidents: std::vec::IntoIter<Arc<Incident>>,
    over: VecDeque<IncidentId>,
    history: VecDeque<FixRecord>,
    deliveries: Order,
    silences: VecDeque<Silence>,
    muted: VecDeque<Muted>,
    staged: std::vec::IntoIter<(String, Staging)>,
    n_lines: u64,
    ended: bool,
}

impl Desk {
    /// Takes a snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut incidents = Incidents::default();
        incidents.set_led_at(self.incidents.led_at());
        let head = Self {
            incidents,
            led_epoch: self.led_epoch,
            ended: self.ended.clone(),
            history: VecDeque::new(),
            deliveries: Deliveries::default(),
            repeats: Repeats::default(),
            // Told from outside, and to whoever goes on anew.
            rights: Rights::default(),
            config: self.config.clone(),
            given: self.given.clone(),
            staged: Staged::default(),
            paused: self.paused.clone(),
            breaker_until: self.breaker_until,
            breaker_since: self.breaker_since,
            storm_told: self.storm_told,
            pace: self.pace.clone(),
            calls: self.calls.clone(),
            changes: self.changes.clone(),
            quiet: Quiet::default(),
            stale: self.stale.clone(),
            looked_at: self.looked_at,
            n_decisions: self.n_decisions,
            last: self.last,
            position: self.position,
        };
        Snapshot {
            desk: Some(head),
            incidents: self.incidents.all_shared().cloned().collect::<Vec<_>>().into_iter(),
            over: self.incidents.over().clone(),
            history: self.history.clone(),
            deliveries: self.deliveries.order(),
            silences: self.quiet.silences().cloned().collect(),
            muted: self.quiet.muted().cloned().collect(),
            staged: self.staged.all().into_iter(),
            n_lines: 0,
            ended: false,
        }
    }

    /// Takes up a snapshot.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`].
    pub fn from_snapshot<L: AsRef<[u8]>>(
        lines: impl IntoIterator<Item = L>,
    ) -> Result<Self, SnapshotError> {
        let mut reader = SnapshotReader::default();
        for line in lines {
            reader.line(line.as_ref())?;
        }
        reader.finish()
    }
}

/// Takes as many as fit a line, but one at least.
fn take_some<T: Serialize>(list: &mut VecDeque<T>) -> Option<Vec<T>> {
    let mut bytes = 0;
    let fits = |it: &&T| {
        bytes += json_len(*it);
        bytes <= LINE_BYTES
    };
    let n = list.iter().take(ITEMS_MAX).take_while(fits).count();
    (!list.is_empty()).then(|| list.drain(..n.clamp(1, list.len())).collect())
}

impl Snapshot {
    fn next_line(&mut self) -> Option<Line> {
        if let Some(desk) = self.desk.take() {
            return Some(Line::Begin(Begin {
                form: FORM,
                ended: desk.ended,
                led: desk.led_epoch.zip(desk.incidents.led_at()),
                fold: FOLD,
                config: (*desk.config).clone(),
                given: desk.given,
                paused: desk.paused,
                breaker_until: desk.breaker_until,
                breaker_since: desk.breaker_since,
                storm_told: desk.storm_told,
                pace: desk.pace,
                calls: desk.calls,
                changes: desk.changes,
                stale: desk.stale,
                looked_at: desk.looked_at,
                n_decisions: desk.n_decisions,
                last: desk.last,
                position: desk.position,
            }));
        }
        let incident = self.incidents.next().map(Line::Incident);
        let over = || take_some(&mut self.over).map(Line::Over);
        let line = incident.or_else(over);
        let line = line.or_else(|| take_some(&mut self.history).map(Line::History));
        let line = line.or_else(|| self.deliveries.take_piece().map(Line::Remembered));
        let line = line.or_else(|| take_some(&mut self.silences).map(Line::Silences));
        let line = line.or_else(|| take_some(&mut self.muted).map(Line::Muted));
        let line = line.or_else(|| self.staged.next().map(|(name, it)| Line::Staged(name, it)));
        if line.is_some() || self.ended {
            return line;
        }
        self.ended = true;
        Some(Line::End(self.n_lines))
    }
}

impl Iterator for Snapshot {
    type Item = Result<Vec<u8>, serde_json::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.next_line()?;
        self.n_lines += 1;
        Some(serde_json::to_vec(&line))
    }
}

/// Reads a snapshot line by line and makes no desk of it: only whether one could.
#[derive(Debug, Default)]
pub struct SnapshotCheck {
    n_lines: u64,
    has_begun: bool,
    ended: bool,
    n_decisions: u64,
}

impl SnapshotCheck {
    /// Returns the number of decisions that are in it, once its first line was read.
    #[must_use]
    pub const fn n_decisions(&self) -> u64 {
        self.n_decisions
    }

    /// Reads the next line.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`].
    pub fn line(&mut self, text: &[u8]) -> Result<(), SnapshotError> {
        self.read(text).map(drop)
    }

    fn read(&mut self, text: &[u8]) -> Result<Line, SnapshotError> {
        let before = self.n_lines;
        self.n_lines += 1;
        let line = self.n_lines;
        let read: Line = serde_json::from_slice(text)
            .map_err(|source| SnapshotError::Unreadable { line, source })?;
        let fits = match &read {
            Line::Begin(begin) if begin.form != FORM => {
                return Err(SnapshotError::Form { found: begin.form });
            }
            Line::Begin(begin) if FOLD < begin.fold => {
                return Err(SnapshotError::Rules { found: begin.fold });
            }
            Line::Begin(begin) => {
                self.n_decisions = begin.n_decisions;
                !std::mem::replace(&mut self.has_begun, true)
            }
            Line::End(n_lines) => {
                !std::mem::replace(&mut self.ended, true) && self.has_begun && *n_lines == before
            }
            Line::Incident(_)
            | Line::Over(_)
            | Line::History(_)
            | Line::Deliveries(_)
            | Line::Remembered(_)
            | Line::Silences(_)
            | Line::Muted(_)
            | Line::Staged(..) => self.has_begun && !self.ended,
        };
        if fits { Ok(read) } else { Err(SnapshotError::OutOfPlace { line }) }
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::CutOff`].
    pub fn finish(self) -> Result<(), SnapshotError> {
        if self.ended { Ok(()) } else { Err(SnapshotError::CutOff { line: self.n_lines }) }
    }
}

/// Takes up a snapshot line by line.
#[derive(Debug, Default)]
pub struct SnapshotReader {
    check: SnapshotCheck,
    desk: Desk,
}

impl SnapshotReader {
    /// Takes up the next line.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`].
    pub fn line(&mut self, text: &[u8]) -> Result<(), SnapshotError> {
        let line = self.check.read(text)?;
        self.desk.take_up(line);
        Ok(())
    }

    /// Returns the desk.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::CutOff`].
    pub fn finish(self) -> Result<Desk, SnapshotError> {
        self.check.finish()?;
        Ok(self.desk)
    }
}

impl Desk {
    fn take_up(&mut self, line: Line) {
        match line {
            Line::Incident(incident) => {
                self.quiet.note_inhibitor(&incident, &self.config);
                self.incidents.add(incident, &self.config);
            }
            Line::Over(ids) => ids.into_iter().for_each(|id| self.incidents.add_over(id)),
            Line::History(records) => self.history.extend(records),
            Line::Deliveries(known) => {
                for (delivery, id) in known {
                    let since =
                        if id == IncidentId::NONE { self.looked_at } else { id.opened_at() };
                    self.deliveries.take_up((delivery, id, since));
                }
            }
            Line::Remembered(known) => {
                known.into_iter().for_each(|it| self.deliveries.take_up(it));
            }
            Line::Silences(list) => list.into_iter().for_each(|it| self.quiet.add_silence(it)),
            Line::Muted(list) => list.into_iter().for_each(|it| self.quiet.mute(it)),
            Line::Staged(sha256, staging) => self.staged.take_up(sha256, staging),
            Line::Begin(begin) => {
                let mut given = begin.given;
                if !given.is_configured() && begin.config != Config::default() {
                    // Of an older version, which did not keep it. No file counts before it
                    // changes.
                    given.configured(begin.n_decisions, None);
                }
                let mut incidents = Incidents::default();
                incidents.set_led_at(begin.led.map(|it| it.1));
                *self = Self {
                    incidents,
                    led_epoch: begin.led.map(|it| it.0),
                    ended: begin.ended,
                    config: Fleet::new(begin.config),
                    given,
                    paused: begin.paused,
                    breaker_until: begin.breaker_until,
                    breaker_since: begin.breaker_since,
                    storm_told: begin.storm_told,
                    pace: begin.pace,
                    calls: begin.calls,
                    changes: begin.changes,
                    stale: begin.stale,
                    looked_at: begin.looked_at,
                    n_decisions: begin.n_decisions,
                    last: begin.last,
                    position: begin.position,
                    ..Self::default()
                };
            }
            Line::End(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::tests::world::World;

    fn lines(desk: &Desk) -> Vec<Vec<u8>> {
        desk.snapshot().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn a_snapshot_that_is_cut_off_anywhere_is_refused() {
        let mut world = World::with(&["a", "b"]);
        world.fixing("a");
        world.down("b");
        let lines = lines(&world.desk);
        assert_eq!(Desk::from_snapshot(&lines).unwrap(), world.desk);
        for n in 0..lines.len() {
            let cut = Desk::from_snapshot(lines.iter().take(n)).unwrap_err();
            assert!(matches!(cut, SnapshotError::CutOff { .. }), "{cut}");
            let mut without = lines.clone();
            without.remove(n);
            assert!(Desk::from_snapshot(without).is_err(), "line {n} is missing");
        }
    }

    #[test]
    fn a_snapshot_of_an_older_version_knows_that_there_is_a_configuration() {
        let mut lines = lines(&World::with(&["a"]).desk);
        let mut begin: serde_json::Value = serde_json::from_slice(&lines[0]).unwrap();
        begin["begin"].as_object_mut().unwrap().remove("given").unwrap();
        lines[0] = begin.to_string().into_bytes();
        let desk = Desk::from_snapshot(lines).unwrap();
        assert!(desk.given().is_configured());
    }

    #[test]
    fn no_line_is_long_and_what_is_written_can_be_checked() {
        let mut world = World::with(&["a"]);
        let until = world.at + crate::desk::tests::world::secs(3600);
        let silence = crate::desk::tests::world::silence("type=service_down", until);
        world.send(crate::desk::tests::world::command(silence));
        for n in 0..150 {
            let mut event = world.event("service_down", &format!("host-{n}"));
            event.payload = serde_json::json!({"log": "x".repeat(15_000)});
            world.send(crate::wire::Input::Event(event));
        }
        let mut check = SnapshotCheck::default();
        for line in lines(&world.desk) {
            assert!(line.len() <= LINE_BYTES + 100 * ITEMS_MAX, "{}", line.len());
            check.line(&line).unwrap();
        }
        check.finish().unwrap();
    }

    #[test]
    fn deliveries_of_an_older_snapshot_are_known() {
        let mut world = World::with(&["a"]);
        let event = world.event("service_down", "a");
        let sent = crate::wire::Input::Event(event);
        let id = world.send(sent.clone()).answer.unwrap().incident_id;
        let mut lines = lines(&world.desk);
        let of_deliveries = lines.iter_mut().find(|it| it.starts_with(b"{\"remembered\"")).unwrap();
        let mut line: serde_json::Value = serde_json::from_slice(of_deliveries).unwrap();
        let mut known = line["remembered"].take();
        for it in known.as_array_mut().unwrap() {
            it.as_array_mut().unwrap().pop();
        }
        *of_deliveries = serde_json::json!({"deliveries": known}).to_string().into_bytes();
        world.desk = Desk::from_snapshot(lines).unwrap();
        let again = world.desk.receive(&sent, Position::new(99, 0), world.at);
        assert!(again.recorded.is_empty());
        assert_eq!(again.answer.unwrap().incident_id, id);
    }

    #[test]
    fn names_of_archived_snapshots_are_read_as_they_are_written() {
        let snapshot = ArchivedSnapshot { n_decisions: 12_345, ledger_seq: 678 };
        assert_eq!(snapshot.file_name(), "snapshot.000000012345.000000000678.jsonl");
        assert_eq!(ArchivedSnapshot::of_file_name(&snapshot.file_name()), Some(snapshot));
        for other in ["snapshot.1.jsonl", "snapshot.1.x.jsonl", "snapshot.1.2.jsonl.part", "x"] {
            assert_eq!(ArchivedSnapshot::of_file_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_snapshot_of_another_form_is_refused() {
        let mut lines = lines(&World::with(&["a"]).desk);
        let begin = String::from_utf8(lines.remove(0)).unwrap();
        let newer = begin.replace("\"form\":1", "\"form\":2").into_bytes();
        let refused = Desk::from_snapshot([newer]).unwrap_err();
        assert!(matches!(refused, SnapshotError::Form { found: 2 }), "{refused}");
        let newer = begin.replace(&format!("\"fold\":{FOLD}"), &format!("\"fold\":{}", FOLD + 1));
        let refused = Desk::from_snapshot([newer]).unwrap_err();
        assert!(
            matches!(refused, SnapshotError::Rules { found } if found == FOLD + 1),
            "{refused}"
        );
    }
}
