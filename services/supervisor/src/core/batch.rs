//! What is decided about some inputs, and what may be seen of it once it is stored.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::{
    config::Config,
    desk::{Desk, FOLD, Handled, Recorded, Rejected, Wish},
    fact::Fact,
    id::{IncidentId, Position},
    incident::{Corrupt, Incident, Notice},
    trace::TraceContext,
    wire::{Answer, Envelope, InputKind, SCHEMA, WorkKind},
};
use serde::Serialize;

use super::{
    decode::{Part, Rejection},
    lines::{Composer, Lines},
    outcomes::{self, Outcome},
};

/// Size of decisions after which a batch is stored. A single input may give more.
const BYTES_MAX: usize = 256 * 1024;
/// Inputs after which a batch is stored, though hardly anything was decided about them:
/// their senders wait.
const INPUTS_MAX: usize = 4096;
/// Inputs without a decision after which their position is stored all the same.
const UNCOVERED_MAX: u64 = 1000;
/// What one more delivery adds to a decision about repeats.
const DELIVERY_BYTES: usize = 40;
/// What the line of a decision has besides the decision, about.
const LINE_EXTRA: usize = 512;
/// Incidents whose published wishes are remembered, so that a repeated event does not
/// publish the same wish again. When there are more, they are forgotten: doing it again is
/// harmless.
const WISHED_MAX: usize = 200_000;

/// Decided inputs, to be stored.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The last message of the ledger, behind which the batch belongs.
    pub expected_last: u64,
    /// The message of the ledger; `None` when there is nothing to store.
    pub append: Option<Bytes>,
    /// The place of its first input.
    pub first: Position,
    /// All inputs up to here have been decided.
    pub covers: Position,
    /// Diagnoses that are wanted, to be published beside the append: to look harms nobody, and
    /// whoever decides the same inputs instead wants the same under the same ids.
    pub looks: Vec<Wish>,
    consequences: Consequences,
    n_inputs: usize,
}

/// What may be seen once a batch is stored.
#[derive(Clone, Debug, Default)]
pub struct Consequences {
    /// Lines of the log.
    pub lines: Lines,
    /// Work that is wanted now, to be published at once; without [`Batch::looks`].
    pub wishes: Vec<Wish>,
    /// The configuration that came into force, for the agents.
    pub configuration: Option<Box<Config>>,
    /// Inputs that could not be understood, to be kept.
    pub rejections: Vec<(Position, Rejection)>,
    /// Who hears what, when the lines are on disk.
    pub answers: Vec<(String, Answer)>,
    /// Facts that did not fit the state: we are wrong. They are not recorded.
    pub faults: Vec<Corrupt>,
    /// Number of inputs by their kinds.
    pub inputs: BTreeMap<InputKind, u64>,
    /// The decisions, for those who measure.
    pub recorded: Vec<Recorded>,
    /// What became of attempts to heal.
    pub outcomes: Vec<Outcome>,
    /// Inputs that came with a span, and the incidents that they are about.
    pub traced: Vec<Traced>,
}

/// An input that came with a span.
#[derive(Clone, Copy, Debug)]
pub struct Traced {
    /// The span.
    pub context: TraceContext,
    /// Its place in the inbox.
    pub position: Position,
    /// When the broker stored it.
    pub at: DateTime<Utc>,
    /// What it was.
    pub kind: InputKind,
    /// The incident, if it is known.
    pub incident: Option<IncidentId>,
}

impl Batch {
    /// Returns the number of its inputs.
    #[must_use]
    pub const fn n_inputs(&self) -> usize {
        self.n_inputs
    }

    /// Returns the number of its decisions.
    #[must_use]
    pub fn n_decisions(&self) -> usize {
        self.consequences.lines.len()
    }

    /// Puts the batch behind another message of the ledger. Its lines name their message.
    pub(super) fn go_behind(&mut self, expected_last: u64) -> Result<(), serde_json::Error> {
        let mut lines = Composer::default();
        for recorded in &self.consequences.recorded {
            let detail = serde_json::to_vec(&recorded.decision)?;
            lines.line(recorded, &detail, expected_last + 1, self.covers)?;
        }
        self.consequences.lines = lines.finish();
        self.expected_last = expected_last;
        Ok(())
    }

    pub(super) fn last_decision(&self) -> u64 {
        self.consequences.lines.last_seq().unwrap_or(0)
    }

    pub(super) fn into_consequences(self) -> Consequences {
        self.consequences
    }
}

/// The revision of an incident whose work is done for another one: none was ever published.
const UNASKED: u64 = 0;

