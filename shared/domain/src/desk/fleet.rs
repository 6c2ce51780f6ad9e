//! The configuration in force, and what finds its targets without looking at all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
    sync::Arc,
};

use crate::{
    catalogue::Catalogue,
    config::{self, Config, Lookup},
    event::Event,
    notify::Notify,
    target::Target,
};

/// The configuration in force. Reads like one; names, containers and dependents are
/// looked up, so that the cost of an event does not grow with the number of targets.
#[derive(Clone, Debug, Default)]
pub(super) struct Fleet(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    config: Config,
    hash: String,
    not_understood: Option<String>,
    /// The built-in runbooks and its own.
    catalogue: Catalogue,
    /// Who is told of what, with those of the older form.
    people: Notify,
    by_name: BTreeMap<String, usize>,
    by_container: BTreeMap<String, usize>,
    /// Those that have selectors.
    selecting: Vec<usize>,
    /// Those that need a target directly, by its name.
    needed_by: BTreeMap<String, Vec<usize>>,
}

impl PartialEq for Fleet {
    fn eq(&self, other: &Self) -> bool {
        self.0.config == other.0.config
    }
}

impl Deref for Fleet {
    type Target = Config;
    fn deref(&self) -> &Config {
        &self.0.config
    }
}

impl Fleet {
    pub(super) fn new(config: Config) -> Self {
        let mut inner = Inner { hash: config.hash(), config, ..Inner::default() };
        inner.catalogue = Catalogue::with(&inner.config.runbooks);
        inner.people = inner.config.notify.with(&inner.config.policy.notify);
        inner.not_understood = inner.config.unknown.as_ref().map(|unknown| {
            let fields = unknown.fields.join(", ");
            format!("a newer version has stored a configuration with what this one does not know: {fields}")
        });
        for (idx, target) in inner.config.targets.iter().enumerate() {
            inner.by_name.entry(target.name.clone()).or_insert(idx);
            if let Some(docker) = &target.docker {
                inner.by_container.entry(docker.container.clone()).or_insert(idx);
            }
            if !target.select.is_empty() {
                inner.selecting.push(idx);
            }
            for needed in &target.depends_on {
                inner.needed_by.entry(needed.clone()).or_default().push(idx);
            }
        }
        Self(Arc::new(inner))
    }

    /// Returns the SHA-256 of the configuration.
    pub(super) fn hash(&self) -> &str {
        &self.0.hash
    }

    /// Returns why no fix may be begun under a configuration of a newer version.
    pub(super) fn not_understood(&self) -> Option<&str> {
        self.0.not_understood.as_deref()
    }

    /// Returns the runbooks in force.
    pub(super) fn catalogue(&self) -> &Catalogue {
        &self.0.catalogue
    }

    /// Returns who is told of what.
    pub(super) fn people(&self) -> &Notify {
        &self.0.people
    }

    fn at(&self, idx: usize) -> Option<&Target> {
        self.0.config.targets.get(idx)
    }

    /// As [`Config::target`].
    pub(super) fn target(&self, name: &str) -> Option<&Target> {
        self.at(*self.0.by_name.get(name)?)
    }

    /// As [`Config::target_of`]: the same order of precedence, over an index.
    pub(super) fn target_of(&self, event: &Event) -> Option<&Target> {
        config::target_of(self, event)
    }

    /// As [`Config::dependencies`].
    pub(super) fn dependencies(&self, name: &str) -> Vec<&Target> {
        let mut found: Vec<&Target> = Vec::new();
        let mut seen = BTreeSet::from([name]);
        let mut next: Vec<&Target> = self.target(name).into_iter().collect();
        while !next.is_empty() {
            let names = next.iter().flat_map(|target| &target.depends_on);
            let wanted: Vec<_> = names.filter_map(|name| self.target(name)).collect();
            next = wanted.into_iter().filter(|it| seen.insert(&it.name)).collect();
            found.extend(&next);
        }
        found
    }

    /// As [`Config::dependents`].
    pub(super) fn dependents(&self, name: &str) -> Vec<&Target> {
        let mut found = BTreeSet::new();
        let mut next: Vec<usize> = self.needing(name).to_vec();
        while let Some(idx) = next.pop() {
            if let Some(target) = self.at(idx)
                && target.name != name
                && found.insert(idx)
            {
                next.extend(self.needing(&target.name));
            }
        }
        found.into_iter().filter_map(|idx| self.at(idx)).collect()
    }

