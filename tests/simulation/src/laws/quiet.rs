//! What is kept quiet: every silence ends, and what it kept quiet is looked at again, once.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    event::{Delivery, Event},
    fact::{Decision, Fact},
};

use crate::{clock::utc, world::World};

/// What is due is looked at so soon, when nothing goes wrong: many come in portions.
const LOOKED_AT_WITHIN: TimeDelta = TimeDelta::seconds(60);

/// One trouble that is kept quiet.
#[derive(Debug)]
struct Kept {
    delivery: Delivery,
    target: Option<String>,
    trouble: (String, Option<String>),
    since: DateTime<Utc>,
    until: DateTime<Utc>,
}

/// From when until when something was so.
type Times = (DateTime<Utc>, DateTime<Utc>);

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Quiets {
    /// By fingerprint.
    kept: BTreeMap<String, Kept>,
    /// When what is not kept quiet any more was so.
    former: BTreeMap<(String, Option<String>), Vec<Times>>,
    /// Events that were kept quiet, and may open an incident now.
    free: BTreeSet<Delivery>,
}

impl Quiets {
    /// Takes a decision. Returns whether it may be about an event that was decided about before.
    pub(super) fn decide(&mut self, decision: &Decision) -> bool {
        let at = decision.at;
        match &decision.fact {
            Fact::Suppressed { event, target, fingerprint, until, .. } => {
                let delivery = event.delivery();
                let former = self.kept.remove(fingerprint);
                let is_again = former.as_ref().is_some_and(|it| it.delivery == delivery);
                let since = former.map_or(at, |it| it.since);
                let (target, trouble) = (target.clone(), trouble(event));
                let kept = Kept { delivery, target, trouble, since, until: *until };
                self.kept.insert(fingerprint.clone(), kept);
                is_again
            }
            Fact::SuppressionEnded { fingerprint } => {
                if let Some(it) = self.kept.remove(fingerprint) {
                    self.free.insert(it.delivery);
                    self.former.entry(it.trouble).or_default().push((it.since, at));
                }
                false
            }
            Fact::Opened { event, .. } => self.free.remove(&event.delivery()),
            _ => false,
        }
    }

    /// Returns whether an event was only counted among what was kept quiet already.
    pub(super) fn covers(&self, event: &(String, Option<String>), at: DateTime<Utc>) -> bool {
        let was = |it: &[(DateTime<Utc>, DateTime<Utc>)]| {
            it.iter().any(|(since, until)| *since <= at && at <= *until)
        };
        // A pod and its service are one trouble under two names, so the type must do.
        self.former.iter().any(|(it, spans)| it.0 == event.0 && was(spans))
            || self.kept.values().any(|it| it.trouble.0 == event.0 && it.since <= at)
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

pub(super) fn trouble(event: &Event) -> (String, Option<String>) {
    (event.kind.to_string(), event.target.clone())
}
