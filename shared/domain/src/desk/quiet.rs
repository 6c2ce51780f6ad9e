//! What is kept quiet: events that open no incident while a silence, a maintenance window, an
//! inhibiting incident or flapping stands in the way. They are remembered by fingerprint, and
//! looked at again when that ends: once each, in portions.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Desk, Turn, fleet::Fleet, settle::MOVES_MAX};
use crate::{
    event::{Event, json_len},
    fact::Fact,
    id::IncidentId,
    incident::{Incident, Notice},
    matcher::Subject,
    silence::{Cause, SILENCES_MAX, Silence, SilenceId, SilenceRequest},
    target::Target,
    view::{MutedView, SilenceView, SilencesView},
    wire::AnswerStatus,
};

/// Fingerprints that are kept quiet at once. A further one opens an incident, whose fixes are
/// held: so nothing is lost, and memory has a bound.
const MUTED_MAX: usize = 10_000;
/// What an incident inhibits is looked at again after this time even while that is open.
const INHIBITED_MAX: TimeDelta = TimeDelta::hours(24);
/// Size of an event that is kept quiet; of a larger one the payload and long texts are cut.
const EVENT_BYTES_MAX: usize = 16 * 1024;
/// Entries that a list shows.
const SHOWN_MAX: usize = 500;

/// One trouble that is kept quiet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Muted {
    pub(super) event: Event,
    pub(super) target: Option<String>,
    pub(super) fingerprint: String,
    pub(super) cause: Cause,
    pub(super) since: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
    pub(super) reason: String,
}

impl Muted {
    /// Returns until when a further event says that it goes on, when that must be kept: at the
    /// end of the quiet it is judged by it. Said before half of the time is over it is not kept,
    /// so that a sender that says it again and again makes few decisions.
    fn extended_by(&self, event: &Event, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let former = self.event.ends_at.filter(|it| *it < self.until)?;
        let ends_at = event.ends_at.filter(|it| former < *it)?;
        (former - at < (ends_at - at) / 2).then_some(ends_at)
    }
}

/// What stands in the way of an incident.
struct Obstacle {
    cause: Cause,
    until: DateTime<Utc>,
    why: String,
}

/// Silences, and what is kept quiet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Quiet {
    silences: BTreeMap<SilenceId, Silence>,
    muted: BTreeMap<String, Muted>,
    /// When what is kept quiet is looked at again.
    due: BTreeSet<(DateTime<Utc>, String)>,
    /// Open incidents that inhibit others, by the index of the rule, with the values of the
    /// labels that both must have in common.
    inhibitors: BTreeMap<(usize, IncidentId), Vec<String>>,
}

impl Quiet {
    pub(super) fn silences(&self) -> impl Iterator<Item = &Silence> {
        self.silences.values()
    }

    pub(super) fn muted(&self) -> impl Iterator<Item = &Muted> {
        self.muted.values()
    }

    /// Returns what is kept quiet, by fingerprint, behind one of them.
    pub(super) fn muted_after(&self, after: Option<&str>) -> impl Iterator<Item = &Muted> {
        use std::ops::Bound::{Excluded, Unbounded};
        let range = (after.map_or(Unbounded, Excluded), Unbounded);
        self.muted.range::<str, _>(range).map(|(_, it)| it)
    }

    pub(super) fn add_silence(&mut self, silence: Silence) {
        self.silences.insert(silence.id.clone(), silence);
    }

    /// Keeps one quiet, from now on or for another cause.
    pub(super) fn mute(&mut self, mut muted: Muted) {
        // Former versions kept it whole.
        muted.event = muted.event.shortened(EVENT_BYTES_MAX);
        self.unmute(&muted.fingerprint);
        self.due.insert((muted.until, muted.fingerprint.clone()));
        self.muted.insert(muted.fingerprint.clone(), muted);
    }

    pub(super) fn unmute(&mut self, fingerprint: &str) {
        if let Some(former) = self.muted.remove(fingerprint) {
            self.due.remove(&(former.until, former.fingerprint));
        }
    }

    /// The sender's word is good for longer.
    pub(super) fn extend(&mut self, fingerprint: &str, ends_at: DateTime<Utc>) {
        if let Some(muted) = self.muted.get_mut(fingerprint) {
            muted.event.ends_at = Some(ends_at);
        }
    }

