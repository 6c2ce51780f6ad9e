//! The desk: all incidents, and everything that decisions look at.
//!
//! [`Desk::receive`] decides one input and applies what it decided; [`Desk::apply`] folds
//! a decision that was stored. Both lead to the same state: that is what recovery,
//! standbys and replays rest on. The desk knows the time only from its inputs.

mod alerts;
mod analysis;
mod before;
mod commands;
mod configure;
mod deliveries;
mod ended;
mod events;
mod fleet;
mod flood;
mod given;
mod incidents;
mod load;
mod news;
mod notice_flood;
mod observable;
mod pace;
mod query;
mod quiet;
mod recall;
mod rejected;
mod reopen;
mod repeats;
mod reports;
mod rights;
mod room;
mod row;
mod settle;
mod shared;
mod signature;
mod snapshot;
mod staged;
mod stale;
mod telling;
mod wish;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    config::Config,
    fact::{Decision, Fact},
    guard::{FixRecord, STORM_BRAKE},
    id::{IncidentId, Position},
    incident::{Circumstance, Corrupt, Incident},
    span::Span,
    target::Target,
    view::{LogLine, Status},
    wire::{Answer, AnswerStatus, Change, Input, TimerFired},
};

use deliveries::Deliveries;
use ended::Ended;
use fleet::Fleet;
use incidents::{Incidents, Moved};
use notice_flood::Calls;
use pace::Pace;
use quiet::{Muted, Quiet};
use repeats::Repeats;
use rights::Rights;
use room::Room;
use staged::Staged;

pub use before::{Before, Treatment};
pub use given::{FoundText, Given, Standing};
pub use load::Backlog;
pub use recall::Recall;
pub use rejected::Rejected;
pub use rights::Tokens;
pub use snapshot::{
    ARCHIVE_DIR, ArchivedSnapshot, FOLD, Snapshot, SnapshotCheck, SnapshotError, SnapshotReader,
};
pub use wish::Wish;

/// Fixes that budgets look at.
const HISTORY_MAX: usize = 10_000;
/// How far budgets look back.
const HISTORY_AGE: TimeDelta = TimeDelta::days(31);
/// What was left of things that wait together is due so long after some of them were looked at.
const AT_ONCE: TimeDelta = TimeDelta::milliseconds(1);
/// Changes that are remembered; a diagnosis is told the last of those that concern it.
const CHANGES_MAX: usize = 200;

/// All incidents, and everything that decisions look at.
///
/// Cloning one copies no incident: they are shared until one of the two changes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desk {
    config: Fleet,
    /// How it was given, and what else was.
    given: Given,
    /// Parts of one that is not whole yet.
    staged: Staged,
    paused: Option<String>,
    breaker_until: Option<DateTime<Utc>>,
    /// Failures before this time do not count for the breaker any more.
    breaker_since: Option<DateTime<Utc>>,
    /// Whether people were told of the present storm.
    storm_told: bool,
    /// How often receivers of notices were told.
    pace: Pace,
    /// For how many incidents of each source people were called.
    calls: Calls,
    incidents: Incidents,
    history: VecDeque<FixRecord>,
    deliveries: Deliveries,
    changes: VecDeque<Change>,
    quiet: Quiet,
    /// Incidents whose plan was made for another configuration, and has not expired yet.
    stale: BTreeSet<IncidentId>,
    /// When some of what waits together was looked at last: the rest is due again since then.
    looked_at: DateTime<Utc>,
    n_decisions: u64,
    /// What the last decision is known by; unknown behind a snapshot that does not tell.
    last: Option<LastDecision>,
    position: Position,
    /// Who may approve, as far as the configuration does not tell.
    rights: Rights,
    /// When senders said that something ended.
    ended: Ended,
    /// Revision of the lease under which a supervisor took over last, as far as it mattered.
    led_epoch: Option<u64>,
    /// Repeats of this batch, which are recorded together. Empty between batches.
    repeats: Repeats,
}

/// What tells a decision from the one that has its number in another history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastDecision {
    /// The broker's time of the input that caused it.
    pub at: DateTime<Utc>,
    /// That input.
    pub cause: Position,
    /// The incident that it was about.
    pub incident: Option<IncidentId>,
}

impl LastDecision {
    /// Returns what a decision is known by.
    #[must_use]
    pub const fn of(decision: &Decision) -> Self {
        Self { at: decision.at, cause: decision.cause, incident: decision.incident }
    }
}

