//! Whom people hear from, and when: notices follow from facts, and so do escalations. A
//! notice waits for the end of quiet hours and for its place; then a timer lets it go.

use chrono::{DateTime, Utc};

use super::{Desk, Turn, fleet::Fleet, pace::Pace};
use crate::{
    event::{EVENT_FLOOD, Severity},
    fact::Fact,
    id::IncidentId,
    incident::{Call, Circumstance, Corrupt, Incident, Notice},
    notify::{Occasion, Receiver, Subject},
};

/// What follows from one fact.
#[derive(Default)]
struct Told {
    notices: Vec<(Notice, bool)>,
    calls: Vec<Call>,
}

impl Desk {
    /// Owes what a fact that was just applied tells people.
    pub(super) fn tell(
        &mut self,
        id: IncidentId,
        fact: &Fact,
        now: Circumstance<'_>,
    ) -> Result<(), Corrupt> {
        let fleet = self.config.clone();
        let Some(incident) = self.incidents.get(&id) else { return Ok(()) };
        let occasion = Occasion::of(fact).filter(|it| fleet.people().tells_of(*it));
        // In a storm people are told once, not once per target.
        let occasion = occasion.filter(|it| *it != Occasion::Storm || !self.storm_told);
        let quieted_by = occasion.and_then(|it| self.quieted_by(incident, it));
        // What is not told takes no place of what is.
        let mut scratch = quieted_by.map(|_| self.pace.clone());
        let pace = scratch.as_mut().unwrap_or(&mut self.pace);
        let told = match (fact, occasion) {
            (Fact::Paged { escalation, step }, _) => {
                page(pace, &fleet, incident, (escalation, *step), now)
            }
            (_, Some(occasion)) => occasion_told(pace, &fleet, incident, occasion, now),
            (_, None) => Told::default(),
        };
        self.note_flood(id, fact);
        if let Some(occasion) = occasion
            && !(told.notices.is_empty() && told.calls.is_empty())
        {
            if let Some(of) = quieted_by {
                return self.quiet(id, of, fact, now);
            }
            self.note_call(id, occasion, now.at);
        }
        self.owe(id, fact, now, told)
    }

    /// Owes notices and calls.
    fn owe(
        &mut self,
        id: IncidentId,
        fact: &Fact,
        now: Circumstance<'_>,
        mut told: Told,
    ) -> Result<(), Corrupt> {
        let fleet = self.config.clone();
        let is_nothing = told.notices.is_empty() && told.calls.is_empty();
        if is_nothing && self.incidents.get(&id).is_none_or(|it| it.calls.is_empty()) {
            return Ok(());
        }
        // Nobody is told while it is silenced; then they are, since it always ends.
        let until = self.incidents.get(&id).and_then(|it| self.silenced_until(it, now.at));
        for (notice, _) in told.notices.iter_mut().filter(|_| until.is_some()) {
            notice.not_before = notice.not_before.max(until.as_ref().map(|it| it.0));
        }
        let unknown = || Corrupt {
            seq: now.seq,
            fact: fact.name(),
            phase: "nothing".to_owned(),
            incident: id,
        };
        let telling = |it: &mut Incident| {
            if let Fact::Paged { escalation, .. } = fact {
                it.calls.retain(|call| call.escalation != *escalation);
            }
            for call in told.calls {
                it.calls.retain(|former| former.escalation != call.escalation);
                it.calls.push(call);
            }
            for (notice, is_urgent) in told.notices {
                it.owe(notice, is_urgent);
            }
            it.end_calls();
            Ok(())
        };
        self.incidents.change(id, &fleet, unknown, telling).map(drop)
    }

    /// Drops notices, escalations and places of those who are not configured any more.
    pub(super) fn forget_people(&mut self) {
        let fleet = self.config.clone();
        let people = fleet.people();
        self.pace.retain(|name| people.receiver(name).is_some());
        let is_known = |it: &Notice| it.to.is_empty() || people.receiver(&it.to).is_some();
        let goes_on = |it: &Call| {
            let steps = people.escalation(&it.escalation).map_or(0, |it| it.steps.len());
            usize::try_from(it.step).is_ok_and(|step| step < steps)
        };
        let is_stale =
            |it: &&Incident| !(it.notices.iter().all(is_known) && it.calls.iter().all(goes_on));
        let over = self.incidents.wanting().filter(|it| it.is_over());
        let all = self.incidents.open().chain(over);
        let stale: Vec<_> = all.filter(is_stale).map(|it| it.id).collect();
        for id in stale {
            let unknown = || Corrupt {
                seq: self.n_decisions,
                fact: "configured",
                phase: "nothing".to_owned(),
                incident: id,
            };
            let changed = self.incidents.change(id, &fleet, unknown, |it| {
                it.notices.retain(is_known);
                it.calls.retain(goes_on);
                Ok(())
            });
            debug_assert!(changed.is_ok(), "it was found here");
        }
    }