    /// Ends a silence; what it kept quiet is due.
    pub(super) fn end_silence(&mut self, id: &SilenceId, at: DateTime<Utc>) {
        self.silences.remove(id);
        self.is_due(at, |cause| matches!(cause, Cause::Silence { id: of } if of == id));
    }

    /// What an incident inhibited is due when it is over.
    fn end_inhibition(&mut self, id: IncidentId, at: DateTime<Utc>) {
        let before = self.inhibitors.len();
        self.inhibitors.retain(|(_, of), _| *of != id);
        if self.inhibitors.len() < before {
            self.is_due(at, |cause| *cause == Cause::Inhibition { by: id });
        }
    }

    fn is_due(&mut self, at: DateTime<Utc>, concerns: impl Fn(&Cause) -> bool) {
        for muted in self.muted.values_mut().filter(|it| concerns(&it.cause) && at < it.until) {
            self.due.remove(&(muted.until, muted.fingerprint.clone()));
            muted.until = at;
            self.due.insert((at, muted.fingerprint.clone()));
        }
    }

    /// Returns when something is to be looked at.
    pub(super) fn next(&self) -> Option<DateTime<Utc>> {
        let silences = self.silences.values().map(|it| it.until).min();
        let muted = self.due.first().map(|(at, _)| *at);
        silences.into_iter().chain(muted).min()
    }

    /// Notes an incident that is open, or is so no more.
    pub(super) fn note(&mut self, incident: &Incident, fleet: &Fleet, at: DateTime<Utc>) {
        if fleet.inhibit.is_empty() {
            return;
        }
        if incident.is_over() {
            self.end_inhibition(incident.id, at);
        } else if incident.revision == 1 {
            self.note_inhibitor(incident, fleet);
        }
    }

    pub(super) fn note_inhibitor(&mut self, incident: &Incident, fleet: &Fleet) {
        if fleet.inhibit.is_empty() || incident.is_over() {
            return;
        }
        let event = incident.event.event();
        let target = incident.target.as_deref().and_then(|name| fleet.target(name));
        let subject = Subject { event: &event, target };
        for (idx, rule) in fleet.inhibit.iter().enumerate().filter(|(_, it)| it.when.fit(&subject))
        {
            let equal = rule.equal.iter().map(|name| subject.label(name).to_owned()).collect();
            self.inhibitors.insert((idx, incident.id), equal);
        }
    }

    /// Takes up another configuration: all that is quiet by it is due.
    pub(super) fn reconfigure<'a>(
        &mut self,
        open: impl Iterator<Item = &'a Incident>,
        fleet: &Fleet,
        at: DateTime<Utc>,
    ) {
        self.inhibitors.clear();
        for incident in open {
            self.note_inhibitor(incident, fleet);
        }
        self.is_due(at, |cause| {
            matches!(cause, Cause::Maintenance { .. } | Cause::Inhibition { .. } | Cause::Flapping)
        });
    }

    /// Returns the silence or window that holds for a subject and lasts longest.
    fn silenced(
        &self,
        fleet: &Fleet,
        subject: &Subject<'_>,
        at: DateTime<Utc>,
    ) -> Option<Obstacle> {
        let silences = self.silences.values();
        let silences = silences.filter(|it| it.is_active(at) && it.matchers.fit(subject));
        let silences = silences.map(|it| Obstacle {
            cause: Cause::Silence { id: it.id.clone() },
            until: it.until,
            why: told(&format!("silence {} of {}", it.id, it.by), it.until, &it.comment),
        });
        let windows = fleet.maintenance.iter().filter(|it| it.matchers.fit(subject));
        let windows = windows.filter_map(|it| {
            let until = it.active_until(at)?;
            let why = told(&format!("maintenance window `{}`", it.name), until, &it.reason);
            Some(Obstacle { cause: Cause::Maintenance { name: it.name.clone() }, until, why })
        });
        silences.chain(windows).max_by_key(|it| it.until)
    }

    fn inhibited(
        &self,
        fleet: &Fleet,
        subject: &Subject<'_>,
        at: DateTime<Utc>,
    ) -> Option<Obstacle> {
        for (idx, rule) in fleet.inhibit.iter().enumerate() {
            // What is a cause by the same rule is not its consequence, too.
            if !rule.mute.fit(subject) || rule.when.fit(subject) {
                continue;
            }
            let mut own = self.inhibitors.range((idx, IncidentId::NONE)..);
            let same = |values: &Vec<String>| {
                rule.equal.iter().zip(values).all(|(name, value)| subject.label(name) == value)
            };
            let found = own.by_ref().take_while(|((of, _), _)| *of == idx).find(|it| same(it.1));
            if let Some(((_, by), _)) = found {
                let why = format!("inhibited by {by}: {}", rule.when);
                let (cause, until) = (Cause::Inhibition { by: *by }, at + INHIBITED_MAX);
                return Some(Obstacle { cause, until, why });
            }
        }
        None
    }
}