/// What became of one input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Handled {
    /// What was decided, in order; may be empty.
    pub recorded: Vec<Recorded>,
    /// What the sender hears once that is stored.
    pub answer: Option<Answer>,
    /// Facts that could not be applied: we are wrong. They are not recorded.
    pub faults: Vec<Corrupt>,
}

/// A decision, and what its log line says about the incident at that moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The decision.
    pub decision: Decision,
    /// Where the incident stands after it.
    pub status: Option<Status>,
    /// Type of the event that opened it.
    pub kind: String,
    /// Its target.
    pub target: Option<String>,
    /// What is known about the cause.
    pub analysis: Option<String>,
    /// How it ended.
    pub resolution: Option<String>,
    /// What it was before, when it was there.
    pub before: Option<Before>,
}

impl Recorded {
    /// Returns the line of the log, given the ledger's message that holds the decision.
    #[must_use]
    pub fn line(&self, entry: u64, covers: Position) -> LogLine {
        LogLine {
            incident_id: self.decision.incident.unwrap_or(IncidentId::NONE),
            timestamp: self.decision.at,
            incident_type: self.kind.clone(),
            analysis: self.analysis.clone(),
            resolution: self.resolution.clone(),
            seq: self.decision.seq,
            status: self.status,
            decision: self.decision.fact.name().to_owned(),
            cause: self.decision.cause,
            reason: self.decision.reason.clone(),
            target: self.target.clone(),
            entry,
            covers,
            detail: self.decision.clone(),
        }
    }
}

/// The input that is being decided, and what was decided about it so far.
struct Turn {
    position: Position,
    at: DateTime<Utc>,
    handled: Handled,
    /// Incidents that came to another phase and were not settled since.
    moved: Vec<IncidentId>,
    /// What may let plans pass that guards hold.
    freed: Freed,
    /// How much was decided.
    room: Room,
}

/// What may let plans pass that guards hold.
#[derive(Debug, Default)]
struct Freed {
    /// Targets whose treatment has ended.
    targets: Vec<String>,
    /// The storm has ended.
    storm: bool,
    /// Fixes were allowed again, or the configuration has changed.
    all: bool,
}

impl Turn {
    fn new(position: Position, at: DateTime<Utc>) -> Self {
        let handled = Handled::default();
        let (freed, room) = (Freed::default(), Room::default());
        Self { position, at, handled, moved: Vec::new(), freed, room }
    }

    fn answer(&mut self, status: AnswerStatus, incident: Option<IncidentId>, message: &str) {
        self.handled.answer =
            Some(Answer { status, incident_id: incident, message: message.to_owned() });
    }
}

impl Desk {
    /// Decides one input, and applies what it decided. An input at or before the last
    /// position has been decided before and changes nothing.
    pub fn receive(&mut self, input: &Input, position: Position, at: DateTime<Utc>) -> Handled {
        let mut handled = self.take(input, position, at);
        let mut rest = self.finish();
        handled.recorded.append(&mut rest.recorded);
        handled.faults.append(&mut rest.faults);
        handled
    }

    /// Decides one input of a batch. As [`Desk::receive`], but further events of an open
    /// incident are only counted, and recorded together by [`Desk::finish`], or before the
    /// next decision about their incident. Their answers hold once that is stored.
    pub fn take(&mut self, input: &Input, position: Position, at: DateTime<Utc>) -> Handled {
        let mut turn = Turn::new(position, at);
        if position <= self.position {
            return turn.handled;
        }
        self.position = position;
        match input {
            Input::Event(event) => self.on_event(&mut turn, event),
            Input::Analysis(report) => self.on_analysis(&mut turn, report),
            Input::Fix(report) => self.on_fix(&mut turn, report),
            Input::Verification(report) => self.on_verification(&mut turn, report),
            Input::Notice(report) => self.on_notice(&mut turn, report),
            Input::Command(command) => self.on_command(&mut turn, command),
            Input::Timer(TimerFired { epoch: Some(epoch), .. }) => {
                self.on_leadership(&mut turn, *epoch);
            }
            Input::Timer(timer) => self.on_timer(&mut turn, timer.incident),
        }
        turn.handled
    }

    /// Ends a batch: records the repeats that were only counted.
    pub fn finish(&mut self) -> Handled {
        let mut turn = Turn::new(self.position, DateTime::UNIX_EPOCH);
        for (id, repeat) in self.repeats.take_all() {
            self.record_repeat(&mut turn, id, repeat);
        }
        turn.handled
    }

