//! What events do: open, repeat, recover; and who is whose symptom.

use serde_json::Value;

use super::{
    Desk, Turn,
    flood::ANALYZER,
    incidents::stays_with,
    observable::Proof,
    settle::{CONFIGURATION, MOVES_MAX},
};
use crate::{
    event::{self, Delivery, Event, EventType, Severity, Status},
    fact::{Escalation, Fact},
    id::IncidentId,
    incident::{Incident, Phase, Purpose},
    wire::AnswerStatus,
};

/// The answer to an event that opened an incident, as documented.
const OPENED: &str = "Incident logged and under analysis.";
/// The source of what our own monitors report.
pub(super) const MONITOR: &str = "selfheal/monitor";
/// The answer to a further event of the same trouble.
const UPDATED: &str = "The event belongs to an open incident.";
/// The answer to who says that something has ended which others have reported.
pub(super) const NOT_YOURS: &str = "The incident was reported by others; only they, or an operator, can say that it has ended or that somebody is looking at it.";

impl Desk {
    pub(super) fn on_event(&mut self, turn: &mut Turn, event: &Event) {
        let delivery = event.delivery();
        if let Some(id) = self.known_delivery(delivery, turn.at) {
            // The sender did not hear us the first time: it hears the same now, and nothing
            // is decided.
            let opener = self.incidents.get(&id).map(|it| it.event.delivery());
            let (status, message) = match event.status {
                Status::Firing if opener.as_ref() == Some(&delivery) => {
                    (AnswerStatus::IncidentOpened, OPENED)
                }
                Status::Firing if id == IncidentId::NONE => {
                    (AnswerStatus::Suppressed, "It had ended already.")
                }
                Status::Firing | Status::Acknowledged => (AnswerStatus::IncidentUpdated, UPDATED),
                Status::Resolved => {
                    (AnswerStatus::IncidentResolved, "This recovery was reported before.")
                }
                Status::Change => (AnswerStatus::Done, "This change was reported before."),
            };
            turn.answer(status, Some(id).filter(|it| *it != IncidentId::NONE), message);
            return;
        }
        let target = self.config.target_of(event).map(|it| it.name.clone());
        let fingerprint = event.fingerprint(target.as_deref());
        let open = self.incidents.of_fingerprint(&fingerprint);
        let open = open.or_else(|| self.opened_before(event, target.as_deref()));
        let open = open.or_else(|| self.opened_without_origin(event));
        match (event.status, open) {
            (Status::Firing, None) => {
                if self.is_over_already(turn, event, &fingerprint) {
                    return;
                }
                if self.keep_quiet(turn, event, target.as_deref(), &fingerprint) {
                    return;
                }
                if self.join_flood(turn, event, target.as_deref()) {
                    return;
                }
                let id = self.open_incident(turn, event.clone(), target, fingerprint);
                turn.answer(AnswerStatus::IncidentOpened, Some(id), OPENED);
                self.settle(turn);
            }
            (Status::Firing, Some(id)) => {
                self.on_repeat(turn, id, delivery, event);
                if let Some(target) = target {
                    self.find_target(turn, id, target, &event.source);
                }
                turn.answer(AnswerStatus::IncidentUpdated, Some(id), UPDATED);
            }
            (Status::Resolved, None) => {
                if self.over_quietly(turn, &event.source, &fingerprint) {
                    return;
                }
                self.note_recovery(turn, event, &fingerprint);
                let message = "Nothing is open for this; there is nothing to resolve.";
                turn.answer(AnswerStatus::IncidentResolved, None, message);
            }
            (Status::Resolved, Some(id)) if self.is_of_before(id, event) => {
                self.note_recovery(turn, event, &fingerprint);
                let message = "It ended before the open incident began; that stays open.";
                turn.answer(AnswerStatus::IncidentUpdated, Some(id), message);
            }
            (Status::Resolved, Some(id)) if !self.may_speak(id, event) => {
                turn.answer(AnswerStatus::Suppressed, Some(id), NOT_YOURS);
            }
            (Status::Resolved, Some(id)) => self.on_recovery(turn, id, event, delivery),
            (Status::Acknowledged, open) => self.on_acknowledgement(turn, open, event),
            (Status::Change, _) => self.on_change(turn, target, event, delivery),
        }
    }