    /// Lets notices go whose time has come, and takes the steps of escalations that are due.
    pub(super) fn tell_due(&mut self, turn: &mut Turn, id: IncidentId) {
        let Some(incident) = self.incidents.get(&id) else { return };
        let is_due = |at: DateTime<Utc>| at <= turn.at;
        let waited = incident.notices.iter().filter(|it| it.not_before.is_some_and(is_due));
        let notices: Vec<_> = waited.map(Notice::name).collect();
        let calls = incident.calls.iter().filter(|it| is_due(it.due));
        let calls: Vec<_> = calls.map(|it| (it.escalation.clone(), it.step)).collect();
        if !notices.is_empty() {
            let why = format!("waiting time has ended for {}", notices.join(", "));
            self.record(turn, Some(id), Fact::NoticesDue { notices }, why);
        }
        for (escalation, step) in calls {
            let why = format!("not acknowledged: step {} of `{escalation}`", step + 1);
            self.record(turn, Some(id), Fact::Paged { escalation, step }, why);
        }
    }
}

fn occasion_told(
    pace: &mut Pace,
    fleet: &Fleet,
    incident: &Incident,
    occasion: Occasion,
    now: Circumstance<'_>,
) -> Told {
    let people = fleet.people();
    let event = incident.event.event();
    let target = incident.target.as_deref().and_then(|name| fleet.target(name));
    let audience = people.audience(
        occasion,
        &Subject {
            severity: incident.event.severity,
            kind: incident.event.kind.as_str(),
            target: incident.named_target(),
            labels: &event.labels,
            target_labels: target.map(|it| &it.labels),
        },
    );
    let mut names = audience.receivers;
    let mut calls = Vec::new();
    for escalation in audience.escalations.iter().filter_map(|it| people.escalation(it)) {
        let mut next = 0;
        if let Some(first) = escalation.steps.first().filter(|it| it.after.as_millis() == 0) {
            let new = first.tell.iter().filter(|it| !names.contains(it)).cloned();
            names.extend(new.collect::<Vec<_>>());
            next = 1;
        }
        if incident.acknowledged_by.is_none() {
            calls.extend(call(fleet, &escalation.name, next, occasion, now.at));
        }
    }
    if !occasion.calls() {
        names.retain(|name| incident.told.contains_key(name));
    }
    let text = now.reason.to_owned();
    let owed = names.iter().filter_map(|name| people.receiver(name));
    let notices = owed.map(|it| notice(pace, incident, it, occasion, text.clone(), now));
    Told { notices: notices.collect(), calls }
}

/// The next step of an escalation: nobody has acknowledged.
fn page(
    pace: &mut Pace,
    fleet: &Fleet,
    incident: &Incident,
    (name, step): (&str, u32),
    now: Circumstance<'_>,
) -> Told {
    let mut told = Told::default();
    let Some(former) = incident.calls.iter().find(|it| it.escalation == name) else {
        return told;
    };
    let people = fleet.people();
    let steps = people.escalation(name).map(|it| it.steps.as_slice()).unwrap_or_default();
    let present = usize::try_from(step).ok().and_then(|idx| steps.get(idx));
    let known = incident.resolution.as_deref().or(incident.analysis.as_deref());
    let text = match known {
        Some(known) => format!("{known}\n{}", now.reason),
        None => now.reason.to_owned(),
    };
    let names = present.map(|it| it.tell.as_slice()).unwrap_or_default();
    for receiver in names.iter().filter_map(|it| people.receiver(it)) {
        told.notices.push(notice(pace, incident, receiver, former.occasion, text.clone(), now));
    }
    told.calls.extend(call(fleet, name, step + 1, former.occasion, now.at));
    told
}

/// Returns what is due after a step of an escalation, if it has a next one.
fn call(
    fleet: &Fleet,
    escalation: &str,
    step: u32,
    occasion: Occasion,
    at: DateTime<Utc>,
) -> Option<Call> {
    let steps = &fleet.people().escalation(escalation)?.steps;
    let next = steps.get(usize::try_from(step).ok()?)?;
    let due = at + next.after.to_delta();
    Some(Call { escalation: escalation.to_owned(), step, due, occasion })
}

/// Makes a notice, with the time that it must wait.
fn notice(
    pace: &mut Pace,
    incident: &Incident,
    to: &Receiver,
    occasion: Occasion,
    text: String,
    now: Circumstance<'_>,
) -> (Notice, bool) {
    let urgent = to.quiet.map_or(Severity::Critical, |it| it.urgent);
    let is_urgent = urgent <= incident.event.severity;
    let quiet_end = |at| to.quiet.filter(|_| !is_urgent).and_then(|it| it.end(at));
    let waits = |it: &Notice| it.to == to.name && it.not_before.is_some();
    let has_place = !is_urgent && incident.notices.iter().any(waits);
    let mut at = quiet_end(now.at).unwrap_or(now.at);
    if let Some(rates) = to.rate.as_ref().filter(|_| !has_place) {
        // That there is a flood does not stand behind what the flood has brought.
        let is_first = is_urgent || incident.event.kind.as_str() == EVENT_FLOOD;
        at = pace.place(&to.name, rates, at, is_first);
        at = quiet_end(at).unwrap_or(at);
    }
    let target = incident.named_target().unwrap_or("unknown");
    let notice = Notice {
        id: format!("{}-{}", now.seq, to.name),
        title: format!("{}: {} on {target}", occasion.words(), incident.event.kind),
        text,
        occasion,
        to: to.name.clone(),
        not_before: Some(at).filter(|at| now.at < *at),
        tries: 0,
    };
    (notice, is_urgent)
}
