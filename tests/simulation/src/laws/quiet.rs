//! What is kept quiet: every silence ends, and what it kept quiet is looked at again, once.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    config::Config,
    event::{Delivery, EVENT_FLOOD, Event},
    fact::{Decision, Fact},
};

use crate::{clock::utc, world::World};

/// What is due is looked at so soon, when nothing goes wrong: many come in portions.
const LOOKED_AT_WITHIN: TimeDelta = TimeDelta::seconds(60);

/// So many are looked at for one input, however large they are.
const DUE_AT_ONCE: usize = 256;

/// How the reason ends for which a sender's own word ends the quiet.
const OVER: &str = "reports that it has ended";

/// One trouble that is kept quiet.
#[derive(Debug)]
struct Kept {
    event: Event,
    target: Option<String>,
    until: DateTime<Utc>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Quiets {
    /// By fingerprint.
    kept: BTreeMap<String, Kept>,
    /// Events that were kept quiet, and may open an incident now.
    free: BTreeSet<Delivery>,
    /// What a batch has ended, and when.
    ended: BTreeMap<String, (Kept, DateTime<Utc>)>,
    /// Fingerprints that the batch has opened or that were over by their sender's word.
    answered: BTreeSet<String>,
    /// Whether an event of the batch joined the incident of a flood.
    has_flood: bool,
    /// Until when the word of a sender is believed at least, by fingerprint.
    words: BTreeMap<String, DateTime<Utc>>,
}

impl Quiets {
    /// Takes a decision. Returns whether it may be about an event that was decided about before.
    pub(super) fn decide(&mut self, decision: &Decision) -> bool {
        let at = decision.at;
        match &decision.fact {
            Fact::Suppressed { event, target, fingerprint, until, .. } => {
                let delivery = event.delivery();
                let former = self.kept.remove(fingerprint);
                let is_again = former.is_some_and(|it| it.event.delivery() == delivery);
                let (event, target) = ((**event).clone(), target.clone());
                let kept = Kept { event, target, until: *until };
                self.kept.insert(fingerprint.clone(), kept);
                is_again
            }
            Fact::SuppressionExtended { fingerprint, ends_at } => {
                if let Some(it) = self.kept.get_mut(fingerprint) {
                    it.event.ends_at = Some(*ends_at);
                }
                false
            }
            Fact::SuppressionEnded { fingerprint } => {
                if decision.reason.ends_with(OVER) {
                    self.answered.insert(fingerprint.clone());
                }
                if let Some(it) = self.kept.remove(fingerprint) {
                    self.free.insert(it.event.delivery());
                    self.ended.insert(fingerprint.clone(), (it, at));
                }
                false
            }
            Fact::Opened { event, fingerprint, .. } => {
                self.answered.insert(fingerprint.clone());
                self.has_flood |= event.kind.as_str() == EVENT_FLOOD;
                self.free.remove(&event.delivery())
            }
            Fact::Repeated { event, .. } => {
                self.has_flood |= event.kind.as_str() == EVENT_FLOOD;
                false
            }
            _ => false,
        }
    }

    /// Returns whether an event was kept quiet, and may be counted once more for an incident that
    /// another one has opened: its copies come late.
    pub(super) fn may_count(&mut self, delivery: Delivery) -> bool {
        self.free.remove(&delivery)
    }

    /// A sender says that something goes on, and until when its word is good. Of a repeat at least
    /// the first half of that time counts: more often need not be noted.
    pub(super) fn said(&mut self, event: &Event, at: DateTime<Utc>, config: &Config) {
        let Some(ends_at) = event.ends_at else { return };
        let fingerprint = event.fingerprint(config.target_of(event).map(|it| it.name.as_str()));
        self.words.insert(fingerprint, at + (ends_at - at) / 2);
    }

    /// Returns whether a trouble is kept quiet, or was so until this batch: a further event of
    /// it is not decided about by itself.
    pub(super) fn keeps(&self, fingerprint: &str) -> bool {
        self.kept.contains_key(fingerprint) || self.ended.contains_key(fingerprint)
    }

    /// Looks at what a batch has ended: each has its incident, one of its own or that of a
    /// flood, unless it is over. `open` are the fingerprints of incidents that were open before.
    pub(super) fn batch_is_over(
        &mut self,
        open: &BTreeSet<String>,
        config: &Config,
    ) -> Option<String> {
        let answered = std::mem::take(&mut self.answered);
        let has_flood = std::mem::take(&mut self.has_flood);
        let is_lost = |(fingerprint, (it, at)): &(String, (Kept, DateTime<Utc>))| {
            let is_believed = self.words.get(fingerprint).is_some_and(|until| *at < *until);
            let is_silent = !is_believed && it.event.ends_at.is_some_and(|ends_at| ends_at <= *at);
            let is_gone = it.target.is_some() && config.target_of(&it.event).is_none();
            let has_incident = answered.contains(fingerprint) || open.contains(fingerprint);
            let goes_on = self.kept.contains_key(fingerprint);
            !(has_incident || has_flood || is_silent || is_gone || goes_on)
        };
        let lost = std::mem::take(&mut self.ended).into_iter().find(is_lost);
        lost.map(|(fingerprint, (_, at))| format!("{fingerprint} at {at} has no incident"))
    }