    /// Returns the open incident of an event that was opened before its target was configured:
    /// under the fingerprint of the event alone.
    fn opened_before(&self, event: &Event, target: Option<&str>) -> Option<IncidentId> {
        let id = self.incidents.of_fingerprint(&event.fingerprint(None))?;
        let incident = self.incidents.get(&id)?;
        (target.is_some() && incident.target.as_deref() == target).then_some(id)
    }

    /// Returns the open incident of an event that was opened before origins were known.
    fn opened_without_origin(&self, event: &Event) -> Option<IncidentId> {
        event.origin.as_ref()?;
        let own = event.fingerprint.as_ref()?;
        let id = self.incidents.of_fingerprint(&format!("{}#{own}", event.source))?;
        self.incidents.get(&id).filter(|it| it.event.origin.is_none()).map(|it| it.id)
    }

    /// Returns whether an event may say of an open incident that it has ended, or that somebody
    /// looks at it: it is of a sender that has reported it, of one of our own agents, or of an
    /// operator.
    pub(super) fn may_speak(&self, id: IncidentId, event: &Event) -> bool {
        let Some(origin) = &event.origin else { return true };
        let Some(incident) = self.incidents.get(&id) else { return false };
        let opener = match incident.event.origin.as_deref() {
            Some(opener) => opener.name == origin.name,
            // In a log that knew no origins; our own agents have none either.
            None => *incident.event.source == *event.source,
        };
        let has_reported = |it: &String| event::origin_of(it) == Some(&origin.name);
        origin.operator || opener || incident.firing.iter().any(has_reported)
    }

    /// Looks at an incident that fitted no target, now that one is configured for it.
    fn find_target(&mut self, turn: &mut Turn, id: IncidentId, target: String, by: &str) {
        let waits = Phase::Escalated(Escalation::UnknownTarget);
        if self.incidents.get(&id).is_some_and(|it| it.target.is_none() && it.phase == waits) {
            let why = format!("{target} is configured now, and {by} reports it again");
            let fact = Fact::Retried { by: by.to_owned(), target: Some(target) };
            self.record(turn, Some(id), fact, why);
            self.settle(turn);
        }
    }

    /// Opens an incident and finds its place among the others.
    pub(super) fn open_incident(
        &mut self,
        turn: &mut Turn,
        event: Event,
        target: Option<String>,
        fingerprint: String,
    ) -> IncidentId {
        self.hear_again(turn, &fingerprint);
        let id = IncidentId::derive(turn.at, turn.position, &fingerprint);
        let kind = event.kind.clone();
        let gone = event.target.clone().filter(|_| event.source == MONITOR);
        let previous = self.incidents.former(&fingerprint);
        let why = match (&target, previous) {
            (Some(target), None) => format!("{} reports {} of {target}", event.source, event.kind),
            (Some(target), Some(former)) => {
                format!("{} reports {} of {target} again, after {former}", event.source, event.kind)
            }
            (None, _) => {
                format!("{} reports {}; no configured target fits", event.source, event.kind)
            }
        };
        let fact =
            Fact::Opened { event: Box::new(event), target: target.clone(), fingerprint, previous };
        self.record(turn, Some(id), fact, why);
        match target {
            Some(target) => self.correlate(turn, id, &target),
            // Under way when its target was removed.
            None if gone.is_some() => {
                let name = gone.unwrap_or_default();
                let why = format!("target {name} is not configured any more");
                let fact = Fact::Closed { by: CONFIGURATION.to_owned() };
                self.record(turn, Some(id), fact, why);
            }
            // Without a target there is nothing to look at, and nothing to heal.
            None => {
                let why = unknown_target(kind.as_str());
                self.escalate(turn, id, Escalation::UnknownTarget, why);
            }
        }
        id
    }

    /// Makes a new incident the symptom of what its target needs, and what needs its
    /// target a symptom of it.
    fn correlate(&mut self, turn: &mut Turn, id: IncidentId, target: &str) {
        if self.seek_cause(turn, id)
            && let Some(event) = self.incidents.get(&id).map(|it| it.event.event().clone())
        {
            self.report_beside(turn, id, &event);
        }
        if self.incidents.get(&id).is_none_or(|it| it.phase != Phase::Diagnosing) {
            return;
        }
        let waiting = |it: &&Incident| {
            matches!(
                it.phase,
                Phase::Diagnosing
                    | Phase::RetryWaiting { .. }
                    | Phase::Proposed { .. }
                    | Phase::AwaitingApproval { .. }
            )
        };
        let dependents = self.config.dependents(target).into_iter();
        let on_them = dependents.flat_map(|it| self.incidents.on_target(&it.name));
        let mut symptoms: Vec<_> = on_them.filter(waiting).map(|it| it.id).collect();
        symptoms.sort_unstable();
        // The others find their cause when they are diagnosed.
        symptoms.truncate(MOVES_MAX);
        for symptom in symptoms {
            let why = format!("a symptom of {target}, which it needs: {id}");
            self.record(turn, Some(symptom), Fact::BecameSymptom { of: id }, why);
        }
    }