fn told(what: &str, until: DateTime<Utc>, reason: &str) -> String {
    let until = until.format("%Y-%m-%dT%H:%M:%SZ");
    let colon = if reason.is_empty() { "" } else { ": " };
    format!("{what} until {until}{colon}{reason}")
}

impl Desk {
    /// Keeps a firing event quiet that would open an incident, if something stands in the way.
    pub(super) fn keep_quiet(
        &mut self,
        turn: &mut Turn,
        event: &Event,
        target: Option<&str>,
        fingerprint: &str,
    ) -> bool {
        if let Some(muted) = self.quiet.muted.get(fingerprint).filter(|it| turn.at < it.until) {
            let why = muted.reason.clone();
            let longer = muted.extended_by(event, turn.at);
            turn.answer(AnswerStatus::Suppressed, None, &format!("Suppressed: {why}."));
            if let Some(ends_at) = longer {
                let fingerprint = fingerprint.to_owned();
                let fact = Fact::SuppressionExtended { fingerprint, ends_at };
                self.record(turn, None, fact, format!("{} says that it goes on", event.source));
            }
            return true;
        }
        if MUTED_MAX <= self.quiet.muted.len() {
            return false;
        }
        let configured = target.and_then(|name| self.config.target(name));
        let found = self.obstacle(event, configured, turn.at);
        let found = found.or_else(|| self.flapping(fingerprint, turn.at));
        let Some(obstacle) = found else { return false };
        let why = obstacle.why.clone();
        self.record_muted(turn, event.clone(), target, fingerprint, obstacle);
        turn.answer(AnswerStatus::Suppressed, None, &format!("Suppressed: {why}."));
        true
    }

    /// Takes note that something that was kept quiet is over.
    pub(super) fn over_quietly(
        &mut self,
        turn: &mut Turn,
        source: &str,
        fingerprint: &str,
    ) -> bool {
        if !self.quiet.muted.contains_key(fingerprint) {
            return false;
        }
        let fact = Fact::SuppressionEnded { fingerprint: fingerprint.to_owned() };
        self.record(turn, None, fact, format!("{source} reports that it has ended"));
        let message = "It was suppressed, and has ended.";
        turn.answer(AnswerStatus::IncidentResolved, None, message);
        true
    }

    /// Ends the quiet of what is opened all the same: a diagnosis has found it to be a cause.
    pub(super) fn hear_again(&mut self, turn: &mut Turn, fingerprint: &str) {
        if self.quiet.muted.contains_key(fingerprint) {
            let fact = Fact::SuppressionEnded { fingerprint: fingerprint.to_owned() };
            self.record(turn, None, fact, "it is the cause of another incident");
        }
    }

    fn record_muted(
        &mut self,
        turn: &mut Turn,
        event: Event,
        target: Option<&str>,
        fingerprint: &str,
        obstacle: Obstacle,
    ) {
        let fact = Fact::Suppressed {
            event: Box::new(event.shortened(EVENT_BYTES_MAX)),
            target: target.map(str::to_owned),
            fingerprint: fingerprint.to_owned(),
            by: obstacle.cause,
            until: obstacle.until,
        };
        self.record(turn, None, fact, obstacle.why);
    }

    fn obstacle(
        &self,
        event: &Event,
        target: Option<&Target>,
        at: DateTime<Utc>,
    ) -> Option<Obstacle> {
        let subject = Subject { event, target };
        let silenced = self.quiet.silenced(&self.config, &subject, at);
        silenced.or_else(|| self.quiet.inhibited(&self.config, &subject, at))
    }

