//! What a token is limited to, besides its role.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{plan::Plan, target::Target};

/// The key of a zone among the parts of a scope.
const ZONE: &str = "zone";
/// The key of an action among the parts of a scope.
const ACTION: &str = "action";

/// A part of the fleet: commands of who is limited to it count there, and nowhere else.
///
/// A target belongs to it when it has all labels, and is in one of the zones if some are named. A
/// plan does when each of its actions is one that is named, if some are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Scope {
    /// Labels that a target must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Zones that a target may be in; any, if empty.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub zones: BTreeSet<String>,
    /// Actions that a plan may have, such as `docker.restart` or `docker.*`; any, if empty.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub actions: BTreeSet<String>,
}

/// One part of a scope, as it is written on a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopePart {
    key: String,
    value: String,
}

/// Why a text is no part of a scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not `LABEL=VALUE`, `zone=NAME` or `action=NAME`, such as team=data or action=docker.*"
)]
pub struct NotAScope(String);

impl FromStr for ScopePart {
    type Err = NotAScope;

    fn from_str(text: &str) -> Result<Self, NotAScope> {
        match text.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() && !value.trim().is_empty() => {
                Ok(Self { key: key.trim().to_owned(), value: value.trim().to_owned() })
            }
            Some(_) | None => Err(NotAScope(text.chars().take(64).collect())),
        }
    }
}

impl Scope {
    /// Makes a scope of its parts; nothing, when there are none.
    #[must_use]
    pub fn of_parts(parts: &[ScopePart]) -> Option<Self> {
        let mut scope = Self::default();
        for ScopePart { key, value } in parts {
            match key.as_str() {
                ZONE => drop(scope.zones.insert(value.clone())),
                ACTION => drop(scope.actions.insert(value.clone())),
                label => drop(scope.labels.insert(label.to_owned(), value.clone())),
            }
        }
        (scope != Self::default()).then_some(scope)
    }

    /// Returns why a command about a target, and about a plan for it, is out of the scope; nothing
    /// when it is not.
    #[must_use]
    pub fn refuses(&self, target: Option<&Target>, plan: Option<&Plan>) -> Option<String> {
        let Some(target) = target else {
            return Some(format!("their token is limited to {self}, and this has no target"));
        };
        let has = |(key, value): (&String, &String)| target.labels.get(key) == Some(value);
        let in_zone = self.zones.is_empty() || self.zones.contains(&target.zone);
        if !in_zone || !self.labels.iter().all(has) {
            let name = &target.name;
            return Some(format!("their token is limited to {self}, and `{name}` is not in it"));
        }
        let names = plan.into_iter().flat_map(Plan::action_names);
        let foreign = names.into_iter().find(|name| !self.permits(name));
        foreign.map(|name| format!("their token is limited to {self}, and the plan has `{name}`"))
    }

    /// Returns why a command about the whole fleet is out of the scope.
    #[must_use]
    pub fn refuses_all(&self) -> String {
        format!("their token is limited to {self}, and this concerns everything")
    }

    fn permits(&self, action: &str) -> bool {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => action.starts_with(start),
            None => action == pattern,
        };
        self.actions.is_empty() || self.actions.iter().any(fits)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.labels.iter().map(|(key, value)| format!("{key}={value}"));
        let zones = self.zones.iter().map(|it| format!("{ZONE}={it}"));
        let actions = self.actions.iter().map(|it| format!("{ACTION}={it}"));
        let all: Vec<String> = labels.chain(zones).chain(actions).collect();
        f.write_str(&all.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(parts: &[&str]) -> Option<Scope> {
        let parts: Vec<ScopePart> = parts.iter().map(|it| it.parse().unwrap()).collect();
        Scope::of_parts(&parts)
    }

    #[test]
    fn a_target_belongs_to_a_scope_by_all_labels_and_one_of_the_zones() {
        let mut target = Target::named("db");
        target.zone = "eu".to_owned();
        target.labels.insert("team".to_owned(), "data".to_owned());
        for (parts, belongs) in [
            (&["team=data"][..], true),
            (&["team=web"], false),
            (&["team=data", "tier=1"], false),
            (&["zone=eu"], true),
            (&["zone=us", "zone=eu"], true),
            (&["zone=us"], false),
            (&["team=data", "zone=us"], false),
            (&["action=docker.*"], true),
        ] {
            let scope = scope(parts).unwrap();
            assert_eq!(scope.refuses(Some(&target), None).is_none(), belongs, "{scope}");
            assert!(scope.refuses(None, None).is_some(), "{scope}");
        }
        assert_eq!(scope(&[]), None);
    }

    #[test]
    fn actions_are_named_whole_or_by_their_beginning() {
        let permits = |part: &str, action: &str| scope(&[part]).unwrap().permits(action);
        assert!(permits("action=docker.*", "docker.restart"));
        assert!(permits("action=docker.restart", "docker.restart"));
        assert!(!permits("action=docker.restart", "docker.restart2"));
        assert!(!permits("action=docker.*", "command.run"));
        assert!(permits("team=data", "command.run"));
    }

    #[test]
    fn what_is_no_pair_is_no_scope() {
        for text in ["", "team", "=x", "team=", " = "] {
            assert!(text.parse::<ScopePart>().is_err(), "{text}");
        }
    }
}
