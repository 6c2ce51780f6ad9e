//! The configuration: one file, validated as a whole.
//!
//! Mistakes are told with file, line, column and a hint; a configuration that has one
//! is refused and the old one stays.

mod change;
mod cut;
mod handles;
mod integration;
mod lenient;
mod locate;
mod lookup;
mod parts;
mod people;
mod quiet;
mod validate;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Access,
    event::Event,
    id::sha256_hex,
    notify::Notify,
    policy::Policy,
    runbook::Runbook,
    silence::{Flapping, InhibitRule, Window},
    span::Span,
    target::Target,
};

pub(crate) use lookup::{Lookup, selects, target_of};

pub use integration::{BUILT_IN, Basic, Hmac, Integration, Lock, Mapping, Named, Wrapping};
pub use lenient::Unknown;
pub use parts::{ConfigPart, PARTS_MAX, TooLarge, WHOLE_BYTES_MAX};
pub use validate::{Finding, built_in_risk, known_runbooks};

/// The whole configuration, `selfheal.yaml`.
// What serde derives are functions of its own here, which are strict: `lenient` reads what was
// stored, and `parse` what was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, remote = "Self")]
pub struct Config {
    /// What is watched and healed.
    pub targets: Vec<Target>,
    /// What may be done without asking, how often, and to how many.
    pub policy: Policy,
    /// Cures of one's own, besides the built-in ones.
    pub runbooks: Vec<Runbook>,
    /// Who is told of what, by which way, and when.
    #[serde(skip_serializing_if = "Notify::is_empty")]
    pub notify: Notify,
    /// An outside system that is told regularly that we heal, so that it can alarm when we
    /// do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<Watchdog>,
    /// Times of maintenance, in which nothing is touched and nobody told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub maintenance: Vec<Window>,
    /// Which troubles are only the consequence of others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inhibit: Vec<InhibitRule>,
    /// When a trouble that comes and goes is left alone for a while (default: never).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flapping: Option<Flapping>,
    /// Who may come in to the gateway, and how often.
    #[serde(skip_serializing_if = "Access::is_default")]
    pub access: Access,
    /// Doors for what others send.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub integrations: Vec<Integration>,
    /// What a newer version has stored and this one does not know. While there is any, no
    /// fix is begun: it may be a rule.
    #[serde(skip)]
    pub unknown: Option<Box<Unknown>>,
}

/// The whole configuration as a person writes it: a field that we do not know is a mistake.
#[derive(Deserialize)]
struct Written(#[serde(with = "Config")] Config);

/// A dead-man's switch: as long as incidents are decided, a gateway calls the URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Watchdog {
    /// What is called, with GET.
    #[schemars(regex(pattern = r"^https?://."))]
    pub url: String,
    /// How often.
    #[serde(default = "every")]
    pub every: Span,
}

fn every() -> Span {
    Span::from_secs(60)
}

/// A mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}:{column}: {message}", .file.as_deref().unwrap_or("selfheal.yaml"))]
pub struct ConfigError {
    /// The file, when the caller has named it.
    pub file: Option<String>,
    /// Line, the first is 1; 0 when it is about no place.
    pub line: u64,
    /// Column, the first is 1; 0 when it is about no place.
    pub column: u64,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// The line itself with a mark below the place, for people; may be empty.
    pub snippet: String,
}

/// Largest text of a configuration, in bytes: more than a hundred thousand simple targets.
pub const TEXT_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Reads and validates a configuration.
///
/// # Errors
///
/// All mistakes that were found, in the order of the text. A text that is no YAML, or
/// does not have the form of a configuration, gives one.
pub fn parse(text: &str) -> Result<Config, Vec<ConfigError>> {
    if TEXT_BYTES_MAX < u64::try_from(text.len()).unwrap_or(u64::MAX) {
        return Err(vec![too_long(text)]);
    }
    let config: Config = if text.trim().is_empty() {
        Config::default()
    } else {
        let read = serde_saphyr::from_str_with_options::<Written>(text, options(text));
        read.map_err(|error| vec![locate::of_parser(text, &error)])?.0
    };
    let findings = validate::findings(&config);
    if findings.is_empty() {
        return Ok(config);
    }
    let places = locate::Places::of(text);
    let mut errors: Vec<_> = findings.iter().map(|it| places.error(text, it)).collect();
    errors.sort_by_key(|error| (error.line, error.column));
    Err(errors)
}

/// What a text may hold grows with the text, and not with what it repeats by aliases.
fn options(text: &str) -> serde_saphyr::Options {
    const NODES: usize = 250_000;
    let nodes = NODES.max(text.len());
    serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: nodes, max_events: nodes.saturating_mul(4) },
    }
}

fn too_long(text: &str) -> ConfigError {
    ConfigError {
        file: None,
        line: 0,
        column: 0,
        message: format!("the text has {} bytes, at most {TEXT_BYTES_MAX} are read", text.len()),
        hint: "is it a configuration at all?".to_owned(),
        snippet: String::new(),
    }
}

/// Reads one runbook of the built-in catalogue or of a file of one's own.
///
/// # Errors
///
/// The mistakes, as with [`parse`].
pub fn parse_runbook(text: &str) -> Result<Runbook, Vec<ConfigError>> {
    let runbook: Runbook =
        serde_saphyr::from_str(text).map_err(|error| vec![locate::of_parser(text, &error)])?;
    let findings = validate::runbook_findings(&runbook, &[]);
    if findings.is_empty() {
        return Ok(runbook);
    }
    let places = locate::Places::of(text);
    Err(findings.iter().map(|it| places.error(text, it)).collect())
}

impl Config {
    /// Returns all mistakes that a configuration can have without being a text; for those
    /// that come by message.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        validate::findings(self)
    }

    /// Returns things that are allowed but hardly meant, in words.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        validate::warnings(self)
    }

    /// Returns the SHA-256 of the configuration.
    #[must_use]
    pub fn hash(&self) -> String {
        sha256_hex(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// Returns the target of this name.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.name == name)
    }

    /// Returns the target that an event is about: the one it names, else the first whose
    /// selector or container fits, else one that a label names (`TARGET_KEYS`).
    #[must_use]
    pub fn target_of(&self, event: &Event) -> Option<&Target> {
        target_of(self, event)
    }

    /// Returns everything that a target needs, directly and indirectly, the nearest first.
    #[must_use]
    pub fn dependencies(&self, name: &str) -> Vec<&Target> {
        let mut found: Vec<&Target> = Vec::new();
        let mut next: Vec<&Target> = self.target(name).into_iter().collect();
        while !next.is_empty() {
            let names = next.iter().flat_map(|target| &target.depends_on);
            let wanted: Vec<_> = names.filter_map(|name| self.target(name)).collect();
            next.clear();
            for target in wanted {
                let is_new = target.name != name && found.iter().all(|it| it.name != target.name);
                if is_new {
                    found.push(target);
                    next.push(target);
                }
            }
        }
        found
    }

    /// Returns everything that needs a target, directly and indirectly.
    #[must_use]
    pub fn dependents(&self, name: &str) -> Vec<&Target> {
        let needs = |it: &&Target| self.dependencies(&it.name).iter().any(|dep| dep.name == name);
        self.targets.iter().filter(needs).collect()
    }
}
