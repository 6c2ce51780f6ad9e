//! Which of our own agents are missed: nobody for longer than he is, and nobody for ever.

use std::{collections::BTreeMap, rc::Rc};

use ::supervisor::core::agents::MISSED_MAX;
use chrono::TimeDelta;
use domain::desk::Desk;

use crate::{
    clock::utc,
    world::{Kind, World},
};

/// An incident about an agent ends so soon when nobody is missed any more.
const SLACK: TimeDelta = TimeDelta::minutes(2);

/// When all is settled, as many agents are missed as are gone for good, for an hour at most.
pub(super) fn at_the_end(world: &Rc<World>, desk: &Desk) {
    let now = utc(world.sim.now());
    let mut missed: BTreeMap<Kind, usize> = BTreeMap::new();
    for incident in desk.open_incidents() {
        let is_ours = &*incident.event.source == "selfheal/supervisor";
        let what = incident.event.kind.as_str();
        if !is_ours || !["agent_down", "zone_unserved"].contains(&what) {
            continue;
        }
        let event = incident.event.event();
        let label = event.labels.get("kind").map(String::as_str);
        let Some(kind) = Kind::AGENTS.into_iter().find(|it| Some(it.as_str()) == label) else {
            continue;
        };
        let n = missed.entry(kind).or_default();
        *n += 1;
        let is_old = incident.opened_at + MISSED_MAX + SLACK < now;
        if what == "zone_unserved" || world.n_gone(kind) < *n || is_old {
            let why = format!(
                "{}: {what} of a {} since {}",
                incident.id,
                kind.as_str(),
                incident.opened_at
            );
            return world.fail("an agent that was replaced is not missed", why);
        }
    }
}
