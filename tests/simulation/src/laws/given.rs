//! Which configuration is in force: only what somebody has written as a whole, and the newest.

use std::{collections::BTreeMap, rc::Rc};

use domain::{
    config::Config,
    fact::{Decision, Fact},
};

use crate::{
    clock::{Micros, SECOND},
    world::{Kind, World},
};

/// What was decided about configurations.
#[derive(Debug, Default)]
pub(super) struct Givens {
    parts: BTreeMap<String, Config>,
    /// The one in force.
    whole: Option<Config>,
    /// When it came into force.
    at: Micros,
}

impl Givens {
    /// Takes a decision. Returns the configuration that comes into force with it.
    pub(super) fn decide(&mut self, world: &Rc<World>, decision: &Decision) -> Option<Config> {
        let now = world.sim.now();
        match &decision.fact {
            Fact::ConfigurationPart { sha256, part, .. } => {
                self.parts.insert(sha256.clone(), (**part).clone());
                None
            }
            Fact::Configured { config, by, text, parts } => {
                let mut targets: Vec<_> =
                    parts.iter().flat_map(|it| self.parts[it].targets.clone()).collect();
                targets.extend(config.targets.iter().cloned());
                let whole = Config { targets, ..(**config).clone() };
                if !world.scene.configs.contains(&whole) {
                    let n = whole.targets.len();
                    let why = format!("{n} targets, given by {by}");
                    world.fail("no configuration is in force that nobody wrote", why);
                }
                if let Some(text) = text {
                    self.is_news(world, by, text);
                }
                (self.whole, self.at) = (Some(whole.clone()), now);
                Some(whole)
            }
            _ => None,
        }
    }

    /// A file counts when it was found after the configuration in force was given.
    fn is_news(&self, world: &Rc<World>, by: &str, text: &str) {
        if self.whole.is_none() {
            return;
        }
        let node = world.all(Kind::Supervisor).into_iter().find(|node| {
            // `file of supervisor-NNLLLLLL`
            by.strip_prefix("file of supervisor-")
                .and_then(|it| it.get(..2))
                .is_some_and(|it| it == format!("{node:02x}"))
        });
        let Some(node) = node else { return };
        let file = world.files.hosts[node].borrow();
        let Some((found, at)) = &file.taken else { return };
        if found.sha256 == text && *at < self.at {
            let why =
                format!("{by}: found at {} s, in force since {} s", at / SECOND, self.at / SECOND);
            world.fail("no old file comes back into force", why);
        }
    }

    /// When all is settled, there is one.
    pub(super) fn at_the_end(&self, world: &Rc<World>) {
        if self.whole.is_none() {
            world.fail("a configuration comes into force", "none ever did");
        }
    }
}