    /// Returns until when an open incident is silenced or its target is being maintained, and why.
    pub(super) fn silenced_until(
        &self,
        incident: &Incident,
        at: DateTime<Utc>,
    ) -> Option<(DateTime<Utc>, String)> {
        self.silence_of(incident, at).map(|it| (it.until, it.why))
    }

    /// Returns what silences an open incident, or maintains its target.
    pub(super) fn silenced_by(&self, incident: &Incident, at: DateTime<Utc>) -> Option<Cause> {
        self.silence_of(incident, at).map(|it| it.cause)
    }

    fn silence_of(&self, incident: &Incident, at: DateTime<Utc>) -> Option<Obstacle> {
        if self.quiet.silences.is_empty() && self.config.maintenance.is_empty() {
            return None;
        }
        let event = incident.event.event();
        let target = incident.target.as_deref().and_then(|name| self.config.target(name));
        self.quiet.silenced(&self.config, &Subject { event: &event, target }, at)
    }

    fn flapping(&self, fingerprint: &str, at: DateTime<Utc>) -> Option<Obstacle> {
        let limit = self.config.flapping?;
        let from = at - limit.within.to_delta();
        let last = self.incidents.former(fingerprint).and_then(|id| self.incidents.get(&id));
        let earlier = |it: &&Incident| self.incidents.get(&it.previous?);
        let chain = std::iter::successors(last, earlier);
        let wanted = usize::try_from(limit.opens).unwrap_or(usize::MAX);
        let n = chain.take(wanted).take_while(|it| from <= it.opened_at).count();
        (wanted <= n).then(|| {
            let until = at + limit.quiet.to_delta();
            let what = format!("flapping: {n} incidents within {}, suppressed", limit.within);
            Obstacle { cause: Cause::Flapping, until, why: told(&what, until, "") }
        })
    }

    /// Looks at everything whose quiet has ended.
    pub(super) fn look_again(&mut self, turn: &mut Turn) {
        let at = turn.at;
        let ended: Vec<_> = self
            .quiet
            .silences
            .values()
            .filter(|it| it.until <= at)
            .map(|it| it.id.clone())
            .collect();
        for id in ended {
            let fact = Fact::SilenceEnded { id: id.clone(), by: None };
            self.record(turn, None, fact, format!("silence {id} has ended by itself"));
        }
        let due = self.quiet.due.iter().take_while(|(due, _)| *due <= at).take(MOVES_MAX);
        let due: Vec<_> = due.map(|(_, fingerprint)| fingerprint.clone()).collect();
        for (n, fingerprint) in due.into_iter().enumerate() {
            // One is always looked at, or there would be no end. The rest stays due.
            let bytes = self.quiet.muted.get(&fingerprint).map_or(0, |it| json_len(&it.event));
            if 0 < n && !turn.has_room_for(bytes) {
                break;
            }
            self.look_at_muted(turn, &fingerprint);
        }
        self.expire_stale(turn);
        self.settle(turn);
    }

    fn look_at_muted(&mut self, turn: &mut Turn, fingerprint: &str) {
        let Some(muted) = self.quiet.muted.get(fingerprint).cloned() else { return };
        let target = self.config.target_of(&muted.event).map(|it| it.name.clone());
        let configured = target.as_deref().and_then(|name| self.config.target(name));
        // Flapping keeps nothing quiet twice in a row, or it would never be looked at.
        if let Some(obstacle) = self.obstacle(&muted.event, configured, turn.at) {
            let target = target.as_deref();
            return self.record_muted(turn, muted.event, target, fingerprint, obstacle);
        }
        if let Some(name) = muted.target.as_ref().filter(|_| target.is_none()) {
            let why = format!("target {name} was removed from the configuration");
            let fact = Fact::SuppressionEnded { fingerprint: fingerprint.to_owned() };
            return self.record(turn, None, fact, why);
        }
        // What a sender said beyond that time was not noted, and the end may be decided late.
        let end = turn.at.min(muted.until);
        let is_silent = muted.event.ends_at.is_some_and(|ends_at| ends_at <= end);
        let is_open = self.incidents.of_fingerprint(fingerprint).is_some();
        let why = match (is_open, is_silent) {
            (true, _) => "it has an open incident meanwhile",
            (false, true) => "it may be heard again; its sender's word was good until now only",
            (false, false) => "it is no longer suppressed, so it is evaluated again",
        };
        let fact = Fact::SuppressionEnded { fingerprint: fingerprint.to_owned() };
        self.record(turn, None, fact, why);
        if is_open || is_silent {
            return;
        }
        let mut event = muted.event;
        if let Some(starts_at) = event.starts_at.replace(turn.at) {
            let text = format!("{starts_at}; suppressed since {}", muted.since);
            event.annotations.insert("selfheal.starts_at".to_owned(), text);
        }
        if !self.join_flood(turn, &event, target.as_deref()) {
            self.open_incident(turn, event, target, fingerprint.to_owned());
        }
    }

