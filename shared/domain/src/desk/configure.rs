//! What a new configuration does.

use super::{Desk, Turn, commands::done, fleet::Fleet};
use crate::{
    config::Config,
    event::short_text,
    fact::Fact,
    view::HeldConfig,
    wire::{AnswerStatus, ConfigText},
};

/// Longest difference that is recorded: it quotes the configuration.
const DIFFERENCE_CHARS_MAX: usize = 300;

impl Desk {
    /// Brings a configuration into force, or holds it until a person confirms it: one that was
    /// found in a file and removes or loosens something. Of a text that was found in a file
    /// something is recorded in any case, so that it is not asked about again.
    pub(super) fn configure(
        &mut self,
        turn: &mut Turn,
        rest: &Config,
        parts: &[String],
        text: Option<&ConfigText>,
        by: String,
    ) {
        let Some(config) = self.staged.whole(rest, parts) else {
            let n = parts.iter().filter(|it| !self.staged.has(it)).count();
            let message = format!("{n} of its {} parts are missing: send it again.", parts.len());
            return turn.answer(AnswerStatus::Refused, None, &message);
        };
        let config = &config;
        let followed = text.filter(|it| it.followed);
        if let Some(why) = fault(config) {
            turn.answer(AnswerStatus::Refused, None, &why);
            if let Some(text) = followed {
                self.hold(turn, text, by, &[why]);
            }
            return;
        }
        if *config == *self.config && 0 < self.n_decisions {
            if let Some(text) = text
                && (self.given.held().is_some() || self.given.last() != Some(&text.sha256))
            {
                let why = format!("the text given by {by} asks for the configuration in force");
                let text = text.sha256.clone();
                self.record(turn, None, Fact::ConfigurationUnchanged { by, text }, why);
            }
            return done(turn, None, "This configuration is in force already.");
        }
        if let Some(text) = followed {
            let mut differences = text.doubts.clone();
            differences.extend(self.config.to_confirm(config, turn.at));
            if !differences.is_empty() && self.given.is_configured() {
                let message = format!("It must be confirmed: {}.", differences.join("; "));
                turn.answer(AnswerStatus::Refused, None, &message);
                return self.hold(turn, text, by, &differences);
            }
        }
        let why = format!("{} targets, given by {by}", config.targets.len());
        let text = text.map(|it| it.sha256.clone());
        let parts = parts.to_vec();
        let fact = Fact::Configured { config: Box::new(rest.clone()), by, text, parts };
        let former = self.config.clone();
        self.record(turn, None, fact, why);
        self.expire_stale(turn);
        self.recall_fixes(turn, Some(&former));
        done(turn, None, "The configuration is in force.");
    }

    /// Keeps a part of a configuration until the rest of it comes.
    pub(super) fn stage(&mut self, turn: &mut Turn, sha256: &str, part: &Config, by: String) {
        if !self.staged.has(sha256) {
            let why = format!("{} targets of a configuration, given by {by}", part.targets.len());
            let (sha256, part) = (sha256.to_owned(), Box::new(part.clone()));
            self.record(turn, None, Fact::ConfigurationPart { sha256, part, by }, why);
        }
        done(turn, None, "The part is stored.");
    }

    fn hold(&mut self, turn: &mut Turn, text: &ConfigText, by: String, differences: &[String]) {
        let differences: Vec<_> =
            differences.iter().map(|it| short_text(it, DIFFERENCE_CHARS_MAX)).collect();
        let same = |it: &HeldConfig| it.sha256 == text.sha256 && it.differences == differences;
        if self.given.held().is_some_and(same) {
            return;
        }
        let why = format!("not in force until confirmed: {}", differences.join("; "));
        let held = HeldConfig { sha256: text.sha256.clone(), by, since: turn.at, differences };
        self.record(turn, None, Fact::ConfigurationHeld { held: Box::new(held) }, why);
    }

    /// Folds a configuration, and returns the former one.
    pub(super) fn replace_config(&mut self, rest: &Config, parts: &[String]) -> Fleet {
        // That all parts are there was looked at before.
        let config = self.staged.whole(rest, parts).unwrap_or_else(|| rest.clone());
        self.staged.forget(parts);
        std::mem::replace(&mut self.config, Fleet::new(config))
    }

    /// Returns whether a decision asks for parts that are not there: it follows from no state.
    pub(super) fn lacks_parts(&self, fact: &Fact) -> bool {
        matches!(fact, Fact::Configured { parts, .. } if !parts.iter().all(|it| self.staged.has(it)))
    }
}

/// Returns why a configuration can never come into force.
fn fault(config: &Config) -> Option<String> {
    if let Some(first) = config.findings().first() {
        return Some(format!("{}: {} ({})", first.path, first.message, first.hint));
    }
    let unknown = config.unknown.as_ref()?;
    Some(format!("This version does not know {}.", unknown.fields.join(", ")))
}