/// What was published of an incident's wishes: its revision, and the notices.
pub(super) type Wished = BTreeMap<IncidentId, (u64, Vec<String>)>;

/// A batch that is being made.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    first: Option<Position>,
    /// Whether it must hold no further input.
    is_closed: bool,
    recorded: Vec<Recorded>,
    /// The decisions as JSON, separated by commas.
    json: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    rest: Consequences,
    n_inputs: usize,
    /// Repeats that are only counted so far: size of the largest event, by incident.
    repeats: BTreeMap<IncidentId, usize>,
    repeats_bytes: usize,
}

/// Where a batch stands in the ledger.
#[derive(Debug)]
pub(super) struct Closing<'a> {
    pub(super) desk: &'a Desk,
    pub(super) epoch: u64,
    pub(super) first: Position,
    pub(super) covers: Position,
    pub(super) covered: Position,
    pub(super) expected_last: u64,
}

impl Draft {
    /// Decides one input.
    pub(super) fn decide(
        &mut self,
        desk: &mut Desk,
        part: Part,
        poison: &[Position],
        alone: bool,
    ) -> Result<(), serde_json::Error> {
        let position = part.position;
        self.first.get_or_insert(position);
        self.is_closed |= alone;
        self.n_inputs += 1;
        match part.content {
            Ok((input, _)) if poison.contains(&position) => {
                let why = "its decisions are larger than the ledger takes".to_owned();
                let raw = serde_json::to_vec(&Envelope::new(position.to_string(), input))?;
                let rejection = Rejection { reason: "too_large", why, raw: raw.into() };
                self.reject(desk, position, part.at, rejection)?;
            }
            Ok((input, reply_to)) => {
                let mut handled = desk.take(&input, position, part.at);
                self.weigh(&handled, part.bytes);
                if let Some(context) = part.trace {
                    let answered = handled.answer.as_ref().and_then(|it| it.incident_id);
                    let decided = || handled.recorded.iter().find_map(|it| it.decision.incident);
                    let incident = answered.or_else(decided);
                    let (at, kind) = (part.at, input.kind());
                    self.rest.traced.push(Traced { context, position, at, kind, incident });
                }
                if let (Some(to), Some(answer)) = (reply_to, handled.answer.take()) {
                    self.rest.answers.push((to, answer));
                }
                *self.rest.inputs.entry(input.kind()).or_insert(0) += 1;
                self.keep(handled)?;
            }
            Err(rejection) => self.reject(desk, position, part.at, rejection)?,
        }
        Ok(())
    }

    /// Records that an input is not decided: it must not be met again after a restart.
    fn reject(
        &mut self,
        desk: &mut Desk,
        position: Position,
        at: DateTime<Utc>,
        rejection: Rejection,
    ) -> Result<(), serde_json::Error> {
        let Rejection { reason, why, raw } = &rejection;
        let handled = desk.reject_input(position, at, Rejected { reason, why, bytes: raw.len() });
        self.rest.rejections.push((position, rejection));
        self.keep(handled)
    }

    /// Notes how large the decision about repeats will be that are only counted so far.
    fn weigh(&mut self, handled: &Handled, bytes: usize) {
        let answer = handled.answer.as_ref().filter(|_| handled.recorded.is_empty());
        if let Some(id) = answer.and_then(|it| it.incident_id) {
            let event = self.repeats.entry(id).or_insert(0);
            self.repeats_bytes += DELIVERY_BYTES + bytes.saturating_sub(*event);
            *event = bytes.max(*event);
        }
    }

    fn keep(&mut self, handled: Handled) -> Result<(), serde_json::Error> {
        for recorded in handled.recorded {
            if !self.json.is_empty() {
                self.json.push(b',');
            }
            serde_json::to_writer(&mut self.json, &recorded.decision)?;
            self.ends.push(self.json.len());
            self.recorded.push(recorded);
        }
        self.rest.faults.extend(handled.faults);
        Ok(())
    }

    /// Records what was put off to the end of the batch.
    pub(super) fn finish(&mut self, desk: &mut Desk) -> Result<(), serde_json::Error> {
        self.keep(desk.finish())
    }

    /// Returns whether it should be stored before more is decided.
    pub(super) fn is_full(&self) -> bool {
        let bytes = self.json.len() + self.repeats_bytes;
        self.is_closed || BYTES_MAX <= bytes || INPUTS_MAX <= self.n_inputs
    }

    /// Returns the place of its first input; `None` when it has none.
    pub(super) const fn first(&self) -> Option<Position> {
        self.first
    }

    pub(super) fn n_rejected(&self) -> u64 {
        u64::try_from(self.rest.rejections.len()).unwrap_or(u64::MAX)
    }

