//! Have all parts one version?

use std::collections::BTreeMap;

use super::super::{
    checks::Check,
    facts::Facts,
    finding::{Finding, Looked, Severity},
};

pub(super) const CHECK: Check =
    Check { name: "versions", asks: "have all parts one version?", look };

fn look(facts: &Facts) -> Looked {
    let ours = env!("CARGO_PKG_VERSION");
    let mut by_version: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for sign in &facts.living()?.signs {
        by_version.entry(&sign.member.version).or_default().push(&sign.member.id);
    }
    let mut found = Vec::new();
    if 1 < by_version.len() {
        let told: Vec<_> = by_version
            .iter()
            .map(|(version, who)| format!("{version}: {}", who.join(", ")))
            .collect();
        found.push(Finding::new(
            Severity::Warning,
            format!("agents of {} versions live: {}", by_version.len(), told.join("; ")),
            "messages of a newer version may be rejected by an older one; beside each other they are for the time of an upgrade",
            "restart the older ones with the newer version, supervisors first",
        ));
    } else if let Some(version) = by_version.keys().find(|it| **it != ours) {
        found.push(Finding::new(
            Severity::Note,
            format!("the agents have version {version}, this command has {ours}"),
            "it may not understand all that they say",
            "use the `selfheal` of their version",
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::{super::super::facts::well, *};

    #[test]
    fn two_versions_are_told_with_who_has_which() {
        let mut facts = well::facts();
        facts.signs_mut()[1].member.version = "9.9.9".to_owned();
        let found = look(&facts).unwrap();
        assert!(found[0].what.contains("9.9.9: monitor-1"), "{found:?}");
        for sign in facts.signs_mut() {
            sign.member.version = "9.9.9".to_owned();
        }
        assert_eq!(look(&facts).unwrap()[0].severity, Severity::Note);
    }
}
