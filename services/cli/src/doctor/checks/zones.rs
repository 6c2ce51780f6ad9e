//! Has every zone that has targets the agents it needs?

use std::collections::{BTreeMap, BTreeSet};

use domain::target::ZONE_DEFAULT;

use super::super::{
    checks::Check,
    facts::Facts,
    finding::{Finding, Looked, NotSeen, Severity},
};

pub(super) const CHECK: Check =
    Check { name: "zones", asks: "has every zone the agents it needs?", look };

/// Whom a zone with targets needs, and what is missing without.
const NEEDED: [(&str, &str); 3] = [
    ("monitor", "its targets are not watched, and no fix there can be proven"),
    ("analyzer", "no cause is found there, and incidents go to people undiagnosed"),
    ("fixer", "nothing is fixed there: fixes wait until they expire"),
];

fn look(facts: &Facts) -> Looked {
    let living = facts.living()?;
    let config = facts.config.as_ref().map_err(NotSeen::clone)?;
    let mut targets: BTreeMap<&str, usize> = BTreeMap::new();
    for target in &config.targets {
        *targets.entry(&target.zone).or_default() += 1;
    }
    let serves = |kind: &str, zone: &str| {
        living
            .signs
            .iter()
            .any(|it| it.member.kind == kind && it.member.zones.iter().any(|z| z == zone))
    };
    let mut found = Vec::new();
    for (zone, n) in &targets {
        for (kind, why) in NEEDED {
            if !serves(kind, zone) {
                let targets = if *n == 1 { "target" } else { "targets" };
                found.push(Finding::new(
                    Severity::Error,
                    format!("no {kind} serves the zone {zone}, which has {n} {targets}"),
                    why,
                    format!("start one where it reaches them: `selfheal-{kind} --zones {zone}`; or correct the `zone` of the targets"),
                ));
            }
        }
        let tells = !(config.policy.notify.is_empty() && config.notify.receivers.is_empty());
        if tells && !serves("gateway", zone) {
            found.push(Finding::new(
                Severity::Warning,
                format!("no gateway serves the zone {zone}"),
                "notices about its targets are not sent",
                format!(
                    "start one: `selfheal-gateway --zones {zone}`, or add the zone to one that runs"
                ),
            ));
        }
    }
    let known: BTreeSet<&str> = targets.keys().copied().chain([ZONE_DEFAULT]).collect();
    let served =
        living.signs.iter().filter(|it| NEEDED.iter().any(|(kind, _)| it.member.kind == *kind));
    let idle: BTreeSet<&str> = served
        .flat_map(|it| &it.member.zones)
        .map(String::as_str)
        .filter(|zone| !known.contains(zone))
        .collect();
    for zone in idle {
        found.push(Finding::new(
            Severity::Note,
            format!("the zone {zone} is served and has no target"),
            "a misspelt zone, on either side, looks like this",
            "compare --zones of the agents with `zone` in the configuration",
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{super::super::facts::well, *};

    #[test]
    fn a_zone_without_its_agents_is_an_error_for_each_of_them() {
        let mut facts = well::facts();
        facts.config.as_mut().unwrap().targets[0].zone = "west".to_owned();
        let found = look(&facts).unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
        for (finding, kind) in found.iter().zip(["monitor", "analyzer", "fixer"]) {
            assert!(
                finding.what.contains(&format!("no {kind} serves the zone west")),
                "{finding:?}"
            );
            assert!(finding.mend.contains("--zones west"));
        }
        facts.signs_mut().push(well::sign("fixer", "west"));
        assert_eq!(look(&facts).unwrap().len(), 2);
    }

    #[test]
    fn a_zone_that_nobody_lives_in_is_noted() {
        let mut facts = well::facts();
        facts.signs_mut().push(well::sign("fixer", "wset"));
        assert_eq!(look(&facts).unwrap()[0].severity, Severity::Note);
    }
}