    /// Makes an incident that is being diagnosed a symptom, if its cause has an incident:
    /// one on a target that its own needs, or another one on its own target.
    pub(super) fn seek_cause(&mut self, turn: &mut Turn, id: IncidentId) -> bool {
        let Some(incident) = self.incidents.get(&id) else { return false };
        let Some(target) = incident.target.clone() else { return false };
        let is_cause = |it: &&Incident| {
            let elsewhere = it.target.as_deref() != Some(&target);
            let before = !elsewhere && !matches!(it.phase, Phase::Escalated(_));
            // What was found well and is only being proven so is no cause.
            let is_sick = !matches!(
                it.phase,
                Phase::Symptom { .. } | Phase::Verifying { purpose: Purpose::Recheck { .. }, .. }
            );
            let asks_the_same = !elsewhere && self.answers_soon(incident, it);
            it.id != id && (((elsewhere || before) && is_sick) || asks_the_same)
        };
        // What is needed counts more than what stands beside, and what is being healed
        // more than what a person has; then the oldest counts most.
        let with_person = |it: &Incident| matches!(it.phase, Phase::Escalated(_));
        let beside = |it: &Incident| it.target.as_deref() == Some(&target);
        let needed = self.config.dependencies(&target);
        let names = needed.iter().map(|it| it.name.as_str()).chain([target.as_str()]);
        let found = names.flat_map(|name| self.incidents.on_target(name)).filter(is_cause);
        let found = found.min_by_key(|it| (with_person(it), beside(it), it.id));
        let Some((of, on)) = found.map(|it| (it.id, it.target.clone().unwrap_or_default())) else {
            return false;
        };
        let why = if on == target {
            format!("{target} has an open incident already: {of}")
        } else {
            format!("a symptom of {on}, which {target} needs: {of}")
        };
        self.record(turn, Some(id), Fact::BecameSymptom { of }, why);
        true
    }

    /// Returns whether what an incident asks about its target is being answered for another one,
    /// or was, and a person has it.
    fn answers_soon(&self, incident: &Incident, other: &Incident) -> bool {
        let is_rechecked =
            matches!(&other.phase, Phase::Verifying { purpose: Purpose::Recheck { .. }, .. });
        let is_rechecked = is_rechecked && self.proof_of(incident) == Proof::Checks;
        (is_rechecked && incident.asks_the_same_as(other)) || stays_with(incident, other)
    }

    /// Opens an incident on a target that was found to be the cause of another one.
    pub(super) fn open_cause(
        &mut self,
        turn: &mut Turn,
        target: &str,
        because: &str,
    ) -> Option<IncidentId> {
        self.config.target(target)?;
        let kind = EventType::known("service_down");
        let id = format!("{}/{target}", turn.position);
        let mut event = Event::new(id, kind, ANALYZER);
        event.target = Some(target.to_owned());
        event.severity = Severity::Critical;
        event.starts_at = Some(turn.at);
        event.annotations.insert("because".to_owned(), because.to_owned());
        let fingerprint = event.fingerprint(Some(target));
        if let Some(open) = self.incidents.of_fingerprint(&fingerprint) {
            return Some(open);
        }
        Some(self.open_incident(turn, event, Some(target.to_owned()), fingerprint))
    }

    /// Ends a verification when a monitor tells that the target, which it has seen well, has
    /// become sick since: the soak is broken, whoever does the verification.
    pub(super) fn sick_again(&mut self, turn: &mut Turn, id: IncidentId, event: &Event) {
        let Some(Phase::Verifying { purpose, since }) =
            self.incidents.get(&id).map(|it| it.phase.clone())
        else {
            return;
        };
        let starts_at = event.starts_at.unwrap_or(turn.at);
        let seen_well = event.payload.get("seen_well").and_then(Value::as_bool);
        if event.source == MONITOR && since < starts_at && seen_well == Some(true) {
            let why = "it became unhealthy again during verification";
            self.record(turn, Some(id), Fact::NotVerified { report: None }, why);
            self.disprove(turn, id, &purpose, &[], why);
        }
    }

