//! A configuration that is larger than one message, in parts: groups of targets, each named by
//! its hash, and the rest, which names the parts.
//!
//! Where a group ends depends on the names in it, so that an edit changes few of the parts.

use serde_json::Value;

use super::Config;
use crate::{
    id::{digest, sha256_hex},
    target::Target,
};

/// Larger configurations go in parts, in bytes of JSON: below what one input may have.
pub const WHOLE_BYTES_MAX: usize = 192 * 1024;
/// Bytes of JSON after which a part ends. A single target may give more.
const PART_BYTES: usize = 96 * 1024;
/// Bytes of JSON after which a part ends with the next name that says so.
const PART_BYTES_MIN: usize = 16 * 1024;
/// One name in so many ends a part.
const ENDS_ONE_IN: u128 = 64;
/// Parts of one configuration.
pub const PARTS_MAX: usize = 1024;

/// Some of the targets of a configuration that is given in parts.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigPart {
    /// Its name: the hash of what it holds.
    pub sha256: String,
    /// A configuration that has these targets and nothing else.
    pub config: Config,
}

/// Why a configuration cannot be given in parts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} has {bytes} bytes as JSON, and at most {bytes_max} can be stored")]
pub struct TooLarge {
    /// What is too large.
    pub what: String,
    /// Its size.
    pub bytes: usize,
    /// The limit.
    pub bytes_max: usize,
}

impl Config {
    /// Splits a configuration: returns one without the targets of the parts, and the parts in
    /// their order. What fits one message has none.
    ///
    /// # Errors
    ///
    /// [`TooLarge`]: one target, or what is no target, does not fit a message.
    pub fn split(&self) -> Result<(Self, Vec<ConfigPart>), TooLarge> {
        if json_len(self) <= WHOLE_BYTES_MAX {
            return Ok((self.clone(), Vec::new()));
        }
        let rest = Self { targets: Vec::new(), ..self.clone() };
        fits("the configuration without its targets", json_len(&rest))?;
        let mut parts = Vec::new();
        let mut group: Vec<Target> = Vec::new();
        let mut bytes = 0;
        for target in &self.targets {
            let more = json_len(target);
            fits(&format!("target `{}`", target.name), more)?;
            if PART_BYTES < bytes + more && !group.is_empty() {
                parts.push(part(std::mem::take(&mut group)));
                bytes = 0;
            }
            bytes += more;
            group.push(target.clone());
            if PART_BYTES_MIN <= bytes
                && digest(&["part", &target.name]).is_multiple_of(ENDS_ONE_IN)
            {
                parts.push(part(std::mem::take(&mut group)));
                bytes = 0;
            }
        }
        if !group.is_empty() {
            parts.push(part(group));
        }
        if PARTS_MAX < parts.len() {
            let what = "the configuration".to_owned();
            let bytes_max = PARTS_MAX * PART_BYTES_MIN;
            return Err(TooLarge { what, bytes: json_len(self), bytes_max });
        }
        Ok((rest, parts))
    }

    /// Puts a configuration together again.
    #[must_use]
    pub fn joined<'a>(&self, parts: impl Iterator<Item = &'a Self> + Clone) -> Self {
        if self.unknown.is_none() && parts.clone().all(|it| it.unknown.is_none()) {
            let mut whole = self.clone();
            let targets: Vec<_> = parts.flat_map(|it| it.targets.iter().cloned()).collect();
            whole.targets.splice(0..0, targets);
            return whole;
        }
        // What a newer version has stored is kept as it was.
        let mut whole = serde_json::to_value(self).unwrap_or_default();
        let mut targets = Vec::new();
        for part in parts {
            targets.extend(targets_of(&mut serde_json::to_value(part).unwrap_or_default()));
        }
        targets.extend(targets_of(&mut whole));
        if let Some(fields) = whole.as_object_mut() {
            fields.insert("targets".to_owned(), Value::Array(targets));
        }
        serde_json::from_value(whole).unwrap_or_else(|_| self.clone())
    }
}

fn targets_of(config: &mut Value) -> Vec<Value> {
    let targets = config.as_object_mut().and_then(|it| it.remove("targets"));
    match targets {
        Some(Value::Array(targets)) => targets,
        _ => Vec::new(),
    }
}

fn part(targets: Vec<Target>) -> ConfigPart {
    let text = serde_json::to_vec(&targets).unwrap_or_default();
    let config = Config { targets, ..Config::default() };
    ConfigPart { sha256: sha256_hex(&text), config }
}

fn json_len(value: &impl serde::Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |it| it.len())
}

fn fits(what: &str, bytes: usize) -> Result<(), TooLarge> {
    if bytes <= WHOLE_BYTES_MAX {
        return Ok(());
    }
    Err(TooLarge { what: what.to_owned(), bytes, bytes_max: WHOLE_BYTES_MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::DockerHandle;

    fn many(n: usize) -> Config {
        let target = |n: usize| Target {
            docker: Some(DockerHandle { container: format!("shop-{n:05}") }),
            ..Target::named(&format!("shop-{n:05}"))
        };
        Config { targets: (0..n).map(target).collect(), ..Config::default() }
    }

    #[test]
    fn a_large_configuration_is_split_into_messages_and_joined_again() {
        for n in [0, 1, 100] {
            let config = many(n);
            assert_eq!(config.split().unwrap(), (config, Vec::new()), "it fits one message");
        }
        let config = many(10_000);
        let (rest, parts) = config.split().unwrap();
        assert!(rest.targets.is_empty() && (5..200).contains(&parts.len()), "{}", parts.len());
        for part in &parts {
            assert!(json_len(&part.config) < WHOLE_BYTES_MAX, "{}", json_len(&part.config));
        }
        assert_eq!(rest.joined(parts.iter().map(|it| &it.config)), config);
    }

    #[test]
    fn an_edit_changes_few_of_the_parts() {
        let names = |config: &Config| -> std::collections::BTreeSet<String> {
            config.split().unwrap().1.into_iter().map(|it| it.sha256).collect()
        };
        let before = many(10_000);
        for at in [0, 5_000, 9_999] {
            let mut after = before.clone();
            after
                .targets
                .insert(at, Target { soak: Some("9s".parse().unwrap()), ..Target::named("new") });
            let (old, new) = (names(&before), names(&after));
            let n_new = new.difference(&old).count();
            assert!(n_new <= 4, "{n_new} of {} parts are new", new.len());
        }
    }

    #[test]
    fn what_fits_no_message_is_named() {
        let mut config = many(10);
        config.targets[3].labels.insert("notes".to_owned(), "x".repeat(WHOLE_BYTES_MAX));
        assert!(config.split().unwrap_err().to_string().contains("target `shop-00003` has 19"));
    }
}
