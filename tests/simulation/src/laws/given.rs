//! Which configuration is in force: only what somebody has written as a whole, the newest, and
//! none of what was written is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use domain::{
    config::Config,
    fact::{Decision, Fact},
};

use crate::{
    clock::{Micros, SECOND},
    files,
    world::{Kind, World},
};

/// A supervisor may lag behind the ledger by so much.
const LAG_MAX: Micros = 60 * SECOND;

/// What was decided about configurations.
#[derive(Debug, Default)]
pub(super) struct Givens {
    parts: BTreeMap<String, Config>,
    /// The one in force.
    whole: Option<Config>,
    /// When it came into force.
    at: Micros,
    /// Texts that were decided about.
    decided: BTreeSet<(String, Micros)>,
    /// The one that was decided about last.
    last: Option<String>,
    /// When one was held last: what was found before is older than it.
    held_at: Micros,
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
            Fact::ConfigurationHeld { held } => {
                self.is_decided(&held.sha256, now);
                self.held_at = now;
                None
            }
            Fact::ConfigurationUnchanged { text, .. } => {
                self.is_decided(text, now);
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
                    self.is_decided(text, now);
                }
                (self.whole, self.at) = (Some(whole.clone()), now);
                Some(whole)
            }
            _ => None,
        }
    }

    fn is_decided(&mut self, text: &str, now: Micros) {
        self.decided.insert((text.to_owned(), now));
        self.last = Some(text.to_owned());
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

    /// When all is settled, the newest edit of the leader's file was decided about.
    pub(super) fn at_the_end(&self, world: &Rc<World>) {
        let Some(whole) = &self.whole else {
            return world.fail("a configuration comes into force", "none ever did");
        };
        let is_leading = |node: &usize| world.node(*node).leads_since.get().is_some();
        for node in world.all(Kind::Supervisor).into_iter().filter(is_leading) {
            let file = world.files.hosts[node].borrow();
            let sha256 = files::sha256(file.text);
            // What was decided about last is no news, whatever stood there for a moment.
            let is_decided = self.last.as_ref() == Some(&sha256)
                || self.decided.iter().any(|(it, at)| *it == sha256 && file.written_at <= *at);
            // What a supervisor that lags behind has found counts as older; see `Given::standing`.
            let is_newer = self.at.max(self.held_at) + LAG_MAX < file.written_at;
            if is_newer && !is_decided && *whole != files::content(world, file.text) {
                let why = format!("{:?} of {} s", file.text, file.written_at / SECOND);
                world.fail("no edit of the file is lost", why);
            }
        }
    }
}