    /// Returns the names of those that need a target directly.
    pub(super) fn direct_dependents(&self, name: &str) -> impl Iterator<Item = &str> {
        self.needing(name).iter().filter_map(|idx| Some(self.at(*idx)?.name.as_str()))
    }

    fn needing(&self, name: &str) -> &[usize] {
        self.0.needed_by.get(name).map(Vec::as_slice).unwrap_or_default()
    }
}

impl Lookup for Fleet {
    fn named(&self, name: &str) -> Option<&Target> {
        self.target(name)
    }

    fn of_container(&self, container: &str) -> Option<&Target> {
        self.at(*self.0.by_container.get(container)?)
    }

    fn selecting(&self, event: &Event) -> Option<&Target> {
        let mut selecting = self.0.selecting.iter().filter_map(|idx| self.at(*idx));
        selecting.find(|target| config::selects(target, event))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        event::{EventType, TARGET_KEYS},
        target::DockerHandle,
    };

    /// Names of targets and containers, and one that is neither.
    fn name() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["t0", "t1", "t2", "c0", "c1", "none"]).prop_map(str::to_owned)
    }

    /// Pairs as labels and selectors have them.
    fn pairs() -> impl Strategy<Value = BTreeMap<String, String>> {
        let keys = prop::sample::select([&TARGET_KEYS[..], &["team"]].concat());
        prop::collection::btree_map(keys.prop_map(str::to_owned), name(), 0..4)
    }

    prop_compose! {
        fn targets()(
            all in prop::collection::vec((name(), prop::option::of(name()), pairs()), 0..5),
        ) -> Vec<Target> {
            let target = |(name, container, select): (String, Option<String>, BTreeMap<_, _>)| {
                Target {
                    docker: container.map(|container| DockerHandle { container }),
                    select: vec![select],
                    ..Target::named(&name)
                }
            };
            all.into_iter().map(target).collect()
        }
    }

    prop_compose! {
        fn event()(
            target in prop::option::of(name()),
            labels in pairs(),
            payload in pairs(),
        ) -> Event {
            let mut event = Event::new("1", EventType::known("service_down"), "test");
            (event.target, event.labels, event.payload) = (target, labels, json!(payload));
            event
        }
    }

    /// What a pod's alert says: the subject is the pod, and a label names the target.
    #[test]
    fn a_label_names_the_target_when_the_subject_is_none() {
        let config = Config { targets: vec![Target::named("t1")], ..Config::default() };
        let mut event = Event::new("1", EventType::known("service_down"), "test");
        event.target = Some("pod-x-1".to_owned());
        event.labels.insert("service".to_owned(), "t1".to_owned());
        assert_eq!(Fleet::new(config).target_of(&event).map(|it| it.name.as_str()), Some("t1"));
    }

    proptest! {
        /// By name, selector, container or label: the index changes nothing.
        #[test]
        fn a_fleet_finds_the_target_that_its_configuration_finds(
            targets in targets(),
            event in event(),
        ) {
            let config = Config { targets, ..Config::default() };
            let fleet = Fleet::new(config.clone());
            prop_assert_eq!(fleet.target_of(&event), config.target_of(&event));
        }

        /// Whatever is configured, circles too, both find the same.
        #[test]
        fn a_fleet_finds_what_its_configuration_finds(
            needs in prop::collection::vec(prop::collection::vec(0_usize..8, 0..4), 1..8),
        ) {
            let n = needs.len();
            let mut config = Config::default();
            for (idx, needs) in needs.iter().enumerate() {
                let mut target = Target::named(&format!("t{idx}"));
                target.depends_on = needs.iter().map(|it| format!("t{}", it % n)).collect();
                config.targets.push(target);
            }
            let fleet = Fleet::new(config.clone());
            for idx in 0..=n {
                let name = format!("t{idx}");
                prop_assert_eq!(fleet.target(&name), config.target(&name));
                prop_assert_eq!(fleet.dependencies(&name), config.dependencies(&name));
                prop_assert_eq!(fleet.dependents(&name), config.dependents(&name));
            }
        }
    }
}