    /// Returns how large the decisions about all that is due would be, if one batch held them.
    pub(super) fn bytes_due(&self, at: DateTime<Utc>) -> usize {
        let due = self.kept.values().filter(|it| it.until <= at).take(DUE_AT_ONCE);
        due.filter_map(|it| serde_json::to_vec(&it.event).ok()).map(|it| it.len()).sum()
    }

    /// Returns whether something about a target is kept quiet.
    pub(super) fn is_about(&self, target: &str) -> bool {
        self.kept.values().any(|it| it.target.as_deref() == Some(target))
    }

    pub(super) fn at_the_end(&self, world: &Rc<World>) {
        let now = utc(world.sim.now());
        let late = self.kept.iter().find(|(_, it)| it.until + LOOKED_AT_WITHIN < now);
        if let Some((fingerprint, it)) = late {
            let n = self.kept.len();
            let why = format!("{fingerprint} was to be quiet until {}, and {n} are so", it.until);
            world.fail("the end of a silence looks at everything again", why);
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::{
        event::EventType,
        id::{IncidentId, Position},
        silence::Cause,
    };

    use super::*;

    fn event(n: u64) -> Event {
        Event::new(format!("e{n}"), EventType::known("disk_full"), "outside")
    }

    fn decision(fact: Fact, reason: &str) -> Decision {
        Decision {
            seq: 1,
            at: utc(9),
            cause: Position::new(1, 0),
            incident: None,
            fact,
            reason: reason.to_owned(),
        }
    }

    fn suppressed(event: Event) -> Decision {
        let fact = Fact::Suppressed {
            fingerprint: event.fingerprint(None),
            event: Box::new(event),
            target: None,
            by: Cause::Flapping,
            until: utc(9),
        };
        decision(fact, "kept quiet")
    }

    fn ended(reason: &str) -> Decision {
        let fact = Fact::SuppressionEnded { fingerprint: event(1).fingerprint(None) };
        decision(fact, reason)
    }

    fn opened(event: Event) -> Decision {
        let fact = Fact::Opened {
            fingerprint: event.fingerprint(None),
            event: Box::new(event),
            target: None,
            previous: None,
        };
        let incident = Some(IncidentId::derive(utc(9), Position::new(1, 0), "incident"));
        Decision { incident, ..decision(fact, "reported") }
    }

    /// Returns what the law says of a batch after which nothing is suppressed any more.
    fn said(event: Event, open: &[String], batch: &[Decision]) -> Option<String> {
        let mut quiets = Quiets::default();
        assert!(!quiets.decide(&suppressed(event.clone())));
        assert!(quiets.keeps(&event.fingerprint(None)));
        for decision in batch {
            quiets.decide(decision);
        }
        quiets.batch_is_over(&open.iter().cloned().collect(), &Config::default())
    }

    #[test]
    fn what_is_not_kept_quiet_any_more_is_lost_unless_it_has_an_incident_or_is_over() {
        let again = "it is no longer suppressed, so it is evaluated again";
        let silent = Event { ends_at: Some(utc(9)), ..event(1) };
        let other = Event { kind: EventType::known("odd"), ..event(2) };
        let flood = Event { kind: EventType::known(EVENT_FLOOD), ..event(2) };
        let own = event(1).fingerprint(None);
        for (scene, event, open, batch, is_lost) in [
            ("nothing follows", event(1), vec![], vec![ended(again)], true),
            ("another is opened", event(1), vec![], vec![ended(again), opened(other)], true),
            ("it is opened", event(1), vec![], vec![ended(again), opened(event(1))], false),
            ("it is open", event(1), vec![own], vec![ended(again)], false),
            ("it joins a flood", event(1), vec![], vec![ended(again), opened(flood)], false),
            ("it is over", event(1), vec![], vec![ended("x reports that it has ended")], false),
            ("its sender is silent", silent, vec![], vec![ended(again)], false),
            (
                "it is quiet again",
                event(1),
                vec![],
                vec![ended(again), suppressed(event(1))],
                false,
            ),
            ("it stays quiet", event(1), vec![], vec![], false),
        ] {
            assert_eq!(said(event, &open, &batch).is_some(), is_lost, "{scene}");
        }
    }
}
