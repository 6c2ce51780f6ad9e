//! Which target an event is about: one order of precedence, for whoever holds the targets.

use super::Config;
use crate::{
    event::{Event, TARGET_KEYS},
    target::Target,
};

/// Targets that can be looked up. An implementation may keep an index; what it finds must be
/// what the configuration finds, so of several the first in its order.
pub(crate) trait Lookup {
    /// Returns the target of this name.
    fn named(&self, name: &str) -> Option<&Target>;
    /// Returns the target that has this container as its handle.
    fn of_container(&self, container: &str) -> Option<&Target>;
    /// Returns the target that has a selector which matches the event.
    fn selecting(&self, event: &Event) -> Option<&Target>;
}

/// Returns the target that an event is about: the one it names, else the first whose
/// selector or container matches, else one that a label names ([`TARGET_KEYS`]).
pub(crate) fn target_of<'a>(targets: &'a impl Lookup, event: &Event) -> Option<&'a Target> {
    let named = event.target.as_deref();
    let by_label = || {
        let mut labels = TARGET_KEYS.iter().filter_map(|key| event.labels.get(*key));
        labels.find_map(|name| targets.named(name))
    };
    named
        .and_then(|name| targets.named(name))
        .or_else(|| targets.selecting(event))
        .or_else(|| targets.of_container(named?))
        .or_else(by_label)
}

/// Returns whether one of a target's selectors matches the event.
pub(crate) fn selects(target: &Target, event: &Event) -> bool {
    target.select.iter().any(|selector| event.matches(selector))
}

impl Lookup for Config {
    fn named(&self, name: &str) -> Option<&Target> {
        self.target(name)
    }

    fn of_container(&self, container: &str) -> Option<&Target> {
        let has_it =
            |it: &&Target| it.docker.as_ref().is_some_and(|docker| docker.container == container);
        self.targets.iter().find(has_it)
    }

    fn selecting(&self, event: &Event) -> Option<&Target> {
        self.targets.iter().find(|target| selects(target, event))
    }
}