    /// Returns the number of repeats that were only counted in this batch so far.
    #[must_use]
    pub fn n_repeats_waiting(&self) -> usize {
        self.repeats.len()
    }

    /// Folds one stored decision.
    ///
    /// # Errors
    ///
    /// [`Corrupt`] when it cannot follow the present state.
    pub fn apply(&mut self, decision: &Decision) -> Result<Recorded, Corrupt> {
        let before = self.before(decision.incident);
        let moved = self.fold(decision)?;
        Ok(self.recorded(decision.clone(), before, &moved))
    }

    fn fold(&mut self, decision: &Decision) -> Result<Moved, Corrupt> {
        let is_storm = matches!(&decision.fact, Fact::Held { guard, .. } if guard == STORM_BRAKE);
        let now = Circumstance { seq: decision.seq, at: decision.at, reason: &decision.reason };
        let moved = match decision.incident {
            None if self.lacks_parts(&decision.fact) => {
                return Err(Corrupt {
                    seq: now.seq,
                    fact: decision.fact.name(),
                    phase: "without its parts".to_owned(),
                    incident: IncidentId::NONE,
                });
            }
            None => {
                self.apply_to_all(&decision.fact, now);
                Moved::default()
            }
            Some(id) => self.apply_to_one(id, decision, now)?,
        };
        if let Some(id) = decision.incident {
            self.share_measured(id, &decision.fact)?;
            self.tell(id, &decision.fact, now)?;
        }
        self.n_decisions = decision.seq;
        self.last = Some(LastDecision::of(decision));
        self.storm_told = is_storm || (self.storm_told && self.is_storm());
        Ok(moved)
    }

    /// Notes that all inputs up to here have been decided.
    pub fn cover(&mut self, position: Position) {
        self.position = position;
    }

    /// Decides a fact: numbers it, applies it and keeps it for the ledger.
    fn record(
        &mut self,
        turn: &mut Turn,
        id: Option<IncidentId>,
        fact: Fact,
        why: impl Into<String>,
    ) {
        // What was counted about the incident came before.
        if let Some(id) = id
            && let Some(repeat) = self.repeats.take(id)
        {
            self.record_repeat(turn, id, repeat);
        }
        let (at, cause) = (turn.at, turn.position);
        self.record_at(turn, id, fact, why.into(), at, cause);
    }

    fn record_at(
        &mut self,
        turn: &mut Turn,
        id: Option<IncidentId>,
        fact: Fact,
        reason: String,
        at: DateTime<Utc>,
        cause: Position,
    ) {
        let decision =
            Decision { seq: self.n_decisions + 1, at, cause, incident: id, fact, reason };
        let was_storm = self.is_storm();
        let before = self.before(id);
        match self.fold(&decision) {
            Ok(mut moved) => {
                turn.moved.extend(id.filter(|_| moved.phase));
                turn.freed.targets.extend(moved.freed.take());
                turn.freed.storm |= was_storm && !self.is_storm();
                turn.freed.all |= matches!(
                    decision.fact,
                    Fact::Configured { .. } | Fact::Resumed { .. } | Fact::SilenceEnded { .. }
                );
                let recorded = self.recorded(decision, before, &moved);
                turn.handled.recorded.push(recorded);
            }
            Err(fault) => turn.handled.faults.push(fault),
        }
    }

