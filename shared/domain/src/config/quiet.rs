//! What the parts of a configuration that keep things quiet must keep besides their form.

use std::collections::BTreeSet;

use super::{
    Config,
    validate::{Finding, finding},
};
use crate::span::Span;

/// Windows, and rules: each is asked about each new incident.
const RULES_MAX: usize = 500;

pub(super) fn findings(config: &Config, found: &mut Vec<Finding>) {
    let mut names = BTreeSet::new();
    for (idx, window) in config.maintenance.iter().enumerate() {
        let path = format!("maintenance[{idx}]");
        if window.name.is_empty() || !names.insert(window.name.as_str()) {
            let what = format!("the name `{}` is empty or there twice", window.name);
            found.push(finding(format!("{path}.name"), what, "give each window a name of its own"));
        }
        if let Some((field, what, hint)) = window.fault() {
            found.push(finding(format!("{path}.{field}"), what, hint));
        }
    }
    for (idx, rule) in config.inhibit.iter().enumerate() {
        for (field, matchers) in [("when", &rule.when), ("mute", &rule.mute)] {
            if let Some(fault) = matchers.fault() {
                let hint = "say which incidents are meant, such as [\"type=datacenter_down\"]";
                found.push(finding(format!("inhibit[{idx}].{field}"), fault, hint));
            }
        }
    }
    for (field, n) in [("maintenance", config.maintenance.len()), ("inhibit", config.inhibit.len())]
    {
        if RULES_MAX < n {
            found.push(finding(field, format!("{n} entries; at most {RULES_MAX}"), "use fewer"));
        }
    }
    if let Some(flapping) = config.flapping {
        if flapping.opens < 2 {
            let hint = "one incident is no flapping; 5 is a usual number";
            found.push(finding("flapping.opens", "must be at least 2", hint));
        }
        for (field, span) in [("within", flapping.within), ("quiet", flapping.quiet)] {
            if span == Span::ZERO || crate::silence::LASTS_MAX < span.to_delta() {
                let what = "must be longer than 0 and at most 31 days";
                found.push(finding(format!("flapping.{field}"), what, "such as `10m`"));
            }
        }
    }
}