    fn on_recovery(&mut self, turn: &mut Turn, id: IncidentId, event: &Event, delivery: Delivery) {
        let why = format!("{} reports that it has ended", event.source);
        // Only the sender of the incident says by the same clock when it ended.
        let opener = self.incidents.get(&id).map(|it| it.event.sender() == event.sender());
        let ends_at = event.ends_at.filter(|_| opener == Some(true));
        let by = self.incidents.get(&id).and_then(|it| one_of_several(it, event));
        self.record(turn, Some(id), Fact::RecoveryReported { delivery, ends_at, by }, why);
        self.may_be_over(turn, id, &format!("{} reports that it has ended", event.source));
        let over = self.incidents.get(&id).is_none_or(Incident::is_over);
        let is_firing = self.incidents.get(&id).is_some_and(|it| !it.firing.is_empty());
        let message = match (over, is_firing) {
            (true, _) => "The incident is closed.",
            (false, true) => "Another sender still reports it.",
            (false, false) => "Recovery is being verified.",
        };
        turn.answer(AnswerStatus::IncidentResolved, Some(id), message);
        self.agent_back(turn, event);
        self.settle(turn);
    }

    /// Looks whether a trouble is over whose sender does not say any more that it goes on.
    pub(super) fn end_lease(&mut self, turn: &mut Turn, id: IncidentId) {
        if self.sum_up(turn, id) {
            return;
        }
        let source = self.incidents.get(&id).map(|it| it.event.source.to_string());
        let source = source.unwrap_or_default();
        let why = format!("{source} has not said again that it goes on");
        self.record(turn, Some(id), Fact::LeaseEnded, why);
        self.may_be_over(turn, id, &format!("{source} is silent about it"));
    }

    pub(super) fn may_be_over(&mut self, turn: &mut Turn, id: IncidentId, because: &str) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let proof = self.proof_of(incident);
        let cause = incident.symptom_of().and_then(|of| self.incidents.get(&of));
        let cause_waits =
            cause.is_some_and(|it| !it.is_over() && !matches!(it.phase, Phase::Escalated(_)));
        match &incident.phase {
            Phase::Fixing { .. } | Phase::Undoing { .. } | Phase::Verifying { .. } => {}
            Phase::Symptom { .. } if cause_waits && proof == Proof::Checks => {}
            Phase::Over(_) => {}
            Phase::Diagnosing
            | Phase::RetryWaiting { .. }
            | Phase::Proposed { .. }
            | Phase::AwaitingApproval { .. }
            | Phase::Symptom { .. }
            | Phase::Escalated(_) => match proof {
                Proof::Checks => {
                    let why = format!("{because}; fresh samples must prove it");
                    self.record(turn, Some(id), Fact::RecheckStarted, why);
                }
                // Another one says that it goes on.
                Proof::Sender(_) if !incident.firing.is_empty() => {}
                Proof::Sender(unproven) => {
                    let why = format!("{because}; {unproven}");
                    self.record(turn, Some(id), Fact::SelfResolved, why);
                }
            },
        }
    }
}

/// Returns the sender of a recovery, when its word is not that of all: another one has reported the
/// same trouble.
fn one_of_several(incident: &Incident, event: &Event) -> Option<String> {
    // What an operator says counts for all of them.
    if event.origin.as_ref().is_some_and(|it| it.operator) {
        return None;
    }
    let sender = event.sender();
    // In a log that knew no origins the source alone stands for a sender.
    let others = incident.firing.iter().any(|it| **it != *sender && *it != event.source);
    others.then(|| sender.into_owned())
}

/// Returns what a person is told about an event that fits no target.
fn unknown_target(kind: &str) -> &'static str {
    match kind {
        event::AGENT_DOWN => "a Self-Heal agent stopped unexpectedly; check its log and restart it",
        event::ZONE_UNSERVED => {
            "no agent serves a zone that targets are in; start one there, or see why it stopped"
        }
        event::LEDGER_FOREIGN => {
            "somebody else writes into the ledger, which decides nothing; `selfheal doctor` tells what and where: see who may publish to the broker, and change the passwords"
        }
        _ => "no configured target fits the event; add one, or a selector that finds it",
    }
}