    /// Returns the batch. What is wanted after it must be asked of the desk now, before it
    /// is ahead by another batch.
    pub(super) fn close(
        mut self,
        at: &Closing<'_>,
        wished: &mut Wished,
    ) -> Result<Batch, serde_json::Error> {
        let is_empty = self.recorded.is_empty() && at.covers.seq < at.covered.seq + UNCOVERED_MAX;
        let append = if is_empty { None } else { Some(self.entry(at.epoch, at.covers)?) };
        self.rest.lines = self.lines(at.expected_last + 1, at.covers)?;
        let (looks, wishes) = self
            .wishes(at.desk, wished)
            .into_iter()
            .partition(|it| it.kind() == WorkKind::Diagnose);
        self.rest.wishes = wishes;
        let is_configured = |it: &Recorded| matches!(it.decision.fact, Fact::Configured { .. });
        if self.recorded.iter().any(is_configured) {
            self.rest.configuration = Some(Box::new(at.desk.config().clone()));
        }
        self.rest.outcomes = outcomes::of(&self.recorded, at.desk);
        self.rest.recorded = self.recorded;
        Ok(Batch {
            expected_last: at.expected_last,
            append,
            first: at.first,
            covers: at.covers,
            looks,
            consequences: self.rest,
            n_inputs: self.n_inputs,
        })
    }

    /// Returns the message of the ledger, a [`domain::wire::LedgerEntry`].
    fn entry(&self, epoch: u64, covers: Position) -> Result<Bytes, serde_json::Error> {
        #[derive(Serialize)]
        struct Head {
            v: u16,
            epoch: u64,
            covers: Position,
            fold: u32,
        }
        let mut text = Vec::with_capacity(self.json.len() + LINE_EXTRA);
        serde_json::to_writer(&mut text, &Head { v: SCHEMA, epoch, covers, fold: FOLD })?;
        // The object is opened again for its last field.
        text.pop();
        text.extend_from_slice(b",\"decisions\":[");
        text.extend_from_slice(&self.json);
        text.extend_from_slice(b"]}");
        Ok(text.into())
    }

    fn lines(&self, entry: u64, covers: Position) -> Result<Lines, serde_json::Error> {
        let mut lines = Composer::with_capacity(self.json.len() + self.recorded.len() * LINE_EXTRA);
        let mut from = 0;
        for (recorded, end) in self.recorded.iter().zip(&self.ends) {
            let detail = self.json.get(from..*end).unwrap_or_default();
            lines.line(recorded, detail, entry, covers)?;
            from = end + 1;
        }
        Ok(lines.finish())
    }

    fn wishes(&self, desk: &Desk, wished: &mut Wished) -> Vec<Wish> {
        if WISHED_MAX < wished.len() {
            wished.clear();
        }
        let mut touched: BTreeSet<IncidentId> =
            self.recorded.iter().filter_map(|it| it.decision.incident).collect();
        // When a measurement has ended, the next one may be wanted for an incident about which
        // nothing was decided now.
        let shared = touched.iter().filter_map(|id| desk.measured_for(desk.incident(*id)?));
        touched.extend(shared.collect::<Vec<_>>());
        let incidents = touched.into_iter().filter_map(|id| desk.incident(id));
        incidents.flat_map(|incident| new_wishes(desk, incident, wished)).collect()
    }
}

/// Returns the wishes of an incident that were not published before.
fn new_wishes(desk: &Desk, incident: &Incident, wished: &mut Wished) -> Vec<Wish> {
    let notices: Vec<_> = incident.notices_wanted().map(Notice::name).collect();
    let before = wished.get(&incident.id);
    // What is measured for another incident may come to be measured for this one.
    let is_asked = !desk.is_measured_by_another(incident);
    let revision = if is_asked { incident.revision } else { UNASKED };
    let is_new_work = before.is_none_or(|it| it.0 != revision) && is_asked;
    let is_told = |it: &String| before.is_some_and(|(_, told)| told.contains(it));
    let new_notices: BTreeSet<_> = notices.iter().filter(|it| !is_told(it)).cloned().collect();
    if incident.is_over() && incident.notices.is_empty() {
        wished.remove(&incident.id);
        return Vec::new();
    }
    if is_new_work || !new_notices.is_empty() || before.is_some_and(|it| it.1 != notices) {
        wished.insert(incident.id, (revision, notices));
    }
    if !is_new_work && new_notices.is_empty() {
        return Vec::new();
    }
    let mut wishes = desk.wishes_of(incident.id);
    wishes.retain(|it| match it.notice() {
        Some(notice) => new_notices.contains(notice),
        None => is_new_work,
    });
    wishes
}