    fn before(&self, id: Option<IncidentId>) -> Option<Before> {
        self.incidents.get(&id?).map(Before::of)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "all other facts are told by their incident"
    )]
    fn recorded(&self, decision: Decision, before: Option<Before>, moved: &Moved) -> Recorded {
        let incident = decision.incident.and_then(|id| self.incidents.get(&id));
        // `Open` is the state between the opening and the first wish.
        let opened = matches!(decision.fact, Fact::Opened { .. });
        let quiet = match &decision.fact {
            Fact::Suppressed { event, target, .. } => {
                Some((event.kind.to_string(), target.clone().or_else(|| event.target.clone())))
            }
            _ => None,
        };
        let (kind, target) = quiet.clone().unwrap_or_else(|| match incident {
            Some(it) => (it.event.kind.to_string(), it.named_target().map(str::to_owned)),
            None => (format!("selfheal.{}", decision.fact.name()), None),
        });
        let status = incident.map(|it| if opened { Status::Open } else { it.status() });
        Recorded {
            status: status.or_else(|| quiet.map(|_| Status::Suppressed)),
            kind,
            target,
            analysis: incident.and_then(|it| it.analysis.clone()),
            resolution: incident.and_then(|it| it.resolution.clone()),
            before: before.map(|it| Before { has_left: moved.phase, ..it }),
            decision,
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all other facts are about an incident")]
    fn apply_to_all(&mut self, fact: &Fact, now: Circumstance<'_>) {
        match fact {
            Fact::Configured { config, text, parts, .. } => {
                let former = self.replace_config(config, parts);
                self.incidents.keep_targets(&former, &self.config);
                self.note_stale(&former);
                self.given.configured(now.seq, text.as_deref());
                self.incidents.reconfigure(&self.config);
                self.quiet.reconfigure(self.incidents.open(), &self.config, now.at);
                self.forget_people();
                push_bounded(
                    &mut self.changes,
                    Change::of_all(now.at, format!("configuration: {}", now.reason)),
                    CHANGES_MAX,
                );
            }
            Fact::ConfigurationPart { sha256, part, .. } => {
                self.staged.keep(sha256, part, now.at);
            }
            Fact::ConfigurationHeld { held } => self.given.hold((**held).clone()),
            Fact::ConfigurationUnchanged { text, .. } => self.given.unchanged(text),
            Fact::Paused { .. } => self.paused = Some(now.reason.to_owned()),
            Fact::Resumed { .. } => {
                self.paused = None;
                self.breaker_until = None;
                self.breaker_since = Some(now.at);
            }
            Fact::BreakerTripped { until } => {
                self.breaker_until = Some(*until);
                self.breaker_since = Some(now.at);
            }
            Fact::LeadershipTaken { epoch } => {
                self.led_epoch = Some(*epoch);
                self.incidents.lead(now.at, &self.config);
            }
            Fact::Silenced { silence } => self.quiet.add_silence((**silence).clone()),
            Fact::SilenceEnded { id, .. } => self.quiet.end_silence(id, now.at),
            Fact::Suppressed { event, target, fingerprint, by, until } => {
                self.looked_at = now.at;
                self.quiet.mute(Muted {
                    event: (**event).clone(),
                    target: target.clone(),
                    fingerprint: fingerprint.clone(),
                    cause: by.clone(),
                    since: now.at,
                    until: *until,
                    reason: now.reason.to_owned(),
                });
            }
            Fact::SuppressionEnded { fingerprint } => {
                self.looked_at = now.at;
                self.quiet.unmute(fingerprint);
            }
            Fact::RecoveryNoted { delivery, source, fingerprint, ends_at } => {
                self.remember(*delivery, IncidentId::NONE, now.at);
                self.ended.note(source, fingerprint, *ends_at);
            }
            Fact::EventOver { delivery, .. } => {
                self.remember(*delivery, IncidentId::NONE, now.at);
            }
            Fact::SuppressionExtended { fingerprint, ends_at } => {
                self.quiet.extend(fingerprint, *ends_at);
            }
            Fact::Changed { delivery, change } => {
                self.remember(*delivery, IncidentId::NONE, now.at);
                push_bounded(&mut self.changes, change.clone(), CHANGES_MAX);
            }
            _ => {}
        }
    }

    fn apply_to_one(
        &mut self,
        id: IncidentId,
        decision: &Decision,
        now: Circumstance<'_>,
    ) -> Result<Moved, Corrupt> {
        let fact = &decision.fact;
        if let Some(incident) = Incident::open(id, fact, now) {
            let delivery = incident.event.delivery();
            self.quiet.note(&incident, &self.config, now.at);
            self.incidents.add(Arc::new(incident), &self.config);
            self.remember(delivery, id, now.at);
            return Ok(Moved { phase: true, freed: None });
        }
        let unknown = || Corrupt {
            seq: now.seq,
            fact: fact.name(),
            phase: "nothing".to_owned(),
            incident: id,
        };
        let moved = self.incidents.change(id, &self.config, unknown, |it| it.apply(fact, now))?;
        if moved.phase && self.stale.remove(&id) {
            self.looked_at = now.at;
        }
        if let Fact::Repeated { deliveries, .. } = fact {
            deliveries.iter().for_each(|it| self.remember(*it, id, now.at));
        }
        if let Fact::RecoveryReported { delivery, ends_at, .. } = fact {
            self.remember(*delivery, id, now.at);
            if let (Some(ends_at), Some(incident)) = (ends_at, self.incidents.get(&id)) {
                self.ended.note(&incident.event.sender(), &incident.fingerprint, *ends_at);
            }
        }
        if let Some(incident) = self.incidents.get(&id).filter(|it| it.is_over()) {
            self.quiet.note(incident, &self.config, now.at);
        }
        self.keep_history(id, fact, now);
        Ok(moved)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "all other facts are no fix's begin or end")]
    fn keep_history(&mut self, id: IncidentId, fact: &Fact, now: Circumstance<'_>) {
        match fact {
            Fact::FixStarted { attempt, plan, bring_up, .. } => {
                let record = FixRecord {
                    incident: id,
                    attempt: *attempt,
                    target: plan.target.clone(),
                    runbook: plan.runbook.clone(),
                    started_at: now.at,
                    ended_at: None,
                    failed: false,
                    bring_up: *bring_up,
                };
                push_bounded(&mut self.history, record, HISTORY_MAX);
                let from = now.at - HISTORY_AGE;
                while self.history.front().is_some_and(|it| it.started_at < from) {
                    self.history.pop_front();
                }
            }
            // What was not begun uses up no budget.
            Fact::AttemptReturned | Fact::FixRecalled { .. } => {
                let last = self.history.iter().rposition(|it| it.incident == id);
                last.map(|idx| self.history.remove(idx));
            }
            Fact::AttemptFailed | Fact::Resolved | Fact::Escalated { .. } | Fact::Closed { .. } => {
                let failed = !matches!(fact, Fact::Resolved);
                let open = self.history.iter_mut().rev().find(|it| it.incident == id);
                if let Some(record) = open.filter(|it| it.ended_at.is_none()) {
                    record.ended_at = Some(now.at);
                    record.failed = failed;
                }
            }
            _ => {}
        }
    }

    /// Returns the last input that was decided.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Returns the number of decisions so far; also the number of the last one.
    #[must_use]
    pub const fn n_decisions(&self) -> u64 {
        self.n_decisions
    }

    /// Returns what the last decision is known by; `None` before the first, and behind a
    /// snapshot of an older version.
    #[must_use]
    pub const fn last_decision(&self) -> Option<LastDecision> {
        self.last
    }

    /// Returns the configuration in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns how the configuration in force was given.
    #[must_use]
    pub const fn given(&self) -> &Given {
        &self.given
    }

    /// Returns one incident.
    #[must_use]
    pub fn incident(&self, id: IncidentId) -> Option<&Incident> {
        self.incidents.get(&id)
    }

    /// Returns the incidents that are not over, the oldest first.
    pub fn open_incidents(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.open()
    }

    /// Returns what has a deadline, the next first.
    pub fn deadlines(&self) -> impl Iterator<Item = (DateTime<Utc>, IncidentId)> + '_ {
        // What is kept quiet has one for all of it, under the name of no incident, and so have
        // stale plans. What a turn had no room for is due behind it: a new deadline each time.
        let stale = self.stale.first().map(|_| self.looked_at);
        let quiet = self.quiet.next().into_iter().chain(stale).min();
        let again = self.looked_at + AT_ONCE;
        let quiet = quiet.map(|at| (at.max(again), IncidentId::NONE));
        let is_before =
            move |it: &(DateTime<Utc>, IncidentId)| quiet.is_none_or(|(at, _)| it.0 <= at);
        let before = self.incidents.due().take_while(is_before);
        before.chain(quiet).chain(self.incidents.due().skip_while(is_before))
    }

    fn deadline(&self, incident: &Incident) -> Option<DateTime<Utc>> {
        self.incidents.deadline(incident.id)
    }
}

/// Returns how long an incident's target must stay well when no plan says it.
fn soak(fleet: &Fleet, incident: &Incident) -> Span {
    let target = incident.target.as_deref().and_then(|name| fleet.target(name));
    target.and_then(|it| it.soak).unwrap_or(fleet.policy.soak)
}

/// Returns how long a proof without a plan may take at most: the target may just be starting.
fn proof_within(fleet: &Fleet, incident: &Incident) -> Span {
    let target = incident.target.as_deref().and_then(|name| fleet.target(name));
    let start = target.map(Target::longest_start).unwrap_or_default();
    soak(fleet, incident).plus(fleet.policy.verify_within).plus(start)
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, max: usize) {
    if queue.len() == max {
        queue.pop_front();
    }
    queue.push_back(item);
}