    pub(super) fn silence(&mut self, turn: &mut Turn, request: &SilenceRequest, by: &str) {
        let refuse = |turn: &mut Turn, why: &str| turn.answer(AnswerStatus::Refused, None, why);
        if SILENCES_MAX <= self.quiet.silences.len() {
            return refuse(turn, "There are as many silences as there may be; end some.");
        }
        let id = SilenceId::derive(turn.at, turn.position);
        match Silence::new(id, request, by, turn.at) {
            Ok(silence) => {
                let why = told(
                    &format!("{by} silences {}", silence.matchers),
                    silence.until,
                    &silence.comment,
                );
                let message = format!("Silence {} lasts until {}.", silence.id, silence.until);
                self.record(turn, None, Fact::Silenced { silence: Box::new(silence) }, why);
                self.recall_fixes(turn, None);
                turn.answer(AnswerStatus::Done, None, &message);
            }
            Err(why) => refuse(turn, &why),
        }
    }

    pub(super) fn unsilence(&mut self, turn: &mut Turn, id: &SilenceId, by: String) {
        let Some(until) = self.quiet.silences.get(id).map(|it| it.until) else {
            let message = "There is no such silence, or it has ended.";
            return turn.answer(AnswerStatus::NotFound, None, message);
        };
        let why = format!("{by} ends silence {id}");
        self.record(turn, None, Fact::SilenceEnded { id: id.clone(), by: Some(by) }, why);
        self.tell_now(turn, until);
        turn.answer(AnswerStatus::Done, None, "The silence has ended.");
    }

    /// Lets those notices go that only waited for the end of a silence.
    fn tell_now(&mut self, turn: &mut Turn, until: DateTime<Utc>) {
        let waits = |it: &Notice| it.not_before == Some(until);
        let free = |it: &&Incident| self.silenced_until(it, turn.at).is_none();
        let over = self.incidents.wanting().filter(|it| it.is_over());
        let owing = self.incidents.open().chain(over).filter(|it| it.notices.iter().any(waits));
        let owed: Vec<_> = owing
            .filter(free)
            .take(MOVES_MAX)
            .map(|it| (it.id, it.notices.iter().filter(|it| waits(it)).map(Notice::name).collect()))
            .collect();
        for (id, notices) in owed {
            if !turn.has_room() {
                // They go at the time at which the silence would have ended.
                return;
            }
            let why = "it is not silenced any more";
            self.record(turn, Some(id), Fact::NoticesDue { notices }, why);
        }
    }

    /// Returns all silences, and what is kept quiet.
    #[must_use]
    pub fn silences(&self) -> SilencesView {
        let of = |id: &SilenceId| {
            let is_of = |it: &&Muted| matches!(&it.cause, Cause::Silence { id: of } if of == id);
            self.quiet.muted().filter(is_of).count()
        };
        let silences = self
            .quiet
            .silences()
            .map(|it| SilenceView { silence: it.clone(), n_suppressed: of(&it.id) });
        let muted = self.quiet.muted().take(SHOWN_MAX).map(|it| MutedView {
            fingerprint: it.fingerprint.clone(),
            kind: it.event.kind.to_string(),
            source: it.event.source.clone(),
            target: it.target.clone(),
            by: it.cause.clone(),
            since: it.since,
            until: it.until,
            reason: it.reason.clone(),
        });
        SilencesView {
            silences: silences.collect(),
            windows: self.config.maintenance.clone(),
            n_suppressed: self.quiet.muted.len(),
            suppressed: muted.collect(),
        }
    }
}
